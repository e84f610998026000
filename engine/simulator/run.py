"""One simulation: a seed, a safety phase full of faults, a liveness phase without, a verdict."""

import logging
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import structlog

from engine import limits, wire
from engine.application import Application
from engine.assembly import NoObserver, build_replica, python_host, wasm_host
from engine.audit import Parts, Witness, witness_of
from engine.errors import StoreError
from engine.log.simulated_broker import SimulatedBroker
from engine.model import Phase, Position
from engine.node.gate import Gate
from engine.partition.ledger import position_of
from engine.partition.replica import Identity, Replica
from engine.ports import PartitionStore, StateHost
from engine.simulator import auditor
from engine.simulator.applications import HostName, host_of, ledger, ledger_back, ledger_next
from engine.simulator.clocks import WorldClock
from engine.simulator.cluster import Cluster
from engine.simulator.disks import MemoryObjects
from engine.simulator.machine import Setup, SimulatedNode, is_closed
from engine.simulator.profile import Profile, profile_of
from engine.simulator.workload import Clients
from engine.store.memory import MemoryStore
from engine.wire import Kind
from engine.world import SeededRandom

SAFETY_STEPS = 260
LIVENESS_STEPS_MAX = 4_000
STABLE_STEPS = 40
CALM_STEP_MS = 100  # some of them to each heartbeat, few to each silence
CLAIMS_CALM_MAX = 6  # of each partition, until all is settled
NODES = 3


@dataclass(slots=True)
class Result:
    """What became of a seed; `faults` empty = all promises held."""

    seed: int
    faults: list[str] = field(default_factory=list[str])
    commands: int = 0
    crashes: int = 0
    pauses: int = 0
    steps: int = 0
    injected: dict[str, int] = field(default_factory=dict[str, int])


