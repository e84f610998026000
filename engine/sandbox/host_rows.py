"""Rows in memory: confirmed ones in a cache, unconfirmed ones above it, guesses above those.

    scratch     what commands behind a miss change, while they run only to find more misses
    overlay     what decided outcomes changed that are not confirmed yet
    cache       confirmed rows, None = known to be absent; the least recently used go first
    ranges      all stored rows below a prefix, as of the last confirmed outcome

Owns also how a stored row's value becomes fields, by the schema of the application that wrote it.
A row that is in none of them is unknown, unless the host was given a way to read it: running a
command again costs this host a thousand times what reading a row does.
"""

from collections import OrderedDict, deque
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from sortedcontainers import SortedSet

from engine.application import Application, rows, schema
from engine.application.types import RecordSchema, RecordType, ViewType
from engine.errors import StoreError
from engine.limits import ROW_CACHE_BYTES_MAX, ROW_CACHE_MAX
from engine.model import HostState
from engine.sandbox.host_ranges import Pair, Reader, overlaid
from engine.sandbox.host_values import UNKNOWN, Row, Unknown

RowMap = dict[bytes, "bytes | None"]

# What Python takes for a cached row besides its bytes: two objects and the place in the cache.
_ROW_BYTES = 200


@dataclass(slots=True)
class Unconfirmed:
    """A decided outcome: the rows it changed, and the state behind it."""

    state: HostState
    rows: RowMap


class Rows:
    """The rows that a host knows, as of what it has decided."""

    def __init__(
        self,
        reader: Reader | None = None,
        cache_max: int = ROW_CACHE_MAX,
        cache_bytes_max: int = ROW_CACHE_BYTES_MAX,
    ) -> None:
        self._cache_max = cache_max
        self._cache_bytes_max = cache_bytes_max
        self._cache_bytes = 0
        self._reader = reader
        self._ranges: dict[bytes, list[Pair]] = {}
        self._folded: list[RowMap] = []  # confirmed by being read, not applied to the store yet
        self._changed: SortedSet | None = None  # keys of what no range and no store has yet
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
            if self._reader is None:
                return UNKNOWN
            value = self._reader.get(key)
            self._keep(key, value)
            return value
        self._cache.move_to_end(key)
        return value

    def provide(self, key: bytes, value: bytes | None) -> None:
        """Take a stored row, unless a row at least as new is known."""
        if key not in self._cache:
            self._keep(key, value)

    def provide_range(self, prefix: bytes, stored: list[Pair]) -> None:
        """Take all stored rows below a prefix, in key order."""
        self._ranges[prefix] = stored

    def scan(
        self, prefix: bytes, *, reverse: bool = False
    ) -> Generator[Pair] | Literal[Unknown.UNKNOWN]:
        """Yield the rows below a prefix in (reverse) key order; UNKNOWN = provide them first."""
        stored: Iterable[Pair]
        if self._reader is not None:
            stored = self._reader.scan(prefix, reverse=reverse)
        elif prefix in self._ranges:
            stored = reversed(self._ranges[prefix]) if reverse else self._ranges[prefix]
        else:
            return UNKNOWN
        return self._scan(prefix, stored, reverse=reverse)

    def _scan(self, prefix: bytes, stored: Iterable[Pair], *, reverse: bool) -> Generator[Pair]:
        changed: RowMap = {}
        end = rows.prefix_end(prefix)
        for key in self._changed_keys().irange(prefix, end, inclusive=(True, False)):
            value = self.get(key)
            if not isinstance(value, Unknown):
                changed[key] = value
        yield from overlaid(stored, changed, reverse=reverse)

    def _changed_keys(self) -> SortedSet:
        """Return them sorted; only a host that goes through ranges pays for that."""
        if self._changed is None:
            folded = chain.from_iterable(self._folded)
            self._changed = SortedSet(chain(self._overlay, self._scratch or (), folded))
        return self._changed

    def guess(self) -> None:
        """From here on changes are guesses, until `settle`."""
        self._scratch = {}

    def settle(self) -> None:
        """Drop all guesses."""
        self._scratch = None

    def change(self, state: HostState, changed: RowMap) -> None:
        """Take the rows of an outcome that is not confirmed yet; `state` is that behind it."""
        if self._changed is not None:
            self._changed.update(changed)
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
        self._folded.append(changed)
        if self._changed is not None:
            self._changed.update(changed)
        for key, value in changed.items():
            self._keep(key, value)

    def confirm(self, sequence: int) -> HostState | None:
        """Move rows of outcomes up to `sequence` into the cache; return the state behind them."""
        self._forget_ranges()
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
        self._ranges.clear()
        self._changed = None
        self._overlay.clear()
        self._unconfirmed.clear()
        self._evict()

    def clear(self) -> None:
        """Forget everything."""
        self.discard()
        self._forget_ranges()
        self._cache.clear()
        self._cache_bytes = 0

    @property
    def unconfirmed(self) -> int:
        """Return how many outcomes wait to be confirmed."""
        return len(self._unconfirmed)

    @property
    def size_bytes(self) -> int:
        """Return how much memory the cached rows take, about."""
        return self._cache_bytes

    def __len__(self) -> int:
        """Return how many rows are held."""
        return len(self._cache) + len(self._overlay)

    def _forget_ranges(self) -> None:
        """Forget what was true as of the last confirmed outcome: the store has gone on."""
        self._ranges.clear()
        self._folded.clear()
        self._changed = None

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
    return _ROW_BYTES + len(key) + (len(value) if value else 0)


