"""The two producers of a process: `log` for events, `aside` for all that may get lost.

Owns R1's sessions: what one instance was given lands in order or not at all; after a fatal error
nothing that it holds is sent, every append it was given reports an error, and each appender
learns that its session is over before it may use the next instance.
"""

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from engine.errors import UnavailableError
from engine.log.kafka.connection import Connection, reason
from engine.model import Report

UNKNOWN = "not known: "

_log = logging.getLogger("partita.kafka")


class _Instance:
    """One life of a producer client, until a fatal error."""

    def __init__(
        self, make: Callable[[Callable[[KafkaError], None]], Producer], number: int
    ) -> None:
        self.number = number
        self.over = ""  # why it may not be used any more
        self.errors = 0
        self.client = make(self._on_error)

    def _on_error(self, error: KafkaError) -> None:
        self.errors += 1
        if error.fatal():
            self.over = error.str()

    def poll(self, timeout_s: float) -> int:
        """Run delivery reports; a fatal error ends this life."""
        try:
            return self.client.poll(timeout_s)
        except KafkaException as fault:
            self.over = self.over or reason(fault)
            return 0

    def bury(self, worker: Executor) -> None:
        """Drop what is queued or in flight, so that nothing of it is sent later."""
        self.over = self.over or "closed"
        self.client.purge(in_queue=True, in_flight=True, blocking=False)
        self.poll(0)  # whoever waits for a purged record is told
        # Its end joins librdkafka's threads, which may take a moment.
        worker.submit(_end, self.client)


def _end(client: Producer) -> None:
    try:
        client.close()
    except (KafkaException, RuntimeError) as fault:
        _log.info("a producer ended badly: %s", reason(fault))


class LogProducer:
    """The producer of the event log. Used by the shell thread alone."""

    def __init__(self, connection: Connection, worker: Executor) -> None:
        self._connection = connection
        self._worker = worker
        self.instance = _Instance(connection.log_producer, 1)
        self.waiting = 0  # appends without a report yet
        self._lock = threading.Lock()
        # Weak: a replica that was closed needs to be told nothing.
        self._appenders: weakref.WeakSet[Appender] = weakref.WeakSet()
        self._errors = 0

    def appender(self, topic: str, partition: int) -> "Appender":
        """Return a new appender to a partition."""
        appender = Appender(self, topic, partition)
        with self._lock:
            self._appenders.add(appender)
        return appender

    def poll(self, timeout_s: float) -> bool:
        """Run delivery reports; after a fatal error go on with a new instance."""
        before = self.waiting
        self.instance.poll(timeout_s)
        if self.instance.over:
            self._replace()
        return self.waiting != before

    def _replace(self) -> None:
        old = self.instance
        self._errors += old.errors
        with self._lock:
            appenders = list(self._appenders)
        for appender in appenders:
            appender.end(old.number, old.over)
        old.bury(self._worker)
        self.instance = _Instance(self._connection.log_producer, old.number + 1)

    def statistics(self) -> dict[str, int]:
        """Return counters."""
        return {
            "appends_waiting": self.waiting,
            "producer_instances": self.instance.number,
            "producer_errors": self._errors + self.instance.errors,
        }

    def close(self) -> None:
        """Send nothing more and let go of the broker."""
        self.instance.bury(self._worker)


