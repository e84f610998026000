"""The rows and the ids that a state host in WASM holds, as the Python host's code asks for them.

So the slow lane, which is that code, works on the one state there is. Owns the ranges of rows that
were provided; all else is in the host's memory.
"""

import struct
from array import array
from collections.abc import Generator, ItemsView, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from engine.application.rows import Page
from engine.model import HostState
from engine.sandbox.host_ranges import Pair, overlaid
from engine.sandbox.host_rows import RowMap
from engine.sandbox.host_values import UNKNOWN, Unknown
from engine.sandbox.wasm_host_door import STATE, Door, State

_NONE = 0xFFFFFFFF
_HEAD = struct.Struct("<II")
_LENGTH = struct.Struct("<I")


def packed(pairs: Iterable[tuple[bytes, bytes | None]]) -> bytes:
    """Return rows as the host takes them."""
    parts: list[bytes] = []
    for key, value in pairs:
        parts += (_HEAD.pack(len(key), _NONE if value is None else len(value)), key, value or b"")
    return b"".join(parts)


def to_state(state: State, application: int) -> HostState:
    """Return the host's state in Python's form."""
    numbers: dict[str, int] = {name: getattr(state, name) for name in STATE}
    return HostState(**numbers, application=application)


def put_state(state: State, value: HostState) -> None:
    """Write a state where the host reads it."""
    for name in STATE:
        setattr(state, name, getattr(value, name))


