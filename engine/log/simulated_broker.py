"""The broker of a simulated cluster: its logs, what is in flight, and every fault.

Owns what a broker, its clients and the network may do to an append: each producer session is a
queue whose records land when `step` says so, at any later moment, in order, or not at all. Must
stay deterministic: equal seeds and equal calls give equal logs.
"""

from collections import Counter, deque
from dataclasses import dataclass, replace

from engine.limits import BATCH_BYTES_MAX, REQUESTS_WAITING_MAX
from engine.model import Batch, LogRecord, Reply, Report
from engine.ports import Clock, Random

_PERMILLE = 1_000


@dataclass(slots=True)
class Faults:
    """How often each thing happens, in 1,000 chances to happen.

    The first group only delays: it needs no budget. Each of the second takes one from `budget`;
    what is lost, doubled or cut is never more than that.
    """

    stay: int = 0  # a session's queue doesn't move in this step
    part: int = 0  # of what could land only some records do
    late_report: int = 0  # reports stay under way in this step
    stale_read: int = 0  # a reader doesn't see the newest records yet
    pending_lookup: int = 0  # a random read has to be asked again
    lose_reply: int = 0

    budget: int = 0
    lose: int = 0  # the rest of a session's queue is lost
    silent: int = 0  # of losses: told only after `silence_ms`, and swallows appends until then
    drop_report: int = 0  # it landed, nobody says so
    hole: int = 0  # one record is lost alone, against R1
    double: int = 0  # one record lands twice
    elect: int = 0  # a new leader, whose clock may be `skew_ms` off
    cut: int = 0  # a new leader that lacks the log's last records: against acks=all
    unavailable: int = 0  # a question to the broker isn't answered
    lose_command: int = 0  # a published command never lands, and its publisher is told
    double_command: int = 0  # it lands again later, as when its client sends it again

    silence_ms: int = 40_000
    skew_ms: int = 0
    cut_records_max: int = 3


class SimulatedLog:
    """One partition's records in columns, as the broker has them."""

    def __init__(self, topic_id: str) -> None:
        self.topic_id = topic_id
        self.begin = 0
        self.leader_epoch = 0
        self.skew_ms = 0
        self.times_ms: list[int] = []
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.leader_epochs: list[int] = []
        self.cuts: list[int] = []  # the end that each cut left
        self.trimmed: list[LogRecord] = []

    @property
    def end(self) -> int:
        """Where the next record lands."""
        return self.begin + len(self.values)

    def land(self, key: bytes | None, value: bytes | None, now_ms: int) -> int:
        """Append a record as the leader of the moment does; return its offset."""
        self.times_ms.append(now_ms + self.skew_ms)
        self.keys.append(key)
        self.values.append(value)
        self.leader_epochs.append(self.leader_epoch)
        return self.end - 1

    def take(self, offset: int, count: int) -> Batch:
        """Return up to `count` records from `offset` on, and no more bytes than a batch holds."""
        start = offset - self.begin
        stop, size = start, 0
        limit = min(start + count, len(self.values))
        while stop < limit and (stop == start or size < BATCH_BYTES_MAX):
            size += len(self.values[stop] or b"")
            stop += 1
        return Batch(
            list(range(offset, self.begin + stop)),
            self.times_ms[start:stop],
            self.keys[start:stop],
            self.values[start:stop],
            self.leader_epochs[stop - 1] if stop > start else -1,
        )

    def record(self, offset: int) -> LogRecord:
        """Return one record."""
        at = offset - self.begin
        key, value = self.keys[at], self.values[at]
        return LogRecord(offset, self.times_ms[at], key, value, self.leader_epochs[at])

    def trim(self, begin: int) -> None:
        """Forget what lies below `begin`."""
        count = min(max(begin - self.begin, 0), len(self.values))
        self.trimmed += [self.record(offset) for offset in range(self.begin, self.begin + count)]
        for column in (self.times_ms, self.keys, self.values, self.leader_epochs):
            del column[:count]
        self.begin += count

    def cut(self, count: int) -> None:
        """Lose the last records: what grows there next has the same offsets."""
        keep = max(len(self.values) - count, 0)
        for column in (self.times_ms, self.keys, self.values, self.leader_epochs):
            del column[keep:]
        self.leader_epoch += 1
        self.cuts.append(self.end)


