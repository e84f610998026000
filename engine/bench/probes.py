"""What a fault is watched with, from outside: load, outcomes by their append times, reads.

Each runs in a thread of its own for as long as its block, and knows nothing of the faults.
"""

import itertools
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import httpx
from confluent_kafka import Consumer, TopicPartition

from engine import wire
from engine.application import Application
from engine.bench.bank import Sendable
from engine.bench.places import KafkaPlace
from engine.wire import Kind

TAKE = 2_000
POLL_S = 0.05
SEND_S = 0.002
READ_EVERY_S = 0.01
READ_TIMEOUT_S = 1.0
OK = 200


class Load:
    """Commands at a fixed rate, whatever becomes of them."""

    def __init__(self, place: KafkaPlace, application: str, rate: int) -> None:
        self._producer = place.producer(**{"linger.ms": 0})
        self._topic, self._rate = f"{application}.commands", rate
        self._stopping = threading.Event()

    @contextmanager
    def sending(self, commands: Iterator[Sendable]) -> Generator[None]:
        """Send for as long as the block lasts."""
        thread = threading.Thread(target=self._send, args=(commands,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()

    def _send(self, commands: Iterator[Sendable]) -> None:
        begun_s, count = time.monotonic(), 0
        while not self._stopping.wait(SEND_S):
            due = int((time.monotonic() - begun_s) * self._rate)
            for partition, key, value in itertools.islice(commands, due - count):
                self._producer.produce(self._topic, value, key, partition)
            count = due
            self._producer.poll(0)


class Outcomes:
    """When each partition's outcomes were appended: read like any consumer, judged by R2."""

    def __init__(self, place: KafkaPlace, application: Application) -> None:
        self._consumer: Consumer = place.consumer("failover")
        topic = f"{application.name}.events"
        places = [TopicPartition(topic, partition) for partition in range(application.partitions)]
        for each in places:
            each.offset = self._consumer.get_watermark_offsets(each, 10)[1]
        self._consumer.assign(places)
        self._epochs = dict.fromkeys(range(application.partitions), 0)
        # Append times in ms of the outcomes that count, in order.
        self._times: dict[int, list[int]] = {one: [] for one in self._epochs}
        self._claims: dict[int, list[int]] = {one: [] for one in self._epochs}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        """Begin to read."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading."""
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def mark(self) -> dict[int, int]:
        """Return how many outcomes there are of each partition, to look at later ones."""
        return {partition: len(times) for partition, times in self._times.items()}

    def moved(self, partitions: Sequence[int], since: dict[int, int], settled_s: float) -> bool:
        """Return whether each partition has outcomes of a newer owner, for a while now."""
        now_ms = time.time() * 1_000
        for partition in partitions:
            times = self._times[partition][since[partition] :]
            if not times or times[-1] < now_ms - settled_s * 1_000 / 2:
                return False
            if times[-1] - times[0] < settled_s * 1_000 or not self._resumed(times, settled_s):
                return False
        return True

    def _resumed(self, times: list[int], settled_s: float) -> bool:
        """Return whether there was no long pause within the last while."""
        late = [at for at in times if at > times[-1] - settled_s * 1_000]
        return len(late) > settled_s * 10

    def longest_ms(self, partitions: Sequence[int], since: dict[int, int]) -> int:
        """Return the longest pause of any of the partitions from then on."""
        return max(
            after - before
            for partition in partitions
            for before, after in itertools.pairwise(
                self._times[partition][max(since[partition] - 1, 0) :]
            )
        )

    def parts_ms(self, partitions: Sequence[int], since_ms: float) -> tuple[float, float]:
        """Return the longest time until a claim counted, and from there to the next outcome."""
        claimed, resumed = [0.0], [0.0]
        for partition in partitions:
            claim = next((at for at in self._claims[partition] if at >= since_ms), None)
            if claim is not None:
                first = next((at for at in self._times[partition] if at >= claim), claim)
                claimed.append(claim - since_ms)
                resumed.append(first - claim)
        return max(claimed), max(resumed)

    def _read(self) -> None:
        while not self._stopping.is_set():
            for message in self._consumer.consume(TAKE, POLL_S):
                value, partition = message.value(), message.partition() or 0
                head = wire.head(value) if message.error() is None else None
                if head is None:
                    continue
                if head.kind is Kind.OWNER:
                    if head.epoch > self._epochs[partition]:
                        self._epochs[partition] = head.epoch
                        self._claims[partition].append(message.timestamp()[1])
                # Before the first claim is read, the owner's epoch isn't known.
                elif head.kind is Kind.OUTCOME and head.epoch >= self._epochs[partition]:
                    self._times[partition].append(message.timestamp()[1])


class Reads:
    """A client that reads one row all the time, from the first of some nodes that answers."""

    def __init__(self, urls: Sequence[str], path: str) -> None:
        self._urls, self._path = urls, path
        self._at_s: list[float] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        """Begin to read."""
        self._begun_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading."""
        self._stopping.set()
        self._thread.join()
        self._ended_s = time.monotonic()

    @property
    def longest_ms(self) -> float:
        """Return the longest pause between two answers."""
        marks = [self._begun_s, *self._at_s, self._ended_s]
        return 1_000 * max(after - before for before, after in itertools.pairwise(marks))

    def _read(self) -> None:
        with httpx.Client(timeout=READ_TIMEOUT_S) as http:
            urls = itertools.cycle(self._urls)
            url = next(urls)
            while not self._stopping.wait(READ_EVERY_S):
                try:
                    status = http.get(f"{url}{self._path}?stale=ok").status_code
                except httpx.HTTPError:
                    status = 0
                if status == OK:
                    self._at_s.append(time.monotonic())
                else:
                    url = next(urls)
