"""What copies of a partition's state cost: a checkpoint under writes, a snapshot, a restore.

The rows are random bytes, which no compression makes smaller; the store is the one that nodes use,
and is written to all the time.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import limits, wire
from engine.application import rows
from engine.log.objects import open_objects
from engine.model import HostState, Position
from engine.partition.ledger import position_of
from engine.partition.snapshots import Retention, Snapshots, Taken
from engine.store.checkpoints import FolderFiles, PartitionFolder
from engine.store.rocks import RocksStore, StoreMemory
from engine.world import SystemClock, SystemRandom

_VALUE_BYTES = 200
_BATCH_ROWS = 1_000
_WRITE_EVERY_S = 0.05
_TABLE = rows.table_prefix(limits.TABLE_RECORDS_FIRST)


@dataclass(slots=True, frozen=True)
class Asked:
    """How much state, how often, and where snapshots go ("" = a folder beside)."""

    state_mb: tuple[int, ...] = (100,)
    rounds: int = 3
    url: str = ""


def run(asked: Asked) -> dict[str, Any]:
    """Measure each size; return the case's keys."""
    return {"cases": [_case(asked, state_mb) for state_mb in asked.state_mb]}


def _case(asked: Asked, state_mb: int) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="partita-bench-"))
    url = asked.url or f"file://{folder}/objects"
    writer = _Writer(folder)
    try:
        writer.fill(state_mb * 1_000_000)
        return {"state_mb": state_mb, **_copies(writer, folder, url, asked.rounds)}
    finally:
        writer.store.close()
        shutil.rmtree(folder)


class _Writer:
    """A partition's store, and a thread that writes to it."""

    def __init__(self, folder: Path) -> None:
        memory = StoreMemory()
        self.folder = PartitionFolder(folder / "node", 0, lambda at: RocksStore(at, memory))
        self.store = self.folder.open()
        self.sequence = 0
        self.longest_s = 0.0
        self._stop = threading.Event()

    def fill(self, size_bytes: int) -> None:
        """Write so many bytes of rows."""
        while self.sequence * _VALUE_BYTES < size_bytes:
            self.write()

    def write(self) -> None:
        """Write a batch, with the position behind it."""
        values = os.urandom(_BATCH_ROWS * _VALUE_BYTES)
        batch: list[tuple[bytes, bytes | None]] = [
            (
                _TABLE + (self.sequence + at).to_bytes(8),
                values[at * _VALUE_BYTES : (at + 1) * _VALUE_BYTES],
            )
            for at in range(_BATCH_ROWS)
        ]
        self.sequence += _BATCH_ROWS
        position = Position("bench", self.sequence, host=HostState(sequence=self.sequence))
        batch.append((rows.POSITION_KEY, wire.encode_position(position, limits.FORMAT)))
        self.store.write(batch)

    def during(self, work: Callable[[], Any]) -> tuple[float, float]:
        """Run `work` under writes; return how long it took, and the longest pause of a writer."""
        self._stop.clear()
        self.longest_s = 0.0
        thread = threading.Thread(target=self._write_on, daemon=True)
        thread.start()
        began = time.perf_counter()
        work()
        took = time.perf_counter() - began
        self._stop.set()
        thread.join()
        return took, self.longest_s

    def _write_on(self) -> None:
        while not self._stop.wait(_WRITE_EVERY_S):
            began = time.perf_counter()
            self.write()
            self.longest_s = max(self.longest_s, time.perf_counter() - began)


def _copies(writer: _Writer, folder: Path, url: str, rounds: int) -> dict[str, Any]:
    snapshots = Snapshots(open_objects(url, f"bench-{SystemRandom().bytes(4).hex()}"))
    checkpoints: list[tuple[float, float]] = []
    saves: list[tuple[float, float]] = []
    manifest, name = None, writer.folder.writer(SystemRandom())
    for _ in range(rounds):
        checkpoints.append(writer.during(lambda: writer.folder.checkpoint(writer.store)))
        files = FolderFiles(writer.folder.copied)
        view = writer.folder.look()
        position = position_of(view)
        view.close()
        assert position is not None
        taken = Taken("bench", 0, position, name, SystemClock().now_ms())
        saves.append(writer.during(lambda t=taken, f=files: snapshots.save(t, f)))
        manifest = snapshots.load(snapshots.names(0)[0])
    assert manifest is not None
    restore_s: list[float] = []
    for at in range(rounds):
        target = folder / f"restored-{at}"
        target.mkdir()
        began = time.perf_counter()
        snapshots.restore(manifest, FolderFiles(target))
        store = RocksStore(target, StoreMemory())
        assert store.get(rows.POSITION_KEY) is not None
        restore_s.append(time.perf_counter() - began)
        store.close()
        shutil.rmtree(target)
    began = time.perf_counter()
    snapshots.collect(manifest, name, Retention(1, 0), SystemClock().now_ms())
    return {
        "snapshot_mb": round(manifest.size_bytes / 1_000_000),
        "checkpoint_ms_max": round(max(took for took, _ in checkpoints) * 1_000, 1),
        "writer_pause_ms_max": round(max(pause for _, pause in checkpoints) * 1_000, 1),
        "first_snapshot_s": round(saves[0][0], 2),
        "next_snapshot_s_max": round(max((took for took, _ in saves[1:]), default=0.0), 2),
        "upload_writer_pause_ms_max": round(max(pause for _, pause in saves) * 1_000, 1),
        "restore_s_max": round(max(restore_s), 2),
        "collect_s": round(time.perf_counter() - began, 2),
    }
