"""The state host in WASM: the fast lane, and the slow one behind it (host/host.h says why two).

Owns how a batch goes through both: the fast lane as far as it goes; what it leaves, one command by
the Python host's own code, which works on the same rows and ids; then the fast lane again. An
application that has Python extensions, or views that several versions' code keeps, is decided by
the slow lane alone.
"""

import re
import struct
from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, compress

from engine import wire
from engine.application import Application, rows
from engine.application.generations import Views
from engine.limits import MISSING_ROWS_MAX, ROW_CACHE_BYTES_MAX
from engine.model import Batch, Chain, Decided, Input, Pieces, Position, Reply, ReplyTo
from engine.replies import reply_of
from engine.sandbox import plans
from engine.sandbox.host_guests import Guests
from engine.sandbox.host_input import Source
from engine.sandbox.host_values import Prefix
from engine.sandbox.python import Pass, PythonHost
from engine.sandbox.wasm import WasmGuests
from engine.sandbox.wasm_host_door import FINISHED, LEFT, TRAPPED, Door
from engine.sandbox.wasm_host_rows import HostIds, HostRows, PackedRows, put_state, to_state

_NONE = 0xFFFFFFFF
_LENGTH = struct.Struct("<I")
_ID = struct.Struct("16s")
_PAGE = re.compile(re.escape(rows.table_prefix(rows.TABLE_PAGES)))


