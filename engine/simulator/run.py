"""One simulation: a seed, a safety phase full of faults, a liveness phase without, a verdict."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

from engine.application import Application
from engine.application.folder import load_application
from engine.assembly import NoObserver, build_replica, python_host
from engine.audit import Parts, witness_of
from engine.log.simulated_broker import Faults, SimulatedBroker
from engine.partition.replica import Identity, Replica
from engine.simulator import auditor
from engine.simulator.cluster import (
    Chances,
    Cluster,
    MemoryObjects,
    NodeClock,
    SimulatedNode,
    WorldClock,
)
from engine.simulator.workload import Clients
from engine.store.memory import MemoryStore
from engine.world import SeededRandom

SAFETY_STEPS = 260
LIVENESS_STEPS_MAX = 4_000
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


@functools.cache
def ledger() -> Application:
    """Return the application that simulations run."""
    return load_application(Path(__file__).parent / "ledger")


@functools.cache
def ledger_next() -> Application:
    """Return its next version, which some seeds deploy in the middle."""
    return load_application(Path(__file__).parent / "ledger_next")


class Simulation:
    """A cluster, its clients and its faults, all from one seed."""

    def __init__(self, seed: int) -> None:
        random = SeededRandom(seed)
        self.result = Result(seed)
        self.clock = WorldClock()
        self._random = random
        self._content = MemoryObjects()
        self._reading = random.below(2) == 0  # does the host read rows, or name missing ones?
        faults, chances = _profile(random)
        # A source of its own, so that what seeds did before there were builds stays as it was.
        more = SeededRandom(seed + (1 << 32))
        self._build_records = 1 + more.below(8)  # a step: few, so that faults hit the builds
        self._deploy_step = more.below(SAFETY_STEPS) if more.below(2) else 0  # 0 = never
        self.broker = SimulatedBroker(random, self.clock, ledger().partitions, faults)
        nodes = [
            SimulatedNode(f"n{at}", self.broker, NodeClock(self.clock), self._build)
            for at in range(NODES)
        ]
        self.cluster = Cluster(nodes, self.broker, random, chances)
        self.clients = Clients(self.broker, ledger(), self.clock, random)

    def _build(self, node: SimulatedNode, partition: int, store: MemoryStore) -> Replica:
        identity = Identity(node.name, partition, self._folder())
        return build_replica(
            identity,
            node.logs,
            store,
            self._content,
            replies=node.logs.replies,
            host=python_host(store if self._reading else None),
            clock=node.clock,
            random=self._random,
            observer=NoObserver(),
            build_records_min=self._build_records,
        )

    def _folder(self) -> Application:
        """Return what a process that starts now finds in its folder."""
        deployed = 0 < self._deploy_step <= self.result.steps
        return ledger_next() if deployed else ledger()

    def run(self) -> Result:
        """Run both phases and the audit."""
        for _ in range(SAFETY_STEPS):
            self._step(fresh=True)
        self.cluster.calm()
        for _ in range(LIVENESS_STEPS_MAX):
            self._step(fresh=False)
            if not self.clients.waiting and self._settled():
                break
        else:
            waiting = len(self.clients.waiting)
            self.result.faults.append(f"not settled: {waiting} commands without an answer")
        self._judge()
        return self.result

    def _step(self, *, fresh: bool) -> None:
        self.clock.time_ms += 1 + self._random.below(40)
        if self._random.below(200) == 0:
            self.clock.time_ms += self._random.below(20_000)
        self.clients.step(fresh=fresh)
        self.cluster.step()
        self.result.steps += 1

    def _settled(self) -> bool:
        """Return True when every command is behind some owner's resume offset, and views built."""
        for partition in range(self.broker.partitions):
            end = self.broker.command_logs[partition].end
            serving = [
                node.replicas[partition]
                for node in self.cluster.nodes
                if partition in node.replicas and partition in node.wanted
            ]
            resumes = [replica.resume for replica in serving]
            if not resumes or max(resumes) < end or any(one.builds() for one in serving):
                return False
        return not self.broker.in_flight

    def _judge(self) -> None:
        result, broker = self.result, self.broker
        result.faults += [f"a replica stopped: {problem}" for problem in self.cluster.problems]
        result.faults += auditor.faults(broker, self.clients, ledger(), self._parts)
        result.commands = len(self.clients.sent)
        result.crashes, result.pauses = self.cluster.crashes, self.cluster.pauses
        result.injected = dict(broker.counts)

    def _parts(self, partition: int) -> Parts:
        """Return what a replay is made of; what nodes hold at the end is compared with it."""
        held = [node for node in self.cluster.nodes if partition in node.replicas]
        stores = [witness_of(node.name, node.disks[partition].view()) for node in held]
        return Parts(python_host, MemoryStore(), self._content, stores)


def _profile(random: SeededRandom) -> tuple[Faults, Chances]:
    """Return which faults this seed has; most seeds have a few kinds, some have all."""

    def some(rate: int) -> int:
        return random.below(rate) if random.below(2) else 0

    faults = Faults(
        stay=some(900),
        part=some(800),
        late_report=some(600),
        stale_read=some(600),
        pending_lookup=some(600),
        lose_reply=some(200),
        budget=random.below(12),
        lose=some(30),
        silent=some(500),
        drop_report=some(20),
        hole=some(6) if random.below(4) == 0 else 0,
        double=some(10) if random.below(4) == 0 else 0,
        elect=some(10),
        skew_ms=random.below(2_000),
        unavailable=some(100),
        double_command=some(50),
    )
    chances = Chances(
        crash=some(15),
        pause=some(40),
        pause_steps=10 + random.below(80),
        flush=random.below(100),
        reassign=some(60),
        notice=20 + random.below(200),
        hear=20 + random.below(300),
        skew=some(10),
    )
    return faults, chances


def simulate(seed: int) -> Result:
    """Run one seed; whatever escapes from inside the engine is a fault like any other."""
    simulation = Simulation(seed)
    try:
        return simulation.run()
    except Exception as fault:  # noqa: BLE001 - whatever escapes the core is a finding
        simulation.result.faults.append(f"{type(fault).__name__}: {fault}")
        return simulation.result
