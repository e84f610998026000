"""A full replay of a partition's events into memory, compared with the marks and with stores.

The fold is the shipped one (`partition.recovery.Follower`): an audit asks whether what nodes do
with this log gives equal states everywhere. The digests are also summed up anew from the rows, so
that adding up differences is checked too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from engine.application import rows
from engine.audit.report import Broken, PartitionReport
from engine.errors import EngineError
from engine.limits import FOLD_RECORDS_MAX
from engine.model import Batch, Bounds, LogRecord, Lookup, Position, Report
from engine.partition.building import Builder, BuildPorts
from engine.partition.ledger import Ledger, position_of
from engine.partition.recovery import Follower
from engine.ports import (
    EventReader,
    ObjectStore,
    PartitionStore,
    StateHost,
    Statistics,
    StoreView,
)
from engine.wire import decode_build, decode_position, signed64

_ALL_ROWS = (b"\x00", b"\xff" * 8)
_IDLE_MAX = 300
# What decides which record counts next. How far commands are handled an owner knows before its log
# says so, and a partition leader's epoch only who has read the record: neither is compared.
_ALIKE = ("epoch", "released", "incarnation", "command_topic_id", "tail_hash")


@dataclass(slots=True)
class Witness:
    """A store to compare with: where it stands, what it says of itself, what its rows say.

    `recounted` is None where rows can't be read, as over HTTP.
    """

    name: str
    position: Position
    recounted: Mapping[int, int] | None = None


@dataclass(slots=True)
class Parts:
    """What a replay is made of; all of it is used up by one replay.

    `history` reads the events again, for views that are built anew; without it the replay remembers
    them all. `wait` lets that reader catch up.
    """

    make_host: Callable[[], StateHost]
    store: PartitionStore
    content: ObjectStore
    witnesses: list[Witness] = field(default_factory=list[Witness])
    history: EventReader | None = None
    wait: Callable[[], None] | None = None
    begin_offset: int | None = None  # of the log, where the store doesn't begin empty


class Replay:
    """Folds the records it is given, and stops wherever a witness stands."""

    def __init__(self, report: PartitionReport, parts: Parts) -> None:
        self._report = report
        self._store = parts.store
        self._ledger = Ledger(parts.store)
        self._fed = _Fed()
        self._host = parts.make_host()
        self._wait = parts.wait
        self._remembered = None if parts.history else _Remembered()
        history = parts.history or self._remembered
        assert history is not None
        builds = BuildPorts(history, parts.make_host, _Still())
        self._builder = Builder(report.partition, builds, self._ledger)
        self._follower = Follower(
            report.partition, self._fed, self._ledger, self._host, parts.content, self._builder
        )
        self._begun = False
        self._begin_offset = parts.begin_offset
        self._witnesses = sorted(parts.witnesses, key=lambda witness: -witness.position.offset)
        self._stopped = False
        self._guarded(self._follower.open)
        self._compare()

    def read(self, record: LogRecord) -> None:
        """Take the next record; nothing after an error."""
        if self._stopped:
            return
        if not self._begun:
            begin = self._begin_offset
            self._begun, self._builder.begin_offset = (
                True,
                record.offset if begin is None else begin,
            )
        self._fed.records.append(record)
        if self._remembered is not None:
            self._remembered.records.append(record)
        at_witness = self._witnesses and self._witnesses[-1].position.offset == record.offset + 1
        if at_witness or len(self._fed.records) >= FOLD_RECORDS_MAX:
            self._fold()

    def finish(self) -> None:
        """Fold the rest, and recount the rows."""
        self._fold()
        report = self._report
        if not self._stopped:
            report.digests_checked = report.marks
            report.digests = dict(self._ledger.digests)
            offset = self._ledger.position.offset
            for witness in self._witnesses:
                what = (
                    f"store {witness.name} is at offset {witness.position.offset}, "
                    f"the log ends at {offset}"
                )
                report.differ(Broken.STORE, offset, what)
            view = self._store.view()
            recounted = recount(view)
            view.close()
            if recounted != report.digests:
                tables = different(recounted, report.digests)
                report.differ(Broken.DIGEST, offset, f"rows of tables {tables} were miscounted")
        self._builder.close()
        self._host.close()

    def _fold(self) -> None:
        if self._stopped or not self._fed.records:
            return
        self._guarded(self._follower.tick)
        idle = 0
        while self._follower.holding and not self._stopped:
            built = self._ledger.position.offset, self._builder.position
            self._guarded(self._builder.tick)
            self._guarded(self._follower.tick)
            idle = (
                0 if built != (self._ledger.position.offset, self._builder.position) else idle + 1
            )
            if idle and self._follower.holding:
                self._caught_up(idle)
        self._store.flush()
        if not self._stopped:
            self._compare()

    def _caught_up(self, idle: int) -> None:
        """Wait for the events to be read again; not for ever."""
        if self._wait is None or idle > _IDLE_MAX:
            self._stopped = True
            what = "the events could not be read again to build a view"
            self._report.differ(Broken.REPLAY, self._ledger.position.offset, what)
        else:
            self._wait()

    def _guarded(self, step: Callable[[], object]) -> None:
        try:
            step()
        except EngineError as error:
            self._stopped = True
            kind = Broken.DIGEST if error.code == "E1205" else Broken.REPLAY
            offset = error.where.get("offset", self._ledger.position.offset)
            assert isinstance(offset, int)
            self._report.differ(kind, offset, error.message)

    def _compare(self) -> None:
        """Compare with the witnesses that stand where the replay stands."""
        while self._witnesses and (
            self._witnesses[-1].position.offset <= self._ledger.position.offset
        ):
            self._compare_with(self._witnesses.pop())

    def _compare_with(self, witness: Witness) -> None:
        report, ours, theirs = self._report, self._ledger.position, witness.position
        report.stores_checked += 1
        offset = theirs.offset
        if theirs.host.sequence != ours.host.sequence or theirs.host.previous != ours.host.previous:
            what = (
                f"store {witness.name} has sequence {theirs.host.sequence} at offset {offset}, "
                f"the log {ours.host.sequence}"
            )
            report.differ(Broken.STORE, offset, what)
        differing = [name for name in _ALIKE if getattr(theirs, name) != getattr(ours, name)]
        if differing:
            what = f"store {witness.name} has another {', '.join(differing)} than the log there"
            report.differ(Broken.STORE, offset, what)
        if theirs.digests != ours.digests:
            tables = different(theirs.digests, ours.digests)
            what = f"store {witness.name} differs from the replay in tables {tables}"
            report.differ(Broken.DIGEST, offset, what)
        if witness.recounted is not None and witness.recounted != theirs.digests:
            tables = different(witness.recounted, theirs.digests)
            what = f"store {witness.name} has rows in tables {tables} that its digests don't know"
            report.differ(Broken.STORE, offset, what)


class _Still:
    """A clock for a build whose pace nobody asks for."""

    def now_ms(self) -> int:
        return 0

    def monotonic_ms(self) -> int:
        return 0


class _Remembered:
    """All records so far, to be read again."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []
        self._offset = 0

    def seek(self, offset: int) -> None:
        self._offset = offset

    def take(self, count: int) -> Batch:
        batch = Batch()
        first = self._offset - (self.records[0].offset if self.records else 0)
        for record in self.records[first : first + count]:
            batch.add(record.offset, record.time_ms, record.key, record.value)
        self._offset += len(batch)
        return batch

    def rest(self) -> None:
        """Keep what is there."""


