"""A view's projector changes: the old rows answer until new ones are built and a Switch counts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from replica_world import ReplicaWorld

from engine import limits, wire
from engine.application import Application, rows
from engine.application.compat import diff
from engine.application.folder import load_application
from engine.assembly import python_host
from engine.audit import Evidence, Parts, audit_partition, witness_of
from engine.model import Phase
from engine.partition.building import Builder
from engine.partition.ownership import LogState, make_claim
from engine.partition.reading import PartitionReader
from engine.partition.replica import Identity, Replica
from engine.partition.selection import Selection
from engine.ports import StateHost
from engine.simulator.applications import ledger, ledger_next
from engine.store.memory import MemoryStore
from engine.wire import Kind

FOLDER = Path(__file__).parents[2] / "engine" / "simulator" / "ledger"


class World(ReplicaWorld):
    """Replicas of whatever application a test deploys."""

    def replica(
        self,
        application: Application,
        store: MemoryStore | None = None,
        *,
        node: str = "n",
        records_min: int = limits.BUILD_RECORDS_MIN,
        host: StateHost | None = None,
    ) -> Replica:
        return self.opened(Identity(node, 0, application), store, records_min, host)

    def served(self, application: Application, amounts: Iterator[int] | range) -> MemoryStore:
        """Return the store of a replica that has served and was closed."""
        store = MemoryStore()
        replica = self.replica(application, store)
        self.until(replica, Phase.OWNING)
        for amount in amounts:
            self.move(amount)
        self.settle(replica)
        return self.closed(replica, store)

    def switched(self, store: MemoryStore) -> Replica:
        """Return an owner of the next version whose new views count, one command behind that."""
        owner = self.replica(ledger_next(), store)
        self.until(owner, Phase.OWNING)
        self.settle(owner, steps=40)
        self.move(7)
        self.settle(owner)
        return owner

    def audit(self, *stores: MemoryStore) -> list[str]:
        """Return what a replay from scratch finds, compared with these stores."""
        witnesses = [witness_of(f"store {at}", store.view()) for at, store in enumerate(stores)]
        parts = Parts(python_host, MemoryStore(), self.content, witnesses)
        commands, events = self.broker.commands(0), self.broker.events(0)
        report = audit_partition(Evidence(0, commands, events, parts), 1)
        assert report.stores_checked == len(stores)
        return [finding.what for finding in report.differences]


@pytest.fixture
def world() -> World:
    return World()


def variant(folder: Path, version: str, *changes: tuple[str, str, str]) -> Application:
    """Return the ledger with texts replaced in its files: (file, before, after)."""
    folder.mkdir()
    for path in FOLDER.iterdir():
        if path.is_file():
            text = path.read_text()
            for file, before, after in changes:
                if file == path.name:
                    assert before in text
                    text = text.replace(before, after)
            (folder / path.name).write_text(text.replace("1.0.0", version))
    return load_application(folder)


def entries(replica: Replica, workspace: str = "w") -> list[dict[str, Any]]:
    reader = PartitionReader(replica.store.view(), replica.applications)
    page = reader.view_rows("entry", workspace, Selection(limit=100))
    reader.close()
    return page.rows


def tables(store: MemoryStore) -> set[int]:
    """Return the tables of views that have rows."""
    found = {rows.table_of(key) for key, _ in store.view().scan(b"\x80", b"\xff")}
    return {table for table in found if table >= limits.TABLE_VIEWS_FIRST}


def test_the_old_rows_answer_until_the_new_ones_count(world: World) -> None:
    assert diff(ledger(), ledger_next()).deployable
    store = world.served(ledger(), range(1, 6))
    replica = world.replica(ledger_next(), store, records_min=1)
    world.until(replica, Phase.OWNING)
    seen: list[tuple[int, int]] = []  # how far the build is, and how wide the rows that answer are
    for _ in range(60):
        replica.tick()
        world.broker.step()
        build = replica.builds()
        seen.append((build[0].applied_offset if build else -1, len(entries(replica)[0])))
        assert replica.phase is Phase.OWNING
        if not build:
            break
    assert {width for built, width in seen if built >= 0} == {2}  # number, balance
    assert seen[-1] == (-1, 4)  # balance, number, times, newest
    built = [at for at, _ in seen[:-1]]
    assert built == sorted(built)
    assert len(set(built)) > 3
    assert world.kinds().count(Kind.SWITCH) == 1
    assert entries(replica) == [
        {"balance": balance, "number": number, "times": 1, "newest": number}
        for number, balance in ((1, 1), (2, 3), (3, 6), (4, 10), (5, 15))
    ]
    assert tables(store) == {limits.TABLE_VIEWS_FIRST + 1}  # the old rows are gone
    assert store.get(rows.BUILD_KEY) is None


def test_commands_are_decided_and_both_generations_kept_while_one_is_built(world: World) -> None:
    store = world.served(ledger(), range(1, 4))
    replica = world.replica(ledger_next(), store, records_min=1)
    world.until(replica, Phase.OWNING)
    world.move(10)
    world.settle(replica, steps=3)
    assert replica.builds()
    assert [row["balance"] for row in entries(replica)] == [1, 3, 6, 16]
    world.settle(replica, steps=40)
    world.move(20)
    world.settle(replica)
    assert not replica.builds()
    assert [(row["balance"], row["newest"]) for row in entries(replica)] == [
        (1, 1),
        (3, 2),
        (6, 3),
        (16, 4),
        (36, 5),
    ]
    assert world.audit(store) == []


def test_commands_do_not_wait_long_for_a_build_that_hangs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = world.served(ledger(), range(1, 4))
    replica = world.replica(ledger_next(), store)
    monkeypatch.setattr(Builder, "tick", lambda _self: False)
    world.until(replica, Phase.OWNING)
    world.replies.clear()
    world.move(4)
    for _ in range(200):
        world.clock.time_ms += 50
        world.settle(replica, steps=1)
    assert [reply.code for reply in world.replies] == [""]
    monkeypatch.undo()
    for _ in range(200):
        world.clock.time_ms += 50
        world.settle(replica, steps=1)
    assert not replica.builds()
    assert world.audit(store) == []


def test_a_replay_from_scratch_ends_with_equal_rows_and_digests(world: World) -> None:
    store = world.served(ledger(), range(1, 4))
    replica = world.switched(store)
    world.clock.time_ms += limits.MARK_INTERVAL_MS + 1
    world.settle(replica)
    store = world.closed(replica, store)
    assert world.kinds()[-2] is Kind.MARK
    fresh = MemoryStore()
    other = world.replica(ledger_next(), fresh, node="m", records_min=1)
    world.until(other, Phase.OWNING)
    assert witness_of("a", store.view()).recounted == witness_of("b", fresh.view()).recounted
    assert world.audit(fresh) == []


def test_a_follower_holds_at_a_switch_until_its_own_build_is_complete(world: World) -> None:
    store = world.served(ledger(), range(1, 4))
    world.switched(store)
    slow_store = MemoryStore()
    follower = world.replica(ledger_next(), slow_store, node="m", records_min=1)
    switch = world.kinds().index(Kind.SWITCH)
    held = 0
    for _ in range(60):
        follower.tick()
        if follower.progress().applied_offset == switch:
            held += 1
        if not follower.builds() and follower.progress().applied_offset > switch:
            break
    assert held
    assert witness_of("f", slow_store.view()).recounted
    assert world.audit(slow_store) == []


def test_who_holds_at_a_switch_is_no_standby(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not take over before its build is complete, so nobody should hand over to it."""
    world.switched(world.served(ledger(), range(1, 4)))
    follower = world.replica(ledger_next(), node="m")
    with monkeypatch.context() as patch:
        patch.setattr(Builder, "tick", lambda _self: False)
        for _ in range(20):
            follower.tick()
            world.clock.time_ms += limits.RECOVER_IDLE_MS
    assert follower.phase is Phase.RECOVERING
    world.until(follower, Phase.STANDBY)


