"""What CommandLog, EventLog, CommandSink and Logs promise, on every implementation."""

import threading

import pytest

from engine.errors import LogError
from engine.limits import COMMAND_BYTES_MAX, OUTCOME_BYTES_MAX
from engine.model import LogRecord, Lookup


def append(world, log, *values, key=b"workspace"):
    """Append records, wait for the report, return the offset of the last one."""
    ticket = log.append([key] * len(values), list(values))
    reports = []
    world.settle(lambda: reports.extend(log.reports()) or reports)
    assert [(report.ticket, report.error) for report in reports] == [(ticket, "")]
    return reports[0].last_offset


def read(world, log, count):
    """Take exactly `count` records, in however many pieces they come."""
    records = []

    def complete():
        records.extend(log.take(count - len(records)).records())
        return len(records) >= count

    world.settle(complete)
    return records


def publish(world, partition, *values, key=b"workspace"):
    """Publish commands one by one, wait for all, return their offsets."""
    sink = world.logs.commands
    tickets = [sink.publish(partition, key, value) for value in values]
    offsets = {}

    def complete():
        for report in sink.published():
            assert report.error == ""
            offsets[report.ticket] = report.last_offset
        return len(offsets) == len(tickets)

    world.settle(complete)
    return [offsets[ticket] for ticket in tickets]


def settled_lookup(world, log, offset):
    """Look a record up, asking again while it is on its way."""
    found = Lookup.PENDING

    def complete():
        nonlocal found
        found = log.lookup(offset)
        return found is not Lookup.PENDING

    world.settle(complete)
    return found


def test_a_new_log_is_empty(world):
    log = world.logs.event_log(0)
    bounds = log.bounds()
    log.seek(bounds.end)
    assert bounds.begin == bounds.end
    assert len(log.take(10)) == 0
    assert log.reports() == []


def test_what_is_reported_can_be_read(world):
    log = world.logs.event_log(0)
    begin = log.bounds().end
    last = append(world, log, b"one", b"two", b"three", key=b"a key")
    log.seek(begin)
    records = read(world, log, 3)
    assert [record.value for record in records] == [b"one", b"two", b"three"]
    assert {record.key for record in records} == {b"a key"}
    assert [record.offset for record in records] == [last - 2, last - 1, last]
    assert log.bounds().end == last + 1


def test_an_empty_key_is_none_and_an_empty_value_is_empty(world):
    log = world.logs.event_log(0)
    begin = log.bounds().end
    append(world, log, b"", key=b"")
    log.seek(begin)
    (record,) = read(world, log, 1)
    assert record.key is None
    assert record.value == b""


def test_reports_come_in_the_order_of_their_appends_and_offsets_are_dense(world):
    log = world.logs.event_log(1)
    begin = log.bounds().end
    sizes = [1, 3, 2, 5, 1]
    tickets = [log.append([b"k"] * size, [b"v"] * size) for size in sizes]
    reports = []
    world.settle(lambda: reports.extend(log.reports()) or len(reports) == len(sizes))
    assert [report.ticket for report in reports] == tickets
    ends = [begin + sum(sizes[: at + 1]) - 1 for at in range(len(sizes))]
    assert [report.last_offset for report in reports] == ends


def test_take_gives_every_record_once_and_at_most_as_many_as_asked(world):
    log = world.logs.event_log(0)
    begin = log.bounds().end
    values = [b"%d" % number for number in range(50)]
    append(world, log, *values)
    log.seek(begin)
    taken = []

    def complete():
        batch = log.take(7)
        assert len(batch) <= 7
        taken.extend(batch.records())
        return len(taken) >= 50

    world.settle(complete)
    assert [record.value for record in taken] == values
    assert [record.offset for record in taken] == list(range(begin, begin + 50))
    assert len(log.take(7)) == 0


def test_taking_never_waits_for_as_many_as_asked(world):
    """With a wait of a tenth of a second in each it would run into its time-out."""
    log, commands = world.logs.event_log(0), world.logs.command_log(0)
    log.seek(log.bounds().end)
    commands.seek(commands.bounds().end)
    assert not any(len(part.take(1_000)) for _ in range(5_000) for part in (log, commands))


