"""Histories that only a rule of reading survives: which records count, and what a store keeps."""

from scripted import EqualEpochs, Script, owner, read, reader

from engine import limits, wire
from engine.application import rows
from engine.errors import EngineError
from engine.log.simulated_broker import Faults
from engine.model import Phase
from engine.wire import Kind


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
