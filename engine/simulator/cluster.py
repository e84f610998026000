"""Simulated processes on one broker, and what happens to them.

A process is the shipped `Node` with all it decides: it holds, follows, claims, hands over, copies
and restores. Only its threads are left out: the cluster calls what they would, one after the other.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from engine import limits
from engine.application import Application
from engine.errors import EngineError
from engine.log.simulated import SimulatedLogs
from engine.log.simulated_broker import SimulatedBroker
from engine.model import Phase
from engine.node.gate import Gate
from engine.node.node import Node
from engine.node.parts import Parts
from engine.node.stores import Cadence, Places, Stores
from engine.partition.replica import Replica
from engine.partition.snapshots import Retention
from engine.ports import Random
from engine.simulator.clocks import NodeClock, WorldClock
from engine.simulator.disks import MemoryFolder, MemoryObjects, opener
from engine.simulator.others import BeatFaults, Beats, Group, Inline, SimulatedDirectory
from engine.store.memory import MemoryStore

MENDED = frozenset({"E1202", "E1302"})  # what a restore mends, where there is one
LEAVE_STEPS_MAX = 300

BuildReplica = Callable[["SimulatedNode", int, MemoryStore, Gate], Replica]


@dataclass(slots=True)
class Chances:
    """How often each thing happens to a node in a step, in 1,000."""

    crash: int = 0
    lose_disk: int = 300  # of crashes
    damage_disk: int = 0  # of crashes
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
    objects_damaged: int = 0  # the newest of them


@dataclass(slots=True)
class Setup:
    """What all nodes of a cluster have in common."""

    application: Callable[[], Application]  # as a process that starts now finds it
    build: BuildReplica
    standbys: int = 0
    snapshots: MemoryObjects | None = None
    interval_ms: int = 3_000  # between copies
    nodes: int = 3


class SimulatedNode:
    """One machine: its disks, its clock, and the process on it, if one runs."""

    def __init__(self, at: int, cluster: "Cluster", setup: Setup) -> None:
        self.at = at
        self.name = f"n{at}"
        self.clock = NodeClock(cluster.clock)
        self.folders: dict[int, MemoryFolder] = {}
        self.replicas: dict[int, Replica] = {}  # the last of each partition in this process
        self.paused_steps = 0
        self.down_steps = 0
        self.slow_steps = 0
        self.leaving_steps = 0
        self.drain_steps = 0
        self.problems: list[EngineError] = []
        self.totals: Counter[str] = Counter()  # of replicas and processes that are gone
        self._cluster = cluster
        self._setup = setup
        self._beat_at_ms = 0
        self._steps = 0
        self.start()

    def start(self) -> None:
        """Start a process."""
        cluster, setup = self._cluster, self._setup
        self.logs = SimulatedLogs(cluster.broker)
        self.directory = SimulatedDirectory(cluster.beats, self.clock)
        self.gate = Gate(self.logs.commands, self.logs.replies)
        self.replicas = {}
        application = setup.application()
        places = Places(
            application.name,
            self.folder,
            opener(setup.snapshots),
            Cadence(setup.interval_ms, Retention(2, 0)),
        )
        random = cluster.random
        stores = Stores(places, self.clock, random, worker=Inline(), pause=lambda: None)
        self.stores = stores
        self.node = Node(
            Parts(
                name=self.name,
                application=application,
                logs=self.logs,
                membership=cluster.group.join(self.at),
                directory=self.directory,
                gate=self.gate,
                open_replica=lambda partition: self._open(partition, stores),
                stores=stores,
                clock=self.clock,
                random=random,
                load=setup.application,
                standbys=setup.standbys,
                http_url=self.name,
                worker=lambda _name: Inline(),
            )
        )

    def folder(self, partition: int) -> MemoryFolder:
        """Return a partition's folders on this machine."""
        return self.folders.setdefault(partition, MemoryFolder())

    def _open(self, partition: int, stores: Stores) -> Replica:
        store = stores.open(partition, self.logs.event_log(partition))
        assert isinstance(store, MemoryStore)
        replica = self._setup.build(self, partition, store, self.gate)
        self.totals += _takeovers(self.replicas.pop(partition, None))
        self.replicas[partition] = replica
        return replica

    def tick(self) -> None:
        """Let the process run once."""
        if self.down_steps > 0:
            self.down_steps -= 1
            if self.down_steps == 0:
                self.start()
            return
        if self.paused_steps > 0:
            self.paused_steps -= 1
            return
        now_ms = self.clock.monotonic_ms()
        if now_ms >= self._beat_at_ms:
            self._beat_at_ms = now_ms + limits.HEARTBEAT_MS
            self.node.pulse()
        self._steps += 1
        if self.slow_steps > 0:
            self.slow_steps -= 1
            if self._steps % 10:
                return
        self._operate()
        self.node.tick()
        self._note_problems()
        if self.leaving_steps > 0:
            self._leave()

    def _operate(self) -> None:
        """Do what this machine's operator does: load a new folder, end a drain."""
        operations = self.node.operations
        application = self._setup.application()
        if operations.loaded.application is not application and self._cluster.random.below(20) == 0:
            operations.reload()
        if self.drain_steps > 0:
            self.drain_steps -= 1
            operations.drain()
        elif operations.draining and self.leaving_steps == 0:
            operations.resume()

    def _note_problems(self) -> None:
        for replica in self.replicas.values():
            if replica.problem is not None and replica.problem not in self.problems:
                self.problems.append(replica.problem)

    def terminate(self) -> None:
        """Ask the process to hand everything over and to end."""
        if self.leaving_steps == 0:
            self.leaving_steps = LEAVE_STEPS_MAX
            self.node.operations.drain()

    def _leave(self) -> None:
        self.leaving_steps -= 1
        if self.node.busy and self.leaving_steps > 0:
            return
        if self.node.busy:
            self.crash(self._cluster.random, 1)
            return
        self.node.end()
        self._gone(1)

    def crash(self, random: Random, down_steps: int) -> None:
        """Kill the process; its disks come back as of some earlier write."""
        self.logs.crash()
        for folder in self.folders.values():
            folder.crash(random)
        self._gone(down_steps)

    def _gone(self, down_steps: int) -> None:
        self._cluster.group.leave(self.at)
        self.totals = self.counters()
        self.replicas = {}
        self.down_steps = down_steps
        self.paused_steps = self.leaving_steps = self.drain_steps = 0

    def counters(self) -> "Counter[str]":
        """Return what all processes here have done so far."""
        total = Counter(self.totals)
        if self.is_up:
            stores = self.stores.statistics()
            total.update({name: int(stores[name]) for name in ("taken", "restores", "heals")})
            for replica in self.replicas.values():
                total.update(_takeovers(replica))
        return total

    def flush(self) -> None:
        """Make all disks survive a crash."""
        for folder in self.folders.values():
            if not folder.store.closed:
                folder.store.flush()

    @property
    def is_up(self) -> bool:
        """Return True when there is a process."""
        return self.down_steps == 0

    @property
    def running(self) -> bool:
        """Return True when the process would act."""
        return self.is_up and self.paused_steps == 0


