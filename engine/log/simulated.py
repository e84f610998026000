"""Logs as one process of a simulated cluster sees them; the broker is `simulated_broker.py`.

Owns positions, tickets and what a reader has seen so far. No threads, no time: `wait` lets the
broker do one step, so that code which waits for a log goes on in a simulation too.
"""

from collections.abc import Callable, Sequence

from engine.errors import LogError, UnavailableError
from engine.limits import PUBLISHING_MAX
from engine.log.simulated_broker import Faults, Reports, Session, SimulatedBroker, SimulatedLog
from engine.model import Batch, Bounds, LogRecord, Lookup, Reply, Report
from engine.ports import Statistics

__all__ = ["Faults", "SimulatedBroker", "SimulatedCommandLog", "SimulatedEventLog", "SimulatedLogs"]


class SimulatedLogs:
    """The logs of one process. After `crash` (or `close`) what it has in flight may still land.

    `reached` is called where the process may die in the middle of what it does: before each record
    that it sends, and before it is told anything.
    """

    def __init__(self, broker: SimulatedBroker, reached: Callable[[], None] = lambda: None) -> None:
        self._broker = broker
        self._reached = reached
        self._listeners: list[Reports] = []
        self._closed = False
        self.commands = _Commands(self, broker)
        self.replies = _Replies(broker, reached)

    def command_log(self, partition: int) -> "SimulatedCommandLog":
        """Return a reader of a partition's commands."""
        assert not self._closed
        return SimulatedCommandLog(self._broker, self._broker.command_logs[partition], partition)

    def event_log(self, partition: int) -> "SimulatedEventLog":
        """Return a reader and writer of a partition's events, with a session of its own."""
        log = self._broker.event_logs[partition]
        return SimulatedEventLog(self._broker, log, partition, self.listener(), self._reached)

    def history(self, partition: int) -> "SimulatedEventLog":
        """Return a second reader of a partition's events."""
        return SimulatedEventLog(
            self._broker, self._broker.event_logs[partition], partition, Reports(), self._reached
        )

    def listener(self) -> Reports:
        """Return a new place for reports to arrive at, as long as this process lives."""
        assert not self._closed
        reports = Reports()
        self._listeners.append(reports)
        self._broker.listen(reports)
        return reports

    def wait(self, timeout_ms: int) -> None:
        """Let the world move one step; simulated time stands still."""
        assert timeout_ms >= 0
        self._broker.step()

    def wake(self) -> None:
        """Nobody sleeps here."""

    def crash(self) -> None:
        """End the process: nobody reads its reports any more."""
        self._closed = True
        self._broker.abandon(self._listeners)

    def statistics(self) -> Statistics:
        """Return counters, the broker's faults among them."""
        faults = {f"fault_{name}": count for name, count in self._broker.counts.items()}
        return {"replies": self.replies.sent, "replies_failed": self.replies.failed, **faults}

    def close(self) -> None:
        """Leave; to the broker it makes no difference how."""
        self.crash()


class _Reader:
    """A position in a log, and how much of the log this reader has been shown."""

    def __init__(self, broker: SimulatedBroker, log: SimulatedLog, partition: int) -> None:
        self._broker = broker
        self._log = log
        self._partition = partition
        self._position: int | None = None
        self._visible = log.begin
        self._cuts = len(log.cuts)
        self._taken = 0

    def bounds(self) -> Bounds:
        """Return what the log holds."""
        if self._broker.fault("unavailable", self._broker.faults.unavailable):
            raise UnavailableError(
                "E1401", "the simulated broker doesn't answer", partition=self._partition
            )
        return Bounds(self._log.begin, self._log.end, self._log.topic_id)

    def seek(self, offset: int) -> None:
        """Take from `offset` on."""
        self._position = offset
        self._cuts = len(self._log.cuts)

    def rest(self) -> None:
        """Stop reading."""
        self._position = None

    def _take(self, count: int, trimmed: str) -> Batch:
        log, position = self._log, self._position
        if position is None:
            return Batch()
        if position < log.begin:
            raise LogError(
                trimmed,
                f"{log.begin - position} records from offset {position} on are gone",
                partition=self._partition,
                offset=position,
            )
        if self._cuts < len(log.cuts):
            self._check_cut(position)
        if position >= log.end:
            return Batch()
        batch = log.take(position, min(count, self._show() - position))
        self._position = position + len(batch)
        self._taken += len(batch)
        return batch

    def _show(self) -> int:
        """Return the end that this reader is shown: perhaps not yet the newest."""
        visible, end = min(self._visible, self._log.end), self._log.end
        if visible < end:
            stale = self._broker.chance(self._broker.faults.stale_read)
            visible = visible + self._broker.random.below(end - visible) if stale else end
        self._visible = visible
        return visible

    def _check_cut(self, position: int) -> None:
        left = min(self._log.cuts[self._cuts :])
        if position > left:
            raise LogError(
                "E1203",
                f"the log lost records that were read: offset {position}, it ended at {left}",
                partition=self._partition,
                offset=position,
            )
        self._cuts = len(self._log.cuts)


