"""A standby's own copies, on a real broker: made on the owner's timer, and shared with nobody."""

import uuid
from pathlib import Path

import orjson
import pytest
from engine_world import World, until
from test_redeploy import put
from test_stores import WORKSPACES, corrupt, fill

from engine.model import Phase

pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("standby-copies")]


def stands_by(world: World) -> list[int]:
    return [one.partition for one in world.node.progress() if one.phase is Phase.STANDBY]


def sequence(world: World, partition: int) -> int:
    return {one.partition: one.sequence for one in world.node.held()}.get(partition, -1)


def test_a_standby_begins_again_at_its_own_checkpoint(tmp_path: Path, kafka: str) -> None:
    name = f"ledger-{uuid.uuid4().hex[:8]}"
    put("ledger", tmp_path / "ledger", name)
    log = {"kind": "kafka", "bootstrap_servers": kafka}

    def node(at: str) -> World:
        kept = {"url": f"file://{tmp_path}/objects of {at}", "interval_s": 1}
        return World(tmp_path / at, tmp_path / "ledger", node=at, log=log, snapshots=kept)

    owner, other = node("a"), node("b")
    try:
        owner.start()
        fill(owner)
        other.start()
        # The group lets one of the two partitions move; the other one was never owned there.
        until(lambda: other.owned(0) or other.owned(1))
        (partition,) = until(lambda: stands_by(other))
        for workspace in WORKSPACES:
            if owner.node.partition_of(workspace) == partition:
                owner.move(1, workspace)
        stores = tmp_path / "b" / name / "nodes" / "b"
        manifest = stores / f"{partition}.checkpoint" / "manifest.json"

        def copied() -> int:
            return orjson.loads(manifest.read_bytes())["sequence"] if manifest.exists() else 0

        applied = sequence(owner, partition)
        until(lambda: copied() == applied)
        assert not list((tmp_path / "objects of b").glob(f"*/*/{partition}/*"))
        other.stop()
        corrupt(stores / str(partition))
        other.start()
        until(lambda: sequence(other, partition) == applied)
        assert other.count("snapshots", "restores") == 1
        assert other.count(f"partition {partition}", "host_folded") < applied
    finally:
        other.stop()
        owner.stop()