class Session:
    """What a producer session has in flight to one log, in order."""

    def __init__(self, log: SimulatedLog, reports: "Reports | None") -> None:
        self.log = log
        self.reports = reports  # None = its process is dead: nobody is told
        self.queue: deque[tuple[bytes | None, bytes, int]] = deque()
        self.broken: set[int] = set()  # tickets of which a record was lost alone
        self.over = False  # an error was met: the next append opens another session
        self.silent_until_ms: int | None = None  # lost, and nobody knows


class Reports:
    """Reports on their way to their process."""

    def __init__(self) -> None:
        self.under_way: deque[Report] = deque()
        self.there: list[Report] = []

    def arrive(self) -> None:
        """Let what is under way be there."""
        self.there.extend(self.under_way)
        self.under_way.clear()

    def drain(self) -> list[Report]:
        """Return what is there, once."""
        drained, self.there = self.there, []
        return drained


class SimulatedBroker:
    """The broker of a simulated cluster: it has the logs, and everything that is in flight."""

    def __init__(
        self, random: Random, clock: Clock, partitions: int, faults: Faults | None = None
    ) -> None:
        self.faults = faults or Faults()
        self.random = random
        self.clock = clock
        self.partitions = partitions
        self.counts: Counter[str] = Counter()
        self.command_logs = [SimulatedLog(self._topic_id("commands", p)) for p in range(partitions)]
        self.event_logs = [SimulatedLog(self._topic_id("events", p)) for p in range(partitions)]
        self._sessions: list[Session] = []
        self._publishing: list[Session] = []
        self._reporting: list[Reports] = []
        self._replies: deque[tuple[int, Reply]] = deque(maxlen=REQUESTS_WAITING_MAX)

    def _topic_id(self, name: str, partition: int) -> str:
        return f"{name}-{partition}-{self.random.bytes(6).hex()}"

    def calm(self) -> None:
        """End all faults: from here on everything lands, and everybody is told."""
        self.faults = replace(Faults(), silence_ms=self.faults.silence_ms)

    def step(self) -> None:
        """Let the world outside the processes move a little."""
        self._sessions = [session for session in self._sessions if self._land_events(session)]
        self._publishing = [session for session in self._publishing if self._land_commands(session)]
        for reports in self._reporting:
            if reports.under_way and not self.chance(self.faults.late_report):
                reports.arrive()
        if self.faults.elect and self.fault("elect", self.faults.elect):
            self.elect(self.random.below(self.partitions))
        if self.faults.cut and self.fault("cut", self.faults.cut):
            count = 1 + self.random.below(self.faults.cut_records_max)
            self.cut(self.random.below(self.partitions), count)

    @property
    def in_flight(self) -> int:
        """How many event records may still land."""
        return sum(len(session.queue) for session in self._sessions)

    def events(self, partition: int) -> list[LogRecord]:
        """Return the whole event log, for an auditor: what was trimmed too."""
        return [*self.event_logs[partition].trimmed, *_records(self.event_logs[partition])]

    def commands(self, partition: int) -> list[LogRecord]:
        """Return the whole command log, for an auditor."""
        return _records(self.command_logs[partition])

    def take_replies(self) -> list[tuple[int, Reply]]:
        """Return (partition of the command, reply) for those that arrived since the last call."""
        replies = list(self._replies)
        self._replies.clear()
        return replies

    def publish(self, partition: int, workspace: bytes, value: bytes) -> int:
        """Put a command into its log at once, as a client does that is no node."""
        return self.command_logs[partition].land(workspace, value, self.clock.now_ms())

    def elect(self, partition: int) -> None:
        """Give a partition's events a new leader."""
        log = self.event_logs[partition]
        log.leader_epoch += 1
        log.skew_ms = self.random.below(2 * self.faults.skew_ms + 1) - self.faults.skew_ms

    def cut(self, partition: int, count: int) -> None:
        """Lose the last events of a partition; readers that had read them are told by E1203."""
        self.event_logs[partition].cut(count)

    def trim(self, partition: int, begin: int) -> None:
        """Delete the events below `begin`."""
        self.event_logs[partition].trim(begin)

    def expire(self, partition: int, begin: int) -> None:
        """Delete the commands below `begin`, as retention does."""
        self.command_logs[partition].trim(begin)

    def chance(self, permille: int) -> bool:
        """Say whether something happens that happens `permille` times in 1,000."""
        return permille > 0 and self.random.below(_PERMILLE) < permille

    def fault(self, name: str, permille: int) -> bool:
        """Say whether a fault happens, and take it from the budget."""
        if self.faults.budget <= 0 or not self.chance(permille):
            return False
        self.faults.budget -= 1
        self.counts[name] += 1
        return True

    def listen(self, reports: Reports) -> None:
        """Deliver reports from here on."""
        self._reporting.append(reports)

    def open_session(self, log: SimulatedLog, reports: Reports) -> Session:
        """Start a producer session."""
        session = Session(log, reports)
        self._sessions.append(session)
        return session

    def open_publisher(self, log: SimulatedLog, reports: Reports) -> Session:
        """Start what a gateway publishes through."""
        session = Session(log, reports)
        self._publishing.append(session)
        return session

    def abandon(self, listeners: "list[Reports]") -> None:
        """Cut off a dead process: what it has in flight may still land, nobody is told."""
        self._reporting = [one for one in self._reporting if one not in listeners]
        for session in self._sessions + self._publishing:
            if session.reports in listeners:
                session.reports = None

    def reply(self, partition: int, reply: Reply) -> bool:
        """Carry a reply to its client, perhaps."""
        if self.chance(self.faults.lose_reply):
            return False
        self._replies.append((partition, reply))
        return True

    def _land_events(self, session: Session) -> bool:
        """Move one session; return False when nothing can come of it any more."""
        faults, queue = self.faults, session.queue
        if session.silent_until_ms is not None:
            return self._break_silence(session)
        if queue and not self.chance(faults.stay):
            if self.fault("lose", faults.lose):
                self._lose(session)
                return not session.over
            count = len(queue)
            if self.chance(faults.part):
                count = self.random.below(count + 1)
            now_ms = self.clock.now_ms()
            for _ in range(count):
                self._land_one(session, now_ms)
        return bool(queue) or (session.reports is not None and not session.over)

    def _land_one(self, session: Session, now_ms: int) -> None:
        key, value, ticket = session.queue.popleft()
        if self.faults.hole and self.fault("hole", self.faults.hole):
            # Its ticket can't be reported as landed; what the session has in flight still lands.
            session.broken.add(abs(ticket))
            session.over = True
            if ticket > 0:
                self._report(session, Report(ticket, None, "simulated: a record was lost"))
            return
        offset = session.log.land(key, value, now_ms)
        if self.faults.double and self.fault("double", self.faults.double):
            session.log.land(key, value, now_ms)
        if ticket <= 0:
            return
        if ticket in session.broken:
            self._report(session, Report(ticket, None, "simulated: a record was lost"))
        elif not self.fault("drop_report", self.faults.drop_report):
            self._report(session, Report(ticket, offset))

    def _lose(self, session: Session) -> None:
        """Lose the rest of a session; tell it now, or only after a long silence."""
        if session.reports is not None and self.chance(self.faults.silent):
            self.counts["silent"] += 1
            session.silent_until_ms = self.clock.monotonic_ms() + self.faults.silence_ms
            return
        self._fail(session)

    def _break_silence(self, session: Session) -> bool:
        assert session.silent_until_ms is not None
        if self.clock.monotonic_ms() < session.silent_until_ms:
            return session.reports is not None
        self._fail(session)
        return False

    def _fail(self, session: Session) -> None:
        session.over = True
        for _, _, ticket in session.queue:
            if ticket > 0:
                self._report(session, Report(ticket, None, "simulated: the session was lost"))
        session.queue.clear()

    def _report(self, session: Session, report: Report) -> None:
        if session.reports is not None:
            session.reports.under_way.append(report)

    def _land_commands(self, session: Session) -> bool:
        faults, queue = self.faults, session.queue
        if queue and not self.chance(faults.stay):
            now_ms = self.clock.now_ms()
            for _ in range(len(queue)):
                key, value, ticket = queue.popleft()
                if ticket and self.fault("lose_command", faults.lose_command):
                    self._report(session, Report(ticket, None, "simulated: the command was lost"))
                    continue
                offset = session.log.land(key, value, now_ms)
                if self.fault("double_command", faults.double_command):
                    queue.append((key, value, 0))
                if ticket:
                    self._report(session, Report(ticket, offset))
        return bool(queue) or session.reports is not None


def _records(log: SimulatedLog) -> list[LogRecord]:
    return [log.record(offset) for offset in range(log.begin, log.end)]
