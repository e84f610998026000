"""A partition's store and its position: what one APPLY writes, all of it in one write batch."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from engine import limits, wire
from engine.application import rows
from engine.errors import StoreError
from engine.model import Batch, Decided, Position
from engine.partition.ownership import LogState
from engine.ports import PartitionStore, StateHost, StoreView

_PAGES_END = rows.prefix_end(rows.table_prefix(rows.TABLE_PAGES))


Rows = list[tuple[bytes, bytes | None]]


class Turn(NamedTuple):
    """What an Application or a Switch does to the tables of views."""

    waiting: Mapping[str, int]  # afterwards
    gained: Mapping[int, int] = {}  # tables that count from here on, with their digests
    lost: frozenset[int] = frozenset()  # tables that don't any more


class Ledger:
    """Keeps rows, digests and position together; the only writer of a partition's store."""

    def __init__(self, store: PartitionStore) -> None:
        self.store = store
        self.position = position_of(store) or Position()
        self.waiting = self._load_waiting()  # views whose newest generation doesn't count yet
        self._written = 0
        self._expired_to = rows.table_prefix(rows.TABLE_PAGES)

    @property
    def digests(self) -> dict[int, int]:
        """Return the digest of each table as of the last apply."""
        return self.position.digests

    def _load_waiting(self) -> dict[str, int]:
        prefix = rows.table_prefix(rows.TABLE_WAITING)
        view = self.store.view()
        try:
            found = view.scan(prefix, rows.prefix_end(prefix))
            return dict(rows.decode_waiting(key, value) for key, value in found)
        finally:
            view.close()

    def apply(self, decided: Decided, offsets: list[int], state: LogState) -> None:
        """Write what a confirmed batch changed; `offsets` are those of its outcomes."""
        position = state.position
        position.host = replace(decided.state)
        position.digests = add_digests(self.digests, decided.digests)
        made = list(_pages(decided, offsets))
        self._written += len(decided.rows) + len(made)
        self._write(chain(decided.rows.items(), made), position)

    def apply_application(
        self, index: int, value: bytes, state: LogState, turn: Turn | None = None
    ) -> None:
        """Write an Application record's row; the application is in force from here on."""
        key = rows.application_key(index)
        state.position.host.application = index
        change = {rows.TABLE_APPLICATION: rows.row_hash(key, value)}
        self._turn([(key, value)], change, turn or Turn(self.waiting), state)

    def apply_switch(self, turn: Turn, state: LogState) -> None:
        """Let newly built tables count, and drop those they replace."""
        self._turn([], {}, turn, state)

    def _turn(self, batch: Rows, change: dict[int, int], turn: Turn, state: LogState) -> None:
        before, after = _waiting_rows(self.waiting), _waiting_rows(turn.waiting)
        batch.extend((key, after.get(key)) for key in {**before, **after})
        total = sum(rows.row_hash(*row) for row in after.items())
        total -= sum(rows.row_hash(*row) for row in before.items())
        kept = {table: sum_ for table, sum_ in self.digests.items() if table not in turn.lost}
        digests = add_digests(kept, {**change, rows.TABLE_WAITING: total})
        state.position.digests = add_digests(digests, turn.gained)
        self._write(batch, state.position)
        self.waiting = dict(turn.waiting)
        for table in turn.lost:
            self.drop(table)

    def drop(self, table: int) -> None:
        """Delete all rows of a table that doesn't count."""
        prefix = rows.table_prefix(table)
        self.store.delete_range(prefix, rows.prefix_end(prefix))

    def sweep(self, tables: Iterable[int]) -> None:
        """Drop what a crash has left of tables that don't count any more."""
        for table in tables:
            if next(_scan(self.store, rows.table_prefix(table)), None) is not None:
                self.drop(table)

    def move(self, state: LogState) -> None:
        """Write the position alone, behind records that change no row."""
        state.position.digests = self.digests
        self._write([], state.position)

    def _write(self, batch: Iterable[tuple[bytes, bytes | None]], position: Position) -> None:
        last = rows.POSITION_KEY, wire.encode_position(position, limits.FORMAT)
        self.store.write(chain(batch, (last,)))
        self._written += 1
        self.position = position.copy()

    def expire_ids(self) -> None:
        """Drop the ids of pages that the dedup floor has passed; their offsets stay.

        An id may lie ahead of its own command's time, so a page waits that much longer. Only some
        pages a call: it runs between batches.
        """
        floor_ms = self.position.host.dedup_floor - limits.ID_AHEAD_MS_MAX
        changes: list[tuple[bytes, bytes | None]] = []
        view = self.store.view()
        try:
            for key, value in view.scan(self._expired_to, _PAGES_END):
                page = rows.decode_page(key, value)
                if page.newest_command_time > floor_ms or len(changes) >= limits.PAGES_EXPIRED_MAX:
                    break
                self._expired_to = key + b"\x00"
                if page.ids:
                    changes.append((key, rows.encode_page(page._replace(ids=[]))))
        finally:
            view.close()
        if changes:
            self.store.write(changes)

    def applications(self) -> Iterator[bytes]:
        """Yield the Application records applied so far, in order, as logged."""
        prefix = rows.table_prefix(rows.TABLE_APPLICATION)
        yield from _scan(self.store, prefix)

    def offset_of(self, sequence: int) -> int | None:
        """Return the log offset of an applied outcome."""
        view = self.store.view()
        try:
            start = rows.table_prefix(rows.TABLE_PAGES)
            for key, value in view.scan(start, rows.page_key(sequence + 1), reverse=True):
                page = rows.decode_page(key, value)
                behind = sequence - page.first_sequence
                return page.first_offset + behind if behind < page.length else None
            return None
        finally:
            view.close()

    def finish(self, batch: Batch, host: StateHost, step: Callable[[Batch], Decided]) -> Decided:
        """Call `step` of a host until a batch is finished, providing the rows that it misses.

        Each call runs all that is left, to find many misses at once. After MISS_PASSES_MAX calls
        that has not paid, as where each command leads the next one elsewhere: then one at a time,
        so that the work grows with the batch and not with its square.
        """
        parts: list[Decided] = []
        asked: set[bytes] = set()
        rest = batch
        while rest:
            tried = rest.first(1) if len(parts) >= limits.MISS_PASSES_MAX else rest
            part = step(tried)
            parts.append(part)
            rest = rest.rest(part.done)
            if part.done:
                asked.clear()
            if part.done < len(tried):
                host.provide(self._wanted(part, asked), part.missing_prefixes)
        return merge(parts)

    def _wanted(self, decided: Decided, asked: set[bytes]) -> dict[bytes, bytes | None]:
        """Return the stored rows that a host misses: single ones, and all below its prefixes."""
        names = {*decided.missing, *decided.missing_prefixes}
        assert names - asked, "a host stopped and misses nothing that it has not been given"
        asked |= names
        found = dict(zip(decided.missing, self.store.get_many(decided.missing), strict=True))
        if decided.missing_prefixes:
            view = self.store.view()
            try:
                for prefix in decided.missing_prefixes:
                    found.update(view.scan(prefix, rows.prefix_end(prefix)))
            finally:
                view.close()
        return found

    def statistics(self) -> Mapping[str, int | float]:
        """Return counters of this store and its writes."""
        return {"rows_written_total": self._written, **self.store.statistics()}


