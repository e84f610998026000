"""A node: the shell around its partitions. It waits, so that the core need not.

One shell thread ticks every replica, membership, heartbeats and the gate; a second one opens and
closes replicas, which may block. Callers (HTTP) come from threads of their own.
"""

import threading

import structlog

from engine import __version__, limits
from engine.errors import EngineError, UnavailableError
from engine.model import OWNS, NodeBeat, Phase
from engine.node.answers import Answers
from engine.node.heart import Heart
from engine.node.holdings import fault_of
from engine.node.parts import Parts
from engine.node.placement import Placement
from engine.partition.replica import Replica

log = structlog.get_logger("partita.node")

IDLE_WAIT_MS = 5
LOOK_MS = 20
COMMIT_MS = 1_000
FAULT_WAIT_S = 1.0
STOP_WAIT_MS = 10_000


class Node(Answers):
    """Runs partitions, and answers for them."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._placement = Placement(
            parts.name, parts.application.partitions, parts.standbys, self._liveness
        )
        self._phases: dict[int, Phase] = {}
        self._stopping = threading.Event()
        self._look_at_ms = 0
        self._suspect_at_ms = 0
        self._commit_at_ms = 0
        self._turns = 0
        self._heart = Heart(self._announce, self._leave_group, parts.clock)
        self._thread = threading.Thread(target=self._run, name="partita-shell", daemon=True)

    def start(self) -> None:
        """Start the shell thread, and the heart's."""
        self._thread.start()
        self._heart.start()

    def stop(self) -> None:
        """Release every partition, leave the group, close all; bounded."""
        self._stopping.set()
        self._heart.beat()  # so that nobody hands over to a node that leaves
        self._parts.logs.wake()
        self._thread.join(STOP_WAIT_MS / 1_000)
        for partition in list(self._replicas):  # the shell hangs: who waits is told all the same
            self._parts.gate.abandon(partition)

    def _run(self) -> None:
        clock = self._parts.clock
        while not self._stopping.is_set():
            self._turn()
        deadline_ms = clock.monotonic_ms() + STOP_WAIT_MS // 2
        self._look_at_ms = 0
        while self.busy and clock.monotonic_ms() < deadline_ms:
            self._turn()
        self.end()

    @property
    def stuck(self) -> bool:
        """Return True while the shell has not turned for long: others take over what is here."""
        return self._heart.stuck

    @property
    def busy(self) -> bool:
        """Return True while a partition is held here, or about to be opened or closed."""
        return self._holdings.busy

    def end(self) -> None:
        """Say that this node leaves, and close everything."""
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
        moved |= self._tick_replicas()
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
        self._wanted = self._placement.wanted(self._replicas)
        self._placement.steer(self._replicas, self._wanted, now_ms)
        if now_ms >= self._commit_at_ms:
            self._commit_at_ms = now_ms + COMMIT_MS
            self._parts.membership.decided(
                {
                    partition: replica.resume
                    for partition, replica in self._replicas.items()
                    if replica.phase is Phase.OWNING
                }
            )
        if self._placement.suspects and now_ms >= self._suspect_at_ms:
            self._suspect_at_ms = now_ms + limits.SUSPECT_BEAT_MS
            self._heart.beat()

    def _open_and_close(self) -> None:
        if self._holdings.open(self._wanted, self._parts.clock.monotonic_ms()):
            self._look_at_ms = 0  # before its first tick a replica is told where it stands
        for partition in self._holdings.close():
            self._abandon(partition)

    def _tick_replicas(self) -> bool:
        """Tick all that own or stand by, and one that restores: long logs must not delay owners."""
        moved = False
        restoring: list[tuple[int, Replica]] = []
        for partition, replica in list(self._replicas.items()):
            if replica.phase is Phase.RECOVERING:
                restoring.append((partition, replica))
            else:
                moved |= self._tick_replica(partition, replica)
        if restoring:
            self._turns += 1
            moved |= self._tick_replica(*restoring[self._turns % len(restoring)])
        return moved

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
        if before in OWNS and replica.phase not in OWNS:
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

    def pulse(self) -> None:
        """Announce this node, as its heart does from its own thread."""
        self._heart.pulse()

    def _leave_group(self) -> None:
        self._parts.membership.pause(paused=True)

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
            draining=self.operations.draining or self._stopping.is_set(),
            partitions=tuple(replica.held() for replica in list(self._replicas.values())),
        )
        self._liveness.sent(beat, self._parts.clock.monotonic_ms())
        self._parts.directory.announce(beat)