class _Fed:
    """An EventLog of the records it was handed, for a Follower that only takes."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []

    def take(self, count: int) -> Batch:
        batch = Batch()
        for record in self.records[:count]:
            batch.add(record.offset, record.time_ms, record.key, record.value)
            batch.leader_epoch = record.leader_epoch
        del self.records[:count]
        return batch

    def rest(self) -> None:
        self.records.clear()

    def reports(self) -> list[Report]:
        return []

    def statistics(self) -> Statistics:
        return {}

    def lookup(self, offset: int) -> LogRecord | Lookup:
        del offset
        return Lookup.GONE

    def bounds(self) -> Bounds:
        raise AssertionError("a replay knows no end")

    def append(self, keys: Sequence[bytes], values: Sequence[bytes]) -> int:
        raise AssertionError(f"a replay appends nothing ({len(keys)} keys, {len(values)} values)")

    def seek(self, offset: int) -> None:
        raise AssertionError(f"a replay never goes back (to {offset})")


def recount(view: StoreView) -> dict[int, int]:
    """Return the digest of each table, summed up from the rows; empty tables are left out.

    Those of views that are being built don't count yet.
    """
    sums: dict[int, int] = {}
    outside = rows.LOCAL_TABLES | _built(view)
    for key, value in view.scan(*_ALL_ROWS):
        table = rows.table_of(key)
        if table not in outside:
            sums[table] = sums.get(table, 0) + rows.row_hash(key, value)
    return {table: digest for table, total in sums.items() if (digest := signed64(total))}


def _built(view: StoreView) -> frozenset[int]:
    value = view.get(rows.BUILD_KEY)
    if value is None:
        return frozenset()
    return frozenset(decode_position(decode_build(value)["position"])[1].digests)


def witness_of(name: str, view: StoreView) -> Witness:
    """Return what a store's picture says of itself and in its rows."""
    return Witness(name, position_of(view) or Position(), recount(view))


def different(left: Mapping[int, int], right: Mapping[int, int]) -> list[int]:
    """Return the tables whose digests differ."""
    return sorted(t for t in {*left, *right} if left.get(t, 0) != right.get(t, 0))
