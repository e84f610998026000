"""Topics on a real broker: made, found, refused; properties; a broker that isn't there."""

import uuid
from concurrent.futures import Future

import pytest
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, NewTopic
from kafka_fixture import client, delete_topics

from engine.errors import ConfigError, LogError, UnavailableError
from engine.limits import RECORD_BYTES_MAX
from engine.log.kafka.connection import APPEND, READ, Connection, read_properties
from engine.log.kafka.logs import KafkaLogs
from engine.log.kafka.processes import free_ports
from engine.log.kafka.topics import Topics, plans
from engine.settings import LogSettings

pytestmark = pytest.mark.kafka

PARTITIONS = 3


@pytest.fixture
def name():
    return f"topics-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def settings(kafka):
    return LogSettings(kind="kafka", bootstrap_servers=kafka, topic_prefix="test.")


def make(settings, topic, partitions, **config):
    """Make a topic as somebody else might."""
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    named = {key.replace("_", "."): value for key, value in config.items()}
    for future in admin.create_topics([NewTopic(topic, partitions, 1, config=named)]).values():
        future.result(10)


def test_topics_are_made_with_the_prefix_and_accepted_again(settings, name):
    topics = Topics(Connection(settings, name), PARTITIONS)
    topics.ensure()
    topics.ensure()
    Topics(Connection(settings, name), PARTITIONS).ensure()
    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    found = admin.list_topics(timeout=10).topics
    counts = {plan.kind: len(found[f"test.{name}.{plan.kind}"].partitions) for plan in plans(3)}
    assert counts == {
        "commands": 3,
        "events": 3,
        "emits": 3,
        "nodes": 1,
        "content": 1,
        "replies": 3,
    }
    assert topics.topic_id("commands") != topics.topic_id("events")


def test_two_nodes_may_make_them_at_once(settings, name):
    both = [Topics(Connection(settings, name), PARTITIONS) for _ in range(2)]
    both[0]._create({both[0]._connection.topic("emits"): plans(3)[2]}, 1)
    both[1]._create({both[1]._connection.topic("emits"): plans(3)[2]}, 1)
    both[1].ensure()


def test_another_partition_count_is_refused(settings, name):
    Topics(Connection(settings, name), PARTITIONS).ensure()
    with pytest.raises(LogError) as raised:
        Topics(Connection(settings, name), 4).ensure()
    assert raised.value.code == "E1301"
    for kind in ("commands", "events", "emits"):
        wanted = f"test.{name}.{kind} partitions is 3, needed is 4"
        assert wanted in raised.value.message


GOOD = {
    "message_timestamp_type": "LogAppendTime",
    "max_message_bytes": str(RECORD_BYTES_MAX),
    "retention_ms": "-1",
}


def test_a_topic_made_by_somebody_else_will_do_if_it_is_right(settings, name):
    larger = {**GOOD, "max_message_bytes": str(2 * RECORD_BYTES_MAX)}
    make(settings, f"test.{name}.events", PARTITIONS, **larger)
    make(settings, f"test.{name}.commands", PARTITIONS, **GOOD)
    topics = Topics(Connection(settings, name), PARTITIONS)
    topics.ensure()
    assert topics.commands_retention_ms == -1


@pytest.mark.parametrize(
    ("setting", "value", "needed"),
    [
        ("cleanup.policy", "compact", "delete"),
        ("cleanup.policy", "compact,delete", "delete"),
        ("message.timestamp.type", "CreateTime", "LogAppendTime"),
        ("max.message.bytes", "1000000", f"at least {RECORD_BYTES_MAX}"),
        ("retention.ms", "86400000", "-1"),
        ("retention.bytes", "1000000000", "-1"),
        ("unclean.leader.election.enable", "true", "false"),
    ],
)
def test_a_setting_that_could_lose_records_is_named(settings, name, setting, value, needed):
    config = {**GOOD, setting.replace(".", "_"): value}
    make(settings, f"test.{name}.events", PARTITIONS, **config)
    with pytest.raises(LogError) as raised:
        Topics(Connection(settings, name), PARTITIONS).ensure()
    assert raised.value.code == "E1301"
    assert f"test.{name}.events {setting} is {value}, needed is {needed}" in raised.value.message


