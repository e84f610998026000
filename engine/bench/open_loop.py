"""Open loop: commands are sent when they are due, and timed from then until they are answered.

Who sends doesn't wait for answers, so a pause of the engine is in the figures of all commands that
were due meanwhile.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from hdrh.histogram import HdrHistogram

from engine import wire
from engine.avro import read_long, read_sized
from engine.bench.bank import Bank, Sendable
from engine.bench.places import KafkaPlace
from engine.errors import UnavailableError
from engine.model import Reply
from engine.node.node import Node

LATENCY_US_MAX = 60_000_000
DRAIN_S = 10.0
_TAKE = 1_000
_PAUSE_S = 0.001  # a client's shortest wait: with less it spins, and takes a core from the node
_WATERMARK_S = 10.0
_ID = slice(wire.HEADER_BYTES, wire.HEADER_BYTES + 16)


def _histogram() -> HdrHistogram:
    return HdrHistogram(1, LATENCY_US_MAX, 3)


@dataclass(slots=True)
class Latency:
    """What was measured at one rate."""

    rate: int
    sent: int = 0
    missing: int = 0
    histogram: HdrHistogram = field(default_factory=_histogram)

    def add(self, latency_ns: int) -> None:
        """Count one answer."""
        self.histogram.record_value(max(1, min(latency_ns // 1_000, LATENCY_US_MAX)))

    def percentile_ms(self, percentile: float) -> float:
        """Return a percentile."""
        return self.histogram.get_value_at_percentile(percentile) / 1_000

    @property
    def p50_ms(self) -> float:
        """Return the median."""
        return self.percentile_ms(50)

    @property
    def p99_ms(self) -> float:
        """Return what 99 of 100 stay below."""
        return self.percentile_ms(99)

    def row(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "rate_per_s": self.rate,
            "sent": self.sent,
            "missing": self.missing,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "p999_ms": self.percentile_ms(99.9),
            "max_ms": self.histogram.get_max_value() / 1_000,
        }


def through_log(place: KafkaPlace, bank: Bank, commands: Iterator[Sendable], rate: int) -> Latency:
    """Produce to the commands' topic, and read outcomes as any consumer of the events' topic."""
    name = bank.application.name
    producer = place.producer(**{"linger.ms": 0})
    consumer = place.consumer("open-loop")
    _assign_ends(consumer, f"{name}.events", bank.partitions)
    latency, topic = Latency(rate), f"{name}.commands"
    due_ns: dict[bytes, int] = {}
    start_ns = time.perf_counter_ns() + 200_000_000
    upcoming, at_ns = next(commands, None), start_ns
    deadline_ns = 0
    while upcoming is not None or due_ns:
        now_ns = time.perf_counter_ns()
        while upcoming is not None and at_ns <= now_ns:
            producer.produce(topic, upcoming.value, upcoming.key, upcoming.partition)
            due_ns[upcoming.value[_ID]] = at_ns
            latency.sent += 1
            at_ns = start_ns + latency.sent * 1_000_000_000 // rate
            upcoming = next(commands, None)
        producer.poll(0)
        _read(consumer, due_ns, latency)
        if upcoming is None:
            deadline_ns = deadline_ns or now_ns + int(DRAIN_S * 1e9)
            if now_ns > deadline_ns:
                break
    latency.missing = len(due_ns)
    consumer.close()
    return latency


def _assign_ends(consumer: Consumer, topic: str, partitions: int) -> None:
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    for each in places:
        each.offset = consumer.get_watermark_offsets(each, _WATERMARK_S)[1]
    consumer.assign(places)


def _read(consumer: Consumer, due_ns: dict[bytes, int], latency: Latency) -> None:
    """Match what can be read; wait a moment for the first one."""
    first = consumer.poll(_PAUSE_S)
    if first is None:
        return
    messages = [first, *consumer.consume(_TAKE, 0)]
    now_ns = time.perf_counter_ns()
    for message in messages:
        command_id = outcome_id(message.value())
        sent_ns = due_ns.pop(command_id, None) if command_id else None
        if sent_ns is not None:
            latency.add(now_ns - sent_ns)


def outcome_id(value: bytes | None) -> bytes | None:
    """Return the command id of an outcome, or None for any other record."""
    found = wire.head(value)
    if value is None or found is None or found.kind is not wire.Kind.OUTCOME:
        return None
    at = wire.HEADER_BYTES
    for _ in range(3):  # epoch, sequence, previous
        _, at = read_long(value, at)
    _, at = read_sized(value, at + 1)  # skippable, workspace
    _, at = read_long(value, at)  # workspace_sequence
    return value[at : at + 16]


def through_node(node: Node, commands: Iterator[Sendable], rate: int) -> Latency:
    """Publish to a node of this process, and wait for its replies: a machine without a broker."""
    latency = Latency(rate)
    answered: deque[int] = deque()
    start_ns = time.perf_counter_ns()

    def sent(at_ns: int) -> Callable[[Future[Reply]], None]:
        return lambda _: answered.append(time.perf_counter_ns() - at_ns)

    for command in commands:
        at_ns = start_ns + latency.sent * 1_000_000_000 // rate
        while (left_ns := at_ns - time.perf_counter_ns()) > 0:
            time.sleep(left_ns / 1e9)
        partition, key, value = command
        latency.sent += 1
        try:
            future = node.submit(partition, key.decode(), value[_ID], value)
        except UnavailableError:
            continue  # the gate is full: refused, and counted as missing
        future.add_done_callback(sent(at_ns))
    deadline_s = time.monotonic() + DRAIN_S
    while len(answered) < latency.sent and time.monotonic() < deadline_s:
        time.sleep(_PAUSE_S)
    for latency_ns in answered:
        latency.add(latency_ns)
    latency.missing = latency.sent - len(answered)
    return latency
