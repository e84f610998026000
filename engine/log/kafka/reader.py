"""One consumer for one topic and all partitions read here, sorted into one lane per partition.

Owns positions and what was read ahead, bounded per lane: a full lane is paused at the broker. The
consumer is touched only by the thread that takes and waits; `seek` and `rest` come from any
thread and take effect with the next take or wait. `meet` may come from any thread.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any, cast

from confluent_kafka import KafkaException, Message, TopicPartition

from engine.errors import EngineError, LogError, UnavailableError
from engine.limits import BATCH_BYTES_MAX, BATCH_COMMANDS_MAX
from engine.log.kafka.connection import Connection
from engine.log.kafka.topics import Topics
from engine.model import Batch, Bounds

PUMP_RECORDS_MAX = 2_000
LANE_RECORDS_MAX = 4 * BATCH_COMMANDS_MAX
LANE_BYTES_MAX = 2 * BATCH_BYTES_MAX
MEET_S = 5.0
REFUSED = frozenset({"_AUTO_OFFSET_RESET", "_LOG_TRUNCATION"})

assert BATCH_COMMANDS_MAX < LANE_RECORDS_MAX


# Called for every record, so by C code alone: `map` over these methods.
_ERROR, _PARTITION, _TIMESTAMP = Message.error, Message.partition, Message.timestamp
_OFFSET = cast("Callable[[Message], int]", Message.offset)
_KEY = cast("Callable[[Message], bytes | None]", Message.key)
_VALUE = cast("Callable[[Message], bytes | None]", Message.value)


class _Lane:
    """What was read ahead of one partition."""

    __slots__ = (
        "asked",
        "assigned",
        "end",
        "error",
        "messages",
        "paused",
        "position",
        "refused",
        "size_bytes",
        "skipped",
        "sound",
        "taken",
        "trouble",
    )

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.size_bytes = 0
        self.position = 0  # the next offset to give
        self.end = 0  # the highest end heard of
        self.assigned = False
        self.paused = False
        self.asked: Future[Bounds] | None = None  # bounds, after the broker refused the position
        self.refused = 0  # the offset that the broker refused
        self.sound = True  # the client reads where it was told to
        self.error: LogError | None = None  # until the next seek
        self.trouble = ""  # what the broker said last, told once
        self.taken = 0
        self.skipped = 0  # offsets without a record: markers of clients' transactions

    def start(self, offset: int | None) -> None:
        """Forget what was read ahead; read from `offset` on, None = nothing."""
        self.messages.clear()
        self.size_bytes = 0
        self.position = offset or 0
        self.assigned = offset is not None
        self.paused = False
        self.sound = True
        self.asked = None
        self.error = None
        self.trouble = ""

    def stands_at(self, offset: int | None) -> bool:
        """Return whether the next record it gives is that one already."""
        there = self.assigned and self.sound and self.error is None
        return there and offset == self.position

    @property
    def full(self) -> bool:
        """Return whether no more may be read ahead."""
        return len(self.messages) >= LANE_RECORDS_MAX or self.size_bytes >= LANE_BYTES_MAX


class TopicReader:
    """Reads partitions of the `commands` or `events` topic from given offsets on."""

    def __init__(
        self, connection: Connection, kind: str, partitions: int, topics: Topics, worker: Executor
    ) -> None:
        self._kind = kind
        self._topic = connection.topic(kind)
        self._topics = topics
        self._worker = worker
        self._consumer = connection.reader(f"reader-{kind}", committed=kind == "commands")
        self._lanes = [_Lane() for _ in range(partitions)]
        self._changes: deque[tuple[int, int | None]] = deque()
        self._active = 0
        self._errors = 0
        self.fresh = False  # something arrived since the shell last waited

    def seek(self, partition: int, offset: int) -> None:
        """Read from `offset` on."""
        self._changes.append((partition, offset))

    def rest(self, partition: int) -> None:
        """Stop reading a partition."""
        self._changes.append((partition, None))

    def take(self, partition: int, count: int) -> Batch:
        """Return the next records that are there; raise what keeps more from coming."""
        lane = self._lanes[partition]
        if self._changes:
            self._apply()
        if not lane.assigned:
            return Batch()
        if len(lane.messages) < count:
            self.pump(0.0)
        if not lane.messages:
            self._raise_trouble(partition, lane)
            return Batch()
        batch = self._give(lane, count)
        if lane.paused and len(lane.messages) < LANE_RECORDS_MAX // 2 and not lane.full:
            self._consumer.resume([TopicPartition(self._topic, partition)])
            lane.paused = False
        self.fresh |= bool(lane.messages)
        return batch

    def pump(self, timeout_s: float) -> bool:
        """Sort what has arrived into the lanes, waiting for a first record at most this long."""
        if self._changes:
            self._apply()
        if not self._active:
            return False
        messages: list[Message] = []
        if timeout_s > 0:
            first = self._consumer.poll(timeout_s)
            if first is None:
                return False
            messages.append(first)
        messages += self._consumer.consume(PUMP_RECORDS_MAX, 0)
        if not messages:
            return False
        for partition, run in _by_partition(messages).items():
            self._sort_in(self._lanes[partition], run)
        self.fresh = True
        self._pause_full()
        return True

    def _sort_in(self, lane: _Lane, messages: list[Message]) -> None:
        """Add what has arrived of one partition to its lane; errors are no records."""
        if any(map(_ERROR, messages)):
            for message in messages:
                self._met(lane, message)
            messages = [message for message in messages if message.error() is None]
        if not lane.assigned or not messages:
            return
        following = (lane.messages[-1].offset() or 0) + 1 if lane.messages else lane.position
        if (messages[0].offset() or 0) < following:
            # The client has read a compressed batch from its begin.
            messages = [each for each in messages if (each.offset() or 0) >= following]
        lane.messages += messages
        lane.size_bytes += sum(map(len, messages))

    def end(self, partition: int, end: int) -> None:
        """Hear of the log's end from elsewhere."""
        lane = self._lanes[partition]
        lane.end = max(lane.end, end)

    def meet(self, partition: int) -> None:
        """Have the client find the partition's leader and connect to it; may block.

        A client that does so only when it is to read takes half a second to the first record.
        """
        with suppress(KafkaException):  # then the first read is slow, or says what is wrong
            self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), MEET_S)

    def lag(self, partition: int) -> int:
        """Return how many offsets are known to wait."""
        lane = self._lanes[partition]
        if not lane.assigned:
            return 0
        return max(self._heard(partition, lane) - lane.position, 0)

    def statistics(self, partition: int) -> dict[str, int]:
        """Return counters of one partition's reading."""
        lane = self._lanes[partition]
        return {
            "taken": lane.taken,
            "lag": self.lag(partition),
            "read_ahead": len(lane.messages),
            "skipped_offsets": lane.skipped,
        }

    @property
    def active(self) -> bool:
        """Return whether any partition is being read, or about to be."""
        return self._active > 0 or bool(self._changes)

    @property
    def errors(self) -> int:
        """Return how many errors the broker answered reads with."""
        return self._errors

    def close(self) -> None:
        """Let go of the broker."""
        for lane in self._lanes:
            lane.start(None)
        self._active = 0
        self._consumer.close()

    def _heard(self, partition: int, lane: _Lane) -> int:
        cached: Any = self._consumer.get_watermark_offsets(
            TopicPartition(self._topic, partition), cached=True
        )
        lane.end = max(lane.end, cached[1] if cached else 0)
        return lane.end

    def _apply(self) -> None:
        """Do what seek and rest asked for; only the last wish of each partition counts."""
        wishes: dict[int, int | None] = {}
        while self._changes:
            partition, offset = self._changes.popleft()
            wishes[partition] = offset
        # Whoever stands there already keeps what was read ahead: the first commands behind a claim
        # are fetched while it is on its way.
        wishes = {p: at for p, at in wishes.items() if not self._lanes[p].stands_at(at)}
        # A partition is always taken off first, also for a seek: the client then drops whatever
        # is still under way from the old place.
        off = [TopicPartition(self._topic, p) for p in wishes if self._lanes[p].assigned]
        if off:
            # Being paused outlives being taken off.
            paused = [place for place in off if self._lanes[place.partition].paused]
            if paused:
                self._consumer.resume(paused)
            self._consumer.incremental_unassign(off)
        on = [TopicPartition(self._topic, p, at) for p, at in wishes.items() if at is not None]
        if on:
            self._consumer.incremental_assign(on)
        for partition, offset in wishes.items():
            self._lanes[partition].start(offset)
        self._active = sum(lane.assigned for lane in self._lanes)

    def _give(self, lane: _Lane, count: int) -> Batch:
        """Return the lane's first records in columns; no line of ours runs for each of them."""
        messages = lane.messages[:count]
        del lane.messages[:count]
        lane.size_bytes -= sum(map(len, messages))
        last = messages[-1]
        end = (last.offset() or 0) + 1
        lane.skipped += end - lane.position - len(messages)
        lane.position = end
        lane.taken += len(messages)
        epoch = last.leader_epoch()
        return Batch(
            list(map(_OFFSET, messages)),
            [time_ms for _, time_ms in map(_TIMESTAMP, messages)],
            list(map(_KEY, messages)),
            list(map(_VALUE, messages)),
            -1 if epoch is None else epoch,
        )

    def _pause_full(self) -> None:
        full = [
            TopicPartition(self._topic, partition)
            for partition, lane in enumerate(self._lanes)
            if lane.full and not lane.paused and lane.assigned
        ]
        if full:
            self._consumer.pause(full)
            for place in full:
                self._lanes[place.partition].paused = True

    def _met(self, lane: _Lane, message: Message) -> None:
        fault = message.error()
        if fault is None or not lane.assigned:
            return
        self._errors += 1
        if fault.name() in REFUSED:
            partition = message.partition() or 0
            lane.refused = message.offset() or 0
            lane.sound = False
            # What the log holds decides what this means; asking must not block the shell.
            lane.asked = self._worker.submit(self._topics.bounds, self._kind, partition)
        else:
            lane.trouble = fault.str()

    def _raise_trouble(self, partition: int, lane: _Lane) -> None:
        """Raise what the broker said instead of giving records, if it did."""
        if lane.error is not None:
            raise lane.error
        if lane.asked is not None and lane.asked.done():
            asked, lane.asked = lane.asked, None
            try:
                bounds = asked.result()
            except EngineError:
                self._changes.append((partition, lane.position))  # ask the broker for it again
                raise
            if lane.refused != lane.position and bounds.begin <= lane.position <= bounds.end:
                self._changes.append((partition, lane.position))  # it was about an earlier seek
                return
            lane.error = self._not_there(partition, lane.position, bounds)
            raise lane.error
        if lane.trouble:
            text, lane.trouble = lane.trouble, ""
            raise UnavailableError("E1401", f"reading {self._topic}: {text}", partition=partition)

    def _not_there(self, partition: int, position: int, bounds: Bounds) -> LogError:
        if position >= bounds.begin:
            return LogError(
                "E1203",
                f"{self._topic} has lost records that were read: the next offset is {position}, "
                f"its end {bounds.end}",
                "Restore the log, or move the partition's folder away to rebuild it",
                partition=partition,
                offset=position,
            )
        code, hint = ("E1302", "Restore a newer snapshot of the partition")
        if self._kind == "commands":
            code, hint = ("E1305", "They were never decided; the senders may send them again")
        return LogError(
            code,
            f"{bounds.begin - position} records from offset {position} on are gone",
            hint,
            partition=partition,
            offset=position,
        )


def _by_partition(messages: list[Message]) -> dict[int, list[Message]]:
    """Return messages by partition, each in order; mostly all are of one."""
    places = [place or 0 for place in map(_PARTITION, messages)]
    if places.count(places[0]) == len(places):
        return {places[0]: messages}
    found: dict[int, list[Message]] = {place: [] for place in places}
    for place, message in zip(places, messages, strict=True):
        found[place].append(message)
    return found
