"""The protocol's counterexamples as regressions: each holds, and fails without its rule.

A trace drives shipped replicas on a scripted broker to the very steps in which the rule matters.
The table at the end names for each trace the planted bugs (planted.py) that must make it fail.
"""

from collections.abc import Callable

import planted
import pytest
from planted import Plant
from scripted import EqualEpochs, Script, ScriptedNode

from engine import limits, wire
from engine.application import rows
from engine.errors import EngineError
from engine.log.simulated_broker import Faults
from engine.model import Phase
from engine.wire import Kind


def owner(script: Script, name: str = "n0", random: EqualEpochs | None = None) -> ScriptedNode:
    """Start a node that owns."""
    node = script.node(name, random)
    node.own()
    return node


def reader(script: Script, name: str = "n1") -> ScriptedNode:
    """Start a node that only reads: its own claim is lost on the way."""
    node = script.node(name)
    for _ in range(20):
        node.tick()
        if node.in_flight:
            node.lose()
            return node
    return node


def read(*nodes: ScriptedNode, times: int = 4) -> None:
    """Let nodes tick while nothing lands."""
    for node in nodes:
        node.tick(times)


def equal_epochs(script: Script) -> None:
    """n0 Owner{1}, n1 Owner{1}; the first lands, n0 sends s1(a); the second lands: it is void."""
    n0, n1 = script.node("n0", EqualEpochs(1)), script.node("n1", EqualEpochs(2))
    read(n0, n1, times=2)
    n0.land()
    n0.own()
    a = script.command(1)
    read(n0)
    n1.land()
    n1.settle()
    assert not n1.owns
    n0.settle()
    assert n0.owns
    assert [answer.command_id for answer in n0.answers] == [a]
    assert script.decided() == [a]


def lower_epoch(script: Script) -> None:
    """A claim that was late to land doesn't end the epoch of a higher one."""
    late = script.node("late")
    read(late)
    assert late.in_flight == [Kind.OWNER]
    owner(script, "before").restart()
    n0 = owner(script)
    epoch = n0.replica.held().epoch
    late.land()
    late.settle()
    assert not late.owns
    a = script.command(1)
    n0.settle()
    assert n0.owns
    assert n0.replica.held().epoch == epoch
    assert script.decided() == [a]


def zombie(script: Script) -> None:
    """n0 sends s1(a), n1's Owner lands, s1 lands behind it: void, and n1 decides a."""
    n0, follower = owner(script), reader(script, "follower")
    a = script.command(1)
    read(n0)
    n1 = owner(script, "n1")
    n0.land()
    n1.settle()
    read(follower, n0)
    assert n0.answers == []
    assert n0.replica.phase is not Phase.OWNING
    assert [answer.command_id for answer in n1.answers] == [a]
    assert script.decided() == [a]
    script.agree(follower, n1)


def double_landing(script: Script) -> None:
    """s1 lands twice: it counts once, and nobody minds."""
    n0, follower = owner(script), reader(script)
    a = script.command(1)
    read(n0)
    script.broker.faults = Faults(double=1_000, budget=1)
    n0.land()
    script.broker.calm()
    b = script.command(2)
    n0.settle()
    read(follower)
    assert n0.replica.counters["claims"] == 1
    assert script.decided() == [a, b]
    script.agree(follower, n0)


def hole(script: Script) -> None:
    """s1 is lost alone, s2 lands: nothing counts, readers go on, the owner claims again."""
    n0, follower = owner(script), reader(script)
    a = script.command(1)
    read(n0)
    b = script.command(2)
    read(n0)
    n0.lose()
    n0.land()
    read(follower)
    assert follower.problem is None
    assert follower.sequence == 0
    assert n0.answers == []
    script.clock.time_ms += limits.APPEND_DEADLINE_MS + 1
    n0.settle()
    assert script.decided() == [a, b]
    assert sorted(answer.sequence for answer in n0.answers) == [1, 2]
    read(follower)
    script.agree(follower, n0)


def forked(script: Script) -> None:
    """s2 was decided on another s1 than the one that landed: it doesn't count."""
    n0, follower = owner(script), reader(script)
    a = script.command(1)
    read(n0)
    b = script.command(2)
    read(n0)
    assert n0.session is not None
    first, second = (value for _, value, _ in n0.session.queue)
    n0.lose(2)
    fields = wire.decode_event(first)[1]
    script.foreign(wire.encode_event(Kind.OUTCOME, {**fields, "registered_at": 1 << 50}))
    script.foreign(second)
    read(follower)
    assert follower.sequence == 1
    n1 = owner(script, "n1")
    n1.settle()
    assert script.decided() == [a, b]


