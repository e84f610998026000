"""Simulated processes and the group that assigns partitions to them; the faults of both.

A node is the shipped `Replica` per partition on a crashable disk and simulated logs. The group
believes what it likes: a paused node keeps its partitions in its own eyes (a zombie), a new owner
doesn't wait for the old one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from engine.errors import EngineError, UnavailableError
from engine.log.simulated import SimulatedLogs
from engine.log.simulated_broker import SimulatedBroker
from engine.model import Phase
from engine.partition.replica import Replica
from engine.ports import Random
from engine.store.memory import MemoryStore

BuildReplica = Callable[["SimulatedNode", int, MemoryStore], Replica]


class WorldClock:
    """The simulated time of the broker."""

    def __init__(self, start_ms: int = 1_790_000_000_000) -> None:
        self.time_ms = start_ms

    def now_ms(self) -> int:
        """Return milliseconds since 1970."""
        return self.time_ms

    def monotonic_ms(self) -> int:
        """Return milliseconds that never go back."""
        return self.time_ms


class NodeClock:
    """A node's clock: the world's, some way off."""

    def __init__(self, world: WorldClock) -> None:
        self._world = world
        self.skew_ms = 0

    def now_ms(self) -> int:
        """Return milliseconds since 1970 as this node believes them."""
        return self._world.time_ms + self.skew_ms

    def monotonic_ms(self) -> int:
        """Return milliseconds that never go back."""
        return self._world.time_ms


class MemoryObjects:
    """An ObjectStore that never fails."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        """Store a blob."""
        self._objects[name] = data

    def get(self, name: str) -> bytes | None:
        """Return a blob."""
        return self._objects.get(name)

    def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with `prefix`."""
        return sorted(name for name in self._objects if name.startswith(prefix))

    def delete(self, name: str) -> None:
        """Forget a blob."""
        self._objects.pop(name, None)


@dataclass(slots=True)
class Chances:
    """How often each thing happens to a node in a step, in 1,000."""

    crash: int = 0
    lose_disk: int = 300  # of crashes
    pause: int = 0
    pause_steps: int = 60
    flush: int = 50
    reassign: int = 0
    notice: int = 60  # that a process is gone or silent: it loses its partitions
    hear: int = 80  # a process learns what the group took away
    skew: int = 0


class SimulatedNode:
    """One process: its replicas, its disks, its clock."""

    def __init__(
        self, name: str, broker: SimulatedBroker, clock: NodeClock, build: BuildReplica
    ) -> None:
        self.name = name
        self.clock = clock
        self.logs = SimulatedLogs(broker)
        self.disks: dict[int, MemoryStore] = {}
        self.replicas: dict[int, Replica] = {}
        self.wanted: set[int] = set()
        self.taken_away: set[int] = set()  # by the group, which this process hasn't heard yet
        self.paused_steps = 0
        self.down_steps = 0
        self.problems: list[EngineError] = []
        self._broker = broker
        self._build = build

    def tick(self) -> None:
        """Let the process run once."""
        if self.down_steps > 0:
            self.down_steps -= 1
            return
        if self.paused_steps > 0:
            self.paused_steps -= 1
            return
        for partition in sorted(self.wanted - self.replicas.keys()):
            self._open(partition)
        for partition, replica in list(self.replicas.items()):
            self._tick(partition, replica)

    def _open(self, partition: int) -> None:
        store = self.disks.setdefault(partition, MemoryStore())
        replica = self._build(self, partition, store)
        try:
            replica.open()
        except UnavailableError:
            replica.close()
            self.disks[partition] = store.reopen()
            return
        self.replicas[partition] = replica

    def _tick(self, partition: int, replica: Replica) -> None:
        try:
            replica.tick()
        except UnavailableError:
            pass
        except EngineError as error:
            replica.stop(error)
            self.problems.append(error)
        if partition not in self.wanted and replica.phase is not Phase.RELEASING:
            replica.release()
        if replica.phase is Phase.CLOSED:
            replica.close()
            del self.replicas[partition]
            self.disks[partition] = self.disks[partition].reopen()

    def crash(self, random: Random, *, lose_disk: bool, down_steps: int) -> None:
        """Kill the process; its disks come back as of some earlier write, or not at all."""
        self.logs.crash()
        for partition in self.replicas:
            store = self.disks[partition]
            crashed = store.crash(random.below(store.unflushed + 1))
            self.disks[partition] = MemoryStore() if lose_disk else crashed
        self.replicas = {}
        self.down_steps, self.paused_steps = down_steps, 0
        self.logs = SimulatedLogs(self._broker)

    def flush(self) -> None:
        """Make all disks survive a crash."""
        for partition in self.replicas:
            self.disks[partition].flush()

    @property
    def running(self) -> bool:
        """Return True when the process would act."""
        return self.down_steps == 0 and self.paused_steps == 0


