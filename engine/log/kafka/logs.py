"""The logs of one application on Kafka: what ports.Logs promises.

One shell thread calls `take`, `append`, `reports` and `wait`; `seek`, `rest`, `bounds`, `lookup`,
`publish`, `send`, `wake` and `statistics` may come from any thread. Owns how the shell waits for
two readers and a producer at once; the parts are in the modules beside it.
"""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from engine import wire
from engine.errors import UnavailableError
from engine.limits import REQUESTS_WAITING_MAX
from engine.log.kafka.connection import Connection
from engine.log.kafka.lookup import Lookups
from engine.log.kafka.producer import Appender, AsideProducer, LogProducer
from engine.log.kafka.reader import TopicReader
from engine.log.kafka.topics import Topics
from engine.model import Batch, Bounds, LogRecord, Lookup, Reply, Report
from engine.ports import Statistics
from engine.settings import LogSettings
from engine.world import SystemClock

# The shell looks at each source in turn; it sleeps in the one that most likely speaks next.
APPEND_SLICE_MS = 1
READ_SLICE_MS = 5
CLOSE_FLUSH_S = 2.0


class KafkaLogs:
    """One connection to the logs of one application. Raises E1401 while no broker answers.

    `make` missing topics, as a node does; somebody who only reads says E1301 instead.
    """

    def __init__(
        self,
        settings: LogSettings,
        application: str,
        partitions: int,
        process: str = "client",
        *,
        make: bool = True,
    ) -> None:
        self.connection = Connection(settings, application, process)
        self.topics = Topics(self.connection, partitions)
        self.topics.ensure(make=make)
        self._closers: list[Callable[[], None]] = []
        self.partitions = partitions
        self._clock = SystemClock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="partita-kafka")
        self._readers = {
            kind: TopicReader(self.connection, kind, partitions, self.topics, self._worker)
            for kind in ("commands", "events")
        }
        self._history: TopicReader | None = None  # made when a view is built, which is seldom
        self.producer = LogProducer(self.connection, self._worker)
        self.aside = AsideProducer(self.connection, self._worker)
        self.lookups = Lookups(self.connection, self.topics)
        self.commands = KafkaCommands(self)
        self.replies = KafkaReplies(self)
        self._woken = threading.Event()
        self._closed = False

    def command_log(self, partition: int) -> "KafkaCommandLog":
        """Return a reader of a partition's commands."""
        return KafkaCommandLog(self, self._readers["commands"], partition)

    def event_log(self, partition: int) -> "KafkaEventLog":
        """Return a reader of a partition's events, and a writer with sessions of its own."""
        return KafkaEventLog(self, self._readers["events"], partition)

    def history(self, partition: int) -> "KafkaHistory":
        """Return a second reader of a partition's events, on a consumer of its own."""
        return KafkaHistory(self, partition)

    def history_reader(self) -> TopicReader:
        """Return the reader that all builds of views share."""
        if self._history is None:
            self._history = TopicReader(
                self.connection, "events", self.partitions, self.topics, self._worker
            )
        return self._history

    def wait(self, timeout_ms: int) -> None:
        """Wait until something arrived that no `wait` has told of yet."""
        commands, events = self._readers["commands"], self._readers["events"]
        deadline_ms = self._clock.monotonic_ms() + timeout_ms
        while not self._closed:
            reported = self.producer.poll(0)
            self.aside.poll()
            events.pump(0)
            commands.pump(0)
            if reported or events.fresh or commands.fresh or self._woken.is_set():
                break
            left_ms = deadline_ms - self._clock.monotonic_ms()
            if left_ms <= 0 or self._sleep(min(left_ms, READ_SLICE_MS) / 1_000):
                break
        commands.fresh = events.fresh = False
        self._woken.clear()

    def _sleep(self, longest_s: float) -> bool:
        """Sleep in the source that most likely speaks next; return True if it spoke."""
        if self.producer.waiting:
            return self.producer.poll(APPEND_SLICE_MS / 1_000)
        if self.aside.waiting:
            return self.aside.poll(APPEND_SLICE_MS / 1_000) > 0
        for kind in ("commands", "events"):
            if self._readers[kind].active:
                return self._readers[kind].pump(longest_s)
        return self._woken.wait(longest_s)

    def wake(self) -> None:
        """End a `wait`, this one or the next, within a slice."""
        self._woken.set()

    def also_close(self, closer: Callable[[], None]) -> None:
        """Close something with these logs that has no close of its own in its port."""
        self._closers.append(closer)

    def statistics(self) -> Statistics:
        """Return counters of what the partitions share."""
        return {
            **self.producer.statistics(),
            **self.aside.statistics(),
            **self.lookups.statistics(),
            "read_errors": sum(reader.errors for reader in self._readers.values()),
            "replies_sent": self.replies.sent,
            "replies_dropped": self.replies.dropped,
        }

    def close(self) -> None:
        """Close everything, bounded; what is queued for the event log is not sent any more."""
        if self._closed:
            return
        self._closed = True
        for closer in self._closers:
            closer()
        self.lookups.close()
        self.producer.close()
        self.aside.close(CLOSE_FLUSH_S)
        for reader in self._readers.values():
            reader.close()
        if self._history is not None:
            self._history.close()
        self._worker.shutdown(wait=True)


