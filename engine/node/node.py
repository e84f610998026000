"""A node: the shell around its partitions. It waits, so that the core need not.

One shell thread ticks every replica, membership, heartbeats and the gate; a second one opens and
closes replicas, which may block. Callers (HTTP) come from threads of their own.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeVar, cast

import structlog

from engine import __version__, limits, wire
from engine.application import Application
from engine.errors import EngineError, UnavailableError
from engine.model import BuildProgress, Held, LogRecord, Lookup, NodeBeat, Phase, Progress, Reply
from engine.node.api import Route, Where
from engine.node.counters import joined
from engine.node.feed import Callback, Feed
from engine.node.heart import Heart
from engine.node.holdings import Holdings, fault_of
from engine.node.liveness import Liveness
from engine.node.operations import Operations
from engine.node.parts import Parts
from engine.node.placement import Placement
from engine.partition.deploying import Loaded
from engine.partition.reading import PartitionReader
from engine.partition.replica import Replica
from engine.partition.snapshots import Manifest

Answer = TypeVar("Answer")
log = structlog.get_logger("partita.node")

IDLE_WAIT_MS = 5
LOOK_MS = 20
FAULT_WAIT_S = 1.0
STOP_WAIT_MS = 10_000
READABLE = frozenset({Phase.OWNING, Phase.RELEASING})


class Node:
    """Runs partitions and answers for them; see `NodeApi` for what callers may ask."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._process = parts.random.bytes(16)
        self._liveness = Liveness(parts.name, self._process, parts.clock.monotonic_ms())
        self._placement = Placement(
            parts.name, parts.application.partitions, parts.standbys, self._liveness
        )
        self._holdings = Holdings(parts.open_replica, parts.stores.heal)
        self._replicas = self._holdings.replicas
        self._wanted: set[int] = set()
        self._phases: dict[int, Phase] = {}
        self._calls: deque[Callable[[], bool]] = deque()  # True = done
        self._feed = Feed()
        self._stopping = threading.Event()
        self._look_at_ms = 0
        self._heart = Heart(self._announce, parts.clock)
        self._thread = threading.Thread(target=self._run, name="partita-shell", daemon=True)
        self.http_url = parts.http_url
        loaded = Loaded(parts.application, (parts.name,), parts.force_deploy)
        self.operations = Operations(parts.name, self._process, loaded, parts.load, self._replicas)

    def start(self) -> None:
        """Start the shell thread, and the heart's."""
        self._thread.start()
        self._heart.start()

    def stop(self) -> None:
        """Release every partition, leave the group, close all; bounded."""
        self._stopping.set()
        self._parts.logs.wake()
        self._thread.join(STOP_WAIT_MS / 1_000)

    def _run(self) -> None:
        clock = self._parts.clock
        while not self._stopping.is_set():
            self._turn()
        deadline_ms = clock.monotonic_ms() + STOP_WAIT_MS // 2
        self._look_at_ms = 0
        while self._holdings.busy and clock.monotonic_ms() < deadline_ms:
            self._turn()
        self._parts.stores.close()
        self._holdings.end()
        self._heart.stop()
        self._announce(leaving=True)
        self._parts.membership.close()
        self._parts.directory.close()
        self._parts.logs.close()

    def _turn(self) -> None:
        """Tick, or wait; a fault that is no partition's own must not end the thread in silence."""
        try:
            if not self.tick():
                self._parts.logs.wait(IDLE_WAIT_MS)
        except Exception:
            log.exception("fault in the shell")
            self._stopping.wait(FAULT_WAIT_S)

    def tick(self) -> bool:
        """Do everything once; return True if anything moved."""
        self._heart.turned()
        moved = self._follow_membership()
        self._open_and_close()
        self._look_around()
        for partition, replica in list(self._replicas.items()):
            moved |= self._tick_replica(partition, replica)
        self._parts.stores.tick(self._replicas)
        moved |= self._parts.gate.poll()
        self._serve_calls()
        return moved

    def _follow_membership(self) -> bool:
        if self._stopping.is_set():
            return False
        change = self._parts.membership.poll()
        if not change.assigned and not change.revoked:
            return False
        self._placement.follow(change)
        self._look_at_ms = 0
        log.info("assignment", assigned=change.assigned, revoked=change.revoked)
        for partition in change.revoked:
            # Who owns it is settled between its owner and its successor: the group may go on.
            self._parts.membership.released(partition)
        return True

    def _look_around(self) -> None:
        """Hear the others, and decide what to hold; seldom enough to cost little."""
        now_ms = self._parts.clock.monotonic_ms()
        if now_ms < self._look_at_ms:
            return
        self._look_at_ms = now_ms + LOOK_MS
        self._liveness.hear(self._parts.directory.peers(), now_ms)
        self.operations.look(self.peers())
        self._parts.membership.pause(paused=self.operations.draining)
        self._placement.leaving = self._stopping.is_set() or self.operations.draining
        self._wanted = self._placement.wanted(self._replicas, now_ms)
        self._placement.steer(self._replicas, self._wanted, now_ms)

    def _open_and_close(self) -> None:
        if self._holdings.open(self._wanted, self._parts.clock.monotonic_ms()):
            self._look_at_ms = 0  # before its first tick a replica is told where it stands
        for partition in self._holdings.close():
            self._abandon(partition)

    def _tick_replica(self, partition: int, replica: Replica) -> bool:
        before = replica.phase
        moved = False
        try:
            moved = replica.tick()
        except UnavailableError as error:
            replica.reason = str(error)
        except EngineError as error:
            self._parts.stores.stopped(partition, replica, error)
        except Exception as fault:
            log.exception("partition stopped by a fault", partition=partition)
            replica.stop(fault_of(partition, fault))
        if moved:
            self._feed.moved(partition)
        if replica.phase is not self._phases.get(partition):
            self._phases[partition] = replica.phase
            self._told(partition, replica, before)
        return moved

    def _told(self, partition: int, replica: Replica, before: Phase) -> None:
        """Log a change of phase; those who wait for a partition that was lost are told."""
        held = replica.held()
        why = str(replica.problem or replica.reason)
        log.info(
            replica.phase.value,
            partition=partition,
            sequence=held.sequence,
            epoch=held.epoch,
            **({"reason": why} if why else {}),
        )
        if before in READABLE and replica.phase not in READABLE:
            self._abandon(partition)
        self._look_at_ms = 0
        self._heart.beat()

    def _abandon(self, partition: int) -> None:
        self._parts.gate.abandon(partition)
        self._feed.lost(partition)

    def _serve_calls(self) -> None:
        for _ in range(len(self._calls)):
            call = self._calls.popleft()
            if not call():
                self._calls.append(call)

    def _announce(self, *, leaving: bool = False) -> None:
        application = self.operations.loaded.application
        beat = NodeBeat(
            node=self._parts.name,
            process=self._process,
            engine_version=__version__,
            format=limits.FORMAT,
            application=application.version,
            fingerprint=application.fingerprint,
            http=self.http_url,
            sent_at=self._parts.clock.now_ms(),
            leaving=leaving,
            draining=self.operations.draining,
            partitions=tuple(replica.held() for replica in list(self._replicas.values())),
        )
        self._liveness.sent(beat, self._parts.clock.monotonic_ms())
        self._parts.directory.announce(beat)

    # What follows is called from other threads.

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
        if replica is not None and replica.phase in READABLE:
            return Route(Where.HERE)
        return self._liveness.route(partition, self._parts.clock.monotonic_ms())

    def _owned(self, partition: int) -> Replica:
        replica = self._replicas.get(partition)
        if replica is None or replica.phase not in READABLE:
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

    def reader(self, partition: int) -> PartitionReader:
        """Return a consistent reader of a partition owned here; the caller closes it."""
        replica = self._owned(partition)
        return PartitionReader(replica.store.view(), replica.applications)

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

    def wait_sequence(self, partition: int, sequence: int) -> "Future[int]":
        """Wait until the applied sequence is at least `sequence`; return it."""

        def attempt() -> int | None:
            applied = self._owned(partition).held().sequence
            return applied if applied >= sequence else None

        return self._later(attempt)

    def find(self, partition: int, command_id: bytes) -> "Future[int]":
        """Return the sequence of a remembered command's outcome, or 0."""
        return self._later(lambda: self._owned(partition).find(command_id))

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
        return phase in READABLE

    def snapshot(self, partition: int) -> "Future[Manifest]":
        """Take a snapshot of a partition owned here."""
        return self._parts.stores.snapshot(partition, self._owned(partition))

    def peers(self) -> Sequence[NodeBeat]:
        """Return the nodes that are there, this one included."""
        return self._liveness.live(self._parts.clock.monotonic_ms())

    def statistics(self) -> Mapping[str, Mapping[str, int | float]]:
        """Return counters by component."""
        shared = {
            "gate": self._parts.gate.statistics(),
            "logs": self._parts.logs.statistics(),
            "memory": self._parts.shared(),
            "snapshots": self._parts.stores.statistics(),
        }
        return joined(self._replicas, shared)
