"""Shipped replicas on a broker that does nothing by itself: a test says what lands, and when."""

from collections.abc import Callable

from replica_world import move_command

from engine import wire
from engine.assembly import NoObserver, build_replica, python_host
from engine.audit.rules import Rule, Ruling
from engine.errors import EngineError
from engine.log.simulated import SimulatedEventLog, SimulatedLogs
from engine.log.simulated_broker import Session, SimulatedBroker
from engine.model import Phase, Reply
from engine.partition.replica import Identity, Replica
from engine.simulator.applications import ledger
from engine.simulator.clocks import NodeClock, WorldClock
from engine.simulator.disks import MemoryObjects
from engine.store.memory import MemoryStore
from engine.wire import Kind, Outcome
from engine.world import SeededRandom, uuid7


class EqualEpochs(SeededRandom):
    """Randomness that gives every claim the same low bits, so that claims can meet in an epoch."""

    def below(self, bound: int) -> int:
        return 0 if bound == 1 << 20 else super().below(bound)


class ScriptedNode:
    """One process with one replica; nothing happens but by these calls."""

    def __init__(self, script: "Script", name: str, random: SeededRandom | None) -> None:
        self.name = name
        self.store = MemoryStore()
        self.clock = NodeClock(script.clock)
        self.answers: list[Reply] = []
        self._script = script
        self._random = random or script.random
        self.open()

    def waiting(self, _partition: int, ids: list[bytes]) -> range:
        """Wait for each command."""
        return range(len(ids))

    def send(self, _partition: int, reply: Reply) -> None:
        """Take a reply, as the node's own ReplySink."""
        self.answers.append(reply)

    def open(self) -> None:
        """Start the process on the store it has."""
        self.problem: EngineError | None = None
        self.logs = SimulatedLogs(self._script.broker)
        self.replica: Replica = build_replica(
            Identity(self.name, 0, ledger()),
            self.logs,
            self.store,
            self._script.content,
            replies=self,
            host=python_host(self.store),
            clock=self.clock,
            random=self._random,
            observer=NoObserver(),
        )
        self.replica.open()

    def restart(self, *, surviving: int | None = None) -> None:
        """Kill the process and start it again; what it has in flight may still land."""
        self.logs.crash()
        count = self.store.unflushed if surviving is None else surviving
        self.store = self.store.crash(count)
        self.open()

    def tick(self, times: int = 1) -> None:
        """Let the replica move; an error stops it, as a node's shell does."""
        for _ in range(times):
            try:
                self.replica.tick()
            except EngineError as error:
                self.problem = error
                self.replica.stop(error)

    @property
    def owns(self) -> bool:
        """Return whether it decides commands."""
        return self.replica.phase is Phase.OWNING

    @property
    def sequence(self) -> int:
        """Return what is applied."""
        return self.replica.held().sequence

    @property
    def session(self) -> Session | None:
        """Return what it has in flight."""
        events = self.replica._ports.events
        assert isinstance(events, SimulatedEventLog)
        return events._session

    @property
    def in_flight(self) -> list[Kind | None]:
        """Return the kinds of the records in flight."""
        queue = self.session.queue if self.session else []
        heads = (wire.head(value) for _, value, _ in queue)
        return [head.kind if head else None for head in heads]

    def land(self, count: int | None = None, *, told: bool = True) -> None:
        """Let the next records land, all by default; `told`: their reports are there at once."""
        land(self._script, self.session, count, told=told)

    def lose(self, count: int = 1) -> None:
        """Lose the next records alone, which R1's settings forbid a producer to do."""
        assert self.session is not None
        for _ in range(count):
            self.session.queue.popleft()

    def own(self) -> None:
        """Claim, deploy where that is to be done, and own."""
        self.until(lambda: self.owns)

    def until(self, reached: Callable[[], bool]) -> None:
        """Tick, and let everything of this node land, until something is so."""
        for _ in range(60):
            if reached():
                return
            self.tick()
            self.land()
        raise AssertionError(f"{self.name} is {self.replica.phase}: {self.replica.reason}")

    def settle(self, times: int = 12) -> None:
        """Tick, and let everything of this node land."""
        for _ in range(times):
            self.tick()
            self.land()


