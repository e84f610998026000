"""THE WALK: what an owner does with its partition's commands, one batch after the other.

`tick` reads top to bottom as a command travels. It never blocks, starts no thread and reads no
clock but the port; a shell around it waits. Several batches may be in flight; they are confirmed,
applied and answered strictly in order (R5).
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from engine import limits, wire
from engine.errors import LogError, UnavailableError
from engine.model import (
    Batch,
    Decided,
    Duplicate,
    HostState,
    Input,
    LogRecord,
    Lookup,
    Stage,
)
from engine.partition.building import BuildPorts
from engine.partition.ledger import Ledger, add_digests
from engine.partition.ownership import LogState, Verdict, head_fields
from engine.ports import Clock, CommandLog, EventLog, Observer, ReplySink, StateHost
from engine.replies import first_outcome, reply_of
from engine.telemetry import Slowest
from engine.wire import Kind


class OwnershipLost(Exception):  # noqa: N818 - it is an event of the protocol, not an error
    """Stop and forget what is unconfirmed. `superseded`: another owner's claim counts."""

    def __init__(self, reason: str, *, superseded: bool) -> None:
        super().__init__(reason)
        self.superseded = superseded


@dataclass(slots=True)
class Flight:
    """A batch between APPEND and REPLY, or a Mark, which decides nothing."""

    decided: Decided
    ticket: int | None  # None: nothing to append, only refusals and duplicates
    record_count: int
    last_hash: int
    resume: int  # the command offset behind this batch
    deadline_ms: int
    last_offset: int | None = None  # as reported


@dataclass(slots=True)
class Ports:
    """What the walk is connected to."""

    commands: CommandLog
    events: EventLog
    host: StateHost
    replies: ReplySink
    clock: Clock
    observer: Observer
    builds: BuildPorts