def test_a_restart_goes_on_where_the_build_was(world: World) -> None:
    store = world.served(ledger(), range(1, 8))
    replica = world.replica(ledger_next(), store, records_min=1)
    world.until(replica, Phase.OWNING)
    world.settle(replica, steps=2)
    built = replica.builds()[0].applied_offset
    assert built > 0
    store = world.closed(replica, store)
    again = world.replica(ledger_next(), store, records_min=1)
    assert again.builds()[0].applied_offset >= built
    world.until(again, Phase.OWNING)
    world.settle(again, steps=60)
    assert not again.builds()
    assert world.audit(store) == []


def test_a_crash_between_a_switch_and_the_drop_leaves_no_old_rows(world: World) -> None:
    store = world.served(ledger(), range(1, 4))
    replica = world.replica(ledger_next(), store)
    world.until(replica, Phase.OWNING)
    store.flush()
    drop = store.delete_range
    store.delete_range = lambda *_: None  # type: ignore[method-assign] - the crash comes first
    world.settle(replica, steps=40)
    store.delete_range = drop  # type: ignore[method-assign]
    assert len(tables(store)) == 2
    crashed = store.crash(store.unflushed)
    again = world.replica(ledger_next(), crashed)
    assert len(tables(crashed)) == 1
    world.until(again, Phase.OWNING)
    assert world.audit(crashed) == []


