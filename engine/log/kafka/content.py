"""Extension code and schemas on <app>.content, a compacted topic: an ObjectStore.

A blob is cut into parts: key `name/number`; value = how many parts there are, the whole blob's
hash, and the part's bytes. Owns an index of offsets; the bytes are read when asked for. May block.
"""

import struct
import threading
from concurrent.futures import Future

from confluent_kafka import KafkaException, Message, TopicPartition

from engine import wire
from engine.errors import UnavailableError
from engine.limits import CONTENT_PART_BYTES_MAX, NAME_LENGTH_MAX, RECORD_BYTES_MAX
from engine.log.kafka.connection import REQUEST_TIMEOUT_S, unavailable
from engine.log.kafka.logs import KafkaLogs
from engine.log.objects import check_name
from engine.world import SystemClock

HEADER = struct.Struct(">iq")  # parts, hash
PART_BYTES_MAX = CONTENT_PART_BYTES_MAX - HEADER.size
READ_TIMEOUT_MS = 60_000
PUT_TIMEOUT_MS = 60_000
PUT_POLL_S = 0.05
POLL_S = 0.1
CONSUME_MAX = 100
END = "_PARTITION_EOF"

assert CONTENT_PART_BYTES_MAX + NAME_LENGTH_MAX < RECORD_BYTES_MAX


class KafkaObjects:
    """Named immutable blobs of one application. Usable from any thread, one at a time."""

    def __init__(self, logs: KafkaLogs) -> None:
        self._topic = logs.connection.topic("content")
        self._topics = logs.topics
        self._aside = logs.aside
        self._consumer = logs.connection.reader("content", committed=False, ends=True)
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._next = 0  # everything below is in the index
        # name -> number of the part -> (offset, parts, hash)
        self._index: dict[str, dict[int, tuple[int, int, int]]] = {}
        logs.also_close(self._close)

    def put(self, name: str, data: bytes) -> None:
        """Store a blob and wait until the log has all of it."""
        check_name(name)
        with self._lock:
            self._catch_up()
            cuts = range(0, max(len(data), 1), PART_BYTES_MAX)
            header = (len(cuts), wire.hash64(data))
            if self._whole(name) == header:
                return
            for number, at in enumerate(cuts):
                value = HEADER.pack(*header) + data[at : at + PART_BYTES_MAX]
                self._send(f"{name}/{number}", value)

    def get(self, name: str) -> bytes | None:
        """Return a blob as the log has it now, or None."""
        check_name(name)
        with self._lock:
            self._catch_up()
            header = self._whole(name)
            if header is None:
                return None
            parts = self._index[name]
            values = [self._read(parts[number][0]) for number in range(header[0])]
            return b"".join(value[HEADER.size :] for value in values)

    def names(self, prefix: str = "") -> list[str]:
        """Return the names of all whole blobs."""
        with self._lock:
            self._catch_up()
            return sorted(
                name for name in self._index if name.startswith(prefix) and self._whole(name)
            )

    def delete(self, name: str) -> None:
        """Mark every part of a blob as deleted."""
        check_name(name)
        with self._lock:
            self._catch_up()
            for number in self._index.get(name, {}):
                self._send(f"{name}/{number}", None)

    def _whole(self, name: str) -> tuple[int, int] | None:
        """Return parts and hash of a blob of which every part is there, of one and the same put."""
        parts = self._index.get(name, {})
        if 0 not in parts:
            return None
        header = parts[0][1:]
        same = all(parts.get(number, (0, 0, 0))[1:] == header for number in range(header[0]))
        return header if same else None

    def _close(self) -> None:
        with self._lock:
            self._consumer.close()

    def _send(self, key: str, value: bytes | None) -> None:
        done: Future[str] = Future()
        self._aside.send(
            self._topic, 0, key.encode(), value, lambda _, error: done.set_result(error)
        )
        deadline_ms = self._clock.monotonic_ms() + PUT_TIMEOUT_MS
        while not done.done():
            self._aside.poll(PUT_POLL_S)
            if self._clock.monotonic_ms() > deadline_ms:
                raise UnavailableError("E1401", f"{key} of {self._topic} was not stored in time")
        if done.result():
            raise UnavailableError("E1401", f"{key} of {self._topic}: {done.result()}")

    def _catch_up(self) -> None:
        """Index what was written since the last time."""
        bounds = self._topics.bounds("content", 0)
        if bounds.end <= self._next:
            return
        begin = max(self._next, bounds.begin)
        self._consumer.assign([TopicPartition(self._topic, 0, begin)])
        try:
            deadline_ms = self._clock.monotonic_ms() + READ_TIMEOUT_MS
            # Compaction leaves holes, also at the end: only the reader's word counts.
            while self._next < bounds.end:
                for message in self._consumer.consume(CONSUME_MAX, POLL_S):
                    self._enter(message)
                if self._clock.monotonic_ms() > deadline_ms:
                    raise UnavailableError("E1401", f"{self._topic} can't be read to its end")
        except KafkaException as fault:
            raise unavailable(fault, f"{self._topic} can't be read") from fault
        finally:
            self._consumer.unassign()

    def _enter(self, message: Message) -> None:
        offset = message.offset() or 0
        fault = message.error()
        if fault is not None:
            if fault.name() != END:
                raise UnavailableError("E1401", f"{self._topic}: {fault.str()}")
            self._next = max(self._next, offset)
            return
        self._next = offset + 1
        name, _, number = (message.key() or b"").decode(errors="replace").rpartition("/")
        value = message.value()
        if not number.isdecimal():
            return  # not of ours
        parts = self._index.setdefault(name, {})
        if value is None:
            parts.pop(int(number), None)
        elif len(value) >= HEADER.size:
            parts[int(number)] = (offset, *HEADER.unpack_from(value))
        if not parts:
            del self._index[name]

    def _read(self, offset: int) -> bytes:
        self._consumer.assign([TopicPartition(self._topic, 0, offset)])
        try:
            deadline_ms = self._clock.monotonic_ms() + int(REQUEST_TIMEOUT_S * 1_000)
            while self._clock.monotonic_ms() < deadline_ms:
                message = self._consumer.poll(POLL_S)
                if message is not None and message.error() is None:
                    return message.value() or b""
            raise UnavailableError("E1401", f"{self._topic} can't be read", offset=offset)
        finally:
            self._consumer.unassign()
