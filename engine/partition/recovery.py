"""The fold: from the event log into the store, record by record judged, batch by batch applied.

A restart, a lost ownership, a claim on its way, a standby and an audit all read the log through
`Follower`; an extension's decision is never run again, because its outcome carries the changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine import limits, wire
from engine.application import Application
from engine.application.generations import (
    Generations,
    counting_tables,
    generations_of,
    switched,
    waiting_after,
    waiting_behind,
)
from engine.application.types import ProjectorType
from engine.errors import ApplicationError, LogError, StoreError, UnavailableError
from engine.model import Batch, Bounds, LogRecord, Lookup
from engine.partition.applications import Applications
from engine.partition.building import Builder
from engine.partition.ledger import Ledger, Turn, add_digests, pages
from engine.partition.ownership import Judged, LogState, Verdict
from engine.ports import EventLog, ObjectStore, StateHost
from engine.wire import Kind

PAGES_PROVIDED_MAX = 1_000


class Follower:
    """Reads one partition's event log from the store's position on and applies what counts."""

    def __init__(
        self,
        partition: int,
        events: EventLog,
        ledger: Ledger,
        host: StateHost,
        content: ObjectStore,
        builder: Builder,
    ) -> None:
        self._partition = partition
        self._events = events
        self._host = host
        self.ledger = ledger
        self.state = LogState(ledger.position).copy()
        self.applications = Applications(content, ledger.applications())
        self.claim_time_ms = 0  # append time of the last counting Owner that was read
        self.void_claims: set[bytes] = set()  # ids of claims read that didn't count
        self.builder = builder
        self.serving: Application | None = None  # with its views as they count
        self._run = Run()
        self._most = limits.FOLD_RECORDS_MAX  # records to take at once
        self._held: Batch | None = None  # from a Switch on, whose views are not built yet

    def open(self) -> None:
        """Start the host at the store's position, with the ids of its dedup window."""
        self._open_host()
        self._sweep()
        provided: dict[bytes, bytes | None] = {}
        for key, value in pages(self.ledger.store):
            provided[key] = value
            if len(provided) == PAGES_PROVIDED_MAX:
                self._host.provide(provided)
                provided = {}
        self._host.provide(provided)

    @property
    def holding(self) -> bool:
        """Return True while the fold waits at a Switch until its views are built."""
        return self._held is not None

    def _open_host(self) -> None:
        """Let the host, and the builder, run what is in force at the ledger's position."""
        position, known = self.ledger.position, self.applications.by_index
        generations: Generations | None = None
        if position.host.application:
            generations = generations_of(known, position.host.application, self.ledger.waiting)
            self.serving = generations.application
        self._host.open(self._partition, known, position, generations and generations.views)
        if generations is not None:
            self.builder.follow(generations, known)

    def _sweep(self) -> None:
        """Drop tables that a crash has left behind a Switch."""
        newest = self.applications.newest()
        if newest is not None:
            known = {table.table for table in newest.tables if table.kind == "view"}
            live = counting_tables(newest, self.ledger.waiting) | _declared(newest)
            self.ledger.sweep(known - live)

    def verify(self, bounds: Bounds) -> bool:
        """Return True once the store is known to stand in this very log (R3).

        Raises StoreError E1203 or E1204, or LogError E1302, if it doesn't. False means: call again.
        """
        position = self.ledger.position
        if position.offset > bounds.end:
            raise StoreError(
                "E1203",
                f"applied up to offset {position.offset}, the log ends at {bounds.end}",
                "Restore the log, or move the partition's folder away to rebuild it",
            )
        if position.topic_id and position.topic_id != bounds.topic_id:
            raise StoreError(
                "E1204",
                f"the store was built from topic id {position.topic_id}, this is "
                f"{bounds.topic_id}: the topic was deleted and made again, or is another one",
                "Check the address and the prefix, or move the partition's folder away",
            )
        if position.offset < bounds.begin:
            raise LogError(
                "E1302",
                f"the log begins at offset {bounds.begin}, the next to apply is {position.offset}",
                "Restore a newer snapshot",
            )
        position.topic_id = bounds.topic_id
        if position.offset == bounds.begin:
            return True
        last = self._events.lookup(position.offset - 1)
        if last is Lookup.PENDING:
            return False
        if last is Lookup.GONE:
            newer = self._events.bounds()
            if position.offset <= newer.begin:  # trimmed since the bounds were read
                return self.verify(newer)
        if last is Lookup.GONE or wire.hash64(last.value or b"") != position.tail_hash:
            raise StoreError(
                "E1204",
                f"the record at offset {position.offset - 1} is not the one that was applied",
                "The log lost its tail and grew again, or is another one: move the partition's "
                "folder away to rebuild it",
            )
        return True

    def seek(self) -> None:
        """Read from what is applied on, forgetting what was judged ahead of it."""
        before = self.state
        self.state = LogState(self.ledger.position).copy()
        self.state.know(before)
        self._run = Run()
        self._held = None
        self._events.seek(self.ledger.position.offset)

    def tick(self) -> int:
        """Fold what is there, up to a limit; return how many records that were.

        What could not be folded because something is away is read again.
        """
        try:
            return self._fold_next()
        except UnavailableError:
            self.seek()
            raise

    def _fold_next(self) -> int:
        held, self._held = self._held, None
        batch = self._events.take(self._most) if held is None else held
        at = chained = 0
        while at < len(batch):
            count = self._chained(batch, at)
            if count:
                chained += count
            elif self._judge(batch, at, anew=held is None or at > 0):
                count = 1
            else:
                self._held = batch.rest(at)
                return at
            at += count
        if batch:
            self._flush()
        quick = 2 * chained > len(batch)
        self._most = limits.FOLD_CHAINED_MAX if quick else limits.FOLD_RECORDS_MAX
        return len(batch)

    def _chained(self, batch: Batch, at: int) -> int:
        """Take over how many records from `at` on the host finds to be plain outcomes that count.

        This is what nearly all of a log is, so no line of Python runs per record here. Whatever
        else there is, LogState.judge says what it is: it alone has the rules whole.
        """
        position = self.state.position
        if position.released:
            return 0
        behind = position.host
        chain = self._host.chained(batch, at, position.epoch, behind.sequence, behind.previous)
        if chain.count:
            last = at + chain.count - 1
            self.state.follow(batch.offsets[last], chain, batch.leader_epoch)
            self._run.add(batch, at, last + 1)
            self._run.offsets += batch.offsets[at : last + 1]
        return chain.count

    def _judge(self, batch: Batch, at: int, *, anew: bool) -> bool:
        """Judge one record and do what it says; False at a Switch that must wait."""
        record = batch.record(at)
        head = wire.head(record.value)
        if head is not None and head.kind in {Kind.APPLICATION, Kind.SWITCH}:
            if anew:
                self._flush()
            if head.kind is Kind.SWITCH and self._must_hold(record):
                return False
        judged = self.state.judge(record.offset, record.value, record.leader_epoch)
        if judged.kind is Kind.OWNER:
            self._meet_owner(judged, record.time_ms)
        elif judged.verdict is Verdict.COUNTS:
            self._count(judged, batch, at)
        return True

    def _meet_owner(self, judged: Judged, time_ms: int) -> None:
        if judged.verdict is Verdict.COUNTS:
            self.claim_time_ms = time_ms
            self.void_claims.clear()
        elif judged.fields:
            self.void_claims.add(judged.fields["claim_id"])

    def _count(self, judged: Judged, batch: Batch, at: int) -> None:
        value = batch.values[at]
        assert value is not None
        if judged.kind is Kind.OUTCOME:
            self._run.add(batch, at, at + 1)
            self._run.offsets.append(batch.offsets[at])
        elif judged.kind is Kind.MARK:
            self._run.add(batch, at, at + 1)
            self._run.marks.append((batch.offsets[at], judged.fields))
        elif judged.kind is Kind.APPLICATION:
            self._put_in_force(self.applications.add(judged.fields), value)
        elif judged.kind is Kind.SWITCH:
            projector = self._switched(judged.fields)
            if projector is not None:
                self._switch(projector)

    def _put_in_force(self, application: Application, value: bytes) -> None:
        known, before = self.applications.by_index, self._counting()
        replaced = known.get(application.index - 1)
        if replaced is not None:
            before |= _declared(replaced)  # among them what was being built
        waiting = waiting_behind(known, application.index, self.ledger.waiting)
        lost = before - counting_tables(application, waiting) - _declared(application)
        turn = Turn(waiting, {}, frozenset(lost))
        self.ledger.apply_application(application.index, value, self.state, turn)
        self._open_host()

    def _counting(self) -> set[int]:
        """Return the tables of views that count so far."""
        index = self.ledger.position.host.application
        found = self.applications.by_index.get(index)
        return counting_tables(found, self.ledger.waiting) if found else set()

    def _switched(self, fields: dict[str, Any]) -> ProjectorType | None:
        index = self.ledger.position.host.application
        application = self.applications.by_index.get(index)
        if application is None:
            return None
        waiting = self.ledger.waiting
        return switched(application, waiting, fields["view"], fields["generation"])

    def _must_hold(self, record: LogRecord) -> bool:
        """Return True at a Switch that counts, while what it names is not built up to here."""
        judged = self.state.copy().judge(record.offset, record.value, record.leader_epoch)
        if judged.verdict is not Verdict.COUNTS:
            return False
        projector = self._switched(judged.fields)
        if projector is None:
            return False
        problem = self.builder.problem(projector.name)
        if problem:
            raise ApplicationError(
                "E1106",
                f"the owner has built {judged.fields['view']}, here it failed: {problem}",
                "Run the engine version of the partition's owner",
                partition=self._partition,
                offset=record.offset,
            )
        return not self.builder.complete(projector.name, record.offset)

    def _switch(self, projector: ProjectorType) -> None:
        """Let what is built count; behind this sequence queries and digests have it."""
        index = self.ledger.position.host.application
        known, before = self.applications.by_index, self._counting()
        waiting = waiting_after(known, index, self.ledger.waiting, projector)
        lost = before - counting_tables(known[index], waiting)
        turn = Turn(waiting, self.builder.gained(projector), frozenset(lost))
        self.ledger.apply_switch(turn, self.state)
        self._open_host()

    def _flush(self) -> None:
        """Apply the run of counting outcomes and marks read so far, and the position."""
        run, self._run = self._run, Run()
        if not run.spans:
            self.ledger.move(self.state)
            return
        if run.offsets and not self.applications.by_index:
            raise LogError("E1304", "an outcome comes before any Application record")
        decided = self.ledger.finish(run.batch(), self._host, self._host.fold)
        host = self.state.position.host
        assert decided.state.sequence == host.sequence, "host and log disagree on the sequence"
        assert decided.state.previous == host.previous, "host and log disagree on the chain"
        for (offset, mark), change in zip(run.marks, decided.marks, strict=True):
            self._check(offset, mark, add_digests(self.ledger.digests, change))
        self.ledger.apply(decided, run.offsets, self.state)
        self._host.confirm(decided.state.sequence)
        if run.marks:
            self.ledger.expire_ids()

    def _check(self, offset: int, mark: Mapping[str, Any], ours: Mapping[int, int]) -> None:
        """Compare this replica's digests with the owner's at its mark."""
        theirs = {entry["table"]: entry["digest"] for entry in mark["digests"]}
        if theirs != ours:
            tables = sorted(t for t in {*theirs, *ours} if theirs.get(t) != ours.get(t))
            raise StoreError(
                "E1205",
                f"the digests of tables {tables} differ from the owner's at sequence "
                f"{mark['sequence']}",
                "Keep the folder for analysis and let the partition rebuild from the log",
                offset=offset,
            )


@dataclass(slots=True)
class Run:
    """What counts of what was read, to be folded in one go: spans of batches, as they were."""

    spans: list[tuple[Batch, int, int]] = field(default_factory=list[tuple[Batch, int, int]])
    offsets: list[int] = field(default_factory=list[int])  # of the outcomes
    marks: list[tuple[int, dict[str, Any]]] = field(
        default_factory=list[tuple[int, dict[str, Any]]]
    )

    def add(self, batch: Batch, start: int, end: int) -> None:
        """Add records; what lies behind the last ones makes one span with them."""
        if self.spans and self.spans[-1][0] is batch and self.spans[-1][2] == start:
            start = self.spans.pop()[1]
        self.spans.append((batch, start, end))

    def batch(self) -> Batch:
        """Return the records; a batch of which all count is returned as it is."""
        batch, start, end = self.spans[0]
        if len(self.spans) == 1 and end - start == len(batch):
            return batch
        joined = Batch()
        for batch, start, end in self.spans:
            joined.extend(batch, start, end)
        return joined


def _declared(application: Application) -> set[int]:
    return {view.table for view in application.views.values()}
