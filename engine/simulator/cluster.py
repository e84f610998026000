"""Simulated processes on one broker, and what happens to them.

What a process is, machine.py says. The cluster calls each in turn, and hurts them.
"""

from collections import Counter
from dataclasses import dataclass

from engine.errors import EngineError
from engine.log.simulated_broker import SimulatedBroker
from engine.model import Phase
from engine.partition.replica import Replica
from engine.ports import Random
from engine.simulator.clocks import WorldClock
from engine.simulator.disks import MemoryObjects
from engine.simulator.keeping import Keeper
from engine.simulator.machine import Setup, SimulatedNode, World, is_closed
from engine.simulator.others import BeatFaults, Beats, Group

MENDED = frozenset({"E1202", "E1302"})  # what a restore mends, where there is one
CALLS_INSIDE_MAX = 60  # within which a process dies that is to die in the middle
DAMAGED_BLOCKS_MAX = 2  # in all: a partition restores itself only so often in an hour


@dataclass(slots=True)
class Chances:
    """How often each thing happens to a node in a step, in 1,000."""

    crash: int = 0
    lose_disk: int = 300  # of crashes
    crash_inside: int = 0  # of crashes: in the middle of what the process does
    damage_disk: int = 0  # of crashes
    damage_block: int = 0  # of a store, which nobody notices before it is read
    terminate: int = 0  # asked to hand over and leave
    drain: int = 0  # asked to hand over, and some time later to serve again
    pause: int = 0
    pause_steps: int = 60
    slow: int = 0  # its shell runs at a tenth of the speed
    flush: int = 50
    reassign: int = 0
    notice: int = 60  # that a process is gone or silent: it loses its partitions
    hear: int = 80  # a process learns what the group took away
    skew: int = 0
    skew_ms: int = 4_000
    objects_away: int = 0  # of calls to the store of snapshots
    objects_cut: int = 0  # it is away for everybody, in a step
    objects_cut_ms: int = 3_000
    objects_damaged: int = 0  # the newest of them
    archive: int = 0  # as an operator does with `partita log archive`
    trim: int = 0  # and with `partita log trim`


