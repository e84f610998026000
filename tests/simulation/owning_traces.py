"""Histories that only a rule of owning survives: claims, confirmations, releases, and time."""

from scripted import EqualEpochs, Script, owner, read

from engine import limits
from engine.log.simulated_broker import Faults
from engine.wire import Kind


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
