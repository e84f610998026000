"""Stores on a running engine: snapshots, restores, disks that fail. Real RocksDB, log and HTTP."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from engine_world import World, until
from s3_fixture import s3_server

from engine.errors import StoreError
from engine.log.objects import FolderObjects
from engine.model import HostState, Position
from engine.partition.snapshots import Snapshots, Taken
from engine.store.checkpoints import FolderFiles

WORKSPACES = ("east", "west", "north", "south")  # two in each partition
COUNT = 40


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path / "data", snapshots={"url": f"file://{tmp_path}/snapshots"})
    yield made
    made.stop()


def fill(world: World, count: int = COUNT) -> None:
    for number in range(count):
        world.move(1 + number % 7, WORKSPACES[number % len(WORKSPACES)])


def rows(world: World) -> dict[str, object]:
    found = {}
    for workspace in WORKSPACES:
        page = world.ask("GET", f"/v1/workspaces/{workspace}/views/entry").json()
        record = world.ask("GET", f"/v1/workspaces/{workspace}/records/account/0").json()
        found[workspace] = (page["rows"], record["fields"])
    return found


def corrupt(folder: Path, *, in_place: bool = False) -> None:
    """Flip bits in every block of rows that lie in files; in place: for who has them open, too."""
    for path in folder.glob("*.sst"):
        data = bytearray(path.read_bytes())
        for at in range(len(data) // 4):
            data[at] ^= 0x55
        if not in_place:
            path.unlink()  # never through a link: a checkpoint may share it
            path.write_bytes(data)
            continue
        with path.open("r+b") as file:
            file.write(data)


def test_a_fresh_disk_begins_at_a_snapshot_and_folds_the_tail(world):
    world.start()
    fill(world)
    taken = [world.snapshot(partition) for partition in (0, 1)]
    assert taken[0]["snapshot"].startswith("manifest/0/")
    fill(world, 5)
    expected = rows(world)
    world.stop()
    shutil.rmtree(world.stores)
    world.start()
    assert rows(world) == expected
    assert world.count("snapshots", "restores") == 2
    for partition in (0, 1):
        folded = world.count(f"partition {partition}", "host_folded")
        assert folded < taken[partition]["sequence"]


def test_copies_are_made_on_a_timer_and_only_where_something_moved(tmp_path):
    world = World(
        tmp_path / "data", snapshots={"url": f"file://{tmp_path}/snapshots", "interval_s": 1}
    )
    world.start()
    try:
        fill(world, 4)
        folder = tmp_path / "snapshots" / "ledger" / "manifest"
        until(lambda: len(list(folder.glob("*/*.json"))) >= 2)
        assert (world.stores / "0.checkpoint" / "manifest.json").exists()
    finally:
        world.stop()


def test_a_store_that_is_damaged_while_the_engine_is_down_restores_itself(world):
    world.start()
    fill(world)
    world.snapshot(0)
    world.snapshot(1)
    expected = rows(world)
    world.stop()
    corrupt(world.stores / "0")
    shutil.rmtree(world.stores / "0.checkpoint")
    world.start()
    assert rows(world) == expected
    assert world.count("snapshots", "restores") == 1
    assert (world.stores / "0.broken-1").is_dir()


def test_without_any_copy_a_damaged_store_is_folded_anew(tmp_path):
    world = World(tmp_path / "data")
    world.start()
    try:
        fill(world)
        expected = rows(world)
        world.stop()
        corrupt(world.stores / "0")
        world.start()
        assert rows(world) == expected
        assert world.count("snapshots", "restores") == 0
    finally:
        world.stop()


def test_a_snapshot_of_a_store_that_was_damaged_already_is_not_taken_twice(world):
    """The files are as they were hashed, and their rows can't be read: the older one is used."""
    world.start()
    fill(world)
    world.snapshot(0)
    expected = rows(world)
    world.stop()
    corrupt(world.stores / "0")
    # As the next snapshot of a node whose disk lies would be.

    objects = FolderObjects(world.folder.parent / "snapshots" / "ledger")
    snapshots = Snapshots(objects)
    older = snapshots.load(snapshots.names(0)[0])
    position = _position_of(older)
    position.host.sequence += 1
    snapshots.save(
        Taken("ledger", 0, position, "liar", older.created_at_ms), FolderFiles(world.stores / "0")
    )
    shutil.rmtree(world.stores)
    world.start()
    assert rows(world) == expected
    assert world.count("snapshots", "restores") == 1
    assert len(list(world.stores.glob("0.broken-*"))) == 1


def _position_of(manifest):

    return Position(
        manifest.topic_id,
        manifest.offset,
        tail_hash=manifest.tail_hash,
        epoch=manifest.epoch,
        incarnation=manifest.incarnation,
        host=HostState(sequence=manifest.sequence),
    )