class RowCodec:
    """Values of rows by the schemas of the applications that wrote them."""

    def __init__(self, applications: Mapping[int, Application], current: Application) -> None:
        self._applications = applications
        self._index = current.index

    def decode(self, view: ViewType, value: bytes) -> dict[str, Any]:
        """Return the fields of a view's row."""
        row = rows.decode_value(value)
        assert row.type == view.table, "a row's value names another table than its key"
        writer = None
        if row.application != self._index:
            writer = self._writer(row.application, view.table)
        return schema.decode(view.schema, row.body, writer)

    def decode_record(self, type_: RecordType, key: bytes, id_: int, value: bytes) -> Row:
        """Return a stored record as a command works on it."""
        stored = rows.decode_value(value)
        assert stored.type == type_.table, "a row's value names another table than its key"
        parent, body = rows.split_nested(stored.body) if type_.parent else (0, stored.body)
        writer = None
        if stored.application != self._index:
            writer = self._writer(stored.application, type_.table)
        row = Row(type_.schema, schema.decode(type_.schema, body, writer), key, id_)
        row.type, row.before, row.parent = type_, value, parent
        row.active = row.was_active = not stored.flags & rows.INACTIVE
        return row

    def encode(self, type_: RecordType | ViewType, body: bytes, *, active: bool = True) -> bytes:
        """Return the value to store."""
        return rows.encode_value(self._index, type_.table, 0 if active else rows.INACTIVE, body)

    def image(self, type_: RecordType, application: int, body: bytes) -> dict[str, Any]:
        """Return a record's fields from an outcome's change that `application` has written.

        Raises WireError where this application can't read them.
        """
        writer = type_.schema
        if application != self._index:
            writer = self._writer(application, type_.table)
        return schema.decode(type_.schema, body, writer)

    def writer_of(self, type_: RecordType, fingerprint: int) -> RecordSchema | None:
        """Return the schema of that fingerprint which a type of record has, or once had."""
        if type_.schema.fingerprint == fingerprint:
            return type_.schema
        versions = (each.record_tables.get(type_.table) for each in self._applications.values())
        known = (each.schema for each in versions if each is not None)
        return next((each for each in known if each.fingerprint == fingerprint), None)

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
