"""Which ids a state host remembers, and what a duplicate is told (FORMATS 4)."""

from host_world import code, uuid4_of, workspaces

from engine import limits, wire
from engine.model import Duplicate, ReplyTo
from engine.world import uuid7

# Dedup (FORMATS 4).


def test_a_duplicate_names_the_first_outcome_and_becomes_none(world):
    value = world.command("open", {"owner": "Ann"}, reply={"partition": 1, "correlation": b"c"})
    first, again = world.send(value, value)
    assert (first.sequence, again.first_sequence) == (1, 1)
    world.restart()
    (later,) = world.send(value)
    assert isinstance(later, Duplicate)
    assert (later.first_sequence, later.name, later.reply_to) == (1, "open", ReplyTo(1, b"c"))
    command = wire.decode_command(value)
    assert (later.args_schema, later.args) == (command["args_schema"], command["args"])
    assert later.workspace == world.workspace
    assert len(world.log) == 1


def test_the_same_id_for_something_else_is_told_apart_by_what_the_duplicate_says(world):
    id_ = world.next_id()
    world.do("open", {"owner": "Ann"}, command_id=id_)
    other = workspaces(world.partition)[1]
    (reply,) = world.send(world.command("credit", {"amount": 5}, command_id=id_), key=other)
    assert isinstance(reply, Duplicate)
    assert (reply.workspace, reply.name) == (other, "credit")
    assert reply.args == wire.decode_command(world.command("credit", {"amount": 5}))["args"]


def test_a_rejected_command_has_its_outcome_too(world):
    value = world.command("credit", {"amount": 5})
    world.send(value)
    world.do("open", {"owner": "Ann"})
    (again,) = world.send(value)
    assert again.first_sequence == 1


def test_ids_from_the_future_and_ids_below_the_floor_are_refused_without_a_record(world):
    world.do("open", {"owner": "Ann"})
    ahead = uuid7(world.now_ms + limits.ID_AHEAD_MS_MAX + 1, bytes(10))
    just = uuid7(world.now_ms + limits.ID_AHEAD_MS_MAX, bytes(10))
    old = uuid7(world.now_ms - limits.DEDUP_WINDOW_MS, bytes(10))
    young = uuid7(world.now_ms - limits.DEDUP_WINDOW_MS + 1, bytes(10))
    replies = world.send(
        *[world.command("credit", {"amount": 1}, command_id=i) for i in (ahead, just, old, young)]
    )
    assert [code(reply) for reply in replies] == ["id_too_new", "", "id_expired", ""]
    assert [reply.sequence for reply in replies] == [0, 2, 0, 3]
    assert len(world.log) == 3


def test_an_id_is_remembered_until_the_floor_passes_its_own_time(world):
    value = world.command(
        "open", {"owner": "Ann"}, command_id=uuid7(world.now_ms + 60_000, bytes(10))
    )
    world.send(value)
    world.now_ms += limits.DEDUP_WINDOW_MS + 59_999
    world.do("debit", {"amount": 1})
    world.restart()
    (still,) = world.send(value)
    assert isinstance(still, Duplicate)
    world.now_ms += 1
    (expired,) = world.send(value)
    assert code(expired) == "id_expired"


def test_other_ids_are_remembered_for_the_window(world):
    value = world.command("open", {"owner": "Ann"}, command_id=uuid4_of(9))
    world.send(value)
    world.now_ms += limits.DEDUP_WINDOW_MS
    (again,) = world.send(value)
    assert isinstance(again, Duplicate)


def test_find_sees_confirmed_outcomes_only(world):
    id_ = world.next_id()
    world.decide(world.command("open", {"owner": "Ann"}, command_id=id_))
    assert world.host.find(id_) == 0
    world.confirm()
    assert world.host.find(id_) == 1
    assert world.host.find(world.next_id()) == 0
    world.restart()
    assert world.host.find(id_) == 1