def test_damage_met_while_running_restores_the_partition(world):
    world.start()
    fill(world)
    world.snapshot(0)
    world.snapshot(1)
    expected = rows(world)
    replica = world.node._replicas[0]

    def broken(_rows):
        raise StoreError("E1202", "Corruption: block checksum mismatch")

    replica.store.write = broken
    answers = [
        world.ask("POST", f"/v1/workspaces/{one}/commands/move", json={"amount": 1})
        for one in WORKSPACES
    ]
    assert {one.status_code for one in answers} <= {200, 422, 503}
    until(lambda: world.count("snapshots", "heals") == 1 and world.owned(0))
    assert (world.stores / "0.broken-1").is_dir()
    now = rows(world)
    for number, workspace in enumerate(WORKSPACES):
        # Whatever the answer was, the log decides; nothing is there twice.
        before, after = expected[workspace][1], now[workspace][1]
        assert after["balance"] - before["balance"] in {0, 1}
        if answers[number].status_code == 200:
            assert after["balance"] == before["balance"] + 1


@pytest.mark.parametrize(
    "path", ["records/account/0", "records/account", "views/entry", "events", "views/entry/changes"]
)
@pytest.mark.parametrize("copies", [True, False])
def test_damage_that_a_query_meets_restores_the_partition_too(tmp_path, path, copies):
    """The walk may not come by for hours; who asked is told to ask again, and then gets it."""
    kept = {"url": f"file://{tmp_path}/snapshots"} if copies else {}
    world = World(tmp_path / "data", snapshots=kept)
    world.start()
    try:
        fill(world)
        expected = rows(world)
        if copies:
            world.snapshot(0)
        else:  # what was written lies in files, and nothing of it is cached
            world.node._replicas[0].store.checkpoint(tmp_path / "copy")
        broken = next(one for one in WORKSPACES if world.node.partition_of(one) == 0)
        other = next(one for one in WORKSPACES if world.node.partition_of(one) == 1)
        corrupt(world.stores / "0", in_place=True)
        refused = world.ask("GET", f"/v1/workspaces/{broken}/{path}")
        assert refused.status_code == 503, refused.text
        assert refused.headers["Retry-After"]
        assert (refused.json()["code"], refused.json()["partition"]) == ("E1402", 0)
        assert world.ask("GET", f"/v1/workspaces/{other}/records/account/0").status_code == 200
        until(lambda: world.count("snapshots", "heals") == 1 and world.owned(0))
        assert rows(world) == expected
        assert world.count("snapshots", "restores") == copies
        assert (world.stores / "0.broken-1").is_dir()
        assert world.node.problems() == {}
        world.move(1, broken)
    finally:
        world.stop()


def test_many_who_meet_the_same_damage_restore_it_once(tmp_path):
    world = World(tmp_path / "data")
    world.start()
    try:
        fill(world)
        expected = rows(world)
        world.node._replicas[0].store.checkpoint(tmp_path / "copy")
        corrupt(world.stores / "0", in_place=True)
        broken = next(one for one in WORKSPACES if world.node.partition_of(one) == 0)
        with ThreadPoolExecutor(8) as clients:
            path = f"/v1/workspaces/{broken}/views/entry"
            asked = [clients.submit(world.ask, "GET", path) for _ in range(64)]
            answers = {one.result().status_code for one in asked}
        assert answers <= {200, 503}
        until(lambda: world.owned(0))
        assert rows(world) == expected
        assert world.count("snapshots", "heals") == 1
    finally:
        world.stop()


def test_a_bucket_that_is_away_stops_nothing_and_is_told(tmp_path):
    with s3_server(tmp_path / "s3") as server:
        world = World(tmp_path / "data", snapshots={"url": server.url, "interval_s": 1})
        try:
            server.stop()
            world.start()
            fill(world, 8)
            until(lambda: world.count("snapshots", "failing") >= 1)
            fill(world, 8)
            refused = world.ask("POST", "/v1/partitions/0/snapshot")
            assert refused.status_code == 503
            assert refused.json()["code"] in {"E1407", "E1403"}
            assert "test-secret" not in refused.text
            server.start()
            until(lambda: world.ask("POST", "/v1/partitions/0/snapshot").status_code == 200)
            expected = rows(world)
            world.stop()
            shutil.rmtree(world.stores)
            world.start()
            assert rows(world) == expected
            assert world.count("snapshots", "restores") >= 1
        finally:
            world.stop()


def test_a_view_that_is_built_anew_shares_the_bound_of_memory(tmp_path):
    world = World(tmp_path / "data", host="python", cache_mb=16)
    world.start()
    try:
        ports = world.node._replicas[0]._ports
        build = ports.builds.make_host()
        held = [one._rows._cache_bytes_max for one in (ports.host, build)]
        build.close()
        # One half is the stores', and there are two partitions.
        assert sum(held) == (16 << 20) // 2 // 2
        assert min(held) > 0
    finally:
        world.stop()
