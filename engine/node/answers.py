"""What others may ask of a node: HTTP and the command line, from threads of their own.

Changes nothing but queues: what has to happen between two batches is done by the shell (node.py).
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeVar, cast

from engine import limits, wire
from engine.application import Application
from engine.errors import EngineError, UnavailableError
from engine.model import (
    OWNS,
    BuildProgress,
    Held,
    LogRecord,
    Lookup,
    NodeBeat,
    Phase,
    Progress,
    Reply,
)
from engine.node.api import Route, Where
from engine.node.counters import joined
from engine.node.feed import Callback, Feed
from engine.node.guarded import GuardedView
from engine.node.holdings import Holdings
from engine.node.liveness import Liveness
from engine.node.operations import Operations
from engine.node.parts import Parts
from engine.partition.deploying import Loaded
from engine.partition.reading import PartitionReader
from engine.partition.replica import Replica
from engine.partition.snapshots import Manifest

Answer = TypeVar("Answer")

FOLLOWING = frozenset({Phase.RECOVERING, Phase.STANDBY, Phase.CLAIMING})


class Answers:
    """The part of a node that others ask; see `NodeApi`."""

    def __init__(self, parts: Parts) -> None:
        self.http_url = parts.http_url
        self._parts = parts
        self._process = parts.random.bytes(16)
        self._liveness = Liveness(parts.name, self._process, parts.clock.monotonic_ms())
        worker = parts.worker("partita-open")
        self._holdings = Holdings(parts.open_replica, parts.stores.heal, worker)
        self._replicas = self._holdings.replicas
        self._wanted: set[int] = set()
        self._calls: deque[Callable[[], bool]] = deque()  # True = done
        self._feed = Feed()
        loaded = Loaded(parts.application, (parts.name,), parts.force_deploy)
        self.operations = Operations(parts.name, self._process, loaded, parts.load, self._replicas)

    @property
    def name(self) -> str:
        """Return the node's name."""
        return self._parts.name

    @property
    def application(self) -> Application:
        """Return the application as the newest partition here runs it, else the folder's."""
        found = filter(None, [one.serving for one in list(self._replicas.values())])
        return max(found, key=lambda one: one.index, default=self.operations.loaded.application)

    def serving(self, partition: int) -> Application:
        """Return the application as a partition runs it: its views are those that count there."""
        replica = self._replicas.get(partition)
        return (replica.serving if replica else None) or self.application

    def partition_of(self, workspace: str) -> int:
        """Return the partition of a workspace."""
        return wire.partition_of(workspace.encode(), self._parts.application.partitions)

    def route(self, partition: int) -> Route:
        """Return who answers for a partition now."""
        replica = self._replicas.get(partition)
        if replica is not None and replica.phase in OWNS:
            return Route(Where.HERE)
        return self._liveness.route(partition)

    def _owned(self, partition: int) -> Replica:
        replica = self._replicas.get(partition)
        if replica is None or replica.phase not in OWNS:
            doing = replica.phase.value if replica else "not held here"
            raise UnavailableError(
                "E1402",
                f"the partition is {doing}",
                "Try again shortly",
                partition=partition,
            )
        return replica

    def submit(
        self, partition: int, workspace: str, command_id: bytes, value: bytes
    ) -> "Future[Reply]":
        """Publish an encoded command and wait for its reply; only where it is owned."""
        self._owned(partition)
        return self._parts.gate.submit(partition, workspace, command_id, value)

    def forget(self, partition: int, command_id: bytes, future: "Future[Reply]") -> None:
        """Stop waiting for a reply."""
        self._parts.gate.forget(partition, command_id, future)

    def publish(self, partition: int, workspace: str, value: bytes) -> "Future[None]":
        """Publish an encoded command and wait until the log has it; on any node."""
        return self._parts.gate.publish(partition, workspace, value)

    def stands_by(self, partition: int) -> bool:
        """Return True when this node follows a partition's owner: its rows may be stale."""
        replica = self._replicas.get(partition)
        return replica is not None and replica.phase in FOLLOWING

    def reader(self, partition: int, *, stale: bool = False) -> PartitionReader:
        """Return a consistent reader of a partition owned here; the caller closes it."""
        replica, is_stale = self._read(partition, stale=stale)
        return PartitionReader(GuardedView(replica), replica.applications, stale=is_stale)

    def _read(self, partition: int, *, stale: bool) -> tuple[Replica, bool]:
        """Return a replica to read at, and whether others may have seen newer rows."""
        if not stale:
            return self._sure(partition), False
        try:
            return self._sure(partition), False
        except UnavailableError:
            replica = self._replicas.get(partition)
            if replica is None or replica.serving is None:
                raise
            if replica.phase not in OWNS | FOLLOWING:
                raise
            return replica, True

    def _sure(self, partition: int) -> Replica:
        """Return a replica that owns; not one that may have been superseded unnoticed."""
        replica = self._owned(partition)
        now_ms = self._parts.clock.monotonic_ms()
        unsure_ms = min(
            now_ms - replica.confirmed_ms, self._liveness.unheard_ms(self._parts.directory, now_ms)
        )
        if unsure_ms > limits.OWNER_SILENCE_MS:  # from then on others may claim
            raise UnavailableError(
                "E1402",
                f"this node has not reached the others for {unsure_ms} ms: the partition may have "
                "another owner by now",
                "Try again, or read what may be old with stale=ok",
                partition=partition,
            )
        return replica

    def subscribe(self, partition: int, callback: Callback) -> Callable[[], None]:
        """Call `callback` after each step of a partition owned here; return what ends it."""
        return self._feed.subscribe(partition, callback, lambda: self._owned(partition))

    def _later(self, attempt: Callable[[], "Answer | None"]) -> "Future[Answer]":
        """Call `attempt` on the shell thread until it answers."""
        future: Future[Answer] = Future()

        def call() -> bool:
            if future.cancelled():
                return True
            try:
                answer, error = attempt(), None
            except EngineError as fault:
                answer, error = None, fault
            if answer is None and error is None:
                return False
            if future.set_running_or_notify_cancel():
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(cast("Answer", answer))
            return True

        if len(self._calls) >= limits.REQUESTS_WAITING_MAX:
            raise UnavailableError("E1403", "too many reads are waiting", "Try again later")
        self._calls.append(call)
        self._parts.logs.wake()
        return future

    def wait_sequence(self, partition: int, sequence: int, *, stale: bool = False) -> "Future[int]":
        """Wait until the applied sequence is at least `sequence`; return it."""

        def attempt() -> int | None:
            replica = self._read(partition, stale=True)[0] if stale else self._owned(partition)
            applied = replica.held().sequence
            return applied if applied >= sequence else None

        return self._later(attempt)

    def find(self, partition: int, command_id: bytes) -> "Future[int]":
        """Return the sequence of a remembered command's outcome, or 0."""
        return self._later(lambda: self._sure(partition).find(command_id))

    def event(self, partition: int, offset: int) -> "Future[LogRecord | Lookup]":
        """Read one record of the event log back, or Lookup.GONE."""

        def attempt() -> LogRecord | Lookup | None:
            found = self._owned(partition).lookup(offset)
            return None if found is Lookup.PENDING else found

        return self._later(attempt)

    def progress(self) -> Sequence[Progress]:
        """Return one entry per partition held here."""
        held = [replica.progress() for replica in list(self._replicas.values())]
        return [*held, *self._parts.stores.progress().values()]

    def held(self) -> Sequence[Held]:
        """Return what this node's heartbeat would say of its partitions now."""
        return [replica.held() for replica in list(self._replicas.values())]

    def builds(self) -> Mapping[int, Sequence[BuildProgress]]:
        """Return how far views' new generations are, by partition; the old ones answer."""
        return {at: builds for at, one in list(self._replicas.items()) if (builds := one.builds())}

    def problems(self) -> Mapping[int, str]:
        """Return why partitions of this node are not served, by partition."""
        stopped = {
            partition: str(replica.problem)
            for partition, replica in list(self._replicas.items())
            if replica.problem is not None
        }
        return {**self._holdings.failures, **stopped}

    def ready(self) -> bool:
        """Return True when every partition this node is to serve is served."""
        return bool(self._wanted) and all(map(self._served, list(self._wanted)))

    def _served(self, partition: int) -> bool:
        replica = self._replicas.get(partition)
        phase = replica.phase if replica else None
        if phase is Phase.STANDBY:
            return self.route(partition).where is Where.THERE
        return phase in OWNS

    def snapshot(self, partition: int) -> "Future[Manifest]":
        """Take a snapshot of a partition owned here."""
        return self._parts.stores.snapshot(partition, self._owned(partition))

    def peers(self) -> Sequence[NodeBeat]:
        """Return the nodes that are there, this one included."""
        return self._liveness.live()

    def statistics(self) -> Mapping[str, Mapping[str, int | float]]:
        """Return counters by component."""
        shared = {
            "gate": self._parts.gate.statistics(),
            "logs": self._parts.logs.statistics(),
            "memory": self._parts.shared(),
            "snapshots": self._parts.stores.statistics(),
        }
        return joined(self._replicas, shared)
