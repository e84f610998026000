"""Membership and heartbeats of two nodes on a real broker."""

import threading
import time
import uuid

import pytest
from confluent_kafka import OFFSET_BEGINNING, ConsumerGroupTopicPartitions, TopicPartition
from other_versions import BEAT, newer, older

from engine.errors import UnavailableError
from engine.log.kafka.beats import SCHEMA_KEY, Schemas, encode_beat
from engine.log.kafka.connect import connect
from engine.log.kafka.directory import KafkaDirectory
from engine.log.kafka.logs import KafkaLogs
from engine.log.kafka.membership import KafkaMembership
from engine.model import Held, NodeBeat
from engine.settings import LogSettings

pytestmark = pytest.mark.kafka

PARTITIONS = 4
DEADLINE_S = 60


@pytest.fixture(params=["classic", "consumer"])
def settings(kafka, request):
    return LogSettings(
        kind="kafka",
        bootstrap_servers=kafka,
        group_protocol=request.param,
        session_timeout_ms=6_000,
    )


@pytest.fixture
def logs(settings):
    made = KafkaLogs(settings, f"group-{uuid.uuid4().hex[:12]}", PARTITIONS)
    yield made
    made.close()


class Member:
    """A node as far as the group sees it; it lets go at once unless told to hold."""

    def __init__(self, logs, **options):
        self.membership = KafkaMembership(logs.connection, **options)
        self.held = set()
        self.lost = False
        self.hold = False
        self.revoked = []

    def poll(self):
        change = self.membership.poll()
        self.held |= set(change.assigned)
        self.lost |= change.lost
        for partition in change.revoked:
            self.revoked.append(partition)
            if not self.hold:
                self.release(partition)
        return self.held

    def release(self, partition):
        self.held.discard(partition)
        self.membership.released(partition)