TRAPS = (
    "ledger.py",
    'row = ctx.put("entry"',
    'assert ctx.event["balance"] != 3\n        row = ctx.put("entry"',
)
REVISED = ("application.toml", "revision = 1", "revision = 2")


def test_a_projector_that_traps_fails_its_build_and_the_old_one_goes_on(
    world: World, tmp_path: Path
) -> None:
    broken = variant(tmp_path / "a", "1.1.0", REVISED, TRAPS)
    store = world.served(ledger(), range(1, 4))
    replica = world.replica(broken, store)
    world.until(replica, Phase.OWNING)
    world.settle(replica, steps=40)
    assert replica.phase is Phase.OWNING
    (build,) = replica.builds()
    assert "AssertionError" in build.problem
    assert (build.view, build.generation) == ("entry", 2)
    assert replica.statistics()["builds_failed"] == 1
    assert Kind.SWITCH not in world.kinds()
    world.move(4)
    world.settle(replica)
    assert [row["balance"] for row in entries(replica)] == [1, 3, 6, 10]
    store = world.closed(replica, store)

    mended = variant(tmp_path / "b", "1.2.0", REVISED)
    replica = world.replica(mended, store)
    world.until(replica, Phase.OWNING)
    world.settle(replica, steps=40)
    assert not replica.builds()
    assert world.kinds().count(Kind.SWITCH) == 1
    assert [row["balance"] for row in entries(replica)] == [1, 3, 6, 10]
    assert world.audit(store) == []


def test_a_newer_version_in_the_middle_of_a_build_starts_it_again(
    world: World, tmp_path: Path
) -> None:
    other = variant(
        tmp_path / "a",
        "1.2.0",
        ("application.toml", "revision = 1", "revision = 3"),
        ("ledger.py", 'row["balance"] = ctx.event["balance"]', 'row["balance"] = -1'),
    )
    store = world.served(ledger(), range(1, 8))
    replica = world.replica(ledger_next(), store, records_min=1)
    world.until(replica, Phase.OWNING)
    world.settle(replica, steps=2)
    assert replica.builds()
    store = world.closed(replica, store)
    replica = world.replica(other, store, records_min=1)
    world.until(replica, Phase.OWNING)
    world.settle(replica, steps=60)
    assert [row["balance"] for row in entries(replica)] == [-1] * 7
    assert tables(store) == {limits.TABLE_VIEWS_FIRST + 2}
    assert world.audit(store) == []


