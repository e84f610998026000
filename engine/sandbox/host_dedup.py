"""The dedup window: which command ids have an outcome already (FORMATS 4, PROTOCOL D1-D3).

Every outcome has one id, so the window is a run of sequences: 16 bytes of id and 8 of time each,
and an open-addressing table of 4-byte numbers from id to sequence; about 40 bytes an id. The
table is split into shards, so that growing one never takes long.

The floor W is a fold of command times and of nothing else. An id of version 7 is accepted only if
its time is above W, and at most `ID_AHEAD_MS_MAX` ahead of its command time; so an entry may be
forgotten once W has reached its command time plus that. Command times never fall, so that is
always the oldest one. What unconfirmed outcomes have made W forget stays until they are confirmed.
"""

from array import array

from engine.application.rows import Page
from engine.limits import (
    DEDUP_IDS_MAX,
    DEDUP_WINDOW_MIN_MS,
    DEDUP_WINDOW_MS,
    ID_AHEAD_MS_MAX,
)

_ID_BYTES = 16
_SHARDS = 256
_SHARD_BITS = 8
_SLOTS_FIRST = 8
_EMPTY = array("I", bytes(4 * _SLOTS_FIRST))
_NUMBERS = (1 << 32) - 1  # a table's number is sequence % _NUMBERS + 1; 0 = empty
_COMPACT_MIN = 4_096

assert DEDUP_IDS_MAX < _NUMBERS // 4
assert DEDUP_WINDOW_MIN_MS > ID_AHEAD_MS_MAX