def settle(logs, condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it didn't come true"
        logs.wait(10)


def test_one_member_gets_all_and_two_share(logs):
    first = Member(logs)
    settle(logs, lambda: first.poll() == set(range(PARTITIONS)))
    second = Member(logs)
    settle(logs, lambda: len(first.poll()) == 2 and len(second.poll()) == 2)
    assert first.held | second.held == set(range(PARTITIONS))
    assert not first.lost
    first.membership.close()
    settle(logs, lambda: second.poll() == set(range(PARTITIONS)))
    second.membership.close()


def test_nobody_gets_a_partition_before_it_was_let_go(logs):
    first = Member(logs, revoke_wait_ms=60_000)
    settle(logs, lambda: first.poll() == set(range(PARTITIONS)))
    first.hold = True
    second = Member(logs)
    settle(logs, lambda: first.poll() and second.poll() is not None and len(first.revoked) == 2)
    for _ in range(80):  # longer than a heartbeat, which tells of a rebalance
        assert not first.held & second.poll()
        logs.wait(50)
    for partition in first.revoked:
        first.release(partition)
    settle(logs, lambda: len(second.poll()) == 2)
    assert not first.held & second.held
    first.membership.close()
    second.membership.close()


def test_a_revoke_does_not_wait_for_ever(logs):
    first = Member(logs, revoke_wait_ms=200)
    settle(logs, lambda: first.poll() == set(range(PARTITIONS)))
    first.hold = True
    second = Member(logs)
    settle(logs, lambda: first.poll() and len(second.poll()) == 2)
    first.membership.close()
    second.membership.close()


def test_a_member_fetches_no_commands(logs):
    first = Member(logs)
    settle(logs, lambda: first.poll() == set(range(PARTITIONS)))
    for partition in range(PARTITIONS):
        for _ in range(50):
            logs.commands.publish(partition, b"w", b"x" * 1_000)
    reported = []
    settle(logs, lambda: reported.extend(logs.commands.published()) or len(reported) == 200)
    assert first.membership.statistics()["messages"] == 0
    first.membership.close()


def test_closing_is_bounded_while_a_partition_is_held(logs):
    member = Member(logs, revoke_wait_ms=3_600_000)
    settle(logs, lambda: member.poll() == set(range(PARTITIONS)))
    closer = threading.Thread(target=member.membership.close)
    closer.start()
    closer.join(DEADLINE_S)
    assert not closer.is_alive()


def committed(logs):
    """Return the group's offsets, as a lag tool asks for them."""
    topic = logs.connection.topic("commands")
    places = [TopicPartition(topic, each) for each in range(PARTITIONS)]
    asked = ConsumerGroupTopicPartitions(logs.connection.group(), places)
    admin = logs.connection.admin()  # kept: without it the answer would never come
    (found,) = admin.list_consumer_group_offsets([asked]).values()
    return {each.partition: each.offset for each in found.result(30).topic_partitions}


def test_lag_tools_see_how_far_commands_are_decided(logs):
    one = Member(logs)
    settle(logs, lambda: one.poll() == set(range(PARTITIONS)))
    for offsets in ({0: 5}, {0: 7, 1: 3}):
        one.membership.decided(offsets)
        settle(logs, lambda o=offsets: o.items() <= committed(logs).items())
    one.membership.close()


def beat(node, sent_at, *, leaving=False):
    return NodeBeat(
        node=node,
        process=bytes(16),
        engine_version="0.1.0",
        format=1,
        application="1.0.0",
        fingerprint=b"\1" * 32,
        http="http://127.0.0.1:8080",
        sent_at=sent_at,
        leaving=leaving,
        draining=True,
        partitions=(Held(0, "owner", 7 << 20, 12, 2, 7), Held(3, "restoring", 0, 0)),
    )


def test_a_beat_is_the_same_on_the_other_side():
    assert Schemas().decode(encode_beat(beat("a", 5, leaving=True))) == beat("a", 5, leaving=True)


def test_every_node_knows_the_newest_beat_of_all(logs):
    first, second = KafkaDirectory(logs), KafkaDirectory(logs)
    for at in range(10):
        first.announce(beat("first", at))
        second.announce(beat("second", at))
    newest = [beat("first", 9), beat("second", 9)]
    for directory in (first, second):
        settle(logs, lambda d=directory: sorted(d.peers(), key=lambda b: b.node) == newest)
    # One that starts later reads what was said before.
    third = KafkaDirectory(logs)
    settle(logs, lambda: sorted(third.peers(), key=lambda b: b.node) == newest)
    for directory in (first, second, third):
        directory.close()


def records(logs, topic):
    """Return all that a topic's only partition holds."""
    reader = logs.connection.reader("test", committed=False)
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    found = reader.consume(1_000, 2)
    reader.close()
    return [each for each in found if each.error() is None]


def test_nodes_of_other_versions_are_heard_by_the_schemas_that_they_announce(logs):
    directory, topic = KafkaDirectory(logs), logs.connection.topic("nodes")
    for text, value in (newer(), older()):
        logs.aside.send(topic, 0, b"schema/" + value[:10].hex().encode(), text.encode())
        logs.aside.send(topic, 0, b"other", value)
        settle(logs, lambda: directory.peers() == [BEAT])
        logs.aside.send(topic, 0, b"other", None)
        settle(logs, lambda: directory.peers() == [])
    assert directory.statistics()["errors"] == 0
    # And they hear this one by the schema that it announces.
    directory.announce(beat("me", 3))
    others = Schemas()
    others._codecs.clear()
    heard = []

    def read_anew():
        for record in records(logs, topic):
            if record.key().startswith(SCHEMA_KEY):
                others.learn(record.value())
            elif record.key() == b"me":
                heard.append(others.decode(record.value()))
        return heard

    settle(logs, read_anew)
    assert heard[0] == beat("me", 3)
    directory.close()


def test_garbage_among_heartbeats_is_counted_and_passed_over(logs):
    directory = KafkaDirectory(logs)
    topic = logs.connection.topic("nodes")
    for value in (b"", b"garbage", encode_beat(beat("x", 1))[:-3]):
        logs.aside.send(topic, 0, b"somebody", value)
    directory.announce(beat("me", 3))
    settle(logs, lambda: directory.peers() == [beat("me", 3)])
    assert directory.statistics()["errors"] == 3
    logs.aside.send(topic, 0, b"me", None)
    settle(logs, lambda: directory.peers() == [])
    directory.close()


def test_a_node_waits_for_a_broker_and_says_so(kafka, monkeypatch, caplog):
    tries = []
    made = KafkaLogs.__init__

    def first_not(self, *args):
        tries.append(args)
        if len(tries) < 3:
            raise UnavailableError("E1401", "no broker answers at 127.0.0.1:1")
        made(self, *args)

    class Clock:
        def sleep_ms(self, duration_ms):
            assert duration_ms > 0

    class Random:
        def bytes(self, count):
            return bytes(count)

    class Application:
        name = f"wait-{uuid.uuid4().hex[:12]}"
        partitions = 1

    monkeypatch.setattr(KafkaLogs, "__init__", first_not)
    settings = LogSettings(kind="kafka", bootstrap_servers=kafka)
    logs, content, membership, directory = connect(
        Application(), settings, "node", Clock(), Random()
    )
    assert len(tries) == 3
    assert caplog.text.count("waiting for Kafka") == 1
    content.put("a", b"1")
    assert content.get("a") == b"1"
    for each in (membership, directory, logs):
        each.close()