class Cluster:
    """Nodes, a broker, heartbeats, and a group that assigns partitions without asking much."""

    def __init__(
        self,
        broker: SimulatedBroker,
        clock: WorldClock,
        random: Random,
        setup: Setup,
        faults: tuple[Chances, BeatFaults],
    ) -> None:
        self.broker = broker
        self.clock = clock
        self.random = random
        self.setup = setup
        self.chances = faults[0]
        self.beats = Beats(clock, random, faults[1])
        self.group = Group(broker.partitions, setup.nodes, random)
        self.counts: Counter[str] = Counter()
        self._objects_cut_until_ms = 0
        if setup.snapshots is not None:
            setup.snapshots.fails = self._objects_fail
            self.keeper = Keeper(broker, setup.snapshots)
        world = World(broker, clock, random, self.beats, self.group)
        self.nodes = [SimulatedNode(at, world, setup) for at in range(setup.nodes)]

    def step(self) -> None:
        """Let every process and the broker move once, in a random order of processes."""
        first = self.random.below(len(self.nodes))
        for at in range(len(self.nodes)):
            node = self.nodes[(first + at) % len(self.nodes)]
            self._hurt(node)
            self._hear(node)
            if not node.tick():
                self.counts["crash_inside"] += 1
                self._crash(node)
        if self._chance(self.chances.reassign):
            self.counts["flap"] += 1
            self.group.flap()
        if self.setup.snapshots is not None:
            self._keep(self.setup.snapshots)
        self.broker.step()
        self.beats.step()

    def _keep(self, snapshots: MemoryObjects) -> None:
        """Do what operators do about snapshots and the log, and let snapshots be damaged."""
        if self._chance(self.chances.objects_damaged):
            self.counts["damaged_object"] += 1
            kind = "manifest/" if self.random.below(2) else "sst/"
            snapshots.damage(kind, self.random)
        if self._chance(self.chances.objects_cut):
            self.counts["objects_cut"] += 1
            cut_ms = self.random.below(self.chances.objects_cut_ms)
            self._objects_cut_until_ms = self.clock.time_ms + cut_ms
        if self._chance(self.chances.archive):
            self.keeper.archive(self.random.below(self.broker.partitions))
        if self._chance(self.chances.trim):
            self.keeper.trim(self.random.below(self.broker.partitions))

    def _objects_fail(self) -> bool:
        away = self.clock.time_ms < self._objects_cut_until_ms
        return away or self._chance(self.chances.objects_away)

    def _hurt(self, node: SimulatedNode) -> None:
        chances = self.chances
        self._end(node)
        if self._chance(chances.pause):
            self.counts["pause"] += 1
            node.paused_steps = self.random.below(chances.pause_steps)
        if self._chance(chances.drain) and node.is_up:
            self.counts["drain"] += 1
            node.drain_steps = self.random.below(chances.pause_steps)
        if self._chance(chances.slow):
            self.counts["slow"] += 1
            node.slow_steps = self.random.below(chances.pause_steps)
        if self._chance(chances.flush):
            node.flush()
        if self._chance(chances.skew):
            self.counts["clock_jump"] += 1
            node.clock.skew_ms = self.random.below(2 * chances.skew_ms) - chances.skew_ms
        if self._chance(chances.damage_block):
            self._damage_block(node)
        if self._chance(self.beats.faults.cut):
            self.counts["beats_cut"] += 1
            cut_ms = self.random.below(self.beats.faults.cut_ms)
            node.directory.cut_until_ms = self.clock.time_ms + cut_ms

    def _end(self, node: SimulatedNode) -> None:
        """End a process: between two of its ticks, within one, or by asking it."""
        chances = self.chances
        if self._chance(chances.crash) and node.is_up:
            if self._chance(chances.crash_inside):
                node.dies_in = 1 + self.random.below(CALLS_INSIDE_MAX)
            else:
                self._crash(node)
        if self._chance(chances.terminate) and node.is_up:
            self.counts["terminate"] += 1
            node.terminate()

    def _crash(self, node: SimulatedNode) -> None:
        self.counts["crash"] += 1
        node.crash(self.random, 1 + self.random.below(self.chances.pause_steps))
        if self._chance(self.chances.lose_disk):
            self.counts["lost_disk"] += 1
            node.folders.clear()
        for folder in node.folders.values():
            if self._chance(self.chances.damage_disk):
                self.counts["damaged_disk"] += 1
                folder.damaged = True

    def _damage_block(self, node: SimulatedNode) -> None:
        folders = list(node.folders.values())
        if folders and self.counts["damaged_block"] < DAMAGED_BLOCKS_MAX:
            folder = folders[self.random.below(len(folders))]
            self.counts["damaged_block"] += folder.damage_block(self.random) > 0

    def _hear(self, node: SimulatedNode) -> None:
        """Let the group notice a silent process, and a process hear what the group did."""
        if not node.running or self.group.paused(node.at):
            if self._chance(self.chances.notice):
                self.group.suspect(node.at)
        elif self._chance(self.chances.hear):
            self.group.hear(node.at)

    def calm(self) -> None:
        """End all faults: every machine is well, and the group is of one mind."""
        self.chances = Chances(flush=0)
        self.broker.calm()
        self.beats.calm()
        self._objects_cut_until_ms = 0
        for node in self.nodes:
            node.paused_steps = node.slow_steps = node.drain_steps = 0
            node.down_steps = min(node.down_steps, 1)
            node.dies_in = 0
            node.clock.skew_ms = 0
            node.directory.cut_until_ms = 0
            for folder in node.folders.values():
                folder.damaged = False
        self.group.calm([node.at for node in self.nodes])

    def owners(self, partition: int) -> list[Replica]:
        """Return the replicas that believe to own a partition."""
        return [one for one in self.held(partition) if one.phase is Phase.OWNING]

    def held(self, partition: int) -> list[Replica]:
        """Return the replicas of a partition in processes that run."""
        found = (node.replicas.get(partition) for node in self.nodes if node.is_up)
        return [one for one in found if one is not None and not is_closed(one)]

    def counters(self) -> "Counter[str]":
        """Return what was done to nodes, and what they have done."""
        total = Counter(self.counts)
        if self.setup.snapshots is not None:
            total.update(self.keeper.counts)
            total.update(self.setup.snapshots.counts)
        for node in self.nodes:
            total.update(node.counters())
        return total

    @property
    def problems(self) -> list[EngineError]:
        """Return the errors that stopped a replica and that nothing mends."""
        return [
            problem
            for node in self.nodes
            for problem in node.problems
            if problem.code not in MENDED
        ]

    def _chance(self, permille: int) -> bool:
        return permille > 0 and self.random.below(1_000) < permille