class KafkaCommandLog:
    """The commands of one partition."""

    def __init__(self, logs: KafkaLogs, reader: TopicReader, partition: int) -> None:
        self._topics = logs.topics
        self._reader = reader
        self._partition = partition

    def bounds(self) -> Bounds:
        """Ask the broker what the partition holds."""
        bounds = self._topics.bounds("commands", self._partition)
        self._reader.end(self._partition, bounds.end)
        self._reader.meet(self._partition)
        return bounds

    def seek(self, offset: int) -> None:
        """Take from `offset` on."""
        self._reader.seek(self._partition, offset)

    def take(self, count: int) -> Batch:
        """Return commands that are there."""
        return self._reader.take(self._partition, count)

    def rest(self) -> None:
        """Stop reading."""
        self._reader.rest(self._partition)

    def statistics(self) -> Statistics:
        """Return counters."""
        return {
            **self._reader.statistics(self._partition),
            "retention_ms": self._topics.commands_retention_ms,
        }


class KafkaEventLog:
    """The events of one partition."""

    def __init__(self, logs: KafkaLogs, reader: TopicReader, partition: int) -> None:
        self._logs = logs
        self._reader = reader
        self._partition = partition
        self._appender: Appender = logs.producer.appender(
            logs.connection.topic("events"), partition
        )

    def bounds(self) -> Bounds:
        """Ask the broker what the partition holds."""
        return self._logs.topics.bounds("events", self._partition)

    def append(self, keys: Sequence[bytes], values: Sequence[bytes]) -> int:
        """Queue records in this partition's session."""
        return self._appender.append(keys, values)

    def reports(self) -> list[Report]:
        """Return what became of appends."""
        self._logs.producer.poll(0)
        return self._appender.reports()

    def seek(self, offset: int) -> None:
        """Read from `offset` on."""
        self._reader.seek(self._partition, offset)

    def take(self, count: int) -> Batch:
        """Return events that are there."""
        return self._reader.take(self._partition, count)

    def rest(self) -> None:
        """Stop reading."""
        self._reader.rest(self._partition)

    def lookup(self, offset: int) -> LogRecord | Lookup:
        """Return a record if it is at hand, else have it fetched."""
        return self._logs.lookups.get(self._partition, offset)

    def statistics(self) -> Statistics:
        """Return counters."""
        return self._reader.statistics(self._partition)


class KafkaHistory:
    """The events of one partition, read beside its own reader. Only the shell thread uses it."""

    def __init__(self, logs: KafkaLogs, partition: int) -> None:
        self._logs = logs
        self._partition = partition

    def seek(self, offset: int) -> None:
        """Read from `offset` on."""
        self._logs.history_reader().seek(self._partition, offset)

    def take(self, count: int) -> Batch:
        """Return events that are there."""
        return self._logs.history_reader().take(self._partition, count)

    def rest(self) -> None:
        """Stop reading."""
        self._logs.history_reader().rest(self._partition)


class KafkaCommands:
    """A gateway's publisher. Any thread publishes; the shell collects what became of it."""

    def __init__(self, logs: KafkaLogs) -> None:
        self._logs = logs
        self._topic = logs.connection.topic("commands")
        self._tickets = itertools.count(1)
        self._out: set[int] = set()
        self._reports: deque[Report] = deque()

    def publish(self, partition: int, workspace: bytes, value: bytes) -> int:
        """Queue a command for the broker; E1403 when too many wait."""
        if len(self._out) + len(self._reports) >= REQUESTS_WAITING_MAX:
            raise UnavailableError(
                "E1403", "too many commands are being published", "Try again a little later"
            )
        ticket = next(self._tickets)
        self._out.add(ticket)

        def delivered(offset: int | None, error: str) -> None:
            self._out.discard(ticket)
            self._reports.append(Report(ticket, offset, error))

        try:
            self._logs.aside.send(self._topic, partition, workspace or None, value, delivered)
        except UnavailableError:
            self._out.discard(ticket)
            raise
        return ticket

    def published(self) -> list[Report]:
        """Return what became of commands, in any order."""
        self._logs.aside.poll()
        return [self._reports.popleft() for _ in range(len(self._reports))]


class KafkaReplies:
    """Replies on <app>.replies: best effort."""

    def __init__(self, logs: KafkaLogs) -> None:
        self._logs = logs
        self._topic = logs.connection.topic("replies")
        self.sent = 0
        self.dropped = 0

    def waiting(self, partition: int, ids: Sequence[bytes]) -> Sequence[int]:
        """Return nobody: who waits at the replies topic says so in the command."""
        del partition, ids
        return ()

    def send(self, partition: int, reply: Reply) -> None:
        """Send a reply if somebody asked for it; what can't be sent is counted."""
        to = reply.reply_to
        if to is None:
            return
        if to.partition < 0:  # to librdkafka that means any
            self.dropped += 1
            return
        fields = {
            "correlation": to.correlation,
            "command_id": reply.command_id,
            "partition": partition,
            "sequence": reply.sequence,
            "workspace_sequence": reply.workspace_sequence,
            "code": reply.code,
            "message": reply.message,
            "field": reply.field,
            "result": reply.result,
            "duplicate": reply.duplicate,
        }
        try:
            value = wire.encode_reply(fields)
            self._logs.aside.send(self._topic, to.partition, reply.workspace.encode(), value)
        except UnavailableError:
            self.dropped += 1
        else:
            self.sent += 1