class Processor:
    """One partition, owned: from TAKE to REPLY."""

    def __init__(
        self,
        partition: int,
        ports: Ports,
        ledger: Ledger,
        state: LogState,
        counters: dict[str, int],
    ) -> None:
        self._partition = partition
        self._ports = ports
        self._ledger = ledger
        self._state = state  # as confirmed
        self._epoch = state.position.epoch
        self._waiting = Batch()  # taken, not decided yet
        self._batch_max = limits.BATCH_COMMANDS_FIRST
        self._flights: deque[Flight] = deque()
        self._duplicates: deque[Duplicate] = deque()
        self._probe: LogState | None = None  # judges a gap that is being read
        self._probed: list[int] = []  # offsets of counting outcomes in it
        self._probe_count = 0
        self._decided = state.position.host  # as decided, unconfirmed batches included
        self._digests = dict(ledger.digests)
        self._resume = state.position.resume.get(Input.COMMANDS, 0)
        self._marked = (self._decided.sequence, self._resume)
        self._marked_at_ms = ports.clock.monotonic_ms()
        self.confirmed_ms = self._marked_at_ms
        self.taking = True
        self.clock_behind = False
        self.slowest = Slowest()
        self._counters = counters

    def tick(self) -> bool:
        """Move every batch as far as it can go; return True if anything moved."""
        batch = self._take()
        if batch:
            decided = self._decide(batch)
            self._append(batch, decided)
        moved = bool(batch)
        for flight, offsets in self._confirm():
            self._apply(flight, offsets)
            self._reply(flight)
            moved = True
        moved |= self._answer_duplicates()
        self._mark()
        return moved

    @property
    def confirmed(self) -> LogState:
        """Return the log's state behind the last confirmed batch."""
        return self._state

    @property
    def oldest_command_age_ms(self) -> int:
        """Return how long the oldest command that was taken has waited to be decided."""
        times_ms = self._waiting.times_ms
        return max(self._ports.clock.now_ms() - times_ms[0], 0) if times_ms else 0

    @property
    def idle(self) -> bool:
        """Return True when nothing is in flight."""
        return not self._flights

    @property
    def quiet(self) -> bool:
        """Return True when nothing is in flight and nobody waits for an answer."""
        return not self._flights and not self._duplicates

    def _take(self) -> Batch:
        """TAKE: the next commands up to the limits, if the pipeline has room."""
        busy = len(self._flights) >= limits.FLIGHTS_MAX
        if not self.taking or busy or len(self._duplicates) >= limits.LOOKUPS_WAITING_MAX:
            return Batch()
        if not self._waiting:
            self._waiting = self._ports.commands.take(self._batch_max)
        if not self._waiting or self._ahead_of_clock(max(self._waiting.times_ms)):
            return Batch()
        count = _fitting(self._waiting)
        batch, self._waiting = self._waiting, self._waiting.rest(count)
        self._counters["commands"] += count
        return batch.first(count)

    def _ahead_of_clock(self, newest_ms: int) -> bool:
        """Return True while the broker's newest append time makes our clock look wrong (R7)."""
        ahead_ms = newest_ms - self._ports.clock.now_ms()
        self.clock_behind = ahead_ms > limits.CLOCK_AHEAD_MS_MAX
        return self.clock_behind

    def _decide(self, batch: Batch) -> Decided:
        """DECIDE: one call of the host, and one more per pass that found missing rows."""
        host, now_ms = self._ports.host, self._ports.clock.now_ms()
        began_ms = self._ports.clock.monotonic_ms()
        self._observe(Stage.TAKE, Decided())
        decided = self._ledger.finish(
            batch, host, lambda rest: host.decide(rest, Input.COMMANDS, now_ms)
        )
        self._pace(len(batch), self._ports.clock.monotonic_ms() - began_ms)
        self._observe(Stage.DECIDE, decided)
        return decided

    def _pace(self, count: int, took_ms: int) -> None:
        """Let batches be as large as pays, but none so long that others must wait for it."""
        if took_ms > limits.BATCH_DECIDE_MS_MAX:
            self._batch_max = max(count // 2, limits.BATCH_COMMANDS_MIN)
        elif count >= self._batch_max and 2 * took_ms <= limits.BATCH_DECIDE_MS_MAX:
            self._batch_max = min(2 * self._batch_max, limits.BATCH_COMMANDS_MAX)

    def _observe(self, stage: Stage, decided: Decided) -> None:
        self._ports.observer.batch(stage, self._partition, decided)

    def _append(self, batch: Batch, decided: Decided) -> None:
        """APPEND: one record per outcome; what becomes of it is found out in CONFIRM."""
        self._resume = batch.offsets[-1] + 1
        self._decided = decided.state
        self._digests = add_digests(self._digests, decided.digests)
        self._launch(decided, decided.workspaces, decided.outcomes)
        self._observe(Stage.APPEND, decided)

    def _launch(self, decided: Decided, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        ticket = self._ports.events.append(keys, values) if values else None
        last_hash = wire.hash64(values[-1]) if values else 0
        deadline_ms = self._ports.clock.monotonic_ms() + limits.APPEND_DEADLINE_MS
        self._flights.append(
            Flight(decided, ticket, len(values), last_hash, self._resume, deadline_ms)
        )

    def _confirm(self) -> Iterator[tuple[Flight, list[int]]]:
        """CONFIRM, in order: a batch counts iff its records lie contiguous or are read to count.

        Each batch is applied before the next is looked at, so that the position never runs ahead
        of the rows.
        """
        for report in self._ports.events.reports():
            for flight in self._flights:
                if flight.ticket == report.ticket:
                    flight.last_offset = report.last_offset
                    if report.last_offset is None:
                        raise OwnershipLost(f"append failed: {report.error}", superseded=False)
        while self._flights:
            offsets = self._confirm_first(self._flights[0])
            if offsets is None:
                return
            flight = self._flights.popleft()
            if flight.ticket is not None:
                self.confirmed_ms = self._ports.clock.monotonic_ms()
            self._observe(Stage.CONFIRM, flight.decided)
            yield flight, offsets

    def _confirm_first(self, flight: Flight) -> list[int] | None:
        """Return the offsets of a confirmed batch's outcomes, or None: not known yet."""
        position = self._state.position
        if flight.ticket is None:
            position.resume[Input.COMMANDS] = flight.resume
            return []
        if flight.last_offset is None:
            if self._ports.clock.monotonic_ms() > flight.deadline_ms:
                raise OwnershipLost("no report within the deadline", superseded=False)
            return None
        first = position.offset
        if flight.last_offset == first + flight.record_count - 1:
            position.offset = flight.last_offset + 1
            position.tail_hash = flight.last_hash
            offsets = list(range(first, position.offset)) if flight.decided.outcomes else []
        elif not self._read_gap(flight.last_offset):
            return None
        else:
            offsets = self._close_gap(flight)
        position = self._state.position
        position.resume[Input.COMMANDS] = flight.resume
        position.host = flight.decided.state
        return offsets

    def _read_gap(self, last_offset: int) -> bool:
        """Judge the records up to `last_offset` by R2; return True once that is read."""
        if self._probe is None:
            self._probe, self._probed, self._probe_count = self._state.copy(), [], 0
            self._ports.events.seek(self._state.position.offset)
        wanted = last_offset + 1 - self._probe.position.offset
        batch = self._ports.events.take(min(wanted, limits.FOLD_RECORDS_MAX))
        for record in batch.records():
            judged = self._probe.judge(record.offset, record.value, record.leader_epoch)
            if judged.kind is Kind.OWNER and judged.verdict is Verdict.COUNTS:
                raise OwnershipLost("another owner's claim counts", superseded=True)
            if judged.verdict is Verdict.ALARM:
                raise OwnershipLost("a record of this epoch was lost", superseded=False)
            if judged.verdict is Verdict.COUNTS:
                self._probe_count += 1
                if judged.kind is Kind.OUTCOME:
                    self._probed.append(record.offset)
        return self._probe.position.offset > last_offset

    def _close_gap(self, flight: Flight) -> list[int]:
        """Return the offsets of a batch found in a gap, or stop: not all of it counts."""
        assert self._probe is not None
        if self._probe_count != flight.record_count:
            raise OwnershipLost("an own record does not count", superseded=False)
        self._state.position = self._probe.position
        self._state.superseded = self._probe.superseded
        self._probe = None
        self._ports.events.rest()
        return self._probed

    def _apply(self, flight: Flight, offsets: list[int]) -> None:
        """APPLY: rows, dedup page, digests and position in one write batch."""
        if not flight.decided.outcomes:
            self._ledger.move(self._state)
            return
        self._ledger.apply(flight.decided, offsets, self._state)
        self._ports.host.confirm(flight.decided.state.sequence)
        self._observe(Stage.APPLY, flight.decided)

    def _reply(self, flight: Flight) -> None:
        """REPLY: only now. A duplicate's first outcome is read back from the log first."""
        decided, replies = flight.decided, self._ports.replies
        if decided.outcomes:
            now_ms = self._ports.clock.now_ms()
            waited_ms = now_ms - decided.command_times[0]  # the first of a batch waited longest
            self.slowest.note(decided.workspaces[0].decode("utf-8", "replace"), waited_ms, now_ms)
        for reply in decided.replies:
            if isinstance(reply, Duplicate):
                self._duplicates.append(reply)
            else:
                replies.send(self._partition, reply)
        for at in replies.waiting(self._partition, decided.ids):
            replies.send(self._partition, reply_of(decided.outcomes[at]))
        self._counters["outcomes"] += len(decided.outcomes)
        self._counters["rejected"] += decided.rejected
        self._observe(Stage.REPLY, flight.decided)

    def _answer_duplicates(self) -> bool:
        """Answer duplicates whose first outcome has been read back; return True if any was."""
        answered = False
        while self._duplicates:
            duplicate = self._duplicates[0]
            try:
                found = self._first_of(duplicate)
            except UnavailableError:
                # Whoever waits is told to try again when his time is up; nobody else waits for him.
                self._duplicates.popleft()
                self._counters["duplicates_unanswered"] += 1
                continue
            if found is Lookup.PENDING:
                break
            self._duplicates.popleft()
            self._counters["duplicates"] += 1
            self._ports.replies.send(self._partition, first_outcome(duplicate, found))
            answered = True
        return answered

    def _first_of(self, duplicate: Duplicate) -> LogRecord | Lookup:
        """Look up the first outcome of a duplicate; one that can't be read is as good as gone."""
        offset = self._ledger.offset_of(duplicate.first_sequence)
        try:
            return Lookup.GONE if offset is None else self._ports.events.lookup(offset)
        except LogError:
            return Lookup.GONE

    def _mark(self) -> None:
        """Append a Mark every so many outcomes, or after a while if anything moved."""
        now_ms, at = self._ports.clock.monotonic_ms(), (self._decided.sequence, self._resume)
        many = at[0] - self._marked[0] >= limits.MARK_OUTCOMES
        late = at != self._marked and now_ms - self._marked_at_ms >= limits.MARK_INTERVAL_MS
        if not (many or late) or not self.taking or len(self._flights) >= limits.FLIGHTS_MAX:
            return
        self._marked, self._marked_at_ms = at, now_ms
        self._ledger.expire_ids()
        value = self._mark_record(self._decided)
        self._launch(Decided(state=self._decided), [b""], [value])

    def _mark_record(self, decided: HostState) -> bytes:
        head = {
            **head_fields(self._state),
            "epoch": self._epoch,
            "sequence": decided.sequence,
            "previous": decided.previous,
        }
        digests = [
            {"table": table, "digest": digest} for table, digest in sorted(self._digests.items())
        ]
        return wire.encode_event(
            Kind.MARK,
            {
                **head,
                "inputs": [{"input": "commands", "offset": self._resume}],
                "emitted_sequence": decided.emitted_sequence,
                "registered_at": decided.registered_at,
                "newest_command_time": decided.newest_command_time,
                "dedup_floor": decided.dedup_floor,
                "digests": digests,
            },
        )


def _fitting(batch: Batch) -> int:
    """Return how many records from the first on fit into one batch's bytes; at least one."""
    sizes = [len(value or b"") for value in batch.values]
    if sum(sizes) <= limits.BATCH_BYTES_MAX:
        return len(sizes)
    fitting = bisect_right(list(accumulate(sizes)), limits.BATCH_BYTES_MAX)
    return max(fitting, 1)