class Cluster:
    """Nodes, a broker, and a group that assigns partitions without asking much."""

    def __init__(
        self, nodes: list[SimulatedNode], broker: SimulatedBroker, random: Random, chances: Chances
    ) -> None:
        self.nodes = nodes
        self.broker = broker
        self.chances = chances
        self.crashes = 0
        self.pauses = 0
        self._random = random
        for partition in range(broker.partitions):
            self._assign(partition, random.below(len(nodes)))

    def step(self) -> None:
        """Let every process and the broker move once, in a random order of processes."""
        first = self._random.below(len(self.nodes))
        for at in range(len(self.nodes)):
            node = self.nodes[(first + at) % len(self.nodes)]
            self._hurt(node)
            self._group((first + at) % len(self.nodes))
            node.tick()
        if self._chance(self.chances.reassign):
            partition = self._random.below(self.broker.partitions)
            self._assign(partition, self._random.below(len(self.nodes)))
        self.broker.step()

    def _hurt(self, node: SimulatedNode) -> None:
        chances = self.chances
        if self._chance(chances.crash):
            self.crashes += 1
            lose_disk = self._chance(chances.lose_disk)
            steps = self._random.below(chances.pause_steps)
            node.crash(self._random, lose_disk=lose_disk, down_steps=steps)
        if self._chance(chances.pause):
            self.pauses += 1
            node.paused_steps = self._random.below(chances.pause_steps)
        if self._chance(chances.flush):
            node.flush()
        if self._chance(chances.skew):
            node.clock.skew_ms = self._random.below(8_000) - 4_000

    def _assign(self, partition: int, index: int) -> None:
        """Give a partition to a node; whoever had it hears of that sooner or later."""
        for at, node in enumerate(self.nodes):
            if at == index:
                node.wanted.add(partition)
                node.taken_away.discard(partition)
            elif partition in node.wanted:
                node.taken_away.add(partition)

    def _group(self, at: int) -> None:
        """Let the group notice a silent process, and a process hear what the group did."""
        node = self.nodes[at]
        if not node.running:
            kept = sorted(node.wanted - node.taken_away)
            if kept and self._chance(self.chances.notice):
                self._assign(
                    kept[0], (at + 1 + self._random.below(len(self.nodes) - 1)) % len(self.nodes)
                )
        elif node.taken_away and self._chance(self.chances.hear):
            node.wanted -= node.taken_away
            node.taken_away.clear()

    def calm(self) -> None:
        """End all faults; one healthy node serves everything, all others let go."""
        self.chances = Chances(flush=0)
        self.broker.calm()
        keeper = self._random.below(len(self.nodes))
        for at, node in enumerate(self.nodes):
            node.paused_steps = node.down_steps = 0
            node.clock.skew_ms = 0
            node.taken_away = set()
            node.wanted = set(range(self.broker.partitions)) if at == keeper else set()

    @property
    def problems(self) -> list[EngineError]:
        """Return the errors that stopped a replica."""
        return [problem for node in self.nodes for problem in node.problems]

    def _chance(self, permille: int) -> bool:
        return permille > 0 and self._random.below(1_000) < permille