def _takeovers(replica: Replica | None) -> "Counter[str]":
    return Counter(takeovers=replica.counters["takeovers"] if replica else 0)


def is_closed(replica: Replica) -> bool:
    """Return True for a replica that is let go, or could not be opened."""
    return isinstance(replica.store, MemoryStore) and replica.store.closed


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
        if setup.snapshots is not None:
            setup.snapshots.fails = lambda: self._chance(self.chances.objects_away)
        self.nodes = [SimulatedNode(at, self, setup) for at in range(setup.nodes)]

    def step(self) -> None:
        """Let every process and the broker move once, in a random order of processes."""
        first = self.random.below(len(self.nodes))
        for at in range(len(self.nodes)):
            node = self.nodes[(first + at) % len(self.nodes)]
            self._hurt(node)
            self._hear(node)
            node.tick()
        if self._chance(self.chances.reassign):
            self.counts["flap"] += 1
            self.group.flap()
        if self.setup.snapshots is not None and self._chance(self.chances.objects_damaged):
            self.counts["damaged_object"] += 1
            kind = "manifest/" if self.random.below(2) else "sst/"
            self.setup.snapshots.damage(kind, self.random)
        self.broker.step()
        self.beats.step()

    def _hurt(self, node: SimulatedNode) -> None:
        chances = self.chances
        if self._chance(chances.crash) and node.is_up:
            self._crash(node)
        if self._chance(chances.pause):
            self.counts["pause"] += 1
            node.paused_steps = self.random.below(chances.pause_steps)
        if self._chance(chances.terminate) and node.is_up:
            self.counts["terminate"] += 1
            node.terminate()
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
        if self._chance(self.beats.faults.cut):
            self.counts["beats_cut"] += 1
            cut_ms = self.random.below(self.beats.faults.cut_ms)
            node.directory.cut_until_ms = self.clock.time_ms + cut_ms

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
        for node in self.nodes:
            node.paused_steps = node.slow_steps = node.drain_steps = 0
            node.down_steps = min(node.down_steps, 1)
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