def mark_behind_a_hole(script: Script) -> None:
    """s1(a) is lost, a Mark behind a lands: it doesn't count, or nobody would decide a."""
    n0 = owner(script)
    script.clock.time_ms += limits.MARK_INTERVAL_MS
    a = script.command(1)
    read(n0, times=2)
    assert n0.in_flight == [Kind.OUTCOME, Kind.MARK]
    n0.lose()
    n0.land()
    n1 = owner(script, "n1")
    n1.settle()
    assert n1.problem is None
    assert script.decided() == [a]


def claim_above(script: Script) -> None:
    """A replica that has lost an outcome stops at the next claim, and nobody else does."""
    n0, n1 = owner(script), reader(script)
    script.command(1)
    n0.settle()
    read(n1)
    value = n1.store.get(rows.POSITION_KEY)
    assert value is not None
    format_, position = wire.decode_position(value)
    position.host.sequence, position.host.previous = 0, 0
    n1.store.write([(rows.POSITION_KEY, wire.encode_position(position, format_))])
    n1.restart()
    read(n1)
    n1.lose()
    n2 = owner(script, "n2")
    read(n1)
    assert isinstance(n1.problem, EngineError)
    assert n1.problem.code == "E1204"
    assert n2.owns


def restart_behind_a_claim(script: Script) -> None:
    """A reader has read Owner{2}, restarts, and meets a late record of epoch 1: void."""
    n0 = owner(script)
    a = script.command(1)
    n0.settle()
    b = script.command(2)
    read(n0)
    n1 = script.node("n1")
    read(n1)
    n1.land()
    read(n1)
    n0.land()
    n1.restart()
    n1.logs.crash()
    n1.tick()
    n1.tick()
    assert n1.sequence == 1
    n2 = owner(script, "n2")
    n2.settle()
    assert script.decided() == [a, b]


def regrown_log(script: Script) -> None:
    """The log loses its tail and grows again beyond a store's offset: that store is refused."""
    n0 = owner(script)
    for amount in range(3):
        script.command(1 + amount)
        n0.settle()
    n0.restart()
    n0.logs.crash()
    script.broker.cut(0, 2)
    for _ in range(4):
        script.foreign(b"another history")
    n0.restart()
    read(n0)
    assert n0.problem is not None
    assert n0.problem.code == "E1204"


def lost_claim(script: Script) -> None:
    """The log loses n0's Owner, n1 claims from the same state: n0's late s1 is void."""
    n0 = owner(script)
    end = script.broker.event_logs[0].end
    a = script.command(1)
    read(n0)
    script.broker.cut(0, end)
    script.clock.time_ms += 100
    n1 = owner(script, "n1")
    n0.land()
    n1.settle()
    assert n1.problem is None
    assert n1.replica.counters["claims"] == 1
    assert script.decided() == [a]
    assert [answer.command_id for answer in n1.answers] == [a]
    assert script.outcomes()[0]["registered_at"] == script.clock.now_ms()


def one_name(script: Script) -> None:
    """Two processes share a name and an epoch: the claim of one is not that of the other."""
    first, second = script.node("n", EqualEpochs(1)), script.node("n", EqualEpochs(2))
    read(first, second, times=2)
    first.land()
    read(first, second)
    first.own()
    second.settle()
    assert not second.owns
    a = script.command(1)
    first.settle()
    assert script.decided() == [a]


def no_barrier(script: Script) -> None:
    """Commands wait, the own claim is on its way: nothing is decided."""
    owner(script, "before").restart()
    script.command(1)
    n0 = script.node("n0")
    read(n0, times=8)
    assert n0.in_flight == [Kind.OWNER]


def unjudged_claim(script: Script) -> None:
    """The own claim is met, and void: its node doesn't own."""
    n0 = script.node("n0", EqualEpochs(1))
    n1 = script.node("n1", EqualEpochs(2))
    read(n0, n1, times=2)
    n0.land()
    n1.land()
    n1.settle()
    assert not n1.owns
    assert n1.replica.counters["takeovers"] == 0


def restart_in_flight(script: Script) -> None:
    """s1(a) is in flight at a crash: the next process claims before it sends anything."""
    n0 = owner(script)
    script.command(1)
    n0.settle()
    a = script.command(2)
    read(n0)
    late = n0.session
    n0.restart()
    read(n0, times=8)
    assert n0.in_flight == [Kind.OWNER]
    assert late is not None
    value = late.queue[0][1]
    script.foreign(value)
    n0.own()
    n0.settle()
    assert script.decided()[-1] == a
    assert script.values.count(value) == 1


