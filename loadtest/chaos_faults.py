"""The faults of a chaos run: drawn from a seed, done to real processes and links, and undone.

Owns what may be hurt at one time: never more than one of three brokers, and the next one only when
every topic has all its copies again.
"""

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from loadtest.nodes import LocalNodes

PAUSE_S = (0.5, 30.0)
REST_S = (2.0, 8.0)  # between the end of a fault and the next one
RESTART_S = (0.2, 6.0)
PAIR_SHARE = 0.12
WHOLE_S = 90.0
CALM_S = 60.0
SNAPSHOTS = "snapshots"
Undo = Callable[[], None]

# Kinds and how often each is drawn. Those of links need a network of our own.
PROCESS_KINDS = {
    "node kill": 5,
    "node pause": 4,
    "node term": 4,
    "node wiped": 2,  # killed, and its disk is empty when it comes back
    "store away": 2,  # where snapshots go
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
    calm: Callable[[], bool]  # whether the clients have most of their answers
    kinds: tuple[str, ...] = ()  # exactly these, one after the other; else drawn
    done: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311 - repeatable is the point
        self._kinds = {**PROCESS_KINDS, **(LINK_KINDS if self.nodes.setup.network else {})}
        self._admin = AdminClient({"bootstrap.servers": self.nodes.bootstrap, "log_level": 0})

    def run(self, until: float) -> Iterator[list[Fault]]:
        """Do faults until then, and yield those of each round when they are undone."""
        for round_ in self._rounds(until):
            if any("broker" in one.kind for one in round_):
                self._await_whole()
            self._do(round_)
            self.done += round_
            yield round_
            time.sleep(self._chance.uniform(*REST_S))
            self._await_calm()

    def _rounds(self, until: float) -> Iterator[list[Fault]]:
        """Yield what is to be done at one time: one fault mostly, now and then two."""
        for kind in self.kinds:
            yield [self._draw(kind)]
        while not self.kinds and time.monotonic() < until:
            round_ = [self._draw()]
            if self._chance.random() < PAIR_SHARE:
                other = self._draw()
                both_brokers = all("broker" in one.kind for one in (*round_, other))
                if not both_brokers and other.target != round_[0].target:
                    round_.append(other)
            yield round_

    def _draw(self, kind: str = "") -> Fault:
        chance = self._chance
        kind = kind or chance.choices(tuple(self._kinds), tuple(self._kinds.values()))[0]
        who = kind.split(" ")[0]
        places = {"broker": self.nodes.brokers, "node": self.nodes.names, "store": ("snapshots",)}
        target = chance.choice(places[who])
        shortest, longest = RESTART_S if kind.endswith(("kill", "term", "wiped")) else PAUSE_S
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
        if what == "away":
            return self._take_away(self.nodes.data / SNAPSHOTS)
        if what in {"kill", "term", "pause", "wiped"}:
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
        if what == "wiped":
            shutil.rmtree(nodes.data / target)
        return partial(nodes.start, target)

    @staticmethod
    def _take_away(folder: Path) -> Undo:
        """Put a file where the folder was: nothing can be read from it, nor written to it."""
        folder.mkdir(exist_ok=True)
        hidden = folder.with_suffix(".away")
        folder.rename(hidden)
        folder.touch()

        def bring_back() -> None:
            folder.unlink()
            hidden.rename(folder)

        return bring_back

    def _start_broker(self, number: int) -> None:
        self.nodes.kafka.wait_ended(number)
        self.nodes.kafka.start_again(number)

    def _await_calm(self) -> None:
        """Don't heap faults upon an overload: wait, bounded, for most answers."""
        deadline = time.monotonic() + CALM_S
        while not self.calm() and time.monotonic() < deadline:
            time.sleep(0.5)

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
