"""The faults of a chaos run: drawn from a seed, done to real processes and links, and undone.

Owns what may be hurt at one time: never more than one of three brokers, and the next one only when
every topic has all its copies again.
"""

import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from loadtest.nodes import LocalNodes

PAUSE_S = (0.5, 30.0)
REST_S = (2.0, 8.0)  # between the end of a fault and the next one
RESTART_S = (0.2, 6.0)
PAIR_SHARE = 0.12
WHOLE_S = 90.0
Undo = Callable[[], None]

# Kinds and how often each is drawn. Those of links need a network of our own.
PROCESS_KINDS = {
    "node kill": 5,
    "node pause": 4,
    "node term": 4,
    "broker kill": 2,
    "broker pause": 2,
    "broker term": 2,
}
LINK_KINDS = {
    "node deaf": 2,  # what one broker sends a node is lost
    "node mute": 2,  # what a node sends one broker is lost
    "node cut off": 3,  # from every broker, both ways; its clients still reach it
    "node reset": 1,
    "broker link": 2,  # between two brokers, one way or both
    "broker reset": 1,
}


@dataclass
class Fault:
    """One fault, as it was done."""

    kind: str
    target: str
    lasts_s: float
    begun: float = 0.0
    ended: float = 0.0
    gap_s: float = 0.0
    pair: bool = False


@dataclass
class Schedule:
    """Draws faults: equal seeds give equal ones, as far as the machine lets them."""

    nodes: LocalNodes
    seed: int
    done: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311 - repeatable is the point
        self._kinds = {**PROCESS_KINDS, **(LINK_KINDS if self.nodes.setup.network else {})}
        self._admin = AdminClient({"bootstrap.servers": self.nodes.bootstrap, "log_level": 0})

    def run(self, until: float) -> Iterator[list[Fault]]:
        """Do faults until then, and yield those of each round when they are undone."""
        while time.monotonic() < until:
            round_ = [self._draw()]
            if self._chance.random() < PAIR_SHARE:
                other = self._draw()
                both_brokers = all("broker" in one.kind for one in (*round_, other))
                if not both_brokers and other.target != round_[0].target:
                    round_.append(other)
            if any("broker" in one.kind for one in round_):
                self._await_whole()
            self._do(round_)
            self.done += round_
            yield round_
            time.sleep(self._chance.uniform(*REST_S))

    def _draw(self) -> Fault:
        chance = self._chance
        kind = chance.choices(tuple(self._kinds), tuple(self._kinds.values()))[0]
        places = self.nodes.brokers if kind.startswith("broker") else self.nodes.names
        target = chance.choice(places)
        shortest, longest = RESTART_S if kind.endswith(("kill", "term")) else PAUSE_S
        # As many short ones as long ones, by their length's order of magnitude.
        lasts_s = shortest * (longest / shortest) ** chance.random()
        return Fault(kind, target, 0.0 if kind.endswith("reset") else lasts_s)

    def _do(self, faults: list[Fault]) -> None:
        undo: list[tuple[float, Fault, Undo]] = []
        for one in faults:
            one.begun, one.pair = time.time(), len(faults) > 1
            undo.append((time.monotonic() + one.lasts_s, one, self._begin(one)))
        for when, one, end in sorted(undo, key=lambda entry: entry[0]):
            time.sleep(max(when - time.monotonic(), 0))
            end()
            one.ended = time.time()

    def _begin(self, one: Fault) -> Undo:
        """Do a fault; return what undoes it."""
        who, _, what = one.kind.partition(" ")
        if what in {"kill", "term", "pause"}:
            return self._hurt(who, what, one.target)
        network, chance, nodes = self.nodes.setup.network, self._chance, self.nodes
        assert network is not None
        others = [broker for broker in nodes.brokers if broker != one.target]
        other = chance.choice(others)
        if what == "reset":
            return partial(network.reset, one.target, other)
        if what == "cut off":
            links = [(one.target, broker) for broker in nodes.brokers]
            links += [(broker, one.target) for broker in nodes.brokers]
        elif what == "link":
            both = [(one.target, other), (other, one.target)]
            links = chance.choice((both, both[:1]))
        else:
            links = [(other, one.target) if what == "deaf" else (one.target, other)]
        one.target += f" - {'all' if what == 'cut off' else other}"
        for sender, receiver in links:
            network.cut(sender, receiver)

        def heal() -> None:
            for sender, receiver in links:
                network.heal(sender, receiver)

        return heal

    def _hurt(self, who: str, what: str, target: str) -> Undo:
        nodes, kafka = self.nodes, self.nodes.kafka
        if who == "broker":
            number = nodes.brokers.index(target) + 1
            if what == "pause":
                kafka.kill(number, signal.SIGSTOP)
                return partial(kafka.kill, number, signal.SIGCONT)
            kafka.kill(number, signal.SIGTERM if what == "term" else signal.SIGKILL)
            return partial(self._start_broker, number)
        if what == "pause":
            nodes.signal(target, signal.SIGSTOP)
            return partial(nodes.signal, target, signal.SIGCONT)
        if what == "term":
            nodes.signal(target, signal.SIGTERM)
            nodes.wait(target)
        else:
            nodes.kill(target)
        return partial(nodes.start, target)

    def _start_broker(self, number: int) -> None:
        self.nodes.kafka.wait_ended(number)
        self.nodes.kafka.start_again(number)

    def _await_whole(self) -> None:
        """Wait until every partition has all its copies in step."""
        deadline = time.monotonic() + WHOLE_S
        while not self.whole():
            if time.monotonic() > deadline:
                raise SystemExit(f"the brokers' copies are not in step after {WHOLE_S:.0f} s")
            time.sleep(0.5)

    def whole(self) -> bool:
        """Return whether every partition has all its copies in step."""
        count = len(self.nodes.brokers)
        try:
            names = list(self._admin.list_topics(timeout=5).topics)
            asked = self._admin.describe_topics(TopicCollection(names), request_timeout=5)
            topics = [future.result(6) for future in asked.values()]
        except (KafkaException, TimeoutError):
            return False
        return all(len(each.isr) == count for topic in topics for each in topic.partitions)
