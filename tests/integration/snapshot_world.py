"""A node's disk whose store stands at as many outcomes as were written, and its snapshots."""

import os

from engine import limits, wire
from engine.application import rows
from engine.model import Bounds, HostState, Position
from engine.partition.ledger import position_of
from engine.partition.restoring import Restore, open_store
from engine.partition.snapshots import Retention, Snapshots, Taken
from engine.store.checkpoints import PartitionFolder
from engine.store.rocks import RocksStore, StoreMemory
from engine.world import SeededRandom

MEMORY = StoreMemory(8 << 20, 4 << 20)
BATCH = 200
ALL = Retention(100)


class Disk:
    """A node's folder, whose store stands at as many outcomes as were written."""

    def __init__(self, base, objects, name="node", topic_id="topic"):
        self.folder = PartitionFolder(base / name, 0, lambda path: RocksStore(path, MEMORY))
        self.writer = self.folder.writer(SeededRandom(name))
        self.snapshots = Snapshots(objects)
        self.topic_id = topic_id
        self.said = []
        self.shown = []
        self.now_ms = 1_000_000
        self.store = None

    def write(self, sequence):
        """Write rows of outcomes up to `sequence`, and the position there."""
        host = HostState(sequence=sequence)
        position = Position(
            self.topic_id, sequence, tail_hash=sequence * 7, epoch=5, incarnation=3, host=host
        )
        batch = [
            (b"\x01\x00row %06d" % at, os.urandom(500)) for at in range(sequence - BATCH, sequence)
        ]
        batch.append((rows.POSITION_KEY, wire.encode_position(position, limits.FORMAT)))
        self.store.write(batch)

    def snapshot(self, rule=ALL):
        files = self.folder.checkpoint(self.store)
        copy = self.folder.look()
        taken = Taken("app", 0, position_of(copy), self.writer, self.now_ms)
        copy.close()
        manifest = self.snapshots.save(taken, files)
        self.folder.keep(manifest.encode())
        collected = self.snapshots.collect(manifest, self.writer, rule, self.now_ms)
        return manifest, collected

    def open(self, *, begin=0, end=1 << 40, avoid=(), topic_id="topic", hashes=None):
        restore = Restore(
            "app",
            0,
            Bounds(begin, end, topic_id),
            hashes or (lambda offset: (offset + 1) * 7),
            self.said.append,
            self.shown.append,
            frozenset(avoid),
        )
        self.store, source = open_store(self.folder, self.snapshots, restore)
        return source

    def sequence(self):
        position = position_of(self.store)
        return position.host.sequence if position else 0

    def count(self):
        view = self.store.view()
        found = sum(1 for _ in view.scan(b"\x01\x00", b"\x02"))
        view.close()
        return found

    def close(self):
        if self.store is not None:
            self.store.close()
            self.store = None