class WasmHost(PythonHost):
    """Implements `ports.StateHost`. `guests` loads extensions for the slow lane."""

    def __init__(
        self,
        guests: Callable[[Application], Guests],
        cache_bytes_max: int = ROW_CACHE_BYTES_MAX,
    ) -> None:
        self._door = Door()
        self._held = HostRows(self._door, cache_bytes_max)
        super().__init__(guests, held=(self._held, HostIds(self._door)))
        self._tables: list[int] = []  # of the digests that the fast lane counts
        self._sent: Batch | None = None  # what `chained` has sent, to be folded next
        self._written = frozenset[int]()  # tables of the views that are kept here
        self._noted: dict[str, int] = {}
        self._note()
        self._counters |= {"fast": 0, "left": 0}

    def open(
        self,
        partition: int,
        applications: Mapping[int, Application],
        position: Position,
        views: Views | None = None,
    ) -> None:
        """Start at a stored position, or go on in another application with nothing in flight."""
        super().open(partition, applications, position, views)
        self._know(position)
        self._note()
        self._held.application = position.host.application
        self._tables = []
        force = self._in_force
        if force is None or force.only_views or len(force.runners) > 1:
            return
        guests = force.guests
        if isinstance(guests, WasmGuests) and self._load_guests(force.application, guests):
            self._tables = plans.digest_tables(force.application)
            found = {
                name: (force.application.extensions[name], guest.description, guest.resolved)
                for name, guest in guests.guests.items()
            }
            image = plans.make_image(
                force.application, applications, force.runners[0].events, partition, found
            )
            self._door.put(image, len(image))
            assert self._door.call("load") & 1, "the image is not of this host"

    def _know(self, position: Position) -> None:
        """From an empty store on this host sees every row, so it knows which ones there are not.

        No more so once a view counts whose rows were built elsewhere.
        """
        written = self._in_force.view_tables if self._in_force else frozenset[int]()
        if position.host.sequence == 0:
            self._held.know(complete=True)
        elif not written <= self._written:
            self._held.know(complete=False)
        self._written = written

    def _load_guests(self, application: Application, guests: WasmGuests) -> bool:
        self._door.drop_guests()
        return all(
            self._door.add_guest(application.extensions[name].content, guest.description)
            for name, guest in guests.guests.items()
        )

    def decide(self, batch: Batch, source: Input, now_ms: int) -> Decided:
        """Decide commands in order; each sees all earlier ones. Never raises for user input."""
        if not self._tables or not batch:
            decided = super().decide(batch, source, now_ms)
        else:
            assert source is Input.COMMANDS, "emits and timers are not served yet"
            decided = self._batch("decide", batch, Pass(now_ms=now_ms), self._take_decided)
        self._note()
        return decided

    def chained(self, batch: Batch, at: int, epoch: int, sequence: int, previous: int) -> Chain:
        """Return how many records plainly count; what the batch is folded from is sent with it."""
        if not self._tables:
            return Chain()
        if self._sent is not batch:
            self._send(batch, _values(batch))
            self._sent = batch
        box = self._door.box()
        box.size, box.epoch, box.first, box.second = at, epoch, sequence, previous
        count = self._door.call("chain") & _NONE
        box = self._door.box()
        return Chain(count, box.second, box.first)

    def fold(self, batch: Batch) -> Decided:
        """Fold counting Outcome and Mark records, confirmed by being read. No budget, no limits."""
        if not self._tables or not batch:
            decided = super().fold(batch)
        else:
            decided = self._batch("fold", batch, Pass(), self._take_folded)
            self._folded()
        self._note()
        return decided

    def provide(self, rows_: Mapping[bytes, bytes | None], prefixes: Sequence[bytes] = ()) -> None:
        """Take rows as stored. Dedup pages fill the window, oldest first."""
        if prefixes or any(map(_PAGE.match, rows_)):
            super().provide(rows_, prefixes)
            self._note()
        else:
            self._held.provide_all(rows_.items())

    def confirm(self, sequence: int) -> None:
        """Outcomes up to `sequence` are applied to the store: their rows may be evicted."""
        super().confirm(sequence)
        self._note()

    def discard(self) -> None:
        """Forget everything since the last confirmed outcome."""
        super().discard()
        self._note()

    def statistics(self) -> Mapping[str, int | float]:
        """Return counters, and how much was held behind the last step.

        Others' threads ask for it while a batch runs, so it calls nothing in the store.
        """
        counted: dict[str, int | float] = {**self._counters, **self._noted}
        return counted

    def _note(self) -> None:
        held, ids = len(self._rows), len(self._dedup)
        waiting = self._rows.unconfirmed
        self._noted = {
            "rows_held": held,
            "rows_bytes": self._rows.size_bytes,
            "outcomes_unconfirmed": waiting,
            "ids_remembered": ids,
        }

    def reasons(self) -> Mapping[str, int]:
        """Return how often something was left to the slow lane, and why."""
        return {name: count for name, count in self._door.reasons().items() if count}

    # A batch through both lanes.

    def _batch(
        self, name: str, batch: Batch, run: Pass, take: Callable[[Pass, Batch], None]
    ) -> Decided:
        door = self._door
        if name == "decide":
            self._send(batch, _columns(batch))
        elif self._sent is batch:
            self._begin(batch)
        else:
            self._send(batch, _values(batch))
        self._sent = None
        box = door.box()
        box.epoch, box.now_ms = self._epoch, run.now_ms
        put_state(box.state, self._state)
        status = LEFT
        while status != FINISHED:
            status = door.run(name)
            self._state = to_state(door.box().state, self._held.application)
            take(run, batch)
            if status in {LEFT, TRAPPED}:
                self._slow(name, run, batch)
            elif status == FINISHED and len(run.missing) >= MISSING_ROWS_MAX:
                break
        return self._finish(run)

    def _send(self, batch: Batch, columns: bytes) -> None:
        self._door.put_batch(columns)
        self._begin(batch)

    def _begin(self, batch: Batch) -> None:
        box = self._door.box()
        box.count, box.size = len(batch), isinstance(batch.values, Pieces)
        self._door.call("batch")

    def _slow(self, name: str, run: Pass, batch: Batch) -> None:
        """Let the slow lane deal with the command at hand, then let the fast lane go on."""
        door = self._door
        at = door.box().at
        self._counters["left"] += 1
        value = batch.values[at]
        if name == "decide":
            place = Source(self._partition, batch.offsets[at], batch.times_ms[at], batch.keys[at])
            self._decide_one(run, place, value)
        else:
            assert value is not None
            self._fold_one(run, value)
        put_state(door.box().state, self._state)
        door.call("skip")

    def _take_missing(self, run: Pass) -> None:
        """Note what the fast lane misses since it was last asked."""
        box = self._door.box()
        if not box.missing:
            return
        data, at = self._door.memory.read(box.missing_at, box.missing_used), 0
        box.missing = box.missing_used = 0
        while at < len(data):
            (head,) = _LENGTH.unpack_from(data, at)
            end = at + 4 + (head & 0x7FFFFFFF)
            key, at = data[at + 4 : end], end
            if head >> 31:
                run.prefixes[Prefix(key)] = None
            else:
                run.missing[key] = None
        self._counters["misses"] += 1
        if run.before is None and box.guessing:
            run.before = to_state(box.before, self._held.application)

    def _take_decided(self, run: Pass, batch: Batch) -> None:
        """Add what the fast lane has decided since it was last asked."""
        box, decided = self._door.box(), run.decided
        self._take_missing(run)
        count, first = box.outcomes, len(decided.outcomes)
        decided.done += box.done
        self._counters["commands"] += box.done
        box.done = 0
        if not count:
            return
        read = self._door.memory.read
        data = read(box.out, box.out_used)
        ends = array("I", read(box.ends, 4 * count))
        indexes = array("I", read(box.indexes, 4 * count))
        start = 0
        for end in ends:
            decided.outcomes.append(data[start:end])
            start = end
        decided.workspaces += [batch.keys[at] or b"" for at in indexes]
        self._take_columns(run)
        for number in array("I", read(box.reply_indexes, 4 * box.replies)):
            decided.replies.append(
                _reply(decided.outcomes[first + number], batch.values[indexes[number]])
            )

    def _take_folded(self, run: Pass, _batch: Batch) -> None:
        """Add what the fast lane has folded since it was last asked."""
        box, decided = self._door.box(), run.decided
        self._take_missing(run)
        count = box.outcomes
        decided.done += box.done
        self._counters["folded"] += box.done
        box.done = 0
        if not count:
            return
        self._take_columns(run)

    def _take_columns(self, run: Pass) -> None:
        box, decided = self._door.box(), run.decided
        count, read = box.outcomes, self._door.memory.read
        decided.ids += chain.from_iterable(_ID.iter_unpack(read(box.ids, 16 * count)))
        decided.command_times += array("q", read(box.times, 8 * count))
        decided.rejected += box.rejected
        self._counters["outcomes"] += count
        self._counters["rejected"] += box.rejected
        self._counters["fast"] += count

    def _finish(self, run: Pass) -> Decided:
        """Undo what was only guessed; return what is finished, with all rows that have changed."""
        run.decided.digests = self._digests_so_far(run)
        decided = self._end(run)
        decided.rows = self._changed_rows()
        return decided

    def _digests_so_far(self, run: Pass) -> dict[int, int]:
        """Return what both lanes have added."""
        box, read = self._door.box(), self._door.memory.read
        count = len(self._tables)
        touched = read(box.digests_touched, count)
        sums = array("q", read(box.digests, 8 * count))
        digests = super()._digests_so_far(run)
        for table, difference in zip(
            compress(self._tables, touched), compress(sums, touched), strict=True
        ):
            digests[table] = digests.get(table, 0) + difference
        return digests

    def _changed_rows(self) -> PackedRows:
        door, parts = self._door, list[tuple[bytes, int]]()
        start, left = 0, 1
        while left:
            door.box().size = start
            count = door.call("changed") & _NONE
            box = door.box()
            left = box.left
            start += count
            parts.append((door.memory.read(box.out, box.out_used), count))
        return PackedRows(parts)


