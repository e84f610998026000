"""One machine of a simulated cluster: its disks, its clock, and the process on it.

A process is the shipped `Node` with all it decides: it holds, follows, claims, hands over, copies
and restores. Only its threads are left out: what they would do is called one after the other.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from engine import limits
from engine.application import Application
from engine.errors import ApplicationError, EngineError
from engine.log.archived import ArchivedLogs
from engine.log.simulated import SimulatedLogs
from engine.log.simulated_broker import SimulatedBroker
from engine.node.gate import Gate
from engine.node.node import Node
from engine.node.parts import Parts
from engine.node.stores import Cadence, Places, Stores
from engine.partition.replica import Replica
from engine.partition.snapshots import Retention
from engine.ports import Logs, Random
from engine.simulator.clocks import NodeClock, WorldClock
from engine.simulator.disks import MemoryFolder, MemoryObjects, opener
from engine.simulator.others import Beats, Group, Inline, SimulatedDirectory
from engine.store.memory import MemoryStore

LEAVE_STEPS_MAX = 300

BuildReplica = Callable[["SimulatedNode", int, MemoryStore, Gate], Replica]


@dataclass(slots=True)
class Setup:
    """What all nodes of a cluster have in common."""

    application: Callable[[int], Application]  # as a node finds it now in its folder
    build: BuildReplica
    standbys: int = 0
    snapshots: MemoryObjects | None = None
    copies_ms: int = 3_000  # between copies
    nodes: int = 3
    force: bool = False  # a version that is loaded doesn't wait for the other nodes


@dataclass(slots=True)
class World:
    """What is around all nodes of a cluster."""

    broker: SimulatedBroker
    clock: WorldClock
    random: Random
    beats: Beats
    group: Group


class Died(BaseException):
    """A process ends in the middle of something; nothing in it may catch that."""


class SimulatedNode:
    """One machine: its disks, its clock, and the process on it, if one runs."""

    def __init__(self, at: int, world: World, setup: Setup) -> None:
        self.at = at
        self.name = f"n{at}"
        self.clock = NodeClock(world.clock)
        self.folders: dict[int, MemoryFolder] = {}
        self.replicas: dict[int, Replica] = {}  # the last of each partition in this process
        self.paused_steps = 0
        self.down_steps = 0
        self.slow_steps = 0
        self.leaving_steps = 0
        self.drain_steps = 0
        self.dies_in = 0  # calls; 0 = not
        self.problems: list[EngineError] = []
        self.totals: Counter[str] = Counter()  # of replicas and processes that are gone
        self._world = world
        self._setup = setup
        self._beat_at_ms = 0
        self._steps = 0
        self._ticks = False
        self._dead = False
        self.start()

    def start(self) -> None:
        """Start a process."""
        world, setup = self._world, self._setup
        self._dead = False
        self._process = SimulatedLogs(world.broker, self._reached)
        objects = opener(setup.snapshots, self._reached)
        self.logs: Logs = self._process
        if objects is not None:
            self.logs = ArchivedLogs(self._process, objects, Inline())
        self.directory = SimulatedDirectory(world.beats, self.clock)
        self.gate = Gate(self.logs.commands, self.logs.replies)
        self.replicas = {}
        self.application = application = setup.application(self.at)
        places = Places(
            application.name,
            self.folder,
            objects,
            Cadence(setup.copies_ms, Retention(2, 0)),
        )
        random = world.random
        stores = Stores(places, self.clock, random, worker=Inline(), pause=lambda: None)
        self.stores = stores
        self.node = Node(
            Parts(
                name=self.name,
                application=application,
                logs=self.logs,
                membership=world.group.join(self.at),
                directory=self.directory,
                gate=self.gate,
                open_replica=lambda partition: self._open(partition, stores),
                stores=stores,
                clock=self.clock,
                random=random,
                load=lambda: setup.application(self.at),
                standbys=setup.standbys,
                force_deploy=setup.force,
                http_url=self.name,
                worker=lambda _name: Inline(),
            )
        )

    def folder(self, partition: int) -> MemoryFolder:
        """Return a partition's folders on this machine."""
        return self.folders.setdefault(partition, MemoryFolder(self._reached))

    def _reached(self) -> None:
        """Count a call that leaves the process; it may die there, and then does nothing more."""
        if not self._ticks:
            return
        if self.dies_in > 0:
            self.dies_in -= 1
            self._dead = self.dies_in == 0
        if self._dead:
            raise Died

    def _open(self, partition: int, stores: Stores) -> Replica:
        store = stores.open(partition, self.logs.event_log(partition))
        assert isinstance(store, MemoryStore)
        replica = self._setup.build(self, partition, store, self.gate)
        self.totals += _takeovers(self.replicas.pop(partition, None))
        self.replicas[partition] = replica
        return replica

    def tick(self) -> bool:
        """Let the process run once; return False if it has died of it."""
        self._ticks = True
        try:
            self._tick()
        except Died:
            return False
        finally:
            self._ticks = False
        return True

    def _tick(self) -> None:
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
        application, random = self._setup.application(self.at), self._world.random
        if operations.loaded.application is not application and random.below(20) == 0:
            with suppress(ApplicationError):  # the log runs a newer one already
                operations.reload(force=self._setup.force)
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
            self.crash(self._world.random, 1)
            return
        self.node.end()
        self._gone(1)

    def crash(self, random: Random, down_steps: int) -> None:
        """Kill the process; its disks come back as of some earlier write."""
        self._process.crash()
        for folder in self.folders.values():
            folder.crash(random)
        self._gone(down_steps)

    def _gone(self, down_steps: int) -> None:
        self._world.group.leave(self.at)
        self.totals = self.counters()
        self.replicas = {}
        self.down_steps = down_steps
        self.paused_steps = self.leaving_steps = self.drain_steps = self.dies_in = 0

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
