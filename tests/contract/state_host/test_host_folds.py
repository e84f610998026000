"""A fold of the log gives what deciding gave; what was unconfirmed can be taken back."""

import host_shop
import pytest
from host_shop import build
from host_world import BOUNDED, START_MS, World, code, digests_of, warm, workspaces

from engine import limits, wire
from engine.errors import EngineError
from engine.model import Batch, Duplicate, HostState, Input
from engine.wire import Kind
from engine.world import uuid7

# Unconfirmed batches.


def test_a_batch_sees_earlier_unconfirmed_ones(world):
    world.do("open", {"owner": "Ann"})
    world.decide(world.command("credit", {"amount": 5}))
    world.decide(world.command("debit", {"amount": 2}))
    world.confirm()
    world.decide(world.command("debit", {"amount": 3}))
    world.confirm()
    world.confirm()
    account = world.record("account")
    assert (account["balance"], account["entries"]) == (0, 3)


def test_rows_that_are_provided_never_replace_newer_ones(world):
    old = {}
    world.do("open", {"owner": "Ann"})
    old.update(world.rows())
    world.do("credit", {"amount": 5})
    world.host.provide(old)
    world.decide(world.command("credit", {"amount": 6}))
    world.host.provide(old)
    world.decide(world.command("credit", {"amount": 7}))
    world.confirm()
    world.host.provide(old)
    world.confirm()
    assert world.do("debit", {"amount": 18})["code"] == ""


def test_discard_drops_what_is_unconfirmed_and_nothing_else(world):
    world.do("open", {"owner": "Ann"})
    kept = world.command("credit", {"amount": 5})
    dropped = world.command("credit", {"amount": 7})
    world.decide(kept, world.command("add", {"name": "pen", "quantity": 1}))
    world.decide(dropped, world.command("add", {"name": "ink", "quantity": 2}))
    world.confirm()
    world.discard()
    assert world.host.decide(Batch(), Input.COMMANDS, world.now_ms).state == (
        world.ledger.position.host
    )
    first, again = world.send(kept, dropped)
    assert isinstance(first, Duplicate)
    assert (again.sequence, again.workspace_sequence, again.code) == (4, 4, "")
    assert world.record("account") == {
        "owner": "Ann",
        "balance": 12,
        "entries": 2,
        "state": "open",
        "note": None,
    }
    outcome = world.do("add", {"name": "tip", "quantity": 1})
    assert outcome["changes"][0]["id"] == limits.ID_FIRST + 1
    assert digests_of(world.rows()) == world.ledger.digests


def test_discard_returns_times_and_floor_too(world):
    world.do("open", {"owner": "Ann"})
    old = world.command("credit", {"amount": 5})
    world.now_ms += 2 * limits.DEDUP_WINDOW_MS
    world.decide(world.command("credit", {"amount": 1}))
    world.discard()
    world.now_ms -= 2 * limits.DEDUP_WINDOW_MS
    (reply,) = world.send(old)
    assert (reply.sequence, reply.code) == (2, "")
    assert wire.decode_outcome(world.log[1])["registered_at"] == START_MS


# Fold.


def replica(world, make_host):
    other = World(make_host, world.applications[1], world.partition)
    for index in sorted(world.applications)[1:]:
        other.deploy(world.applications[index])
    return other


def history(world):
    warm(world)
    world.send(
        *[world.command("credit", {"amount": 1}) for _ in range(40)],
        world.command("sell", {"id": limits.ID_FIRST}),
        world.command("retire", {"id": limits.ID_FIRST}),
        world.command("trouble", {"kind": "raises"}),
        b"garbage",
        (workspaces(world.partition + 1)[0], world.command("open", {"owner": "Bea"})),
    )


def test_fold_gives_the_rows_digests_and_state_that_decide_gave(world, make_host):
    history(world)
    other = replica(world, make_host)
    other.fold(world.log[:10])
    other.fold(world.log[10:])
    assert other.rows() == world.rows()
    assert other.ledger.digests == world.ledger.digests == digests_of(world.rows())
    assert other.ledger.position.host == world.ledger.position.host


@pytest.mark.parametrize("name", sorted(BOUNDED))
def test_a_small_cache_holds_less_and_changes_nothing_else(name):
    world, small = (
        World(lambda _, bytes_=bytes_: BOUNDED[name](bytes_)) for bytes_ in (1 << 20, 1)
    )
    for each in (world, small):
        history(each)
    assert small.rows() == world.rows()
    assert small.log == world.log
    assert world.host.statistics()["rows_held"] > 1
    assert small.host.statistics()["rows_held"] == 0
    assert small.host.statistics()["rows_bytes"] == 0


def test_who_has_folded_decides_on(world, make_host):
    value = world.command("open", {"owner": "Ann"})
    world.send(value)
    other = replica(world, make_host)
    other.fold(world.log)
    other.host.own(9)
    other.ids = 100
    (again, reply) = other.send(value, other.command("credit", {"amount": 5}))
    assert again.first_sequence == 1
    assert (reply.sequence, reply.workspace_sequence) == (2, 2)
    other.discard()
    assert other.host.find(wire.decode_command(value)["command_id"]) == 1


def test_a_mark_raises_what_the_fold_of_outcomes_may_not_have_seen(world, make_host):
    world.do("open", {"owner": "Ann"})
    mark = {
        "epoch": 7,
        "sequence": 1,
        "previous": wire.hash64(world.log[0]),
        "skippable": False,
        "inputs": [],
        "emitted_sequence": 0,
        "registered_at": START_MS + 5,
        "newest_command_time": START_MS + 6,
        "dedup_floor": START_MS - 7,
        "digests": [],
    }
    other = replica(world, make_host)
    decided = other.fold([*world.log, wire.encode_event(Kind.MARK, mark)])
    assert decided.done == 2
    assert decided.state == HostState(
        1, wire.hash64(world.log[0]), START_MS + 5, START_MS + 6, START_MS - 7, 0, 1
    )
    (reply,) = other.send(
        other.command("credit", {"amount": 5}, command_id=uuid7(START_MS - 7, bytes(10)))
    )
    assert code(reply) == "id_expired"


def test_a_batch_that_misses_in_fold_goes_on_behind_what_is_done(naming, make_naming):
    history(naming)
    other = replica(naming, make_naming)
    other.fold(naming.log[:3])
    other.restart()
    other.passes = 0
    other.fold(naming.log[3:])
    assert 1 < other.passes <= limits.MISS_PASSES_MAX
    assert other.rows() == naming.rows()


def test_an_outcome_of_another_application_stops_the_fold(world, make_host):
    world.do("open", {"owner": "Ann"})
    world.deploy(build(2, "2.0.0"))
    world.do("credit", {"amount": 5})
    other = World(make_host, world.applications[1], world.partition)
    with pytest.raises(EngineError, match="E1307"):
        other.fold(world.log)


def test_a_projector_that_fails_in_fold_stops_it(world, make_host):
    world.do("open", {"owner": "Ann"})
    broken = host_shop.SOURCE.replace('row["command"] =', "raise ValueError(1)\n#")
    other = World(make_host, build(source=broken), world.partition)
    with pytest.raises(EngineError, match="E1106"):
        other.fold(world.log)