SUM = """views.sum = { row = "entry.avsc", key = [] }
projectors.sum = { on = ["move.execute"], writes = ["sum"], run = "ledger:sum" }
"""
SUM_CODE = """    def sum(self, ctx: Any) -> None:
        row = ctx.put("sum")
        row["balance"] = row["balance"] + ctx.args["amount"]

"""


def with_sums(folder: Path) -> Application:
    """Return the ledger with a view more, whose one row each move reads."""
    view = ("application.toml", "projectors.entry", f"{SUM}projectors.entry")
    code = ("ledger.py", "    def project(", f"{SUM_CODE}    def project(")
    return variant(folder, "1.1.0", view, code)


def test_a_new_view_answers_once_it_has_been_built(world: World, tmp_path: Path) -> None:
    wider = with_sums(tmp_path / "a")
    store = world.served(ledger(), range(1, 5))
    replica = world.replica(wider, store, records_min=1)
    world.until(replica, Phase.OWNING)
    assert [build.view for build in replica.builds()] == ["sum"]
    assert replica.serving is not None
    assert list(replica.serving.views) == ["entry"]
    world.settle(replica, steps=40)
    assert list(replica.serving.views) == ["entry", "sum"]
    reader = PartitionReader(replica.store.view(), replica.applications)
    assert reader.view_rows("sum", "w", Selection(limit=9)).rows == [{"balance": 10}]
    assert world.audit(store) == []


def test_a_removed_view_leaves_nothing_behind(world: World, tmp_path: Path) -> None:
    lines = [
        line
        for line in (FOLDER / "application.toml").read_text().splitlines(keepends=True)
        if ".entry = " in line
    ]
    without = variant(tmp_path / "a", "1.1.0", *(("application.toml", line, "") for line in lines))
    store = world.served(ledger(), range(1, 4))
    replica = world.replica(without, store)
    world.until(replica, Phase.OWNING)
    world.move(4)
    world.settle(replica)
    assert tables(store) == set()
    assert world.audit(store) == []


def test_an_owner_that_was_replaced_behind_its_switch_decides_nothing(world: World) -> None:
    store = world.served(ledger(), range(1, 4))
    owner = world.replica(ledger_next(), store)
    world.until(owner, Phase.OWNING)
    for _ in range(20):
        owner.tick()
        if owner.deploying.underway:
            break
        world.broker.step()
    assert owner.deploying.underway
    while Kind.SWITCH not in world.kinds():
        world.broker.step()
    state = LogState(owner._follower.ledger.position.copy())  # type: ignore[union-attr]
    claim = make_claim(state, "other", state.position.command_topic_id, world.random)
    world.broker.event_logs[0].land(None, claim.value, world.clock.now_ms())
    owner.tick()
    assert owner.phase is Phase.STANDBY
    assert not owner.builds()


def test_a_switch_that_lands_twice_or_names_nothing_changes_nothing(world: World) -> None:
    store = world.served(ledger(), range(1, 4))
    replica = world.replica(ledger_next(), store)
    world.until(replica, Phase.OWNING)
    world.settle(replica, steps=40)
    log = world.broker.event_logs[0]
    at = world.kinds().index(Kind.SWITCH)
    switch = log.record(at).value
    assert switch is not None
    fields = wire.decode_event(switch)[1]
    log.land(None, switch, world.clock.now_ms())
    log.land(None, wire.encode_event(Kind.SWITCH, {**fields, "view": "none"}), world.clock.now_ms())
    before = entries(replica)
    world.move(4)
    world.settle(replica, steps=60)
    assert replica.phase is Phase.OWNING
    assert entries(replica)[:3] == before
    assert world.audit(store) == []
