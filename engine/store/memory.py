"""Rows in memory, with a disk that can be crashed: what a store's user may count on, no more.

Owns the model of a store without a write-ahead log: writes are volatile until `flush`, and a
crash brings back an earlier state, whole. Must not know what the rows mean.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Self

from sortedcontainers import SortedDict

from engine.errors import StoreError, UnavailableError
from engine.ports import Statistics

CHECKPOINT_FILE = "rows"
_CHUNK_ROWS = 128
_UNFLUSHED_MAX = 100_000
_DAMAGED = 1 << 31  # in an image, of a value that can't be read

# What keys held before a change; None = there was no such key.
_Before = dict[bytes, bytes | None]


class MemoryStore:
    """A PartitionStore whose disk is a dictionary.

    Each write remembers what it replaced. From that a crash goes back, and open views keep
    showing what they showed, so that neither ever copies the rows.
    """

    def __init__(self) -> None:
        self._rows: SortedDict = SortedDict()
        self._unflushed: deque[_Before] = deque()
        self._damaged: set[bytes] = set()
        self._views: list[MemoryView] = []
        self._lock = threading.RLock()
        self._writes = 0
        self._closed = False

    @property
    def unflushed(self) -> int:
        """How many of the last writes a crash may take."""
        return len(self._unflushed)

    def get(self, key: bytes) -> bytes | None:
        """Return a row."""
        assert not self._closed
        if key in self._damaged:
            raise _unreadable(key)
        return self._rows.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return rows in the order of their keys."""
        assert not self._closed
        return [self.get(key) for key in keys] if self._damaged else list(map(self._rows.get, keys))

    def write(self, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Write all rows or none; None deletes, the last of equal keys stays."""
        changes = dict(rows)
        with self._lock:
            assert not self._closed
            stored = self._rows
            before: _Before = {key: stored.get(key) for key in changes}
            for view in self._views:
                view.keep(before)
            self._put(changes)
            self._damaged.difference_update(changes)
            self._unflushed.append(before)
            self._writes += 1
            if len(self._unflushed) > _UNFLUSHED_MAX:
                self._unflushed.popleft()

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Delete all rows with start <= key < end."""
        with self._lock:
            inside = list(self._rows.irange(start, end, inclusive=(True, False)))
            self.write((key, None) for key in inside)

    def _put(self, changes: _Before) -> None:
        for key, value in changes.items():
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value

    def view(self) -> "MemoryView":
        """Return a consistent picture."""
        with self._lock:
            if self._closed:
                raise UnavailableError("E1402", "the store was closed")
            view = MemoryView(self._rows, self._damaged, self._lock, self._views)
            self._views.append(view)
            return view

    def flush(self) -> None:
        """Make all writes survive a crash."""
        with self._lock:
            assert not self._closed
            self._unflushed.clear()

    def damage(self, first: int, count: int) -> int:
        """Make rows from the `first` on unreadable, as a bad block does that nobody has met yet.

        What is not flushed lies in no block. Whoever meets one is told E1202, until it is written
        anew; copies have it too. Return how many there are.
        """
        with self._lock:
            keys = set(islice(self._rows, first, first + count))
            keys.difference_update(*self._unflushed)
            self._damaged |= keys
            return len(keys)

    @property
    def damaged(self) -> bool:
        """Return whether there are rows that can't be read."""
        return bool(self._damaged)

    def checkpoint(self, folder: Path) -> None:
        """Write all rows into a file of a new folder."""
        data = b"".join(self.images())
        folder.mkdir(parents=True)
        (folder / CHECKPOINT_FILE).write_bytes(data)

    def images(self) -> Iterator[bytes]:
        """Yield all rows as bytes, some rows in each, in key order."""
        with self._lock:
            assert not self._closed
            pairs = list(self._rows.items())
            damaged = set(self._damaged)
        for start in range(0, len(pairs), _CHUNK_ROWS):
            parts: list[bytes] = []
            for key, value in pairs[start : start + _CHUNK_ROWS]:
                length = len(value) | _DAMAGED if key in damaged else len(value)
                parts += len(key).to_bytes(4), key, length.to_bytes(4), value
            yield b"".join(parts)

    @classmethod
    def opened(cls, folder: Path) -> Self:
        """Return a store that begins as a checkpoint's."""
        return cls.of((folder / CHECKPOINT_FILE).read_bytes())

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Return a store that begins with the rows of images."""
        made, at, parts = cls(), 0, list[bytes]()
        while at < len(data):
            length = int.from_bytes(data[at : at + 4])
            if length & _DAMAGED:
                made._damaged.add(parts[-1])
            end = at + 4 + (length & ~_DAMAGED)
            parts.append(data[at + 4 : end])
            at = end
        made._rows.update(zip(parts[::2], parts[1::2], strict=True))
        return made

    @property
    def closed(self) -> bool:
        """Return whether it was closed, or crashed."""
        return self._closed

    def crash(self, surviving: int = 0) -> Self:
        """Return the store as the next process finds it; this one is gone.

        `surviving` of the unflushed writes, the oldest ones, had reached the disk by themselves.
        """
        with self._lock:
            assert not self._closed
            assert 0 <= surviving <= len(self._unflushed)
            self._closed = True
            self._views.clear()
            while len(self._unflushed) > surviving:
                self._put(self._unflushed.pop())
            reopened = self._again(self._rows, self._damaged)
            self._rows = SortedDict()
            return reopened

    def reopen(self) -> Self:
        """Return the store as the next process finds it after a `close`: with all writes."""
        assert self._closed
        return self._again(self._rows, self._damaged)

    @classmethod
    def _again(cls, rows: SortedDict, damaged: set[bytes]) -> Self:
        made = cls()
        made._rows, made._damaged = rows, damaged
        return made

    def statistics(self) -> Statistics:
        """Return counters."""
        return {
            "rows": len(self._rows),
            "writes": self._writes,
            "unflushed": len(self._unflushed),
            "views": len(self._views),
        }

    def close(self) -> None:
        """Flush and close."""
        with self._lock:
            self._closed = True
            self._unflushed.clear()
            self._views.clear()


class MemoryView:
    """The rows as they were: the store's own, but for what was replaced since."""

    def __init__(
        self,
        rows: SortedDict,
        damaged: set[bytes],
        lock: threading.RLock,
        views: "list[MemoryView]",
    ) -> None:
        self._rows = rows
        self._damaged = damaged
        self._lock = lock
        self._views = views
        self._before: _Before = {}

    def keep(self, before: _Before) -> None:
        """Remember what a write is about to replace; called by the store, under its lock."""
        for key, value in before.items():
            self._before.setdefault(key, value)

    def get(self, key: bytes) -> bytes | None:
        """Return a row."""
        with self._lock:
            if key in self._before:
                return self._before[key]
            if key in self._damaged:
                raise _unreadable(key)
            return self._rows.get(key)

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows with start <= key < end in (reverse) key order."""
        low, high = start, end
        while low < high:
            rows, bound = self._chunk(low, high, reverse=reverse)
            yield from rows
            if bound is None:
                return
            low, high = (low, bound) if reverse else (bound + b"\x00", high)

    def _chunk(
        self, low: bytes, high: bytes, *, reverse: bool
    ) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        """Return some rows of [low, high), and the last key looked at if there may be more."""
        with self._lock:
            inside = self._rows.irange(low, high, inclusive=(True, False), reverse=reverse)
            keys = list(islice(inside, _CHUNK_ROWS))
            bound = keys[-1] if len(keys) == _CHUNK_ROWS else None
            if bound is not None:
                low, high = (bound, high) if reverse else (low, bound + b"\x00")
            replaced = {key for key in self._before if low <= key < high}
            wanted = sorted(replaced.union(keys), reverse=reverse) if replaced else keys
            rows = [(key, self.get(key)) for key in wanted]
            return [(key, value) for key, value in rows if value is not None], bound

    def close(self) -> None:
        """Let go of the picture."""
        with self._lock:
            if self in self._views:
                self._views.remove(self)
            self._before.clear()


def _unreadable(key: bytes) -> StoreError:
    return StoreError("E1202", f"the block of row {key[:16].hex()} has another checksum")