class Appender:
    """One partition's appends, their tickets and reports."""

    def __init__(self, producer: LogProducer, topic: str, partition: int) -> None:
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._session = 0  # the number of the instance it appends to, 0 = any
        self._ticket = 0
        self._waiting: deque[int] = deque()  # tickets in order
        self._reports: deque[Report] = deque()
        self._failed = ""  # the session is over; nothing is sent until that was reported

    def append(self, keys: Sequence[bytes], values: Sequence[bytes]) -> int:
        """Queue records in order, asking for a report of the last one only."""
        assert len(keys) == len(values) > 0
        self._ticket += 1
        ticket = self._ticket
        self._waiting.append(ticket)
        self._producer.waiting += 1
        instance = self._producer.instance
        number = instance.number
        if self._session == 0:
            self._session = number
        if number != self._session and not self._failed:
            self._failed = "its producer session ended"
        if self._failed:
            self._fail_all()
            return ticket

        def delivered(error: KafkaError | None, message: Message) -> None:
            self._delivered(number, ticket, error, message)

        last = len(values) - 1
        topic, partition, produce = self._topic, self._partition, instance.client.produce
        try:
            for at in range(last):
                produce(topic, values[at], keys[at] or None, partition)
            produce(topic, values[last], keys[last] or None, partition, delivered)
        except (KafkaException, BufferError) as fault:
            # What went in before it may land; whoever appended must not build on it.
            self._failed = reason(fault)
            self._fail_all()
        return ticket

    def reports(self) -> list[Report]:
        """Return what became of appends; after an error the next append begins a new session."""
        if self._failed and not self._waiting:
            self._failed = ""
            self._session = 0
        reports = list(self._reports)
        self._reports.clear()
        return reports

    def end(self, number: int, why: str) -> None:
        """Hear that an instance is over: what it was given is not known to have landed."""
        if self._session == number and self._waiting:
            self._failed = why
            self._fail_all()

    def _fail_all(self) -> None:
        """Report every append that is still out as unknown, in order."""
        while self._waiting:
            self._tell(Report(self._waiting.popleft(), None, UNKNOWN + self._failed))

    def _tell(self, report: Report) -> None:
        self._producer.waiting -= 1
        self._reports.append(report)

    def _delivered(
        self, number: int, ticket: int, error: KafkaError | None, message: Message
    ) -> None:
        if number != self._session or not self._waiting or ticket != self._waiting[0]:
            return  # reported already, when its session ended
        offset = message.offset()
        if error is not None or offset is None or offset < 0:
            self._failed = error.str() if error is not None else "landed at an unknown offset"
            self._fail_all()
            return
        self._waiting.popleft()
        self._tell(Report(ticket, offset))


class AsideProducer:
    """The producer of replies, heartbeats and published commands. Usable from any thread."""

    def __init__(self, connection: Connection, worker: Executor) -> None:
        self._connection = connection
        self._worker = worker
        self._lock = threading.Lock()
        self._instance = _Instance(connection.aside_producer, 1)
        self._errors = 0
        self.failed = 0  # records that were not delivered
        self.delivered = 0

    def send(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        on_delivery: Callable[[int | None, str], None] | None = None,
    ) -> None:
        """Queue a record; `on_delivery` gets its offset, or None and why. Full: E1403."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                self.delivered += 1
            else:
                self.failed += 1
            if on_delivery is not None:
                offset = message.offset() if error is None else None
                on_delivery(offset, "" if error is None else error.str())

        try:
            self._instance.client.produce(topic, value, key, partition, delivered)
        except BufferError as fault:
            raise UnavailableError(
                "E1403", "the queue to the broker is full", "Try again a little later"
            ) from fault
        except KafkaException as fault:
            if fault.args[0].fatal():
                self._instance.over = reason(fault)
            raise UnavailableError("E1401", f"not sent: {reason(fault)}") from fault

    def poll(self, timeout_s: float = 0.0) -> int:
        """Run delivery reports; after a fatal error go on with a new instance."""
        instance = self._instance
        served = instance.poll(timeout_s)
        if instance.over:
            with self._lock:
                if instance is self._instance:
                    self._errors += instance.errors
                    number = instance.number + 1
                    self._instance = _Instance(self._connection.aside_producer, number)
                    instance.bury(self._worker)
        return served

    @property
    def waiting(self) -> int:
        """Return how many records wait for their reports."""
        return len(self._instance.client)

    def statistics(self) -> dict[str, int]:
        """Return counters."""
        return {
            "aside_waiting": self.waiting,
            "aside_delivered": self.delivered,
            "aside_failed": self.failed,
            "aside_errors": self._errors + self._instance.errors,
        }

    def close(self, timeout_s: float) -> None:
        """Give the last replies and heartbeats a bounded chance, then let go of the broker."""
        try:
            self._instance.client.flush(timeout_s)
        except KafkaException:
            self.failed += 1
        self._instance.bury(self._worker)