class DedupWindow:
    """Ids of the sequences [first, next), and the floor they are remembered above."""

    def __init__(self, ids_max: int = DEDUP_IDS_MAX) -> None:
        self._ids_max = ids_max
        self.floor = 0
        self._clear(1)

    def _clear(self, sequence: int) -> None:
        self._ids = bytearray()
        self._times = array("q")
        self._base = sequence  # the sequence of _ids[0]
        self._first = sequence  # entries before it are forgotten for good
        self._live = sequence  # entries before it are forgotten if all that is decided counts
        self.next = sequence
        self._tables = [_EMPTY[:] for _ in range(_SHARDS)]
        self._used = [0] * _SHARDS

    def __len__(self) -> int:
        """Return how many ids are remembered, if all that is decided counts."""
        return self.next - self._live

    def start(self, sequence: int, floor: int) -> None:
        """Begin behind the outcome `sequence`, before the pages up to it are loaded."""
        self.floor = floor
        self._clear(sequence + 1)

    def load(self, page: Page) -> None:
        """Take a stored page, oldest pages first; what is known or expired is left out."""
        end = page.first_sequence + page.length
        if not page.ids or page.newest_command_time + ID_AHEAD_MS_MAX <= self.floor:
            return
        if self.next == self._first:
            self._clear(page.first_sequence)
        elif end <= self.next:
            return
        assert page.first_sequence == self.next, "a dedup page is missing"
        for command_id in page.ids:
            self._append(command_id, page.newest_command_time)

    def find(self, command_id: bytes) -> int:
        """Return the sequence of a remembered id's outcome, or 0."""
        place = hash(command_id)
        table = self._tables[place & (_SHARDS - 1)]
        mask = len(table) - 1
        at = (place >> _SHARD_BITS) & mask
        base = self._base % _NUMBERS
        while number := table[at]:
            index = (number - 1 - base) % _NUMBERS
            if self._ids.startswith(command_id, index * _ID_BYTES):
                sequence = self._base + index
                if sequence >= self._live:  # else it may have been decided anew behind it
                    return sequence
            at = (at + 1) & mask
        return 0

    def floor_at(self, command_time: int) -> int:
        """Return what W would be behind an outcome of this time."""
        floor = max(self.floor, command_time - DEDUP_WINDOW_MS)
        if len(self) >= self._ids_max:
            oldest = self._times[self._live - self._base] + ID_AHEAD_MS_MAX
            if oldest <= command_time - DEDUP_WINDOW_MIN_MS:
                floor = max(floor, oldest)
        return floor

    def is_full(self, command_time: int) -> bool:
        """Tell whether a command of this time can't be remembered (`dedup_full`)."""
        if len(self) < self._ids_max:
            return False
        oldest = self._times[self._live - self._base] + ID_AHEAD_MS_MAX
        return oldest > self.floor_at(command_time)

    def add(self, sequence: int, command_id: bytes, command_time: int) -> None:
        """Remember an outcome's id and move the floor. In fold there may be more than the bound."""
        self.floor = self.floor_at(command_time)
        if self.next == self._first and self.next != sequence:
            self._clear(sequence)
        assert sequence == self.next, "the dedup window has a gap"
        self._append(command_id, command_time)
        self._advance()

    def raise_floor(self, floor: int) -> None:
        """Take over a higher floor, as a Mark names it."""
        self.floor = max(self.floor, floor)
        self._advance()

    def forget(self, before: int, floor: int) -> None:
        """Forget for good what a confirmed floor has passed, up to sequence `before`."""
        before = min(before, self.next)
        while self._first < before and self._expires(self._first) <= floor:
            self._remove(self._first)
            self._first += 1
        dead = self._first - self._base
        if dead > _COMPACT_MIN and dead > len(self._times) // 2:
            del self._ids[: dead * _ID_BYTES]
            del self._times[:dead]
            self._base = self._first

    def drop_after(self, sequence: int, floor: int) -> None:
        """Forget the ids of outcomes behind `sequence`; the floor is what it was there."""
        while self.next - 1 > sequence:
            self._remove(self.next - 1)
            self.next -= 1
            del self._ids[-_ID_BYTES:]
            self._times.pop()
        self.floor = floor
        self._live = self._first
        self._advance()

    def _expires(self, sequence: int) -> int:
        return self._times[sequence - self._base] + ID_AHEAD_MS_MAX

    def _advance(self) -> None:
        while self._live < self.next and self._expires(self._live) <= self.floor:
            self._live += 1

    def _append(self, command_id: bytes, command_time: int) -> None:
        assert len(command_id) == _ID_BYTES
        self._ids += command_id
        self._times.append(command_time)
        self._insert(command_id, self.next % _NUMBERS + 1)
        self.next += 1

    def _insert(self, command_id: bytes, number: int) -> None:
        place = hash(command_id)
        shard = place & (_SHARDS - 1)
        self._used[shard] += 1
        table = self._tables[shard]
        if self._used[shard] * 3 > len(table) * 2:
            table = self._grow(shard)
        _put(table, place, number)

    def _grow(self, shard: int) -> "array[int]":
        old = self._tables[shard]
        table = self._tables[shard] = array("I", bytes(4 * len(old) * 2))
        for number in old:
            if number:
                _put(table, hash(self._id(number)), number)
        return table

    def _id(self, number: int) -> bytes:
        index = (number - 1 - self._base % _NUMBERS) % _NUMBERS
        return bytes(self._ids[index * _ID_BYTES : (index + 1) * _ID_BYTES])

    def _remove(self, sequence: int) -> None:
        """Take an entry out of the table and close the gap, as linear probing needs it."""
        number = sequence % _NUMBERS + 1
        place = hash(self._id(number))
        shard = place & (_SHARDS - 1)
        table = self._tables[shard]
        mask = len(table) - 1
        hole = (place >> _SHARD_BITS) & mask
        while table[hole] != number:
            hole = (hole + 1) & mask
        at = hole
        while other := table[at := (at + 1) & mask]:
            home = (hash(self._id(other)) >> _SHARD_BITS) & mask
            if (at - home) & mask >= (at - hole) & mask:
                table[hole] = other
                hole = at
        table[hole] = 0
        self._used[shard] -= 1


def _put(table: "array[int]", place: int, number: int) -> None:
    mask = len(table) - 1
    at = (place >> _SHARD_BITS) & mask
    while table[at]:
        at = (at + 1) & mask
    table[at] = number
