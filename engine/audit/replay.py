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
from engine.partition.ledger import Ledger
from engine.partition.recovery import Follower
from engine.ports import ObjectStore, PartitionStore, StateHost, Statistics, StoreView
from engine.wire import decode_position, signed64

_ALL_ROWS = (b"\x00", b"\xff" * 8)


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
    """What a replay is made of; all of it is used up by one replay."""

    host: StateHost
    store: PartitionStore
    content: ObjectStore
    witnesses: list[Witness] = field(default_factory=list[Witness])


class Replay:
    """Folds the records it is given, and stops wherever a witness stands."""

    def __init__(self, report: PartitionReport, parts: Parts) -> None:
        self._report = report
        self._store = parts.store
        self._ledger = Ledger(parts.store)
        self._fed = _Fed()
        self._host = parts.host
        self._follower = Follower(
            report.partition, self._fed, self._ledger, parts.host, parts.content
        )
        self._witnesses = sorted(parts.witnesses, key=lambda witness: -witness.position.offset)
        self._stopped = False
        self._guarded(self._follower.open)
        self._compare()

    def read(self, record: LogRecord) -> None:
        """Take the next record; nothing after an error."""
        if self._stopped:
            return
        self._fed.records.append(record)
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
        self._host.close()

    def _fold(self) -> None:
        if self._stopped or not self._fed.records:
            return
        self._guarded(self._follower.tick)
        self._store.flush()
        if not self._stopped:
            self._compare()

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
        if theirs.digests != ours.digests:
            tables = different(theirs.digests, ours.digests)
            what = f"store {witness.name} differs from the replay in tables {tables}"
            report.differ(Broken.DIGEST, offset, what)
        if witness.recounted is not None and witness.recounted != theirs.digests:
            tables = different(witness.recounted, theirs.digests)
            what = f"store {witness.name} has rows in tables {tables} that its digests don't know"
            report.differ(Broken.STORE, offset, what)


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
    """Return the digest of each table, summed up from the rows; empty tables are left out."""
    sums: dict[int, int] = {}
    for key, value in view.scan(*_ALL_ROWS):
        table = rows.table_of(key)
        if table not in rows.LOCAL_TABLES:
            sums[table] = sums.get(table, 0) + rows.row_hash(key, value)
    return {table: digest for table, total in sums.items() if (digest := signed64(total))}


def witness_of(name: str, view: StoreView) -> Witness:
    """Return what a store's picture says of itself and in its rows."""
    value = view.get(rows.POSITION_KEY)
    position = decode_position(value)[1] if value is not None else Position()
    return Witness(name, position, recount(view))


def different(left: Mapping[int, int], right: Mapping[int, int]) -> list[int]:
    """Return the tables whose digests differ."""
    return sorted(t for t in {*left, *right} if left.get(t, 0) != right.get(t, 0))
