"""The audit of a chaos run, from outside: the topics read with a plain consumer, and arithmetic.

Owns a second, plainest writing of which records count, and an independent bank. Imports nothing
of the engine: what it knows are the schemas and the documented rules.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import xxhash
from confluent_kafka import Consumer, KafkaException, TopicPartition

from loadtest.chaos_load import Answer, Book
from loadtest.exactly_once import Model
from loadtest.plain_client import Codec

READ_SILENCE_MAX = 60
FAULTS_MAX = 50
ID = slice(10, 26)  # a command's id comes first, behind the prefix of its encoding


class Record(NamedTuple):
    """A record of a topic."""

    offset: int
    time_ms: int
    key: bytes
    value: bytes


class Outcome(NamedTuple):
    """A counting outcome, and when it was appended."""

    time_ms: int
    command_id: bytes
    account: str
    name: str
    input_offset: int
    answer: Answer


@dataclass
class Partition:
    """What one partition's events say."""

    outcomes: list[Outcome] = field(default_factory=list)
    owners: list[tuple[int, str]] = field(default_factory=list)  # append time, node
    superseded: int = 0


@dataclass
class Audit:
    """What was found; `faults` is empty if every promise held."""

    faults: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    partitions: dict[int, Partition] = field(default_factory=dict)
    model: Model = field(default_factory=Model)

    def fault(self, what: str) -> None:
        self.counts["faults"] += 1
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(what)


def read_topic(bootstrap: str, topic: str) -> Iterator[tuple[int, Record]]:
    """Yield the records of all partitions of a topic, from their begin to their present end."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "chaos-audit",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_uncommitted",
        }
    )
    try:
        numbers = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        left: dict[int, int] = {}
        for number in numbers:
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=30)
            if end:
                left[number] = end
        consumer.assign([TopicPartition(topic, number, 0) for number in left])
        silence = 0
        while left:
            messages = consumer.consume(5_000, 1.0)
            silence = 0 if messages else silence + 1
            if silence > READ_SILENCE_MAX:
                raise KafkaException(f"{topic} can't be read to its end: {left}")
            for message in messages:
                if message.error() is not None:
                    continue
                number, offset = message.partition() or 0, message.offset() or 0
                value, key = message.value() or b"", message.key() or b""
                yield number, Record(offset, message.timestamp()[1], key, value)
                if offset + 1 >= left.get(number, 0):
                    left.pop(number, None)
    finally:
        consumer.close()


class Reader:
    """One partition's events, judged in order: which outcomes count, and who owned it."""

    def __init__(self, number: int) -> None:
        self.found = Partition()
        self._number = number
        self._codecs = {name: Codec(name) for name in ("owner", "outcome", "released")}
        self._epoch, self._sequence, self._previous, self._released = 0, 0, 0, False

    def read(self, record: Record) -> None:
        found, value = self.found, record.value
        if (owner := self._codecs["owner"].decode(value)) is not None:
            if owner["epoch"] > self._epoch:
                self._epoch, self._released = owner["epoch"], False
                found.owners.append((record.time_ms, owner["node"]))
            return
        if (outcome := self._codecs["outcome"].decode(value)) is not None:
            place = (outcome["epoch"], outcome["sequence"], outcome["previous"])
            due = (self._epoch, self._sequence + 1, self._previous)
            if self._released or place != due:
                found.superseded += 1
                return
            self._sequence += 1
            self._previous = _signed(xxhash.xxh64_intdigest(value))
            found.outcomes.append(self._outcome(record.time_ms, outcome))
        elif (released := self._codecs["released"].decode(value)) is not None:
            self._released |= (released["epoch"], released["sequence"]) == (
                self._epoch,
                self._sequence,
            )

    def _outcome(self, time_ms: int, fields: Mapping[str, Any]) -> Outcome:
        answer = Answer(
            self._number, fields["sequence"], fields["workspace_sequence"], fields["code"]
        )
        what = (fields["command_id"], fields["workspace"], fields["name"], fields["input_offset"])
        return Outcome(time_ms, *what, answer)


