"""Random reads of the event log: a consumer and a thread of their own, so that nobody waits.

Owns a bounded cache of records and the bounded list of what was asked for.
"""

import threading
from collections import OrderedDict

from confluent_kafka import KafkaException, TopicPartition

from engine.errors import EngineError
from engine.limits import LOOKUPS_WAITING_MAX
from engine.log.kafka.connection import Connection
from engine.log.kafka.topics import Topics
from engine.model import LogRecord, Lookup
from engine.world import SystemClock

CACHE_RECORDS_MAX = 4_096
CACHE_BYTES_MAX = 32 * 1024 * 1024
NEIGHBOURS_MAX = 64
READ_TIMEOUT_MS = 5_000
POLL_S = 0.05
RETRY_WAIT_S = 0.5

Place = tuple[int, int]  # partition, offset


class Lookups:
    """Looks records up. `get` is for any thread and never blocks."""

    def __init__(self, connection: Connection, topics: Topics) -> None:
        self._topic = connection.topic("events")
        self._topics = topics
        self._consumer = connection.reader("lookup", committed=False, random=True)
        self._clock = SystemClock()
        self._changed = threading.Condition()
        self._wanted: OrderedDict[Place, None] = OrderedDict()
        self._cache: OrderedDict[Place, LogRecord] = OrderedDict()
        self._cache_bytes = 0
        self._gone: set[Place] = set()  # told once, then asked again: the log may have grown
        self._closed = False
        self._read = 0
        self._hits = 0
        self._thread = threading.Thread(target=self._run, name="partita-lookup", daemon=True)
        self._thread.start()

    def get(self, partition: int, offset: int) -> LogRecord | Lookup:
        """Return a record, GONE, or PENDING: ask again."""
        place = (partition, offset)
        with self._changed:
            record = self._cache.get(place)
            if record is not None:
                self._cache.move_to_end(place)
                self._hits += 1
                return record
            if place in self._gone:
                self._gone.discard(place)
                return Lookup.GONE
            if place not in self._wanted and len(self._wanted) < LOOKUPS_WAITING_MAX:
                self._wanted[place] = None
                self._changed.notify_all()
        return Lookup.PENDING

    def statistics(self) -> dict[str, int]:
        """Return counters."""
        return {
            "lookups_waiting": len(self._wanted),
            "lookups_read": self._read,
            "lookups_cached": self._hits,
        }

    def close(self) -> None:
        """End the thread; bounded by one read."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._wanted and not self._closed:
                    self._changed.wait()
                if self._closed:
                    break
                place = next(iter(self._wanted))
            try:
                self._answer(place)
            except (EngineError, KafkaException):
                # The broker is away: it stays wanted, and PENDING is true meanwhile.
                with self._changed:
                    self._changed.wait(RETRY_WAIT_S)
        self._consumer.close()

    def _answer(self, place: Place) -> None:
        partition, offset = place
        found: LogRecord | None = None
        bounds = self._topics.bounds("events", partition)
        if bounds.begin <= offset < bounds.end:
            found = self._fetch(partition, offset)
            if self._closed or (found is None):
                return
        with self._changed:
            self._wanted.pop(place, None)
            if found is None or found.offset != offset:
                if len(self._gone) >= LOOKUPS_WAITING_MAX:
                    self._gone.clear()
                self._gone.add(place)

    def _fetch(self, partition: int, offset: int) -> LogRecord | None:
        """Read from `offset` on and keep what comes with it; None = ask again."""
        self._consumer.assign([TopicPartition(self._topic, partition, offset)])
        try:
            deadline_ms = self._clock.monotonic_ms() + READ_TIMEOUT_MS
            while self._clock.monotonic_ms() < deadline_ms and not self._closed:
                message = self._consumer.poll(POLL_S)
                if message is None:
                    continue
                if message.error() is not None:
                    return None
                near = [message, *self._consumer.consume(NEIGHBOURS_MAX, 0)]
                records = [
                    LogRecord(
                        each.offset() or 0,
                        each.timestamp()[1],
                        each.key(),
                        each.value(),
                        _epoch(each.leader_epoch()),
                    )
                    for each in near
                    if each.error() is None
                ]
                self._keep(partition, records)
                return records[0]
            return None
        finally:
            self._consumer.unassign()

    def _keep(self, partition: int, records: list[LogRecord]) -> None:
        with self._changed:
            self._read += 1
            for record in records:
                place = (partition, record.offset)
                self._wanted.pop(place, None)
                if place not in self._cache:
                    self._cache[place] = record
                    self._cache_bytes += len(record.value or b"")
            while len(self._cache) > CACHE_RECORDS_MAX or self._cache_bytes > CACHE_BYTES_MAX:
                _, dropped = self._cache.popitem(last=False)
                self._cache_bytes -= len(dropped.value or b"")


def _epoch(leader_epoch: int | None) -> int:
    return -1 if leader_epoch is None else leader_epoch
