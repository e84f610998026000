"""The logs on a real broker that is killed, paused, trimmed and refuses records."""

import os
import signal
import threading
import time
import uuid

import confluent_kafka as ck
import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from kafka_fixture import client, delete_records, delete_topics, own_kafka

from engine import wire
from engine.errors import LogError, UnavailableError
from engine.limits import RECORD_BYTES_MAX, REQUESTS_WAITING_MAX
from engine.log.kafka.logs import KafkaLogs
from engine.log.kafka.processes import free_ports
from engine.log.kafka.reader import LANE_RECORDS_MAX
from engine.model import Reply, ReplyTo
from engine.settings import LogSettings

pytestmark = pytest.mark.kafka

PARTITIONS = 3
DEADLINE_S = 90


def connected(address, application=""):
    settings = LogSettings(kind="kafka", bootstrap_servers=address)
    return KafkaLogs(settings, application or f"logs-{uuid.uuid4().hex[:12]}", PARTITIONS)


@pytest.fixture
def logs(kafka):
    made = connected(kafka)
    yield made
    made.close()


@pytest.fixture
def own(tmp_path):
    with own_kafka(tmp_path) as (broker, address):
        logs = connected(address)
        yield broker, logs
        broker.start()  # so that closing finds it
        logs.close()


def settle(logs, condition):
    deadline = time.monotonic() + DEADLINE_S
    while not (said := condition()):
        assert time.monotonic() < deadline, "it didn't come true"
        logs.wait(20)
    return said


def reports_of(logs, log, count):
    reports = []
    settle(logs, lambda: reports.extend(log.reports()) or len(reports) >= count)
    return reports


def read(logs, log, begin, end):
    """Read [begin, end) in one go; every offset once and in order."""
    log.seek(begin)
    records = []

    def complete():
        records.extend(log.take(500).records())
        return records and records[-1].offset >= end - 1

    settle(logs, complete)
    assert [record.offset for record in records] == list(range(begin, end))
    return records


def numbered(log, numbers):
    return log.append([b"k"] * len(numbers), [b"%08d" % number for number in numbers])


def append_through(logs, log, batches, disturb):
    """Append batches of 10 while something is done to the broker; return their reports."""
    numbers = iter(range(10 * batches))
    reports = []
    for number in range(batches):
        numbered(log, [next(numbers) for _ in range(10)])
        if number == batches // 2:
            disturb()
        logs.wait(5)
        reports += log.reports()
    settle(logs, lambda: reports.extend(log.reports()) or len(reports) == batches)
    return reports


def assert_all_landed_once(logs, log, reports, batches):
    """With an endless message time-out nothing is lost by a broker that comes back."""
    assert [report.error for report in reports] == [""] * batches
    assert [report.last_offset for report in reports] == [10 * n + 9 for n in range(batches)]
    records = read(logs, log, 0, 10 * batches)
    assert [record.value for record in records] == [b"%08d" % n for n in range(10 * batches)]
    assert log.bounds().end == 10 * batches


def test_a_killed_broker_loses_doubles_and_reorders_nothing(own):
    broker, logs = own
    log = logs.event_log(0)
    back = threading.Thread(target=broker.start)

    def disturb():
        broker.kill()
        back.start()

    reports = append_through(logs, log, 40, disturb)
    back.join()
    assert_all_landed_once(logs, log, reports, 40)


def test_a_paused_broker_only_delays(own):
    broker, logs = own
    log = logs.event_log(1)
    back = threading.Timer(4, broker.kill, kwargs={"number": signal.SIGCONT})

    def disturb():
        broker.kill(number=signal.SIGSTOP)
        back.start()

    reports = append_through(logs, log, 40, disturb)
    back.join()
    assert_all_landed_once(logs, log, reports, 40)