def test_seek_goes_forth_and_back(world):
    log = world.logs.event_log(0)
    begin = log.bounds().end
    append(world, log, *(b"%d" % number for number in range(10)))
    for offset in (7, 0, 9, 4, 4):
        log.seek(begin + offset)
        assert read(world, log, 1)[0].value == b"%d" % offset


def test_a_resting_log_gives_nothing_until_the_next_seek(world):
    log = world.logs.event_log(0)
    begin = log.bounds().end
    append(world, log, b"one", b"two")
    log.seek(begin)
    read(world, log, 1)
    log.rest()
    assert len(log.take(10)) == 0
    log.seek(begin + 1)
    assert read(world, log, 1)[0].value == b"two"


def test_a_reader_meets_what_another_appends_later(world):
    reader, writer = world.logs.event_log(2), world.logs.event_log(2)
    reader.seek(reader.bounds().end)
    for value in (b"one", b"two"):
        append(world, writer, value)
        assert read(world, reader, 1)[0].value == value


def test_the_history_is_read_beside_the_log_and_moves_nothing_there(world):
    log, history = world.logs.event_log(1), world.logs.history(1)
    begin = log.bounds().end
    values = [b"%d" % number for number in range(6)]
    for value in values:
        append(world, log, value)
    log.seek(begin)
    assert [record.value for record in read(world, log, 2)] == values[:2]
    history.seek(begin)
    assert [record.value for record in read(world, history, 4)] == values[:4]
    assert [record.value for record in read(world, log, 4)] == values[2:]
    history.rest()
    assert len(history.take(10)) == 0
    history.seek(begin + 5)
    assert [record.value for record in read(world, history, 1)] == values[5:]


def test_two_writers_keep_their_own_order(world):
    writers = [world.logs.event_log(0), world.logs.event_log(0)]
    begin = writers[0].bounds().end
    for number in range(20):
        for name, writer in zip(b"ab", writers, strict=True):
            writer.append([b"k"], [b"%c%02d" % (name, number)])
    counts = [0, 0]

    def complete():
        for at, writer in enumerate(writers):
            counts[at] += len(writer.reports())
        return counts == [20, 20]

    world.settle(complete)
    reader = world.logs.event_log(0)
    reader.seek(begin)
    values = [record.value for record in read(world, reader, 40)]
    for name in (b"a", b"b"):
        own = [value for value in values if value.startswith(name)]
        assert own == sorted(own)
        assert len(own) == 20


def test_append_times_do_not_go_back(world):
    log = world.logs.event_log(0)
    begin = log.bounds().end
    for _ in range(5):
        append(world, log, b"v")
    log.seek(begin)
    times = [record.time_ms for record in read(world, log, 5)]
    assert times == sorted(times)
    assert times[0] > 0


def test_partitions_and_logs_are_apart(world):
    logs = world.logs
    for partition in range(world.partitions):
        append(world, logs.event_log(partition), b"event %d" % partition)
        publish(world, partition, b"command %d" % partition)
    for partition in range(world.partitions):
        for log, name in (
            (logs.event_log(partition), b"event"),
            (logs.command_log(partition), b"command"),
        ):
            log.seek(log.bounds().begin)
            assert read(world, log, 1)[0].value == b"%b %d" % (name, partition)
            assert len(log.take(10)) == 0
    assert logs.event_log(0).bounds().topic_id != logs.command_log(0).bounds().topic_id


def test_lookup_finds_any_record(world):
    log = world.logs.event_log(0)
    begin = log.bounds().end
    append(world, log, *(b"%d" % number for number in range(20)))
    log.seek(begin + 5)
    for offset in (19, 0, 7, 7):
        found = settled_lookup(world, log, begin + offset)
        assert isinstance(found, LogRecord)
        assert (found.offset, found.key, found.value) == (
            begin + offset,
            b"workspace",
            b"%d" % offset,
        )
    assert read(world, log, 1)[0].offset == begin + 5, "a lookup doesn't move the reader"


def test_lookup_beyond_the_end_says_gone(world):
    log = world.logs.event_log(0)
    append(world, log, b"one")
    assert settled_lookup(world, log, log.bounds().end) is Lookup.GONE