class Simulation:
    """A cluster, its clients and its faults, all from one seed; on the host named, or its own."""

    def __init__(self, seed: int, host: HostName | None = None) -> None:
        random = SeededRandom(seed)
        self._host = host or host_of(seed)
        self._ledger = ledger(self._host)
        self.result = Result(seed)
        self.clock = WorldClock()
        self.profile: Profile = profile_of(random, SAFETY_STEPS)
        self._random = random
        self._content = MemoryObjects()
        self._idle_days = 0
        self.broker = SimulatedBroker(
            random, self.clock, self._ledger.partitions, self.profile.faults
        )
        setup = Setup(
            self._folder,
            self._build,
            self.profile.standbys,
            MemoryObjects() if self.profile.snapshots_ms else None,
            self.profile.snapshots_ms or 3_000,
            nodes=NODES,
            force=self.profile.deploys.force,
        )
        chances = self.profile.chances, self.profile.beats
        self.cluster = Cluster(self.broker, self.clock, random, setup, chances)
        self.clients = Clients(self.cluster, self._ledger, self.clock, random)

    def _build(
        self, node: SimulatedNode, partition: int, store: MemoryStore, gate: Gate
    ) -> Replica:
        identity = Identity(node.name, partition, node.application)
        return build_replica(
            identity,
            node.logs,
            store,
            self._content,
            replies=gate,
            host=self._make_host(store),
            clock=node.clock,
            random=self._random,
            observer=NoObserver(),
            build_records_min=self.profile.build_records,
        )

    def _folder(self, at: int) -> Application:
        """Return what a node finds in its folder now: new versions come to one after the other."""
        deploys, steps = self.profile.deploys, self.result.steps - at * self.profile.deploys.spread
        if not 0 < deploys.step <= steps:
            return self._ledger
        if 0 < deploys.back <= steps - deploys.step:
            return ledger_back(self._host)
        return ledger_next(self._host)

    def _newest(self) -> Application:
        """Return the version that all nodes have in the end."""
        deploys = self.profile.deploys
        if not deploys.step:
            return self._ledger
        return ledger_back(self._host) if deploys.back else ledger_next(self._host)

    def _make_host(self, store: MemoryStore) -> StateHost:
        if self._host == "wasm":
            return wasm_host(store)
        return python_host(store if self.profile.reading else None)

    def run(self) -> Result:
        """Run both phases and the audit."""
        with _silence():
            self._run()
        return self.result

    def _run(self) -> None:
        for _ in range(SAFETY_STEPS):
            self._jump()
            self._step(1 + self._random.below(40), fresh=True)
            self._look_inside()
        self.cluster.calm()
        self._settle()
        self._judge()

    def _jump(self) -> None:
        """Let nothing happen for a while, as when the machine under all of this is stopped."""
        # Behind a day enough time must go by for an owner to mark it, and for a copy of that.
        if self._random.below(40 if self._idle_days else 200) == 0:
            self.clock.time_ms += self._random.below(20_000)
        if self.result.steps and self.result.steps == self.profile.idle_step:
            self.clock.time_ms += limits.DEDUP_WINDOW_MS + self._random.below(3_600_000)
            self._idle_days += 1

    def _step(self, time_ms: int, *, fresh: bool) -> None:
        self.clock.time_ms += time_ms
        self.clients.step(fresh=fresh)
        self.cluster.step()
        self.result.steps += 1

    def _settle(self) -> None:
        """Go on without faults until all is answered and owned, and then see that it stays so."""
        before, missing = self._takeovers(), "nothing"
        for _ in range(LIVENESS_STEPS_MAX):
            self._step(1 + self._random.below(CALM_STEP_MS), fresh=False)
            missing = self._missing()
            if not missing:
                break
        else:
            self.result.faults.append(f"not settled: {missing}")
            return
        settled, healed = self._takeovers(), self._heals()
        if settled - before > CLAIMS_CALM_MAX * self.broker.partitions:
            self.result.faults.append(f"{settled - before} changes of owner without a fault")
        for _ in range(STABLE_STEPS):
            self._step(1 + self._random.below(CALM_STEP_MS), fresh=False)
        moves = self._takeovers() - settled
        # A block that was damaged before may be met only now; its owner then begins at a snapshot.
        if moves > self.broker.partitions + self._heals() - healed:
            self.result.faults.append(f"{moves} changes of owner although all was settled")

    def _missing(self) -> str:
        """Return what is not as it should be long after the last fault, "" if all is."""
        if self.clients.waiting:
            return f"{len(self.clients.waiting)} commands without an answer"
        if self.broker.in_flight:
            return "records are in flight"
        found = (self._missing_of(partition) for partition in range(self.broker.partitions))
        return next(filter(None, found), "")

    def _missing_of(self, partition: int) -> str:
        owners = self.cluster.owners(partition)
        if len(owners) != 1:
            return f"partition {partition} has {len(owners)} owners"
        if owners[0].resume < self.broker.command_logs[partition].end:
            return f"partition {partition} has commands to take"
        serving = owners[0].serving
        is_new = serving is not None and serving.version == self._newest().version
        if not is_new or owners[0].builds():
            return f"partition {partition} does not run all that every node has loaded"
        ready = [one for one in self.cluster.held(partition) if one.phase is Phase.STANDBY]
        if len(ready) < min(self.profile.standbys, NODES - 1):
            return f"partition {partition} has {len(ready)} standbys"
        if {one.held().sequence for one in ready} - {owners[0].held().sequence}:
            return f"partition {partition} has a standby that lags"
        return ""

    def _look_inside(self) -> None:
        """Now and then, hold a replica's rows against its own position and digests."""
        if self._random.below(40):
            return
        held = self.cluster.held(self._random.below(self.broker.partitions))
        if held:
            replica = held[self._random.below(len(held))]
            with suppress(StoreError):  # a damaged block: to be met by the node itself
                self.result.faults += auditor.half_seen(replica)

    def _judge(self) -> None:
        result, broker, cluster = self.result, self.broker, self.cluster
        result.faults += [f"a replica stopped: {problem}" for problem in cluster.problems]
        result.faults += auditor.faults(broker, self.clients, self._ledger, self._parts)
        counters = cluster.counters()
        result.commands = len(self.clients.sent)
        result.crashes, result.pauses = counters.pop("crash", 0), counters.pop("pause", 0)
        counters.update(self._deployed(), idle_day=self._idle_days)
        result.injected = {**broker.counts, **counters}

    def _deployed(self) -> "Counter[str]":
        """Count what came into force behind a partition's first application."""
        counts = Counter(deployed=-self.broker.partitions, switched=0)
        for partition in range(self.broker.partitions):
            heads = (wire.head(record.value) for record in self.broker.events(partition))
            kinds = Counter(head.kind for head in heads if head is not None)
            counts.update(deployed=kinds[Kind.APPLICATION], switched=kinds[Kind.SWITCH])
        return counts

    def _takeovers(self) -> int:
        return self.cluster.counters()["takeovers"]

    def _heals(self) -> int:
        return self.cluster.counters()["heals"]

    def _parts(self, partition: int) -> Parts:
        """Return what a replay is made of; what nodes hold at the end is compared with it."""
        held = [
            (node, node.replicas[partition])
            for node in self.cluster.nodes
            if node.is_up and partition in node.replicas and not is_closed(node.replicas[partition])
        ]
        stores = [
            _witness(node.name, replica.store)
            for node, replica in held
            if replica.phase in {Phase.OWNING, Phase.STANDBY}
        ]
        return Parts(python_host, MemoryStore(), self._content, stores)


def _witness(name: str, store: PartitionStore) -> Witness:
    """Return what a store holds; where a row can't be read, what it says of itself."""
    view = store.view()
    try:
        return witness_of(name, view)
    except StoreError:
        return Witness(name, position_of(view) or Position())
    finally:
        view.close()


@contextmanager
def _silence() -> Generator[None]:
    """Let nodes say nothing to the terminal: what happens to them is on purpose."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def simulate(seed: int, host: HostName | None = None) -> Result:
    """Run one seed; whatever escapes from inside the engine is a fault like any other."""
    simulation = Simulation(seed, host)
    try:
        return simulation.run()
    except Exception as fault:  # noqa: BLE001 - whatever escapes the core is a finding
        simulation.result.faults.append(f"{type(fault).__name__}: {fault}")
        return simulation.result
