"""Recorded snapshots of every released format: restored, they are the rows that the log gives.

A format's folder is written once, by this module run as a program, and never again.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from replica_world import ReplicaWorld
from test_golden_log import FORMATS, GOLDEN, file_of, rows_of

from engine.log.objects import FolderObjects
from engine.model import Bounds, Phase
from engine.partition.ledger import position_of
from engine.partition.replica import Identity, Replica
from engine.partition.restoring import Restore, open_store
from engine.partition.snapshots import Manifest, Snapshots, Taken
from engine.simulator.applications import ledger_next
from engine.store.checkpoints import PartitionFolder
from engine.store.memory import MemoryStore
from engine.store.rocks import RocksStore, StoreMemory

AT = 15  # event records that the snapshot stands behind: in the middle of the log
MEMORY = StoreMemory(8 << 20, 4 << 20)


def folder_of(format_: int) -> Path:
    return GOLDEN / f"snapshot_{format_}"


def disk(base: Path) -> PartitionFolder:
    return PartitionFolder(base, 0, lambda path: RocksStore(path, MEMORY))


def world_of(format_: int, count: int) -> tuple[ReplicaWorld, dict[str, Any]]:
    """Return a world whose log has the first records of the recorded one."""
    recorded = json.loads(file_of(format_).read_text())
    world = ReplicaWorld()
    for each in recorded["events"][:count]:
        world.broker.event_logs[0].land(None, bytes.fromhex(each["value"]), each["time"])
    for name, data in recorded["content"].items():
        world.content.put(name, bytes.fromhex(data))
    return world, recorded


def replayed(world: ReplicaWorld, store: Any) -> Replica:
    """Return a replica that has read all there is."""
    replica = world.opened(Identity("reader", 0, ledger_next()), store)
    for _ in range(200):
        if replica.phase is not Phase.RECOVERING:
            break
        replica.tick()
    assert replica.phase is Phase.STANDBY, replica.problem
    return replica


def manifest_of(format_: int) -> Manifest:
    snapshots = Snapshots(FolderObjects(folder_of(format_)))
    (name,) = snapshots.names(0)
    return snapshots.load(name)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_recorded_snapshot_is_what_its_log_gives_and_goes_on_with_it(
    format_: int, tmp_path: Path
) -> None:
    manifest = manifest_of(format_)
    snapshots = Snapshots(FolderObjects(folder_of(format_)))
    assert manifest.format == format_
    assert list(snapshots.verify(manifest)) == []
    bounds = Bounds(0, manifest.offset, manifest.topic_id)
    said: list[str] = []
    restore = Restore(
        "ledger", 0, bounds, lambda _: manifest.tail_hash, said.append, lambda _: None
    )
    opened = open_store(disk(tmp_path), snapshots, restore)
    assert opened.source == f"snapshot {manifest.name}", said
    assert position_of(opened.store).offset == manifest.offset
    world, _ = world_of(format_, manifest.offset)
    fresh = MemoryStore()
    replayed(world, fresh)
    assert rows_of(opened.store) == rows_of(fresh)

    world, recorded = world_of(format_, len(json.loads(file_of(format_).read_text())["events"]))
    world.broker.event_logs[0].topic_id = manifest.topic_id
    replica = replayed(world, opened.store)
    assert rows_of(opened.store) == recorded["rows"]
    assert replica.held().sequence == 23
    replica.close()


if __name__ == "__main__":
    import tempfile

    from engine.limits import FORMAT

    made, _ = world_of(FORMAT, AT)
    shutil.rmtree(folder_of(FORMAT), ignore_errors=True)
    with tempfile.TemporaryDirectory() as place:
        where = disk(Path(place))
        store = where.open()
        reader = replayed(made, store)
        taken = Taken("ledger", 0, reader._follower.ledger.position, "golden", made.clock.now_ms())
        copied = where.checkpoint(store)
        Snapshots(FolderObjects(folder_of(FORMAT))).save(taken, copied)
        reader.close()
