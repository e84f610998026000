"""Rows in memory: confirmed ones in a cache, unconfirmed ones above it, guesses above those.

    scratch     what commands behind a miss change, while they run only to find more misses
    overlay     what decided outcomes changed that are not confirmed yet
    cache       confirmed rows, None = known to be absent; the least recently used go first

Owns also how a stored row's value becomes fields, by the schema of the application that wrote it.
A row that is in none of the three is unknown, unless the host was given a way to read it: running a
command again costs this host a thousand times what reading a row does.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.application import Application, rows, schema
from engine.application.types import RecordSchema, RecordType, ViewType
from engine.errors import StoreError
from engine.limits import ROW_CACHE_BYTES_MAX, ROW_CACHE_MAX
from engine.model import HostState
from engine.sandbox.session import UNKNOWN, Unknown

RowMap = dict[bytes, "bytes | None"]
Read = Callable[[bytes], "bytes | None"]


@dataclass(slots=True)
class Unconfirmed:
    """A decided outcome: the rows it changed, and the state behind it."""

    state: HostState
    rows: RowMap


class Rows:
    """The rows that a host knows, as of what it has decided."""

    def __init__(
        self,
        read: Read | None = None,
        cache_max: int = ROW_CACHE_MAX,
        cache_bytes_max: int = ROW_CACHE_BYTES_MAX,
    ) -> None:
        self._cache_max = cache_max
        self._cache_bytes_max = cache_bytes_max
        self._cache_bytes = 0
        self._read = read
        self._cache: OrderedDict[bytes, bytes | None] = OrderedDict()
        self._overlay: dict[bytes, tuple[int, bytes | None]] = {}
        self._unconfirmed: deque[Unconfirmed] = deque()
        self._scratch: RowMap | None = None

    def get(self, key: bytes) -> bytes | Unknown | None:
        """Return a row, None where there is none, UNKNOWN where it must be provided first."""
        if self._scratch is not None and key in self._scratch:
            return self._scratch[key]
        newer = self._overlay.get(key)
        if newer is not None:
            return newer[1]
        try:
            value = self._cache[key]
        except KeyError:
            if self._read is None:
                return UNKNOWN
            value = self._read(key)
            self._keep(key, value)
            return value
        self._cache.move_to_end(key)
        return value

    def provide(self, key: bytes, value: bytes | None) -> None:
        """Take a stored row, unless a row at least as new is known."""
        if key not in self._cache:
            self._keep(key, value)

    def guess(self) -> None:
        """From here on changes are guesses, until `settle`."""
        self._scratch = {}

    def settle(self) -> None:
        """Drop all guesses."""
        self._scratch = None

    def change(self, state: HostState, changed: RowMap) -> None:
        """Take the rows of an outcome that is not confirmed yet; `state` is that behind it."""
        if self._scratch is not None:
            self._scratch.update(changed)
            return
        sequence = state.sequence
        for key, value in changed.items():
            self._overlay[key] = (sequence, value)
        self._unconfirmed.append(Unconfirmed(state, changed))

    def change_confirmed(self, changed: RowMap) -> None:
        """Take the rows of a confirmed outcome; nothing may be unconfirmed."""
        assert not self._unconfirmed
        for key, value in changed.items():
            self._keep(key, value)

    def confirm(self, sequence: int) -> HostState | None:
        """Move rows of outcomes up to `sequence` into the cache; return the state behind them."""
        state: HostState | None = None
        waiting = self._unconfirmed
        while waiting and waiting[0].state.sequence <= sequence:
            outcome = waiting.popleft()
            state = outcome.state
            for key, value in outcome.rows.items():
                self._keep(key, value)
                newest = self._overlay.get(key)
                if newest is not None and newest[0] <= state.sequence:
                    del self._overlay[key]
        self._evict()
        return state

    def discard(self) -> None:
        """Forget all that is not confirmed."""
        self._scratch = None
        self._overlay.clear()
        self._unconfirmed.clear()
        self._evict()

    def clear(self) -> None:
        """Forget everything."""
        self.discard()
        self._cache.clear()
        self._cache_bytes = 0

    @property
    def unconfirmed(self) -> int:
        """Return how many outcomes wait to be confirmed."""
        return len(self._unconfirmed)

    def __len__(self) -> int:
        """Return how many rows are held."""
        return len(self._cache) + len(self._overlay)

    def _keep(self, key: bytes, value: bytes | None) -> None:
        """Cache a row as the most recently used."""
        self._cache_bytes += _size(key, value)
        if key in self._cache:
            self._cache_bytes -= _size(key, self._cache[key])
            self._cache.move_to_end(key)
        self._cache[key] = value

    def _evict(self) -> None:
        """Shrink the cache. Only here, between batches: a batch's own rows must stay."""
        cache = self._cache
        while len(cache) > self._cache_max or self._cache_bytes > self._cache_bytes_max:
            self._cache_bytes -= _size(*cache.popitem(last=False))


def _size(key: bytes, value: bytes | None) -> int:
    return len(key) + (len(value) if value else 0)


class RowCodec:
    """Values of rows by the schemas of the applications that wrote them."""

    def __init__(self, applications: Mapping[int, Application], current: Application) -> None:
        self._applications = applications
        self._index = current.index

    def decode(self, reader: RecordSchema, table: int, value: bytes) -> tuple[dict[str, Any], bool]:
        """Return (fields as `reader` has them, is it active)."""
        row = rows.decode_value(value)
        assert row.type == table, "a row's value names another table than its key"
        writer = reader
        if row.application != self._index:
            writer = self._writer(row.application, table)
        return schema.decode(reader, row.body, writer), not row.flags & rows.INACTIVE

    def encode(self, type_: RecordType | ViewType, body: bytes, *, active: bool = True) -> bytes:
        """Return the value to store."""
        return rows.encode_value(self._index, type_.table, 0 if active else rows.INACTIVE, body)

    def _writer(self, application: int, table: int) -> RecordSchema:
        known = self._applications.get(application)
        type_ = known and (known.record_tables.get(table) or known.view_tables.get(table))
        if not type_:
            raise StoreError(
                "E1206",
                f"a row of table {table} was written by application {application}, not known here",
                "Move the partition's folder away to rebuild it from the log",
            )
        return type_.schema
