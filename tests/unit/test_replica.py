"""A replica's life on simulated logs: claims, confirmations, releases, and what stops it."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from replica_world import ReplicaWorld

from engine import limits, wire
from engine.application import rows
from engine.application.folder import load_application
from engine.errors import EngineError, UnavailableError
from engine.log.simulated_broker import Faults
from engine.model import Bounds, Phase
from engine.partition.replica import Identity, Replica
from engine.simulator.applications import ledger
from engine.simulator.disks import MemoryObjects
from engine.store.memory import MemoryStore
from engine.wire import Kind


class World(ReplicaWorld):
    """Replicas of the ledger."""

    def replica(self, store: MemoryStore | None = None, **identity: Any) -> Replica:
        who = Identity(**{"node": "n", "partition": 0, "application": ledger(), **identity})
        return self.opened(who, store)


@pytest.fixture
def world() -> World:
    return World()


def test_a_command_is_decided_once_and_its_duplicate_gets_the_first_outcome(world: World) -> None:
    replica = world.replica()
    world.until(replica, Phase.OWNING)
    command_id = world.move(5)
    world.settle(replica)
    world.move(5, command_id)
    world.settle(replica)
    assert [(r.sequence, r.code, r.duplicate) for r in world.replies] == [
        (1, "", False),
        (1, "", True),
    ]
    assert world.kinds() == [Kind.OWNER, Kind.APPLICATION, Kind.OUTCOME]


def test_an_id_used_for_another_command_is_refused_without_a_record(world: World) -> None:
    replica = world.replica()
    world.until(replica, Phase.OWNING)
    command_id = world.move(5)
    world.settle(replica)
    world.move(6, command_id)
    world.settle(replica)
    assert [(r.sequence, r.code) for r in world.replies] == [(1, ""), (0, "id_conflict")]


def test_release_is_the_last_record_and_waits_for_nothing_but_its_report(world: World) -> None:
    replica = world.replica()
    world.until(replica, Phase.OWNING)
    world.move(5)
    replica.tick()
    replica.release()
    world.until(replica, Phase.CLOSED)
    assert world.kinds()[-2:] == [Kind.OUTCOME, Kind.RELEASED]
    assert [reply.sequence for reply in world.replies] == [1]


def test_no_reply_leaves_before_its_outcome_is_in_the_log(world: World) -> None:
    replica = world.replica()
    world.until(replica, Phase.OWNING)
    world.broker.faults = Faults(stay=1_000)
    world.move(5)
    world.settle(replica)
    assert world.replies == []
    assert replica.held().sequence == 0
    world.broker.calm()
    world.settle(replica)
    assert [reply.sequence for reply in world.replies] == [1]


def test_a_batch_behind_a_newer_owner_is_dropped_however_contiguous(world: World) -> None:
    """Trace K2: s1 and s2 land behind Owner{2}, s2 right behind s1; neither may be answered."""
    zombie, newer = world.replica(), world.replica(node="m")
    world.until(zombie, Phase.OWNING)
    world.move(1)
    world.settle(zombie)
    world.until(newer, Phase.OWNING)
    world.replies.clear()
    world.move(2)
    world.move(3)
    zombie.tick()
    world.settle(zombie, steps=3)
    assert world.replies == []
    assert zombie.phase is Phase.STANDBY
    world.settle(newer)
    assert [(reply.sequence, reply.code) for reply in world.replies] == [(2, ""), (3, "")]


def test_a_hole_is_not_hidden_by_a_foreign_record(world: World) -> None:
    """Trace "hole + sum": s1 is lost, something void lands, s2 lands where it was expected."""
    replica = world.replica()
    world.until(replica, Phase.OWNING)
    world.broker.faults = Faults(hole=1_000, budget=1)
    world.move(1)
    world.move(2)
    world.settle(replica, steps=2)
    world.broker.event_logs[0].land(None, b"void", world.clock.now_ms())
    world.settle(replica)
    assert sorted(reply.sequence for reply in world.replies) == [1, 2]
    values = [r.value for r in world.broker.events(0) if r.value != b"void"]
    assert replica.phase is Phase.OWNING
    assert len(values) == len(set(values))


def test_an_append_without_a_report_ends_the_ownership_and_nothing_is_doubled(
    world: World,
) -> None:
    replica = world.replica()
    world.until(replica, Phase.OWNING)
    world.broker.faults = Faults(drop_report=1_000, budget=1)
    world.move(5)
    world.settle(replica)
    assert world.replies == []
    world.clock.time_ms += limits.APPEND_DEADLINE_MS + 1
    world.settle(replica)
    assert replica.phase is Phase.OWNING
    assert world.kinds().count(Kind.OWNER) == 2
    assert world.kinds().count(Kind.OUTCOME) == 1
    assert replica.held().sequence == 1


def _claim_met_after(world: World, way_ms: int) -> Replica:
    replica = world.replica()
    while replica.phase is not Phase.CLAIMING:
        replica.tick()
    for _ in range(3):
        world.broker.step()
    world.clock.time_ms += way_ms
    return replica


def test_a_claim_that_takes_long_to_be_met_is_no_wrong_clock(world: World) -> None:
    world.until(_claim_met_after(world, limits.CLAIM_WAY_MS_MAX), Phase.OWNING)
    assert world.kinds().count(Kind.OWNER) == 1


def test_a_claim_so_long_under_way_that_it_shows_no_clock_is_sent_again(world: World) -> None:
    """Simulator seed 200022: behind such a way a clock 22 s ahead of the log's was not noticed."""
    world.until(_claim_met_after(world, limits.CLAIM_WAY_MS_MAX + 1), Phase.OWNING)
    assert world.kinds().count(Kind.OWNER) == 2