def land(script: "Script", session: Session | None, count: int | None, *, told: bool) -> None:
    """Let the next records of a session land."""
    if session is None:
        return
    wanted = len(session.queue) if count is None else count
    for _ in range(wanted):
        script.broker._land_one(session, script.clock.now_ms())
    if session.reports is not None:
        if told:
            session.reports.arrive()
        else:
            session.reports.under_way.clear()


class Script:
    """One partition: its broker, its clock, its commands, and what the log says in the end."""

    def __init__(self) -> None:
        self.clock = WorldClock()
        self.random = SeededRandom(1)
        self.broker = SimulatedBroker(self.random, self.clock, 1)
        self.content = MemoryObjects()
        self.nodes: list[ScriptedNode] = []

    def node(self, name: str, random: SeededRandom | None = None) -> ScriptedNode:
        """Start a process."""
        node = ScriptedNode(self, name, random)
        self.nodes.append(node)
        return node

    def command(self, amount: int, command_id: bytes = b"", workspace: str = "w") -> bytes:
        """Put a command into its log; return its id."""
        command_id = command_id or uuid7(self.clock.now_ms(), self.random.bytes(10))
        self.broker.publish(0, workspace.encode(), move_command(amount, command_id))
        return command_id

    def foreign(self, value: bytes) -> None:
        """Let a record land that no node of this script has sent."""
        self.broker.event_logs[0].land(None, value, self.clock.now_ms())

    @property
    def values(self) -> list[bytes]:
        """Return the log as it is."""
        return [record.value or b"" for record in self.broker.events(0)]

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes that count, by the audit's own rule."""
        rule, found = Rule(), list[Outcome]()
        for value in self.values:
            ruling, head, _ = rule.read(value)
            if ruling is Ruling.COUNTS and head is not None and head.kind is Kind.OUTCOME:
                found.append(wire.decode_outcome(value))
        return found

    def decided(self) -> list[bytes]:
        """Return the ids that have an outcome, in order, after checking what always holds."""
        found = self.outcomes()
        ids = [outcome["command_id"] for outcome in found]
        assert len(ids) == len(set(ids)), "a command has two outcomes"
        assert [one["sequence"] for one in found] == list(range(1, len(found) + 1))
        by_id = {one["command_id"]: one for one in found}
        for node in self.nodes:
            for answer in node.answers:
                if answer.sequence == 0:
                    continue
                assert answer.command_id in by_id, f"{node.name} answered what isn't in the log"
                outcome = by_id[answer.command_id]
                told = (answer.sequence, answer.code)
                assert told == (outcome["sequence"], outcome["code"])
        return ids

    def agree(self, *nodes: ScriptedNode) -> None:
        """Check that replicas hold the log's fold."""
        rule = Rule()
        for value in self.values:
            rule.read(value)
        for node in nodes:
            assert node.problem is None, str(node.problem)
            follower = node.replica._follower
            assert follower is not None
            position = follower.ledger.position
            assert position.offset == self.broker.event_logs[0].end, "it has not read all"
            assert (position.epoch, position.host.sequence) == (rule.epoch, rule.sequence)
            assert position.host.previous == rule.previous


def owner(script: Script, name: str = "n0", random: EqualEpochs | None = None) -> ScriptedNode:
    """Start a node that owns."""
    node = script.node(name, random)
    node.own()
    return node


def reader(script: Script, name: str = "n1") -> ScriptedNode:
    """Start a node that only reads: its own claim is lost on the way."""
    node = script.node(name)
    for _ in range(20):
        node.tick()
        if node.in_flight:
            node.lose()
            return node
    return node


def read(*nodes: ScriptedNode, times: int = 4) -> None:
    """Let nodes tick while nothing lands."""
    for node in nodes:
        node.tick(times)