def decides_again(script: Script) -> None:
    """s1(a) is unknown; a is decided again with b only in a new epoch, on what has landed."""
    n0 = owner(script)
    a = script.command(1)
    read(n0)
    n0.land(told=False)
    b = script.command(2)
    script.clock.time_ms += limits.APPEND_DEADLINE_MS + 1
    n0.tick()
    assert n0.in_flight[-1] is Kind.OWNER
    n0.settle()
    assert script.decided() == [a, b]
    assert script.values.count(script.values[2]) == 1
    assert n0.replica.counters["claims"] == 2


def resume_from_the_log(script: Script) -> None:
    """a and b are taken, their records lost with their owner: the next owner decides them."""
    n0 = owner(script)
    a, b = script.command(1), script.command(2)
    read(n0)
    n0.lose(2)
    n1 = owner(script, "n1")
    n1.settle()
    assert script.decided() == [a, b]


def behind_another_owner(script: Script) -> None:
    """s1 is reported, behind an Owner that counts: it is not answered."""
    n0 = owner(script)
    script.command(1)
    read(n0)
    n1 = script.node("n1")
    read(n1)
    n1.land()
    n0.land()
    read(n0)
    assert n0.answers == []
    assert not n0.owns
    n1.own()
    n1.settle()
    script.decided()


def hole_and_sum(script: Script) -> None:
    """s1 of a batch is lost, a void record lies in its place: s2 is where it was expected."""
    n0 = owner(script)
    a, b = script.command(1), script.command(2)
    read(n0)
    script.broker.faults = Faults(hole=1_000, budget=1)
    n0.land(1)
    script.broker.calm()
    script.foreign(b"a void claim")
    n0.land()
    read(n0, times=2)
    assert n0.answers == []
    n0.settle()
    assert script.decided() == [a, b]


def in_order(script: Script) -> None:
    """s1 and s2 land behind Owner{2}, s2 right behind s1: neither is answered."""
    n0 = owner(script)
    script.command(1)
    read(n0, times=1)
    script.command(2)
    read(n0, times=1)
    n1 = script.node("n1")
    read(n1)
    n1.land()
    n0.land()
    read(n0)
    assert n0.answers == []
    n1.own()
    n1.settle()
    script.decided()


def duplicate_in_flight(script: Script) -> None:
    """a is in flight, a again: no answer before a is confirmed, and none at all by a zombie."""
    n0 = owner(script)
    a = script.command(1)
    read(n0)
    script.command(1, a)
    read(n0)
    assert n0.answers == []
    n1 = owner(script, "n1")
    n0.land()
    read(n0)
    n1.settle()
    assert n0.answers == []
    assert script.decided() == [a]
    assert {answer.sequence for answer in n1.answers} == {1}


def unconfirmed(script: Script) -> None:
    """What is sent is neither applied nor answered."""
    n0 = owner(script)
    script.command(1)
    read(n0)
    assert n0.answers == []
    assert n0.sequence == 0
    n0.land()
    read(n0)
    assert n0.sequence == 1


def behind_released(script: Script) -> None:
    """n0 releases; a record of its epoch behind it is void, and the next owner decides."""
    n0 = owner(script)
    a = script.command(1)
    read(n0)
    value = n0.session.queue[0][1] if n0.session else b""
    n0.lose()
    n0.replica.release()
    n0.replica._processor._flights.clear()
    n0.settle()
    script.foreign(value)
    n1 = owner(script, "n1")
    n1.settle()
    assert n1.problem is None
    assert script.decided() == [a]
    assert script.outcomes()[0]["epoch"] == n1.replica.held().epoch


def one_floor(script: Script) -> None:
    """An id is as old as the newest command time makes it, whoever owns and whatever its clock."""
    n0 = owner(script)
    a = script.command(1)
    n0.settle()
    script.clock.time_ms += limits.DEDUP_WINDOW_MS - 1_000
    n0.clock.skew_ms = 4_000
    script.command(1, a)
    n0.settle()
    assert [(one.sequence, one.duplicate) for one in n0.answers] == [(1, False), (1, True)]
    n1 = owner(script, "n1")
    script.command(1, a)
    n1.settle()
    assert [(one.sequence, one.duplicate) for one in n1.answers] == [(1, True)]
    script.decided()


