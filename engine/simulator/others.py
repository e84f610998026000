"""What simulated processes hear of each other: heartbeats, and what the group assigns.

Neither is to be believed: a heartbeat comes late, not at all, or the topic stalls for everybody;
the group gives a partition to another node before the one that had it knows.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from engine.model import MembershipChange, NodeBeat
from engine.ports import Clock, Random

BEATS_UNDER_WAY_MAX = 1_000

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class Inline(Executor):
    """Runs at once what nodes run on a thread of their own."""

    def submit(
        self, fn: Callable[Given, Answer], /, *args: Given.args, **kwargs: Given.kwargs
    ) -> "Future[Answer]":
        """Run it now."""
        future: Future[Answer] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as fault:  # noqa: BLE001 - as any executor, it hands on what is raised
            future.set_exception(fault)
        return future


@dataclass(slots=True)
class BeatFaults:
    """How heartbeats travel; in ms, and in 1,000 chances."""

    delay_ms: int = 20
    lose: int = 0
    stall: int = 0  # for everybody, in a step
    stall_ms: int = 3_000
    cut: int = 0  # of one node, whose beats don't land and which hears none
    cut_ms: int = 3_000


class Beats:
    """The topic of heartbeats: the newest of each node, once it has landed."""

    def __init__(self, clock: Clock, random: Random, faults: BeatFaults) -> None:
        self.faults = faults
        self.landed: dict[str, NodeBeat] = {}
        self._clock = clock
        self._random = random
        self._under_way: deque[tuple[int, NodeBeat]] = deque(maxlen=BEATS_UNDER_WAY_MAX)
        self._stalled_until_ms = 0

    def send(self, beat: NodeBeat) -> None:
        """Put a beat on its way."""
        if self._random.below(1_000) >= self.faults.lose:
            delay_ms = self._random.below(self.faults.delay_ms + 1)
            self._under_way.append((self._clock.monotonic_ms() + delay_ms, beat))

    def step(self) -> None:
        """Let beats land, or the topic stall."""
        now_ms = self._clock.monotonic_ms()
        if self.faults.stall and self._random.below(1_000) < self.faults.stall:
            self._stalled_until_ms = now_ms + self._random.below(self.faults.stall_ms)
        if now_ms < self._stalled_until_ms:
            return
        # One partition: what is late delays what is behind it.
        while self._under_way and self._under_way[0][0] <= now_ms:
            beat = self._under_way.popleft()[1]
            self.landed[beat.node] = beat

    def calm(self) -> None:
        """End all faults."""
        self.faults = BeatFaults()
        self._stalled_until_ms = 0


class SimulatedDirectory:
    """What one process says and hears."""

    def __init__(self, beats: Beats, clock: Clock) -> None:
        self._beats = beats
        self._clock = clock
        self._heard: list[NodeBeat] = []
        self.cut_until_ms = 0

    @property
    def _is_cut(self) -> bool:
        return self._clock.monotonic_ms() < self.cut_until_ms

    def announce(self, beat: NodeBeat) -> None:
        """Send a beat, if this process is not cut off."""
        if not self._is_cut:
            self._beats.send(beat)

    def peers(self) -> Sequence[NodeBeat]:
        """Return the newest beat of every node that has been heard."""
        if not self._is_cut:
            self._heard = list(self._beats.landed.values())
        return self._heard

    def close(self) -> None:
        """Nothing is open."""


class SimulatedMembership:
    """What one process is told by the group."""

    def __init__(self) -> None:
        self.assigned: set[int] = set()
        self.paused = False
        self._told: set[int] = set()

    def poll(self) -> MembershipChange:
        """Return what has changed since the last call."""
        given = tuple(sorted(self.assigned - self._told))
        taken = tuple(sorted(self._told - self.assigned))
        self._told = set(self.assigned)
        return MembershipChange(given, taken)

    def released(self, partition: int) -> None:
        """Nobody waits for a partition here."""

    def pause(self, *, paused: bool) -> None:
        """Leave the group for the time being, or join it again."""
        self.paused = paused

    def decided(self, offsets: Mapping[int, int]) -> None:
        """No tool asks for it here."""

    def close(self) -> None:
        """Leave: the group finds out, as it does of any silent process."""


class Group:
    """Assigns partitions without asking much; processes hear of it sooner or later."""

    def __init__(self, partitions: int, nodes: int, random: Random) -> None:
        self._random = random
        self._nodes = nodes
        self.believed = [random.below(nodes) for _ in range(partitions)]
        self.members: dict[int, SimulatedMembership] = {}

    def join(self, at: int) -> SimulatedMembership:
        """Return what a new process is told by the group: it keeps what it had."""
        membership = self.members[at] = SimulatedMembership()
        self.hear(at)
        return membership

    def leave(self, at: int) -> None:
        """Forget a process, but not what it had: a session must time out for that."""
        self.members.pop(at, None)

    def assign(self, partition: int, at: int) -> None:
        """Give a partition to a node."""
        self.believed[partition] = at
        if at in self.members:
            self.members[at].assigned.add(partition)

    def flap(self) -> None:
        """Give some partition to some node."""
        self.assign(self._random.below(len(self.believed)), self._random.below(self._nodes))

    def suspect(self, at: int) -> None:
        """Give away one partition of a node that is silent."""
        had = [partition for partition, of in enumerate(self.believed) if of == at]
        if had and self._nodes > 1:
            to = (at + 1 + self._random.below(self._nodes - 1)) % self._nodes
            self.assign(had[0], to)

    def paused(self, at: int) -> bool:
        """Return whether a process has left for the time being."""
        return at in self.members and self.members[at].paused

    def hear(self, at: int) -> None:
        """Tell a process what the group believes."""
        mine = {partition for partition, of in enumerate(self.believed) if of == at}
        self.members[at].assigned = mine

    def calm(self, running: Sequence[int]) -> None:
        """Spread the partitions over those that run, and tell everybody."""
        first = self._random.below(len(running))
        for partition in range(len(self.believed)):
            self.believed[partition] = running[(first + partition) % len(running)]
        for at in self.members:
            self.hear(at)