def test_all_mismatches_are_said_at_once(settings, name):
    make(settings, f"test.{name}.events", 1)
    make(settings, f"test.{name}.nodes", 1)
    with pytest.raises(LogError) as raised:
        Topics(Connection(settings, name), PARTITIONS).ensure()
    said = raised.value.message
    assert f"test.{name}.events partitions" in said
    assert f"test.{name}.events message.timestamp.type" in said
    assert f"test.{name}.events retention.ms" in said
    assert f"test.{name}.nodes cleanup.policy" in said


def test_more_copies_than_brokers_is_a_clear_error(settings, name):
    wanted = settings.model_copy(update={"replication": 3})
    with pytest.raises(LogError) as raised:
        Topics(Connection(wanted, name), PARTITIONS).ensure()
    assert raised.value.code == "E1301"
    assert "can't be made" in raised.value.message


def test_a_broker_that_is_not_there_is_said_in_bounded_time(monkeypatch):
    monkeypatch.setattr("engine.log.kafka.topics.REQUEST_TIMEOUT_S", 0.5)
    port = free_ports(1)[0]
    settings = LogSettings(kind="kafka", bootstrap_servers=f"127.0.0.1:{port}")
    with pytest.raises(UnavailableError) as raised:
        KafkaLogs(settings, "nobody", 1)
    assert raised.value.code == "E1401"
    assert str(port) in raised.value.message


def test_no_answer_is_never_taken_for_an_offset(settings, name, monkeypatch):
    # librdkafka answers -1001 without an error when a partition's leader goes while it is asked.
    topics = Topics(Connection(settings, name), PARTITIONS)
    topics.ensure()
    admin, asked = topics._admin, []

    class Leaderless:
        def __getattr__(self, attribute):
            return getattr(admin, attribute)

        def list_offsets(self, wanted, **more):
            asked.append(wanted)
            if len(asked) > 3:
                return admin.list_offsets(wanted, **more)
            futures = {place: Future() for place in wanted}
            for future in futures.values():
                future.set_result(ListOffsetsResultInfo(-1001, -1, -1))
            return futures

    monkeypatch.setattr(topics, "_admin", Leaderless())
    bounds = topics.bounds("events", 0)
    assert (bounds.begin, bounds.end) == (0, 0)
    assert len(asked) > 3


def test_a_topic_made_anew_has_another_id(settings, name):
    logs = KafkaLogs(settings, name, 1)
    first = logs.event_log(0).bounds().topic_id
    delete_topics(logs, "events")
    logs.close()
    for _ in range(100):  # deletion goes on behind the answer
        found = AdminClient(client(logs)).list_topics(timeout=10).topics
        if f"test.{name}.events" not in found:
            break
    again = KafkaLogs(settings, name, 1)
    assert again.event_log(0).bounds().topic_id != first
    again.close()


def test_properties_of_a_file_reach_every_client(kafka, name, tmp_path):
    file = tmp_path / "client.properties"
    file.write_text("# TLS would stand here\nsecurity.protocol = plaintext\n\nclient.rack=a\n")
    settings = LogSettings(kind="kafka", bootstrap_servers=kafka, properties_file=file)
    logs = KafkaLogs(settings, name, 1)
    assert logs.event_log(0).bounds().end == 0
    logs.close()
    file.write_text("security.protocol=ssl\nssl.ca.location=/nothing/here.pem\n")
    with pytest.raises(ConfigError, match=r"ssl\.ca\.location"):
        Connection(settings, name).admin()
    file.write_text("ssl.truststore.location=/store.jks\n")
    with pytest.raises(ConfigError, match="TrustStores"):
        Connection(settings, name).admin()


@pytest.mark.parametrize("owned", [*APPEND, *READ, "transactional.id", "group.id", "retries"])
def test_what_exactly_once_rests_on_can_not_be_set(owned, tmp_path):
    file = tmp_path / "client.properties"
    file.write_text(f"client.rack=a\n{owned}=1\n")
    with pytest.raises(ConfigError, match=f"line 2 sets {owned}") as raised:
        read_properties(file)
    assert raised.value.code == "E1001"


def test_a_file_that_is_none_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.properties"):
        read_properties(tmp_path / "gone.properties")
    file = tmp_path / "client.properties"
    file.write_text("just words\n")
    with pytest.raises(ConfigError, match="line 1 is not name=value"):
        read_properties(file)