def test_a_silent_broker_is_waited_for(world: World) -> None:
    replica = world.replica()
    world.broker.faults = Faults(stay=1_000)
    world.settle(replica)
    assert replica.phase is Phase.CLAIMING
    world.clock.time_ms += limits.APPEND_DEADLINE_MS * 3
    world.settle(replica)
    world.broker.calm()
    world.until(replica, Phase.OWNING)


def test_an_old_batch_is_not_decided_while_the_brokers_clock_is_ahead(world: World) -> None:
    replica = world.replica()
    world.until(replica, Phase.OWNING)
    world.clock.time_ms += limits.CLOCK_AHEAD_MS_MAX + 1_000
    world.move(5)
    world.clock.time_ms -= limits.CLOCK_AHEAD_MS_MAX + 1_000
    world.settle(replica)
    assert world.replies == []
    assert replica.statistics()["clock_behind"] == 1
    world.clock.time_ms += 2_000
    world.settle(replica)
    assert [reply.sequence for reply in world.replies] == [1]


@pytest.mark.parametrize("ahead", [1, -1])
def test_a_node_whose_clock_is_off_the_logs_does_not_own(world: World, ahead: int) -> None:
    world.broker.event_logs[0].skew_ms = ahead * (limits.CLOCK_AHEAD_MS_MAX + 1_000)
    replica = world.replica()
    world.move(5)
    world.settle(replica)
    assert replica.phase is Phase.STANDBY
    assert "clock" in replica.reason
    assert Kind.OUTCOME not in world.kinds()
    world.broker.event_logs[0].skew_ms = 0
    world.clock.time_ms += 2 * limits.RECLAIM_WAIT_MS
    world.until(replica, Phase.OWNING)


def stopped(world: World, replica: Replica) -> str:
    with pytest.raises(EngineError) as caught:
        world.settle(replica, steps=50)
    return caught.value.code


def served(world: World, amounts: int = 3) -> MemoryStore:
    """Return the store of a replica that has served and was closed."""
    store = MemoryStore()
    replica = world.replica(store)
    world.until(replica, Phase.OWNING)
    for amount in range(1, amounts + 1):
        world.move(amount)
    world.settle(replica)
    return world.closed(replica, store)


def test_a_store_ahead_of_its_log_is_refused(world: World) -> None:
    store = served(world)
    world.broker.cut(0, 2)
    assert stopped(world, world.replica(store)) == "E1203"


def test_a_log_that_lost_its_tail_and_grew_again_is_found_out(world: World) -> None:
    store = served(world)
    world.broker.cut(0, 2)
    for _ in range(4):
        world.broker.event_logs[0].land(None, b"another history", world.clock.now_ms())
    assert stopped(world, world.replica(store)) == "E1204"


def test_a_topic_made_again_is_another_log(world: World) -> None:
    store = served(world)
    world.broker.event_logs[0].topic_id = "another"
    assert stopped(world, world.replica(store)) == "E1204"


def test_a_log_trimmed_below_the_position_is_refused(world: World) -> None:
    served(world)
    world.broker.trim(0, 2)
    assert stopped(world, world.replica()) == "E1302"


def test_commands_that_expired_undecided_stop_the_partition_until_accepted(world: World) -> None:
    for amount in range(3):
        world.move(amount)
    world.broker.expire(0, 2)
    replica = world.replica()
    assert stopped(world, replica) == "E1305"
    accepting = world.replica(accept_lost_commands=True)
    world.until(accepting, Phase.OWNING)
    world.settle(accepting)
    assert [reply.sequence for reply in world.replies] == [1]


def test_a_restart_goes_on_behind_what_was_decided(world: World) -> None:
    store = served(world)
    world.replies.clear()
    replica = world.replica(store)
    world.until(replica, Phase.OWNING)
    world.move(7)
    world.settle(replica)
    assert [reply.sequence for reply in world.replies] == [4]