def test_the_largest_records_fit(world):
    log = world.logs.event_log(0)
    begin = log.bounds().end
    values = [bytes([number]) * OUTCOME_BYTES_MAX for number in range(8)]
    append(world, log, *values)
    log.seek(begin)
    assert [record.value for record in read(world, log, 8)] == values


def test_a_restart_keeps_what_was_reported_and_goes_on_behind_it(world):
    log = world.logs.event_log(3)
    before = log.bounds()
    last = append(world, log, b"one", b"two")
    log = world.restart().event_log(3)
    assert log.bounds() == type(before)(before.begin, last + 1, before.topic_id)
    assert append(world, log, b"three") == last + 1
    log.seek(last - 1)
    assert [record.value for record in read(world, log, 3)] == [b"one", b"two", b"three"]


def test_a_restart_keeps_commands(world):
    offsets = publish(world, 1, b"one", b"two")
    log = world.restart().command_log(1)
    log.seek(offsets[0])
    assert [record.value for record in read(world, log, 2)] == [b"one", b"two"]
    assert publish(world, 1, b"three") == [offsets[1] + 1]


def test_commands_of_a_publisher_keep_their_order(world):
    values = [b"%03d" % number for number in range(100)]
    offsets = publish(world, 0, *values, key=b"tail-N12345")
    assert offsets == list(range(offsets[0], offsets[0] + 100))
    log = world.logs.command_log(0)
    log.seek(offsets[0])
    records = read(world, log, 100)
    assert [record.value for record in records] == values
    assert {record.key for record in records} == {b"tail-N12345"}


def test_the_largest_command_fits(world):
    (offset,) = publish(world, 0, b"x" * COMMAND_BYTES_MAX)
    log = world.logs.command_log(0)
    log.seek(offset)
    assert len(read(world, log, 1)[0].value) == COMMAND_BYTES_MAX


def test_lag_counts_the_commands_that_wait(world):
    log = world.logs.command_log(0)
    log.seek(log.bounds().end)
    publish(world, 0, *([b"v"] * 10))
    read(world, log, 4)
    world.settle(lambda: log.statistics()["lag"] == 6)
    read(world, log, 6)
    world.settle(lambda: log.statistics()["lag"] == 0)


def test_reading_below_the_begin_of_the_events_is_an_error(world):
    log = world.logs.event_log(0)
    begin = log.bounds().begin
    for _ in range(5):
        last = append(world, log, b"x" * 1_000)
    world.trim_events(0, last)
    bounds = world.settle(lambda: bounds if (bounds := log.bounds()).begin > begin else None)
    assert bounds.end == last + 1
    log.seek(begin)
    with pytest.raises(LogError) as raised:
        world.settle(lambda: log.take(10))
    assert raised.value.code == "E1302"
    assert settled_lookup(world, log, begin) is Lookup.GONE
    log.seek(bounds.begin)
    assert read(world, log, 1)[0].offset == bounds.begin


def test_reading_below_the_begin_of_the_commands_is_an_error(world):
    log = world.logs.command_log(0)
    begin = log.bounds().begin
    last = publish(world, 0, *([b"x" * 1_000] * 5))[-1]
    world.trim_commands(0, last)
    bounds = world.settle(lambda: bounds if (bounds := log.bounds()).begin > begin else None)
    log.seek(begin)
    with pytest.raises(LogError) as raised:
        world.settle(lambda: log.take(10))
    assert raised.value.code == "E1305"
    log.seek(bounds.begin)
    assert read(world, log, 1)[0].offset == bounds.begin


def test_wake_ends_a_wait(world):
    for _ in range(3):  # also when it comes before the wait
        waker = threading.Thread(target=world.logs.wake)
        waker.start()
        world.logs.wait(3_600_000)
        waker.join()


def test_closing_twice_and_with_appends_under_way_is_harmless(world):
    world.logs.event_log(0).append([b"k"] * 100, [b"v" * 100] * 100)
    world.logs.commands.publish(0, b"k", b"v")
    world.logs.close()
    world.logs.close()


def test_statistics_are_numbers(world):
    logs = world.logs
    for source in (logs, logs.event_log(0), logs.command_log(0)):
        assert all(isinstance(value, int | float) for value in source.statistics().values())
