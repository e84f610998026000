"""The fold: from the event log into the store, record by record judged, batch by batch applied.

A restart, a lost ownership, a claim on its way, a standby and an audit all read the log through
`Follower`; an extension's decision is never run again, because its outcome carries the changes.
"""

from engine import limits, wire
from engine.errors import LogError, StoreError
from engine.model import Batch, Bounds, Decided, Lookup, Phase, Progress
from engine.partition.applications import Applications
from engine.partition.ledger import Ledger, merge, pages
from engine.partition.ownership import Judged, LogState, Verdict
from engine.ports import Clock, EventLog, ObjectStore, StateHost
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
    ) -> None:
        self._partition = partition
        self._events = events
        self._host = host
        self.ledger = ledger
        self.state = LogState(ledger.position).copy()
        self.applications = Applications(content, ledger.applications())
        self.claim_time_ms = 0  # append time of the last counting Owner that was read
        self.void_claims: set[bytes] = set()  # ids of claims read that didn't count
        self._run = Batch()

    def open(self) -> None:
        """Start the host at the store's position, with the ids of its dedup window."""
        self._host.open(self._partition, self.applications.by_index, self.ledger.position)
        provided: dict[bytes, bytes | None] = {}
        for key, value in pages(self.ledger.store):
            provided[key] = value
            if len(provided) == PAGES_PROVIDED_MAX:
                self._host.provide(provided)
                provided = {}
        self._host.provide(provided)

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
        claim_id, owner = self.state.claim_id, self.state.owner
        self.state = LogState(self.ledger.position).copy()
        self.state.claim_id, self.state.owner = claim_id, owner
        self._run = Batch()
        self._events.seek(self.ledger.position.offset)

    def tick(self) -> int:
        """Fold what is there, up to a limit; return how many records that were."""
        batch = self._events.take(limits.FOLD_RECORDS_MAX)
        for record in batch.records():
            head = wire.head(record.value)
            if head is not None and head.kind is Kind.APPLICATION:
                self._flush()
            judged = self.state.judge(record.offset, record.value, record.leader_epoch)
            if judged.kind is Kind.OWNER:
                self._meet_owner(judged, record.time_ms)
            elif judged.verdict is Verdict.COUNTS:
                assert record.value is not None
                self._count(judged, record.offset, record.time_ms, record.value)
        if batch:
            self._flush()
        return len(batch)

    def _meet_owner(self, judged: Judged, time_ms: int) -> None:
        if judged.verdict is Verdict.COUNTS:
            self.claim_time_ms = time_ms
            self.void_claims.clear()
        elif judged.fields:
            self.void_claims.add(judged.fields["claim_id"])

    def _count(self, judged: Judged, offset: int, time_ms: int, value: bytes) -> None:
        if judged.kind in {Kind.OUTCOME, Kind.MARK}:
            self._run.add(offset, time_ms, None, value)
        if judged.kind is Kind.MARK:
            self._flush()
            self._check(judged, offset)
            self.ledger.expire_ids()
        elif judged.kind is Kind.APPLICATION:
            application = self.applications.add(judged.fields)
            self.ledger.apply_application(application.index, value, self.state)
            self._host.open(self._partition, self.applications.by_index, self.ledger.position)

    def _flush(self) -> None:
        """Apply the run of counting outcomes and marks read so far, and the position."""
        run, self._run = self._run, Batch()
        if not run:
            self.ledger.move(self.state)
            return
        if not self.applications.by_index and any(
            (head := wire.head(value)) and head.kind is Kind.OUTCOME for value in run.values
        ):
            raise LogError("E1304", "an outcome comes before any Application record")
        decided = self._fold(run)
        host = self.state.position.host
        assert decided.state.sequence == host.sequence, "host and log disagree on the sequence"
        assert decided.state.previous == host.previous, "host and log disagree on the chain"
        offsets = [
            offset
            for offset, value in zip(run.offsets, run.values, strict=True)
            if (head := wire.head(value)) and head.kind is Kind.OUTCOME
        ]
        self.ledger.apply(decided, offsets, self.state)
        self._host.confirm(decided.state.sequence)

    def _fold(self, run: Batch) -> Decided:
        parts: list[Decided] = []
        rest = run
        while rest:
            part = self._host.fold(rest)
            parts.append(part)
            rest = rest.rest(part.done)
            if rest:
                self._host.provide(self.ledger.wanted(part), part.missing_prefixes)
        return merge(parts)

    def _check(self, judged: Judged, offset: int) -> None:
        """Compare this replica's digests with the owner's at its mark."""
        theirs = {entry["table"]: entry["digest"] for entry in judged.fields["digests"]}
        ours = self.ledger.digests
        if theirs != ours:
            tables = sorted(t for t in {*theirs, *ours} if theirs.get(t) != ours.get(t))
            raise StoreError(
                "E1205",
                f"the digests of tables {tables} differ from the owner's at sequence "
                f"{self.state.position.host.sequence}",
                "Keep the folder for analysis and let the partition rebuild from the log",
                offset=offset,
            )


class RestoreProgress:
    """How far a restore is and how fast: one object behind the CLI bar, HTTP, metrics and logs."""

    def __init__(self, partition: int, clock: Clock) -> None:
        self._partition = partition
        self._clock = clock
        self.target_offset = 0
        self._start_offset = 0
        self._start_ms = clock.monotonic_ms()

    def start(self, offset: int, target_offset: int) -> None:
        """Measure from here on."""
        self._start_offset = offset
        self._start_ms = self._clock.monotonic_ms()
        self.target_offset = target_offset

    def report(self, phase: Phase, offset: int) -> Progress:
        """Return the progress at `offset`."""
        elapsed_s = max(self._clock.monotonic_ms() - self._start_ms, 1) / 1_000
        rate = (offset - self._start_offset) / elapsed_s
        target = max(self.target_offset, offset)
        left = target - offset
        eta_s = left / rate if rate > 0 else None
        return Progress(self._partition, phase, offset, target, rate, eta_s)
