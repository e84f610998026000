"""The simulated broker's faults: each does what it says, and only that."""

import random

import pytest

from engine.errors import LogError, UnavailableError
from engine.log.simulated import Faults, SimulatedBroker, SimulatedLogs
from engine.model import Lookup, Reply

SEEDS = range(30)


class SeededRandom:
    def __init__(self, seed):
        self._random = random.Random(seed)

    def bytes(self, count):
        return self._random.randbytes(count)

    def below(self, bound):
        return self._random.randrange(bound)


class Clock:
    def __init__(self):
        self.ms = 1_000_000

    def now_ms(self):
        return self.ms

    def monotonic_ms(self):
        return self.ms


def world(seed=0, **faults):
    broker = SimulatedBroker(SeededRandom(seed), Clock(), 1, Faults(**faults))
    return broker, SimulatedLogs(broker)


def values(broker):
    return [record.value for record in broker.events(0)]


def run(broker, steps=200):
    for _ in range(steps):
        broker.step()


def numbers(*given):
    return [b"%d" % number for number in given]


def append(log, *given):
    return log.append([b"k"] * len(given), numbers(*given))


def test_nothing_lands_before_a_step():
    broker, logs = world()
    log = logs.event_log(0)
    append(log, 1, 2)
    assert values(broker) == []
    assert log.reports() == []
    assert broker.in_flight == 2
    broker.step()
    assert values(broker) == numbers(1, 2)
    assert [report.last_offset for report in log.reports()] == [1]
    assert broker.in_flight == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_delays_change_nothing_but_the_moment(seed):
    broker, logs = world(
        seed, stay=500, part=500, late_report=500, stale_read=500, pending_lookup=500
    )
    first, second = logs.event_log(0), logs.event_log(0)
    for number in range(10):
        append(first, number, number)
        append(second, 100 + number)
        broker.step()
    reader = logs.event_log(0)
    reader.seek(0)
    seen = []
    for _ in range(200):
        broker.step()
        seen.extend(reader.take(3).values)
    assert seen == values(broker)
    assert [int(value) for value in seen if len(value) == 1] == [n // 2 for n in range(20)]
    assert [int(value) for value in seen if len(value) == 3] == list(range(100, 110))
    assert [report.ticket for report in first.reports()] == list(range(1, 11))


def test_the_same_seed_gives_the_same_log():
    def history(seed):
        broker, logs = world(
            seed, stay=300, part=500, late_report=300, budget=20, lose=50, double=50, hole=20
        )
        writers = [logs.event_log(0), logs.event_log(0)]
        told = []
        for number in range(50):
            for at, writer in enumerate(writers):
                append(writer, 1_000 * at + number)
                told.extend(writer.reports())
            broker.step()
        return values(broker), told, dict(broker.counts)

    assert history(3) == history(3)
    assert history(3) != history(4)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lost_session_lands_nothing_more_and_tells(seed):
    broker, logs = world(seed, stay=300, part=700, budget=1, lose=150)
    log = logs.event_log(0)
    tickets = [append(log, 10 * number, 10 * number + 1) for number in range(10)]
    run(broker)
    reports = log.reports()
    assert [report.ticket for report in reports] == tickets
    landed = [report.ticket for report in reports if not report.error]
    assert landed == tickets[: len(landed)], "the failed ones are the last ones"
    everything = [b"%d" % (10 * number + at) for number in range(10) for at in (0, 1)]
    assert values(broker) == everything[: len(values(broker))], "a prefix"
    if broker.counts["lose"]:
        append(log, 999)
        run(broker)
        assert values(broker)[-1] == b"999"
        assert log.statistics()["sessions"] == 2


def test_a_silent_loss_swallows_appends_until_it_is_told():
    broker, logs = world(budget=1, lose=1_000, silent=1_000, silence_ms=500)
    log = logs.event_log(0)
    append(log, 1)
    run(broker)
    append(log, 2)
    run(broker)
    assert log.reports() == []
    broker.clock.ms += 500
    run(broker)
    assert [(report.ticket, report.last_offset) for report in log.reports()] == [
        (1, None),
        (2, None),
    ]
    append(log, 3)
    run(broker)
    assert values(broker) == [b"3"]


def test_a_dropped_report_never_comes():
    broker, logs = world(budget=1, drop_report=1_000)
    log = logs.event_log(0)
    append(log, 1)
    append(log, 2)
    run(broker)
    assert values(broker) == numbers(1, 2)
    assert [report.ticket for report in log.reports()] == [2]


def test_a_hole_loses_one_record_and_its_ticket_is_an_error():
    broker, logs = world(budget=1, hole=1_000)
    log = logs.event_log(0)
    append(log, 1, 2)
    append(log, 3)
    run(broker)
    assert values(broker) == numbers(2, 3)
    assert [bool(report.error) for report in log.reports()] == [True, False]


def test_a_double_lands_twice():
    broker, logs = world(budget=1, double=1_000)
    log = logs.event_log(0)
    append(log, 1, 2)
    run(broker)
    assert values(broker) == numbers(1, 1, 2)
    assert [report.last_offset for report in log.reports()] == [2]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_dead_process_has_in_flight_may_land_later(seed):
    broker, logs = world(seed, stay=800)
    log = logs.event_log(0)
    append(log, 1, 2)
    logs.crash()
    successor = SimulatedLogs(broker).event_log(0)
    append(successor, 3)
    run(broker)
    assert values(broker) in (numbers(1, 2, 3), numbers(3, 1, 2))
    assert log.reports() == []
    assert broker.in_flight == 0


def test_both_orders_of_zombie_and_successor_happen():
    seen = set()
    for seed in SEEDS:
        broker, logs = world(seed, stay=800)
        append(logs.event_log(0), 1)
        logs.crash()
        append(SimulatedLogs(broker).event_log(0), 2)
        run(broker)
        seen.add(tuple(values(broker)))
    assert seen == {(b"1", b"2"), (b"2", b"1")}


def test_a_cut_is_told_to_who_had_read_it_and_to_nobody_else():
    broker, logs = world()
    log, behind, ahead = (logs.event_log(0) for _ in range(3))
    append(log, 1, 2, 3)
    run(broker)
    behind.seek(0)
    behind.take(1)
    ahead.seek(0)
    assert ahead.take(10).leader_epoch == 0
    broker.cut(0, 2)
    append(log, 4, 5, 6)
    run(broker)
    batch = behind.take(10)
    assert batch.values == numbers(4, 5, 6)
    assert batch.leader_epoch == 1
    with pytest.raises(LogError) as raised:
        ahead.take(10)
    assert raised.value.code == "E1203"
    assert values(broker) == numbers(1, 4, 5, 6)


def test_a_new_leader_may_have_another_clock():
    broker, logs = world(budget=50, elect=1_000, skew_ms=5_000)
    log = logs.event_log(0)
    for number in range(20):
        append(log, number)
        broker.step()
    times = [record.time_ms for record in broker.events(0)]
    assert len(set(times)) > 5
    assert all(abs(time_ms - broker.clock.ms) <= 5_000 for time_ms in times)


@pytest.mark.parametrize("seed", SEEDS)
def test_commands_land_at_least_once_or_their_publisher_is_told(seed):
    broker, logs = world(seed, stay=300, budget=6, lose_command=200, double_command=200)
    tickets = {logs.commands.publish(0, b"w", b"%d" % number): number for number in range(20)}
    run(broker)
    reports = logs.commands.published()
    assert sorted(report.ticket for report in reports) == list(tickets)
    landed = [record.value for record in broker.commands(0)]
    for report in reports:
        value = b"%d" % tickets[report.ticket]
        assert (value in landed) == (not report.error)
        if not report.error:
            assert landed[report.last_offset] == value
    assert len(landed) == 20 - broker.counts["lose_command"] + broker.counts["double_command"]


def test_the_budget_bounds_the_faults():
    broker, logs = world(budget=3, double=1_000)
    log = logs.event_log(0)
    append(log, *range(10))
    run(broker)
    assert len(values(broker)) == 13
    assert broker.faults.budget == 0


def test_calm_ends_all_faults():
    broker, logs = world(stay=1_000, budget=5, lose=1_000, pending_lookup=1_000)
    log = logs.event_log(0)
    append(log, 1)
    run(broker)
    assert log.lookup(0) is Lookup.PENDING
    broker.calm()
    run(broker, 1)
    assert values(broker) == [b"1"]
    assert log.lookup(0).value == b"1"


def test_bounds_may_be_unavailable():
    _broker, logs = world(budget=1, unavailable=1_000)
    log = logs.event_log(0)
    with pytest.raises(UnavailableError):
        log.bounds()
    assert log.bounds().end == 0


def test_replies_arrive_or_are_counted():
    broker, logs = world(lose_reply=500)
    for number in range(100):
        logs.replies.send(0, Reply(b"%016d" % number, "w", number + 1, 1, ""))
    arrived = broker.take_replies()
    assert 0 < len(arrived) < 100
    assert logs.statistics()["replies"] == len(arrived)
    assert logs.statistics()["replies_failed"] == 100 - len(arrived)
    assert broker.take_replies() == []
