"""Disks and stores of objects of a simulated cluster; what may break on them.

A disk is one partition's folders on one node: the store, its checkpoint, a store in the making. A
crash takes the newest writes of the store, whole ones; a checkpoint that was kept stays. Where a
crash may come in between, `reached` is called before.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable

from engine.errors import StoreError, UnavailableError
from engine.ports import ObjectStore, PartitionStore, Random, StoreView
from engine.store.memory import MemoryStore


class MemoryObjects:
    """An ObjectStore whose answers may fail."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._damaged: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.fails: Callable[[], bool] = lambda: False

    def _answer(self) -> None:
        if self.fails():
            raise UnavailableError("E1407", "the simulated store of objects is away")

    def put(self, name: str, data: bytes) -> None:
        """Store a blob."""
        self._answer()
        self._objects[name] = data
        self._damaged.discard(name)

    def get(self, name: str) -> bytes | None:
        """Return a blob."""
        self._answer()
        self.counts["met_damaged_object"] += name in self._damaged
        return self._objects.get(name)

    def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with `prefix`."""
        self._answer()
        return sorted(name for name in self._objects if name.startswith(prefix))

    def delete(self, name: str) -> None:
        """Forget a blob."""
        self._answer()
        self._objects.pop(name, None)

    def damage(self, prefix: str, random: Random) -> None:
        """Change a byte of the newest object of a kind, or cut it off."""
        found = sorted(name for name in self._objects if name.startswith(prefix))
        if not found:
            return
        data = self._objects[found[-1]]
        at = random.below(max(len(data), 1))
        whole = random.below(2) == 0
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if whole else data[:at]
        self._objects[found[-1]] = changed
        self._damaged.add(found[-1])


class Through:
    """Objects as one process has them: it may die before any call."""

    def __init__(self, objects: MemoryObjects, reached: Callable[[], None]) -> None:
        self._objects = objects
        self._reached = reached

    def put(self, name: str, data: bytes) -> None:
        """Store a blob."""
        self._reached()
        self._objects.put(name, data)

    def get(self, name: str) -> bytes | None:
        """Return a blob."""
        self._reached()
        return self._objects.get(name)

    def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with `prefix`."""
        self._reached()
        return self._objects.names(prefix)

    def delete(self, name: str) -> None:
        """Forget a blob."""
        self._reached()
        self._objects.delete(name)


class DiskStore(MemoryStore):
    """A store whose process may die before any write."""

    reached: Callable[[], None] = staticmethod(lambda: None)

    def write(self, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Write all rows or none."""
        self.reached()
        super().write(rows)

    def close(self) -> None:
        """Flush and close: not by a process that is dead."""
        self.reached()
        super().close()


class MemoryFiles:
    """A folder of files."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files: dict[str, bytes] = {} if files is None else files

    def names(self) -> list[str]:
        """Return the names of all files."""
        return sorted(self.files)

    def digest(self, name: str) -> tuple[int, str]:
        """Return a file's size and its sha256."""
        data = self.files[name]
        return len(data), hashlib.sha256(data).hexdigest()

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        return self.files[name]

    def write(self, name: str, data: bytes) -> None:
        """Write a file."""
        self.files[name] = data

    def store(self) -> DiskStore:
        """Return the store that these files are."""
        return DiskStore.of(b"".join(self.files[name] for name in self.names()))


class MemoryFolder:
    """One partition's folders on a simulated disk (see `store.checkpoints.PartitionFolder`)."""

    def __init__(self, reached: Callable[[], None] = lambda: None) -> None:
        self.store = DiskStore()
        self.reached = reached
        self.damaged = False  # found out at the next start
        self.set_aside_count = 0
        self._writer = ""
        self._copied = MemoryFiles()
        self._kept: tuple[bytes, MemoryFiles] | None = None
        self._making = MemoryFiles()

    def open(self) -> PartitionStore:
        """Open the store, a new one if there is none."""
        if self.damaged:
            raise StoreError("E1202", "the simulated disk has damaged a file")
        if self.store.closed:
            self.store = self.store.reopen()
        self.store.reached = self.reached
        return self.store

    def set_aside(self) -> object:
        """Move a damaged store away."""
        self.store, self.damaged = DiskStore(), False
        self.set_aside_count += 1
        return f"broken-{self.set_aside_count}"

    def kept(self) -> tuple[bytes, MemoryFiles] | None:
        """Return the checkpoint's manifest and files, if there is one."""
        return self._kept

    def restoring(self) -> MemoryFiles:
        """Return an empty folder for a store in the making."""
        self._making = MemoryFiles()
        return self._making

    def use_restored(self) -> None:
        """Let the store in the making take the store's place: one is deleted, one renamed."""
        self.store = DiskStore()
        self.reached()
        self.store = self._making.store()

    def try_room(self) -> None:
        """Find room: these disks are never full."""

    def writer(self, random: Random) -> str:
        """Return the name of this disk's copy."""
        self._writer = self._writer or random.bytes(8).hex()
        return self._writer

    def checkpoint(self, store: PartitionStore) -> MemoryFiles:
        """Copy the store, which need not be flushed for it."""
        assert isinstance(store, MemoryStore)
        images = enumerate(store.images())
        self._copied = MemoryFiles({f"{number:06}.rows": data for number, data in images})
        return self._copied

    def look(self) -> StoreView:
        """Open the newest copy to read it."""
        return self._copied.store().view()

    def keep(self, manifest: bytes) -> None:
        """Let the newest copy take the older one's place: one is deleted, one renamed."""
        self._kept = None
        self.reached()
        self._kept = manifest, self._copied

    def damage_block(self, random: Random) -> int:
        """Make some flushed rows unreadable; return how many."""
        rows = int(self.store.statistics()["rows"])
        return self.store.damage(random.below(rows), 1 + random.below(8)) if rows else 0

    def crash(self, random: Random) -> None:
        """End the process that had the store open: some of its newest writes are gone."""
        if not self.store.closed:
            self.store = self.store.crash(random.below(self.store.unflushed + 1))


def opener(
    objects: MemoryObjects | None, reached: Callable[[], None]
) -> "Callable[[], ObjectStore] | None":
    """Return what opens a store of objects, None where there is none."""
    return None if objects is None else lambda: Through(objects, reached)