def _columns(batch: Batch) -> bytes:
    """Return a batch as the host takes it: columns, then all keys, then all values."""
    keys, values = batch.keys, batch.values
    return b"".join(
        (
            array("q", batch.offsets).tobytes(),
            array("q", batch.times_ms).tobytes(),
            array("I", [_NONE if key is None else len(key) for key in keys]).tobytes(),
            array("I", [_NONE if value is None else len(value) for value in values]).tobytes(),
            *filter(None, keys),
            *filter(None, values),
        )
    )


def _values(batch: Batch) -> bytes:
    """Return the same without what a fold doesn't look at: offsets, times and keys.

    Where offsets would be there is room for the hashes of values, as `chained` counts them.
    """
    values, count = batch.values, len(batch)
    if isinstance(values, Pieces):
        starts, ends = values.starts.tobytes(), values.ends.tobytes()
        return b"".join((bytes(16 * count), starts, ends, values.data))
    lengths = array("I", [_NONE if value is None else len(value) for value in values])
    return b"".join(
        (bytes(16 * count), b"\xff" * 4 * count, lengths.tobytes(), *filter(None, values))
    )


def _reply(outcome: bytes, command: bytes | None) -> Reply:
    reply = reply_of(outcome)
    asked = wire.decode_command(command or b"")["reply"]
    assert asked is not None
    reply.reply_to = ReplyTo(asked["partition"], asked["correlation"])
    return reply