def position_of(rows_of: PartitionStore | StoreView) -> Position | None:
    """Return where a store, or a picture of one, stands; None if it is empty.

    Raises StoreError E1206 for what this engine can't read, whoever asks and before it does more.
    """
    value = rows_of.get(rows.POSITION_KEY)
    if value is None:
        return None
    try:
        format_, position = wire.decode_position(value)
    except wire.WireError as fault:
        raise StoreError("E1206", f"the position row can't be read: {fault}") from fault
    if format_ > limits.FORMAT:
        raise StoreError("E1206", f"format {format_}, this engine reads {limits.FORMAT}")
    return position


def add_digests(digests: Mapping[int, int], change: Mapping[int, int]) -> dict[int, int]:
    """Return digests with differences added, modulo 2**64; zero entries are left out."""
    total = dict(digests)
    for table, difference in change.items():
        total[table] = wire.signed64(total.get(table, 0) + difference)
    return {table: digest for table, digest in total.items() if digest}


def merge(parts: list[Decided]) -> Decided:
    """Return consecutive results of one batch as one; later rows win."""
    if len(parts) == 1:
        return parts[0]
    found: dict[bytes, bytes | None] = {}
    whole = Decided(rows=found, state=parts[-1].state)
    for part in parts:
        whole.marks += [add_digests(whole.digests, at) for at in part.marks]
        whole.outcomes += part.outcomes
        whole.workspaces += part.workspaces
        whole.ids += part.ids
        whole.command_times += part.command_times
        found.update(part.rows.items())
        whole.replies += part.replies
        whole.emits += part.emits
        whole.done += part.done
        whole.rejected += part.rejected
        for table, difference in part.digests.items():
            whole.digests[table] = whole.digests.get(table, 0) + difference
    return whole


def _pages(decided: Decided, offsets: list[int]) -> Iterator[tuple[bytes, bytes]]:
    """Yield a dedup page per run of outcomes at adjacent offsets."""
    assert len(offsets) == len(decided.ids)
    first = decided.state.sequence - len(offsets) + 1
    start, count = 0, len(offsets)
    while start < count:
        at = _adjacent(offsets, start)
        newest = max(decided.command_times[start:at])
        ids = decided.ids[start:at]
        page = rows.Page(first + start, offsets[start], at - start, newest, ids)
        yield rows.page_key(page.first_sequence), rows.encode_page(page)
        start = at


def _adjacent(offsets: list[int], start: int) -> int:
    """Return the index behind the offsets that follow on one another from `start` on."""
    if offsets[-1] - offsets[start] == len(offsets) - 1 - start:
        return len(offsets)  # they only grow, so none is left out
    at = start + 1
    while offsets[at] == offsets[at - 1] + 1:
        at += 1
    return at


def _waiting_rows(waiting: Mapping[str, int]) -> dict[bytes, bytes]:
    return {rows.waiting_key(view): rows.encode_waiting(table) for view, table in waiting.items()}


def _scan(store: PartitionStore, prefix: bytes) -> Iterator[bytes]:
    view = store.view()
    try:
        for _, value in view.scan(prefix, rows.prefix_end(prefix)):
            yield value
    finally:
        view.close()


def pages(store: PartitionStore) -> Iterator[tuple[bytes, bytes]]:
    """Yield all dedup pages that still hold ids, oldest first."""
    view = store.view()
    prefix = rows.table_prefix(rows.TABLE_PAGES)
    try:
        yield from view.scan(prefix, rows.prefix_end(prefix))
    finally:
        view.close()
