"""The topics of an application (FORMATS 1): made or checked at start, asked for their bounds.

Owns which topics there are and what they must be. A topic that somebody else made is taken when
it satisfies the rules; nothing here ever changes or deletes one.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
    admin,
)

from engine.errors import LogError, UnavailableError
from engine.limits import RECORD_BYTES_MAX
from engine.log.kafka.connection import (
    REQUEST_TIMEOUT_S,
    Connection,
    code_of,
    name_of,
    reason,
    unavailable,
)
from engine.model import Bounds
from engine.world import SystemClock

COMMANDS_RETENTION_MS = 7 * 24 * 3_600_000
REPLIES_RETENTION_MS = 3_600_000
VISIBLE_TIMEOUT_MS = 30_000
POLL_MS = 50
TOPIC_ID_AGE_MS = 1_000
COPIES = 3
CONTROLLER_TIMEOUT_S = 2.0
TIMED_OUT = "_TIMED_OUT"  # the client's own word, as KafkaError names it

# A partition is being made, or is changing its leader: its broker answers soon.
SETTLING = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)

# The package declares none of its names public, so a strict type checker refuses all of them.
_types: Any = admin
Described = Any  # TopicDescription: topic_id, partitions[leader, replicas]


@dataclass(slots=True, frozen=True)
class Rule:
    """One setting of a topic: what it is made with, and what is accepted of somebody else's."""

    name: str
    value: str
    at_least: bool = False  # a greater number, or -1 (for ever), is accepted too
    checked: bool = True

    def accepts(self, found: str) -> bool:
        """Return whether a topic with this value will do."""
        if found == self.value or not self.checked:
            return True
        return self.at_least and (found == "-1" or int(found) >= int(self.value))

    def __str__(self) -> str:
        return f"at least {self.value}" if self.at_least else self.value


@dataclass(slots=True, frozen=True)
class Plan:
    """One topic: how many partitions (0 = any) and which rules."""

    kind: str
    partitions: int
    rules: tuple[Rule, ...] = field(default=())


def _delete(retention_ms: int, *, checked: bool = True) -> tuple[Rule, ...]:
    return (
        Rule("cleanup.policy", "delete", checked=checked),
        Rule("retention.ms", str(retention_ms), at_least=retention_ms > 0, checked=checked),
        Rule("retention.bytes", "-1", checked=checked),
    )


def plans(partitions: int) -> tuple[Plan, ...]:
    """Return all topics of an application."""
    ordered = (
        Rule("message.timestamp.type", "LogAppendTime"),
        Rule("max.message.bytes", str(RECORD_BYTES_MAX), at_least=True),
    )
    compact = (
        Rule("cleanup.policy", "compact"),
        Rule("max.message.bytes", str(RECORD_BYTES_MAX), at_least=True),
    )
    # Heartbeats are many and small: rolled and compacted often, so that reading them stays short.
    often = (
        Rule("segment.ms", "600000", checked=False),
        Rule("segment.bytes", "16777216", checked=False),
        Rule("min.cleanable.dirty.ratio", "0.1", checked=False),
    )
    return (
        Plan("commands", partitions, ordered + _delete(COMMANDS_RETENTION_MS)),
        Plan("events", partitions, ordered + _delete(-1)),
        Plan("emits", partitions, ordered + _delete(-1)),
        Plan("nodes", 1, compact + often),
        Plan("content", 1, compact),
        Plan("replies", 0, _delete(REPLIES_RETENTION_MS, checked=False)),
    )