class PackedRows(Mapping[bytes, bytes | None]):
    """Rows as the host writes them: where keys and values end, then their bytes.

    A store goes through them once and copies each, so each is cut out in its turn: thousands that
    live at the same time would push one another out of the processor's cache.
    """

    def __init__(self, parts: Sequence[tuple[bytes, int]]) -> None:
        self._parts = parts  # each with its number of rows
        self._count = sum(count for _, count in parts)

    def items(self) -> ItemsView[bytes, bytes | None]:
        """Return the rows, to be gone through."""
        return _PackedItems(self)

    def pairs(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield key and value; None = the row is gone."""
        for data, count in self._parts:
            begin = 8 * count
            ends = iter(array("I", data[:begin]))
            for middle, end in zip(ends, ends, strict=True):
                if end == _NONE:
                    yield data[begin:middle], None
                    begin = middle
                else:
                    yield data[begin:middle], data[middle:end]
                    begin = end

    def __len__(self) -> int:
        """Return how many there are."""
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        """Yield the keys."""
        return (key for key, _ in self.pairs())

    def __getitem__(self, key: bytes) -> bytes | None:
        """Return a row's value; this looks through all of them."""
        return dict(self.pairs())[key]


class _PackedItems(ItemsView[bytes, bytes | None]):
    def __init__(self, packed: PackedRows) -> None:
        super().__init__(packed)
        self._packed = packed

    def __iter__(self) -> Iterator[tuple[bytes, bytes | None]]:
        return self._packed.pairs()


class HostRows:
    """Stands in for `host_rows.Rows`."""

    def __init__(self, door: Door, cache_bytes_max: int) -> None:
        self._door = door
        door.box().first = cache_bytes_max
        door.call("bound")
        self._ranges: dict[bytes, list[Pair]] = {}
        self.application = 0

    def get(self, key: bytes) -> bytes | Unknown | None:
        """Return a row, None where there is none, UNKNOWN where it must be provided first."""
        door = self._door
        door.put(key, len(key))
        door.call("get")
        box = door.box()
        data = door.memory.read(box.out, box.out_used)
        (length,) = _LENGTH.unpack_from(data)
        if length == _NONE:
            return None
        return UNKNOWN if length == _NONE - 1 else data[4:]

    def know(self, *, complete: bool) -> None:
        """Say whether a row that is not held, and was not evicted, is known not to be stored."""
        self._door.box().size = int(complete)
        self._door.call("known")

    def provide_all(self, pairs: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take stored rows, unless rows at least as new are known."""
        self._send("provide", pairs)

    def provide(self, key: bytes, value: bytes | None) -> None:
        """Take a stored row, unless a row at least as new is known."""
        self.provide_all([(key, value)])

    def provide_range(self, prefix: bytes, stored: list[Pair]) -> None:
        """Take all stored rows below a prefix, in key order."""
        self._ranges[prefix] = stored
        self._door.put(prefix, len(prefix))
        self._door.call("range_begin")
        self.provide_all(stored)
        self._door.call("range_end")

    def scan(
        self, prefix: bytes, *, reverse: bool = False
    ) -> Generator[Pair] | Literal[Unknown.UNKNOWN]:
        """Yield the rows below a prefix in (reverse) key order; UNKNOWN = provide them first."""
        stored = self._ranges.get(prefix)
        return UNKNOWN if stored is None else self._scan(prefix, stored, reverse=reverse)

    def _scan(self, prefix: bytes, stored: list[Pair], *, reverse: bool) -> Generator[Pair]:
        changed: RowMap = {}
        for key in self._changed(prefix):
            value = self.get(key)
            if not isinstance(value, Unknown):
                changed[key] = value
        found = reversed(stored) if reverse else stored
        yield from overlaid(found, changed, reverse=reverse)

    def _changed(self, prefix: bytes) -> set[bytes]:
        door = self._door
        door.put(prefix, len(prefix))
        door.call("list")
        box = door.box()
        data, at = door.memory.read(box.out, box.out_used), 0
        found: set[bytes] = set()
        while at < len(data):
            (length,) = _LENGTH.unpack_from(data, at)
            found.add(data[at + 4 : at + 4 + length])
            at += 4 + length
        return found

    def guess(self) -> None:
        """From here on changes are guesses, until `settle`."""
        self._door.call("guess")
        self._door.box().guessing = 1

    def settle(self) -> None:
        """Drop all guesses."""
        self._door.call("settle")
        self._door.box().guessing = 0

    def change(self, state: HostState, changed: RowMap) -> None:
        """Take the rows of an outcome that is not confirmed yet; `state` is that behind it."""
        self._send("change", changed.items(), state)

    def change_confirmed(self, changed: RowMap) -> None:
        """Take the rows of a confirmed outcome; nothing may be unconfirmed."""
        self._send("change_confirmed", changed.items())

    def confirm(self, sequence: int) -> HostState | None:
        """Let rows of outcomes up to `sequence` be the store's; return the state behind them."""
        self._ranges.clear()
        self._door.box().first = sequence
        if not self._door.call("confirm") & 0xFFFFFFFF:
            return None
        return to_state(self._door.box().before, self.application)

    def discard(self) -> None:
        """Forget all that is not confirmed."""
        self._ranges.clear()
        self._door.call("discard")

    def clear(self) -> None:
        """Forget everything."""
        self._ranges.clear()
        self._door.call("clear")

    @property
    def unconfirmed(self) -> int:
        """Return how many outcomes wait to be confirmed."""
        return self._door.call("unconfirmed") & 0xFFFFFFFF

    def __len__(self) -> int:
        """Return how many rows are held."""
        return self._door.call("held") & 0xFFFFFFFF

    @property
    def size_bytes(self) -> int:
        """Return how much memory they take."""
        return self._door.call("held_bytes")

    def _send(
        self,
        name: str,
        pairs: Iterable[tuple[bytes, bytes | None]],
        state: HostState | None = None,
    ) -> None:
        listed = list(pairs)
        self._door.put(packed(listed), len(listed))
        if state is not None:
            put_state(self._door.box().state, state)
        self._door.call(name)


class HostIds:
    """Stands in for `host_dedup.DedupWindow`."""

    def __init__(self, door: Door) -> None:
        self._door = door
        # Python's own hash of bytes has a secret, so nobody can choose ids that collide.
        self._with("dedup_seed", hash(b"dedup"))

    @property
    def floor(self) -> int:
        """Return W."""
        return self._door.call("dedup_floor")

    def __len__(self) -> int:
        """Return how many ids are remembered, if all that is decided counts."""
        return self._door.call("dedup_count")

    def start(self, sequence: int, floor: int) -> None:
        """Begin behind the outcome `sequence`, before the pages up to it are loaded."""
        self._with("dedup_start", sequence, floor)

    def load(self, page: Page) -> None:
        """Take a stored page, oldest pages first; what is known or expired is left out."""
        if page.ids:
            self._door.put(b"".join(page.ids), len(page.ids))
            self._with("dedup_load", page.first_sequence, page.newest_command_time)

    def find(self, command_id: bytes) -> int:
        """Return the sequence of a remembered id's outcome, or 0."""
        self._door.put(command_id, len(command_id))
        return self._door.call("dedup_find")

    def floor_at(self, command_time: int) -> int:
        """Return what W would be behind an outcome of this time."""
        return self._with("dedup_floor_at", command_time)

    def is_full(self, command_time: int) -> bool:
        """Tell whether a command of this time can't be remembered (`dedup_full`)."""
        return self._with("dedup_is_full", command_time) & 1 != 0

    def add(self, sequence: int, command_id: bytes, command_time: int) -> None:
        """Remember an outcome's id and move the floor."""
        self._door.put(command_id, len(command_id))
        self._with("dedup_add", sequence, command_time)

    def raise_floor(self, floor: int) -> None:
        """Take over a higher floor, as a Mark names it."""
        self._with("dedup_raise", floor)

    def forget(self, before: int, floor: int) -> None:
        """Forget for good what a confirmed floor has passed, up to sequence `before`."""
        self._with("dedup_forget", before, floor)

    def drop_after(self, sequence: int, floor: int) -> None:
        """Forget the ids of outcomes behind `sequence`; the floor is what it was there."""
        self._with("dedup_drop_after", sequence, floor)

    def _with(self, name: str, first: int, second: int = 0) -> int:
        box = self._door.box()
        box.first, box.second = first, second
        return self._door.call(name)