def expired(script: Script) -> None:
    """An id below the floor is refused without a record: it may have been decided long ago."""
    n0 = owner(script)
    a = script.command(1)
    n0.settle()
    script.clock.time_ms += limits.DEDUP_WINDOW_MS + 1_000
    b = script.command(2)
    n0.settle()
    script.command(1, a)
    n0.settle()
    assert [(one.sequence, one.code) for one in n0.answers][2:] == [(0, "id_expired")]
    assert script.decided() == [a, b]


def clock_jump(script: Script) -> None:
    """An owner's clock is set a minute on: it decides nothing by it, and owns no more."""
    n0 = owner(script)
    a = script.command(1)
    n0.settle()
    n0.clock.skew_ms = 60_000
    b = script.command(2)
    n0.settle()
    assert not n0.owns
    assert script.decided() == [a]
    assert "clock is 60000 ms off" in n0.replica.reason
    owner(script, "n1")
    script.nodes[1].settle()
    assert script.decided() == [a, b]
    assert script.outcomes()[-1]["registered_at"] <= script.clock.now_ms()


def clock_set_right(script: Script) -> None:
    """An owner's clock is set to what the log's is by now, as behind a sleep: it owns again."""
    n0 = owner(script)
    n0.clock.asleep_ms = 60_000
    script.clock.time_ms += 60_000
    a = script.command(1)
    n0.settle()
    assert n0.owns
    assert n0.replica.counters["takeovers"] == 2
    assert script.decided() == [a]


Trace = Callable[[Script], None]

# The trace, its rule in the protocol, and the planted bugs that must make it fail.
TRACES: list[tuple[Trace, str, list[Plant]]] = [
    (equal_epochs, "F1", [planted.equal_epochs_count]),
    (lower_epoch, "F1", [planted.an_older_epoch_counts]),
    (zombie, "F2", [planted.any_epoch_counts]),
    (double_landing, "F3", [planted.any_sequence_counts]),
    (hole, "F3", [planted.any_sequence_counts, planted.a_hole_stops_readers]),
    (forked, "the chain", [planted.any_past_counts]),
    (mark_behind_a_hole, "F3 for Mark", [planted.marks_count_anywhere]),
    (claim_above, "F4", [planted.a_claim_above_is_believed]),
    (restart_behind_a_claim, "F5", [planted.the_store_keeps_the_epoch_of_its_last_outcome]),
    (regrown_log, "F6", [planted.a_log_is_known_by_its_length]),
    (lost_claim, "the epoch names the claim", [planted.epochs_are_a_counter]),
    (one_name, "C1", [planted.claims_are_known_by_the_nodes_name]),
    (no_barrier, "C2", [planted.decide_before_the_own_claim_is_met]),
    (unjudged_claim, "C2", [planted.a_claim_that_was_met_is_believed]),
    (restart_in_flight, "C3", [planted.a_restart_goes_on_in_its_epoch]),
    (
        decides_again,
        "C3",
        [planted.what_is_unknown_is_decided_again, planted.what_is_unknown_is_sent_again],
    ),
    (resume_from_the_log, "C4", [planted.commands_are_resumed_where_they_were_taken]),
    (behind_another_owner, "K1", [planted.any_report_confirms]),
    (hole_and_sum, "K1", [planted.the_last_report_confirms_without_gapless]),
    (in_order, "K2", [planted.a_batch_is_confirmed_by_the_one_behind_it]),
    (duplicate_in_flight, "K3", [planted.duplicates_are_answered_from_what_is_in_flight]),
    (unconfirmed, "K3", [planted.apply_before_confirmed]),
    (clock_jump, "R4", [planted.a_clock_that_jumps_is_believed]),
    (clock_set_right, "R4", [planted.a_clock_that_jumps_is_believed]),
    (behind_released, "R6", [planted.a_record_behind_released_counts]),
    (one_floor, "D1", [planted.the_floor_is_of_the_owners_clock]),
    (expired, "D1, D2", [planted.expired_ids_are_decided, planted.refusals_are_outcomes]),
]


@pytest.mark.parametrize("trace", [row[0] for row in TRACES], ids=lambda trace: trace.__name__)
def test_a_trace_holds(trace: Trace) -> None:
    trace(Script())


@pytest.mark.parametrize(
    ("trace", "plant"),
    [(row[0], plant) for row in TRACES for plant in row[2]],
    ids=lambda one: one.__name__,
)
def test_a_trace_fails_without_its_rule(
    trace: Trace, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, EngineError)):
        trace(Script())