def test_a_reader_goes_on_where_it_was_after_the_broker_was_killed(own):
    broker, logs = own
    log = logs.event_log(2)
    numbered(log, range(1_000))
    reports_of(logs, log, 1)
    log.seek(0)
    records = []
    settle(logs, lambda: records.extend(log.take(100).records()) or len(records) >= 200)
    broker.kill()
    with pytest.raises(UnavailableError) as raised:
        log.bounds()
    assert raised.value.code == "E1401"
    broker.start()
    numbered(log, range(1_000, 1_500))
    settle(logs, lambda: records.extend(log.take(100).records()) or len(records) >= 1_500)
    assert [record.value for record in records] == [b"%08d" % number for number in range(1_500)]


def test_many_seeks_give_exactly_what_lies_there(logs):
    logs_of = [logs.event_log(partition) for partition in range(PARTITIONS)]
    count = 3_000
    for log in logs_of:
        for at in range(0, count, 500):
            numbered(log, range(at, at + 500))
    for log in logs_of:
        assert reports_of(logs, log, count // 500)[-1].last_offset == count - 1
    spot = 7
    for _ in range(60):
        spot = spot * 1_103 % count
        for log in logs_of:
            log.seek(spot)
        for log in logs_of:
            found = []
            wanted = min(20, count - spot)
            settle(
                logs, lambda f=found, o=log, w=wanted: f.extend(o.take(w).records()) or len(f) >= w
            )
            assert [record.offset for record in found] == list(range(spot, spot + len(found)))
            assert found[0].value == b"%08d" % spot


def test_a_partition_nobody_takes_from_is_paused_and_loses_nothing(logs):
    slow, busy = logs.event_log(0), logs.event_log(1)
    count = 3 * LANE_RECORDS_MAX
    for at in range(0, count, 1_000):
        numbered(slow, range(at, at + 1_000))
        reports_of(logs, slow, 1)
    slow.seek(0)
    busy.seek(0)
    settle(logs, lambda: slow.statistics()["read_ahead"] >= LANE_RECORDS_MAX)
    numbered(busy, range(10))  # goes on although its neighbour is full
    found = []
    settle(logs, lambda: found.extend(busy.take(10).records()) or len(found) == 10)
    assert slow.statistics()["read_ahead"] <= LANE_RECORDS_MAX + 2_000
    slow.seek(0)  # a paused partition reads on after a seek
    records = []
    settle(logs, lambda: records.extend(slow.take(700).records()) or len(records) == count)
    assert [record.value for record in records] == [b"%08d" % number for number in range(count)]


def test_a_record_too_large_ends_the_session_and_the_next_one_works(logs):
    log = logs.event_log(0)
    tickets = [
        numbered(log, [1]),
        log.append([b"k", b"k"], [b"%08d" % 2, b"x" * (RECORD_BYTES_MAX + 1)]),
        numbered(log, [3]),
    ]
    reports = reports_of(logs, log, 3)
    assert [report.ticket for report in reports] == tickets
    assert [report.last_offset for report in reports[1:]] == [None, None]
    assert all(report.error for report in reports[1:])
    end = log.bounds().end
    ticket = numbered(log, [4])
    (report,) = reports_of(logs, log, 1)
    assert (report.ticket, report.error) == (ticket, "")
    values = [record.value for record in read(logs, log, 0, report.last_offset + 1)]
    assert b"%08d" % 3 not in values, "nothing lands that came after a lost record"
    assert report.last_offset >= end


def test_a_fatal_error_ends_every_session_of_the_process(logs):
    """A broker that refuses a record for good: with R1's settings that is fatal."""
    first, second, third = (logs.event_log(partition) for partition in range(PARTITIONS))
    for log in (first, second):
        numbered(log, [0])
        assert reports_of(logs, log, 1)[0].error == ""
    limit_events_to(logs, 10_000)
    big = first.append([b"k"], [os.urandom(100_000)])
    later = numbered(first, [1])
    reports = reports_of(logs, first, 2)
    assert [(report.ticket, report.last_offset) for report in reports] == [
        (big, None),
        (later, None),
    ]
    assert logs.statistics()["producer_instances"] == 2
    # The second had nothing out; it learns of the end before anything of its is sent.
    stale = numbered(second, [1])
    (report,) = reports_of(logs, second, 1)
    assert (report.ticket, report.last_offset) == (stale, None)
    assert second.bounds().end == 1
    # The third had never appended: its first session is the new one.
    for log in (first, second, third):
        numbered(log, [2])
        assert reports_of(logs, log, 1)[0].error == ""
    assert [r.value for r in read(logs, first, 0, 2)] == [b"%08d" % 0, b"%08d" % 2]


def limit_events_to(logs, size_bytes):
    """Lower the topic's limit below what the client believes."""
    admin = AdminClient(client(logs))
    entry = ConfigEntry(
        "max.message.bytes", str(size_bytes), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(
        ResourceType.TOPIC, logs.connection.topic("events"), incremental_configs=[entry]
    )
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(10)


def test_a_deleted_topic_under_a_running_owner_is_no_success(logs):
    log = logs.event_log(0)
    numbered(log, [0])
    assert reports_of(logs, log, 1)[0].error == ""
    delete_topics(logs, "events")

    def ask_until_it_is_gone():  # deletion goes on behind the answer
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            log.bounds()

    with pytest.raises(UnavailableError) as raised:
        ask_until_it_is_gone()
    assert raised.value.code == "E1401"


@pytest.mark.parametrize(("kind", "code"), [("events", "E1302"), ("commands", "E1305")])
def test_retention_that_overtakes_a_reader_is_an_error_with_the_count(logs, kind, code):
    if kind == "events":
        log = logs.event_log(0)
        numbered(log, range(100))
        reports_of(logs, log, 1)
    else:
        log = logs.command_log(0)
        for number in range(100):
            logs.commands.publish(0, b"k", b"%08d" % number)
        done = []
        settle(logs, lambda: done.extend(logs.commands.published()) or len(done) == 100)
    delete_records(logs, kind, 0, 60)
    settle(logs, lambda: log.bounds().begin == 60)
    log.seek(10)
    with pytest.raises(LogError, match="50 records from offset 10 on are gone") as raised:
        settle(logs, lambda: log.take(10))
    assert raised.value.code == code
    with pytest.raises(LogError):
        log.take(10)
    log.seek(60)
    assert settle(logs, lambda: log.take(10)).offsets[0] == 60


def test_a_position_beyond_the_end_means_a_lost_tail(logs):
    log = logs.event_log(0)
    numbered(log, range(10))
    reports_of(logs, log, 1)
    log.seek(20)
    with pytest.raises(LogError) as raised:
        settle(logs, lambda: log.take(10))
    assert raised.value.code == "E1203"


def test_transactions_of_clients_leave_no_trace_but_their_commands(logs):
    """Aborted commands never were; markers are skipped, and neither stops the reader."""
    topic = logs.connection.topic("commands")
    producer = ck.Producer(client(logs) | {"transactional.id": uuid.uuid4().hex})
    producer.init_transactions(30)
    for number, keep in enumerate((True, False, True)):
        producer.begin_transaction()
        producer.produce(topic, b"%d" % number, b"w", 0)
        producer.flush(30)
        (producer.commit_transaction if keep else producer.abort_transaction)(30)
    log = logs.command_log(0)
    log.seek(0)
    found = []
    settle(logs, lambda: found.extend(log.take(10).records()) or len(found) == 2)
    assert [record.value for record in found] == [b"0", b"2"]
    assert [record.offset for record in found] == [0, 4]


def test_a_client_with_the_right_partitioner_lands_where_we_look(logs):
    topic = logs.connection.topic("commands")
    producer = ck.Producer(client(logs) | {"partitioner": "murmur2_random"})
    landed = {}
    for number in range(300):
        key = uuid.uuid5(uuid.NAMESPACE_OID, str(number)).bytes[: 1 + number % 16]

        def delivered(error, message, key=key):
            assert error is None
            landed[key] = message.partition()

        producer.produce(topic, b"v", key, on_delivery=delivered)
    producer.flush(30)
    assert landed == {key: wire.partition_of(key, PARTITIONS) for key in landed}
    assert len(set(landed.values())) == PARTITIONS


def test_replies_arrive_and_bad_addresses_are_only_counted(logs):
    def reply(partition):
        return Reply(
            command_id=bytes(16),
            workspace="w",
            sequence=5,
            workspace_sequence=2,
            code="",
            result=b"r",
            reply_to=ReplyTo(partition, b"mine"),
        )

    for partition in (1, -1, 77):
        logs.replies.send(2, reply(partition))
    logs.replies.send(2, Reply(bytes(16), "w", 1, 1, ""))  # nobody asked
    consumer = ck.Consumer(client(logs) | {"group.id": "x", "enable.auto.commit": False})
    consumer.assign([ck.TopicPartition(logs.connection.topic("replies"), 1, 0)])
    message = settle(logs, lambda: consumer.poll(0))
    fields = wire.decode_reply(message.value())
    consumer.close()
    assert (message.key(), fields["correlation"]) == (b"w", b"mine")
    assert (fields["partition"], fields["sequence"], fields["result"]) == (2, 5, b"r")
    assert logs.statistics()["replies_dropped"] >= 1
    assert logs.statistics()["producer_instances"] == 1


def test_publishing_is_bounded_and_may_come_from_many_threads(logs):
    def publish():
        for _ in range(200):
            logs.commands.publish(0, b"w", b"v")

    threads = [threading.Thread(target=publish) for _ in range(5)]
    for thread in threads:
        thread.start()
    reports = []
    settle(logs, lambda: reports.extend(logs.commands.published()) or len(reports) == 1_000)
    for thread in threads:
        thread.join()
    assert sorted(report.last_offset for report in reports) == list(range(1_000))
    assert len({report.ticket for report in reports}) == 1_000


def test_too_much_waiting_for_a_silent_broker_is_refused(own):
    broker, logs = own
    broker.kill(number=signal.SIGSTOP)
    for _ in range(REQUESTS_WAITING_MAX):
        logs.commands.publish(0, b"w", b"v")
    with pytest.raises(UnavailableError) as raised:
        logs.commands.publish(0, b"w", b"v")
    assert raised.value.code == "E1403"
    broker.kill(number=signal.SIGCONT)


def test_closing_is_bounded_when_the_broker_is_gone(tmp_path):
    with own_kafka(tmp_path) as (broker, address):
        logs = connected(address)
        log = logs.event_log(0)
        log.seek(0)
        logs.wait(10)
        broker.kill()
        numbered(log, range(100))
        logs.commands.publish(0, b"w", b"v")
        closer = threading.Thread(target=logs.close)
        closer.start()
        closer.join(30)
        assert not closer.is_alive()


def test_a_port_nobody_listens_on_is_unavailable(monkeypatch):
    monkeypatch.setattr("engine.log.kafka.topics.REQUEST_TIMEOUT_S", 0.5)
    with pytest.raises(UnavailableError):
        connected(f"127.0.0.1:{free_ports(1)[0]}")


def test_a_seek_to_where_it_stands_keeps_what_was_read_ahead(logs):
    log = logs.event_log(0)
    log.append([b"k"] * 20, [b"%d" % at for at in range(20)])
    reports_of(logs, log, 1)
    log.seek(0)
    settle(logs, lambda: log.statistics()["read_ahead"] == 20)
    log.seek(0)
    assert log.take(5).values[0] == b"0"  # at once, without another fetch
    log.seek(5)
    assert log.take(5).offsets == list(range(5, 10))
    log.seek(3)  # elsewhere: nothing of the old place comes any more
    assert read(logs, log, 3, 20)[0].offset == 3