def test_a_replica_that_differs_from_the_owner_at_a_mark_stops(world: World) -> None:
    store = served(world)
    _, position = wire.decode_position(store.get(rows.POSITION_KEY) or b"")
    table = min(position.digests)
    position.digests[table] += 1
    store.write([(rows.POSITION_KEY, wire.encode_position(position, limits.FORMAT))])
    owner, other = world.replica(), world.replica(store, node="m")
    world.until(owner, Phase.OWNING)
    world.move(4)
    world.settle(owner)
    world.clock.time_ms += limits.MARK_INTERVAL_MS
    world.settle(owner)
    assert world.kinds()[-1] is Kind.MARK
    assert stopped(world, other) == "E1205"


def test_a_store_of_a_newer_engine_is_refused(world: World) -> None:
    store = served(world)
    _, position = wire.decode_position(store.get(rows.POSITION_KEY) or b"")
    for value in (b"no position", wire.encode_position(position, limits.FORMAT + 1)):
        store.write([(rows.POSITION_KEY, value)])
        with pytest.raises(EngineError) as caught:
            world.replica(store)
        assert caught.value.code == "E1206"


def test_who_is_stopped_in_the_middle_of_recovery_goes_on_where_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = served(world)
    monkeypatch.setattr(limits, "FOLD_RECORDS_MAX", 2)
    store = MemoryStore()
    replica = world.replica(store)
    replica.tick()
    replica.tick()
    replica.release()
    assert replica.phase is Phase.CLOSED
    assert 0 < replica.held().sequence < 3
    replica.close()
    again = world.replica(store.reopen())
    world.until(again, Phase.OWNING)
    assert again.held().sequence == world.replica(whole).held().sequence == 3


def test_what_could_not_be_folded_while_the_content_was_away_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(world)
    away, get = [True] * 3, world.content.get

    def sometimes(name: str) -> bytes | None:
        if away:
            away.pop()
            raise UnavailableError("E1401", "the content is away", "Check the address")
        return get(name)

    monkeypatch.setattr(world.content, "get", sometimes)
    replica = world.replica(MemoryStore())
    for _ in range(60):
        with contextlib.suppress(UnavailableError):
            replica.tick()
        world.broker.step()
    assert not away
    assert replica.held().sequence == 3


def edited(tmp_path: Path, version: str) -> Any:
    source = Path(load_application.__code__.co_filename).parent.parent / "simulator" / "ledger"
    for file in source.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    manifest = tmp_path / "application.toml"
    text = manifest.read_text().replace("1.0.0", version)
    manifest.write_text(text.replace("max = 9", "max = 8"))
    return load_application(tmp_path)


def test_a_higher_version_comes_into_force_and_an_older_folder_runs_it(
    world: World, tmp_path: Path
) -> None:
    store = served(world)
    newer = world.replica(store, application=edited(tmp_path, "1.1.0"))
    world.until(newer, Phase.OWNING)
    assert [a.version for a in newer.applications.values()] == ["1.0.0", "1.1.0"]
    newer.release()
    world.until(newer, Phase.CLOSED)
    newer.close()
    older = world.replica()
    world.until(older, Phase.OWNING)
    assert "1.1.0" in older.deploying.reason
    assert world.kinds().count(Kind.APPLICATION) == 2


def test_missing_code_stops_the_partition(world: World) -> None:
    served(world)
    world.content = MemoryObjects()
    assert stopped(world, world.replica()) == "E1306"


def test_ids_leave_the_store_when_the_dedup_floor_has_passed_them(world: World) -> None:
    store = MemoryStore()
    replica = world.replica(store)
    world.until(replica, Phase.OWNING)
    first = world.move(5)
    world.settle(replica)
    world.clock.time_ms += limits.DEDUP_WINDOW_MS + 2 * limits.ID_AHEAD_MS_MAX
    for _ in range(3):
        world.move(1)
        world.settle(replica)
        world.clock.time_ms += limits.MARK_INTERVAL_MS
        world.settle(replica)
    prefix = rows.table_prefix(rows.TABLE_PAGES)
    pages = [rows.decode_page(*row) for row in store.view().scan(prefix, rows.prefix_end(prefix))]
    assert pages[0].ids == []
    assert (pages[0].first_sequence, pages[0].length) == (1, 1)
    assert all(page.ids for page in pages[1:])
    world.move(5, first)
    world.settle(replica)
    assert world.replies[-1].code == "id_expired"


def test_offsets_without_a_record_at_the_logs_end_are_not_waited_for(world: World) -> None:
    """As behind a stranger's transaction: its marker takes an offset and is no record."""
    replica = world.replica()
    replica._bounds = Bounds(0, 1, replica._bounds.topic_id if replica._bounds else "")
    world.settle(replica)
    assert replica.phase is Phase.RECOVERING
    world.clock.time_ms += limits.RECOVER_IDLE_MS + 1
    world.until(replica, Phase.OWNING)