class Topics:
    """An application's topics on its cluster. Usable from any thread; every wait is bounded."""

    def __init__(self, connection: Connection, partitions: int) -> None:
        self._connection = connection
        self._partitions = partitions
        self._admin = connection.admin()
        self._clock = SystemClock()
        self._lock = threading.Lock()
        self._ids: dict[str, tuple[str, int]] = {}
        self.commands_retention_ms = COMMANDS_RETENTION_MS

    def ensure(self, *, make: bool = True) -> None:
        """Check what is there, raise E1301 naming every mismatch; `make` what is missing."""
        brokers = self._brokers()
        wanted = {self._connection.topic(plan.kind): plan for plan in plans(self._partitions)}
        found = self._describe(list(wanted))
        missing = {name: plan for name, plan in wanted.items() if name not in found}
        if missing and not make:
            raise LogError(
                "E1301",
                f"{', '.join(missing)}: there is no such topic",
                "Check the broker's address and the topic prefix; a node makes topics, readers "
                "never do",
                server=self._connection.settings.bootstrap_servers,
            )
        if missing:
            self._create(missing, brokers)
            found = self._wait_visible(wanted)
            for name in missing:
                self._wait_serving(name, len(found[name].partitions))
        settings = self._settings(list(wanted))
        faults: list[str] = []
        for name, plan in wanted.items():
            faults += self._faults(plan, found[name], settings[name], self._copies(brokers))
        if faults:
            raise LogError(
                "E1301",
                "; ".join(faults),
                "Change the settings, or make the topics anew where that loses nothing",
                topic=faults[0].split(" ", 1)[0],
            )
        retention = settings[self._connection.topic("commands")].get("retention.ms", "-1")
        self.commands_retention_ms = int(retention)

    def bounds(self, kind: str, partition: int) -> Bounds:
        """Return what a partition holds, and which topic it is; raise E1401 without an answer."""
        name = self._connection.topic(kind)
        place = TopicPartition(name, partition)
        # Clients' aborted commands never were; of events everybody must see the same.
        level = (
            IsolationLevel.READ_COMMITTED if kind == "commands" else IsolationLevel.READ_UNCOMMITTED
        )
        deadline_ms = self._clock.monotonic_ms() + REQUEST_TIMEOUT_S * 1_000
        while True:
            try:
                begin, end = self._ends(place, level)
                return Bounds(begin, max(begin, end), self.topic_id(kind))
            except (KafkaException, TimeoutError) as fault:
                settling = isinstance(fault, KafkaException) and code_of(fault) in SETTLING
                if not settling or self._clock.monotonic_ms() > deadline_ms:
                    what = f"the bounds of {name}/{partition} are not known"
                    raise unavailable(fault, what) from fault
            self._refresh(name)
            self._clock.sleep_ms(POLL_MS)

    def _refresh(self, name: str) -> None:
        """Ask who leads a topic now: the client alone keeps to a leader that is none any more."""
        try:
            self._admin.list_topics(name, timeout=REQUEST_TIMEOUT_S)
        except KafkaException as fault:
            raise unavailable(fault, f"topic {name} can't be described") from fault

    def _ends(self, place: TopicPartition, level: IsolationLevel) -> tuple[int, int]:
        asked = [
            self._admin.list_offsets(
                {place: spec}, isolation_level=level, request_timeout=REQUEST_TIMEOUT_S
            )[place]
            for spec in (_types.OffsetSpec.earliest(), _types.OffsetSpec.latest())
        ]
        begin, end = (_offset(future) for future in asked)
        return begin, end

    def topic_id(self, kind: str) -> str:
        """Return the id that the cluster gave this very topic; another one if it is made anew."""
        name = self._connection.topic(kind)
        now_ms = self._clock.monotonic_ms()
        with self._lock:
            known, at_ms = self._ids.get(name, ("", 0))
        if known and now_ms - at_ms < TOPIC_ID_AGE_MS:
            return known
        description = self._describe([name]).get(name)
        if description is None:
            raise UnavailableError("E1401", f"topic {name} doesn't exist", "Was it deleted?")
        ident = str(description.topic_id)
        with self._lock:
            self._ids[name] = (ident, now_ms)
        return ident

    def _brokers(self) -> int:
        try:
            return len(self._admin.list_topics(timeout=REQUEST_TIMEOUT_S).brokers)
        except KafkaException as fault:
            address = self._connection.settings.bootstrap_servers
            raise unavailable(fault, f"no broker answers at {address}") from fault

    def _describe(self, names: list[str]) -> dict[str, Described]:
        """Describe those of the topics that exist.

        A client waits for the broker that it takes for the controller, though it is gone or hangs:
        another client finds another one.
        """
        deadline_ms = self._clock.monotonic_ms() + REQUEST_TIMEOUT_S * 1_000
        while True:
            try:
                return self._described(names)
            except (KafkaException, TimeoutError) as fault:
                timed_out = isinstance(fault, TimeoutError) or name_of(fault) == TIMED_OUT
                if not timed_out or self._clock.monotonic_ms() > deadline_ms:
                    raise unavailable(fault, f"topic {names[0]} can't be described") from fault
            self._admin = self._connection.admin()

    def _described(self, names: list[str]) -> dict[str, Described]:
        futures: Mapping[str, Future[Described]] = self._admin.describe_topics(
            TopicCollection(names), request_timeout=CONTROLLER_TIMEOUT_S
        )
        found: dict[str, Described] = {}
        for name, future in futures.items():
            try:
                found[name] = future.result(CONTROLLER_TIMEOUT_S + 1)
            except KafkaException as fault:
                if code_of(fault) != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
        return found

    def _copies(self, brokers: int) -> int:
        return self._connection.settings.replication or min(COPIES, brokers)

    def _create(self, missing: Mapping[str, Plan], brokers: int) -> None:
        copies = self._copies(brokers)
        insync = {"min.insync.replicas": str(max(1, copies - 1))}
        safe = insync | {"unclean.leader.election.enable": "false"}
        new = [
            _types.NewTopic(
                name,
                plan.partitions or self._partitions,
                copies,
                config=safe | {rule.name: rule.value for rule in plan.rules},
            )
            for name, plan in missing.items()
        ]
        futures: Mapping[str, Future[None]] = self._admin.create_topics(
            new, request_timeout=REQUEST_TIMEOUT_S, operation_timeout=REQUEST_TIMEOUT_S
        )
        for name, future in futures.items():
            try:
                future.result(2 * REQUEST_TIMEOUT_S)
            except TimeoutError as fault:
                raise unavailable(fault, f"topic {name} can't be made") from fault
            except KafkaException as fault:
                code = code_of(fault)
                if code == KafkaError.TOPIC_ALREADY_EXISTS:
                    continue  # another node was faster
                if fault.args[0].retriable() or code < 0:
                    raise unavailable(fault, f"topic {name} can't be made") from fault
                raise self._not_made(name, missing[name], fault) from fault

    def _not_made(self, name: str, plan: Plan, fault: KafkaException) -> LogError:
        rules = ", ".join(f"{rule.name}={rule.value}" for rule in plan.rules)
        return LogError(
            "E1301",
            f"it doesn't exist and can't be made: {reason(fault)}",
            f"Have it made with {plan.partitions or self._partitions} partitions and {rules}",
            topic=name,
        )

    def _wait_visible(self, wanted: Mapping[str, Plan]) -> dict[str, Described]:
        """Wait until every topic is known with a leader for each partition."""
        deadline_ms = self._clock.monotonic_ms() + VISIBLE_TIMEOUT_MS
        while True:
            found = self._describe(list(wanted))
            led = all(
                each.leader is not None for topic in found.values() for each in topic.partitions
            )
            if len(found) == len(wanted) and led:
                return found
            if self._clock.monotonic_ms() > deadline_ms:
                raise UnavailableError("E1401", "topics were made, but don't become ready")
            self._clock.sleep_ms(POLL_MS)

    def _wait_serving(self, name: str, partitions: int) -> None:
        """Wait until the leaders of a new topic do what they were chosen for."""
        latest = _types.OffsetSpec.latest()
        waiting = {TopicPartition(name, number): latest for number in range(partitions)}
        deadline_ms = self._clock.monotonic_ms() + VISIBLE_TIMEOUT_MS
        while True:
            asked = self._admin.list_offsets(waiting, request_timeout=REQUEST_TIMEOUT_S)
            for place, future in asked.items():
                try:
                    _offset(future)
                    del waiting[place]
                except (KafkaException, TimeoutError) as fault:
                    settling = isinstance(fault, KafkaException) and code_of(fault) in SETTLING
                    if not settling or self._clock.monotonic_ms() > deadline_ms:
                        raise unavailable(fault, f"{name} doesn't become ready") from fault
            if not waiting:
                return
            self._refresh(name)
            self._clock.sleep_ms(POLL_MS)

    def _settings(self, names: list[str]) -> dict[str, dict[str, str]]:
        resources = [_types.ConfigResource(_types.ResourceType.TOPIC, name) for name in names]
        futures: Mapping[Any, Future[dict[str, Any]]] = self._admin.describe_configs(
            resources, request_timeout=REQUEST_TIMEOUT_S
        )
        try:
            return {
                resource.name: {
                    name: entry.value
                    for name, entry in future.result(REQUEST_TIMEOUT_S + 1).items()
                }
                for resource, future in futures.items()
            }
        except (KafkaException, TimeoutError) as fault:
            raise unavailable(fault, "the topics' settings can't be read") from fault

    def _faults(
        self, plan: Plan, found: Described, settings: Mapping[str, str], wanted: int
    ) -> list[str]:
        faults: list[str] = []
        name = self._connection.topic(plan.kind)

        def check(setting: str, value: object, needed: object, *, good: bool) -> None:
            if not good:
                faults.append(f"{name} {setting} is {value}, needed is {needed}")

        count = len(found.partitions)
        check("partitions", count, plan.partitions, good=plan.partitions in (0, count))
        copies = min(len(each.replicas) for each in found.partitions)
        check("replication", copies, f"at least {wanted}", good=copies >= wanted)
        insync = Rule("min.insync.replicas", str(max(1, copies - 1)), at_least=True)
        clean = Rule("unclean.leader.election.enable", "false")
        for rule in (insync, clean, *plan.rules):
            value = settings.get(rule.name, "")
            check(rule.name, value or "unknown", rule, good=bool(value) and rule.accepts(value))
        return faults


def _offset(answer: "Future[Any]") -> int:
    """Return the offset that a broker gave; raise what it, or the client, gave instead."""
    offset: int = answer.result(REQUEST_TIMEOUT_S + 1).offset
    if offset < 0:
        # The client's own word for no answer, when the leader goes while it is asked.
        raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    return offset