class SimulatedCommandLog(_Reader):
    """The commands of one partition."""

    def take(self, count: int) -> Batch:
        """Return the next commands that this reader is shown."""
        return self._take(count, "E1305")

    def statistics(self) -> Statistics:
        """Return counters."""
        position = self._log.begin if self._position is None else self._position
        return {"taken": self._taken, "lag": max(self._log.end - position, 0)}


class SimulatedEventLog(_Reader):
    """The events of one partition, and what this process appends to them."""

    def __init__(
        self,
        broker: SimulatedBroker,
        log: SimulatedLog,
        partition: int,
        reports: Reports,
        reached: Callable[[], None],
    ) -> None:
        super().__init__(broker, log, partition)
        self._reports = reports
        self._reached = reached
        self._session: Session | None = None
        self._ticket = 0
        self._sessions = 0

    def append(self, keys: Sequence[bytes], values: Sequence[bytes]) -> int:
        """Put records into the session's queue."""
        assert len(keys) == len(values) > 0
        if self._session is None or self._session.over:
            self._session = self._broker.open_session(self._log, self._reports)
            self._sessions += 1
        self._ticket += 1
        last = len(values) - 1
        for at, (key, value) in enumerate(zip(keys, values, strict=True)):
            self._reached()
            ticket = self._ticket if at == last else -self._ticket
            self._session.queue.append((key or None, value, ticket))
        return self._ticket

    def reports(self) -> list[Report]:
        """Return the reports that have arrived."""
        self._reached()
        return self._reports.drain()

    def take(self, count: int) -> Batch:
        """Return the next events that this reader is shown."""
        self._reached()
        return self._take(count, "E1302")

    def lookup(self, offset: int) -> LogRecord | Lookup:
        """Return a record of the log, unless the broker takes its time."""
        if self._broker.chance(self._broker.faults.pending_lookup):
            return Lookup.PENDING
        if self._log.begin <= offset < self._log.end:
            return self._log.record(offset)
        return Lookup.GONE

    def statistics(self) -> Statistics:
        """Return counters."""
        return {"taken": self._taken, "tickets": self._ticket, "sessions": self._sessions}


class _Commands:
    """A gateway's publisher: one queue per partition."""

    def __init__(self, logs: SimulatedLogs, broker: SimulatedBroker) -> None:
        self._broker = broker
        self._reports = logs.listener()
        self._queues: dict[int, Session] = {}
        self._ticket = 0

    def publish(self, partition: int, workspace: bytes, value: bytes) -> int:
        """Put a command into the queue of its partition."""
        if sum(len(session.queue) for session in self._queues.values()) >= PUBLISHING_MAX:
            raise UnavailableError("E1403", "too many commands are being published")
        if partition not in self._queues:
            log = self._broker.command_logs[partition]
            self._queues[partition] = self._broker.open_publisher(log, self._reports)
        self._ticket += 1
        self._queues[partition].queue.append((workspace or None, value, self._ticket))
        return self._ticket

    def published(self) -> list[Report]:
        """Return what became of commands."""
        return self._reports.drain()


class _Replies:
    """Replies on their way to clients, some of which get lost."""

    def __init__(self, broker: SimulatedBroker, reached: Callable[[], None]) -> None:
        self._broker = broker
        self._reached = reached
        self.sent = 0
        self.failed = 0

    def waiting(self, partition: int, ids: Sequence[bytes]) -> Sequence[int]:
        """Return everybody: simulated clients wait for each of their commands."""
        del partition
        return range(len(ids))

    def send(self, partition: int, reply: Reply) -> None:
        """Send a reply to the simulated client."""
        self._reached()
        if self._broker.reply(partition, reply):
            self.sent += 1
        else:
            self.failed += 1