def audit(bootstrap: str, book: Book) -> Audit:
    """Compare what clients sent and were told with what the topics hold."""
    events, commands = (read_topic(bootstrap, f"bank.{kind}") for kind in ("events", "commands"))
    return judge(book, events, commands)


Records = Iterable[tuple[int, Record]]


def judge(book: Book, events: Records, commands_: Records) -> Audit:
    """Compare clients' book with records of topics, by partition."""
    made = Audit()
    readers: dict[int, Reader] = {}
    for number, record in events:
        readers.setdefault(number, Reader(number)).read(record)
    made.partitions = {number: reader.found for number, reader in sorted(readers.items())}
    commands: dict[int, list[Record]] = defaultdict(list)
    for number, record in commands_:
        commands[number].append(record)
    for number in sorted({*commands, *made.partitions}):
        found = made.partitions.setdefault(number, Partition())
        _compare(made, book, number, commands[number], found.outcomes)
    _answers(made, book)
    made.counts["superseded"] = sum(one.superseded for one in made.partitions.values())
    made.counts["owners"] = sum(len(one.owners) for one in made.partitions.values())
    made.counts["changes of owner"] = sum(
        left[1] != right[1]
        for one in made.partitions.values()
        for left, right in pairwise(one.owners)
    )
    return made


def _compare(
    made: Audit, book: Book, number: int, commands: list[Record], outcomes: list[Outcome]
) -> None:
    """Decide the partition's commands once more, in the log's order, and compare."""
    seen: set[bytes] = set()
    firsts: list[tuple[bytes, Record]] = []
    for record in commands:
        command_id = record.value[ID]
        if command_id in seen:
            made.counts["duplicates"] += 1
            continue
        seen.add(command_id)
        firsts.append((command_id, record))
    made.counts["commands"] += len(commands)
    made.counts["outcomes"] += len(outcomes)
    if len(firsts) != len(outcomes):
        made.fault(f"partition {number}: {len(firsts)} commands, {len(outcomes)} outcomes")
    for (command_id, record), outcome in zip(firsts, outcomes, strict=False):
        sent = book.sent.get(command_id)
        if sent is None:
            made.fault(f"partition {number}: {command_id.hex()} was never sent")
            return
        asked = (command_id, sent.account, sent.name, record.offset)
        code = made.model.decide(sent.account, sent.name, sent.amount)
        told = (outcome.command_id, outcome.account, outcome.name, outcome.input_offset)
        if asked != told or outcome.answer.code != code:
            what = f"{told} {outcome.answer.code!r}, not {asked} {code!r}"
            made.fault(f"partition {number}, sequence {outcome.answer.sequence}: {what}")
            return  # from here on everything would differ


def _answers(made: Audit, book: Book) -> None:
    """Compare each answer that a client had with the log; all that was sent has one."""
    logged: dict[bytes, Answer] = {}
    for partition in made.partitions.values():
        for outcome in partition.outcomes:
            if outcome.command_id in logged:
                made.fault(f"{outcome.command_id.hex()} has two outcomes")
            logged[outcome.command_id] = outcome.answer
    for command_id, sent in book.sent.items():
        made.counts["sent"] += 1
        if sent.answer is None:
            where = "has an outcome" if command_id in logged else "has no outcome"
            made.fault(f"{command_id.hex()} of {sent.account} was never answered; it {where}")
        elif logged.get(command_id) != sent.answer:
            what = f"was answered {sent.answer}, the log has {logged.get(command_id)}"
            made.fault(f"{command_id.hex()} {what}")
        else:
            made.counts["answered"] += 1


def longest_gaps(made: Audit, spans: list[tuple[float, float]]) -> list[float]:
    """Return, of each span of time, the longest pause in seconds between a partition's outcomes.

    A pause belongs to the first span it overlaps; spans are in order.
    """
    gaps = [0.0] * len(spans)
    for partition in made.partitions.values():
        times = [outcome.time_ms / 1_000 for outcome in partition.outcomes]
        at = 0
        for before, after in pairwise(times):
            while at < len(spans) and spans[at][1] <= before:
                at += 1
            if at < len(spans) and spans[at][0] <= after:
                gaps[at] = max(gaps[at], after - before)
    return gaps


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
