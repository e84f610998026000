"""One partition on simulated logs, whose replicas a test ticks by hand."""

from engine import limits, wire
from engine.application.schema import encode
from engine.assembly import NoObserver, build_replica, python_host
from engine.log.simulated import SimulatedLogs
from engine.log.simulated_broker import SimulatedBroker
from engine.model import Phase, Reply
from engine.partition.replica import Identity, Replica
from engine.ports import Logs, StateHost
from engine.simulator.applications import ledger
from engine.simulator.clocks import WorldClock
from engine.simulator.disks import MemoryObjects
from engine.store.memory import MemoryStore
from engine.wire import Kind
from engine.world import SeededRandom, uuid7


def move_command(amount: int, command_id: bytes) -> bytes:
    """Return the simulator's application's command as it lies in its log."""
    schema = ledger().commands["move"].args
    args = encode(schema, {"amount": amount})
    fields = {"command_id": command_id, "name": "move", "args_schema": schema.fingerprint}
    return wire.encode_command({**fields, "args": args})


class ReplicaWorld:
    """The broker, the clock, and what clients were answered."""

    def __init__(self) -> None:
        self.clock = WorldClock()
        self.random = SeededRandom(1)
        self.broker = SimulatedBroker(self.random, self.clock, 1)
        self.content = MemoryObjects()
        self.replies: list[Reply] = []

    def logs(self) -> Logs:
        return SimulatedLogs(self.broker)

    def waiting(self, _partition: int, ids: list[bytes]) -> range:
        return range(len(ids))

    def send(self, _partition: int, reply: Reply) -> None:
        self.replies.append(reply)

    def opened(
        self,
        identity: Identity,
        store: MemoryStore | None,
        records_min: int = limits.BUILD_RECORDS_MIN,
        host: StateHost | None = None,
    ) -> Replica:
        replica = build_replica(
            identity,
            self.logs(),
            store or MemoryStore(),
            self.content,
            replies=self,
            host=host or python_host(),
            clock=self.clock,
            random=self.random,
            observer=NoObserver(),
            build_records_min=records_min,
        )
        replica.open()
        return replica

    def until(self, replica: Replica, phase: Phase) -> None:
        for _ in range(60):
            replica.tick()
            self.broker.step()
            if replica.phase is phase:
                return
        raise AssertionError(f"{replica.phase} is not {phase}: {replica.reason}")

    def settle(self, *replicas: Replica, steps: int = 20) -> None:
        for _ in range(steps):
            for replica in replicas:
                replica.tick()
            self.broker.step()

    def move(self, amount: int, command_id: bytes = b"", workspace: str = "w") -> bytes:
        command_id = command_id or uuid7(self.clock.now_ms(), self.random.bytes(10))
        self.broker.publish(0, workspace.encode(), move_command(amount, command_id))
        return command_id

    def closed(self, replica: Replica, store: MemoryStore) -> MemoryStore:
        """Release and close a replica; return its store as the next process finds it."""
        replica.release()
        self.until(replica, Phase.CLOSED)
        replica.close()
        return store.reopen()

    def kinds(self) -> list[Kind | None]:
        heads = (wire.head(record.value) for record in self.broker.events(0))
        return [head.kind if head else None for head in heads]
