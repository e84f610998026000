"""The consumer group as a proposal of who serves what: a member thread that only polls.

Owns membership, not reading: everything it is assigned is paused at the end of the log, so no
record is fetched. Slow work elsewhere never costs the membership, and a revoke waits, bounded,
until the partition was let go.
"""

import logging
import threading
from collections.abc import Mapping

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from engine.errors import EngineError
from engine.limits import REVOKE_WAIT_MS
from engine.log.kafka.connection import Connection, reason
from engine.model import MembershipChange
from engine.world import SystemClock

POLL_S = 0.1
CLOSE_WAIT_S = 10.0
RETRY_WAIT_S = 1.0
COMMIT_AGAIN_MS = 10_000

_log = logging.getLogger("partita.kafka")


class KafkaMembership:
    """A member of the application's group. `poll` and `released` never block."""

    def __init__(self, connection: Connection, revoke_wait_ms: int = REVOKE_WAIT_MS) -> None:
        self._topic = connection.topic("commands")
        self._revoke_wait_s = revoke_wait_ms / 1_000
        self._changed = threading.Condition()
        self._assigned: set[int] = set()  # what the group gave us
        self._told: set[int] = set()  # what `poll` has told of and `released` has not ended
        self._asked: set[int] = set()  # revoked, told, and not released yet
        self._lost = False
        self._closing = threading.Event()
        self._paused = False
        self._decided: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._commit_at_ms = 0
        self._clock = SystemClock()
        self._rebalances = 0
        self._errors = 0
        self._messages = 0  # none, as everything is paused
        self._consumer = connection.member()
        self._thread = threading.Thread(target=self._run, name="partita-member", daemon=True)
        self._thread.start()

    def poll(self) -> MembershipChange:
        """Return what the group gave and took since the last poll."""
        with self._changed:
            assigned = tuple(sorted(self._assigned - self._told))
            revoked = tuple(sorted(self._told - self._assigned))
            change = MembershipChange(assigned, revoked, self._lost and bool(revoked))
            self._told = set(self._assigned)
            self._asked.update(revoked)
            self._lost = False
            return change

    def released(self, partition: int) -> None:
        """Say that a revoked partition is let go."""
        with self._changed:
            self._asked.discard(partition)
            self._changed.notify_all()

    def pause(self, *, paused: bool) -> None:
        """Leave the group for the time being, or join it again."""
        self._paused = paused

    def decided(self, offsets: Mapping[int, int]) -> None:
        """Take how far the commands of partitions owned here are decided, for lag tools alone."""
        self._decided = dict(offsets)

    def statistics(self) -> dict[str, int]:
        """Return counters."""
        return {
            "assigned": len(self._assigned),
            "rebalances": self._rebalances,
            "errors": self._errors,
            "messages": self._messages,
        }

    def close(self) -> None:
        """Leave the group, so that the others need not wait for a time-out; bounded."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
        self._thread.join(CLOSE_WAIT_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            paused = self._paused
            try:
                if paused:
                    self._consumer.unsubscribe()
                else:
                    self._consumer.subscribe(
                        [self._topic],
                        on_assign=self._on_assign,
                        on_revoke=self._on_revoke,
                        on_lost=self._on_lost,
                    )
                self._poll_group(paused=paused)
            except (KafkaException, EngineError) as fault:
                # Membership is a proposal: without it this node keeps what it has.
                self._errors += 1
                _log.warning("membership: %s", reason(fault))
                self._closing.wait(RETRY_WAIT_S)
        try:
            self._consumer.close()
        except KafkaException as fault:
            _log.info("leaving the group: %s", reason(fault))

    def _poll_group(self, *, paused: bool) -> None:
        # Polled while out of the group, too: so it is told of what leaving has taken.
        while not self._closing.is_set() and paused is self._paused:
            message = self._consumer.poll(POLL_S)
            if not paused:
                self._commit()
            if message is None:
                continue
            if message.error() is not None:
                self._errors += 1
            else:
                self._messages += 1

    def _commit(self) -> None:
        """Tell the group's offsets. Nothing here ever reads them: a fold knows where to go on."""
        decided, now_ms = self._decided, self._clock.monotonic_ms()
        if not decided or (decided == self._committed and now_ms < self._commit_at_ms):
            return
        # Again after a while, as nobody hears of one that failed in the middle of a rebalance.
        self._committed, self._commit_at_ms = decided, now_ms + COMMIT_AGAIN_MS
        places = [TopicPartition(self._topic, each, offset) for each, offset in decided.items()]
        self._consumer.commit(offsets=places, asynchronous=True)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            each.offset = OFFSET_END
        consumer.incremental_assign(partitions)
        if partitions:
            consumer.pause(partitions)
        with self._changed:
            self._rebalances += 1
            self._assigned.update(each.partition for each in partitions)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        revoked = {each.partition for each in partitions}
        with self._changed:
            self._rebalances += 1
            self._assigned -= revoked
            # Only a partition that was told of can be in use; `poll` moves it to `asked`.
            self._changed.wait_for(
                lambda: self._closing.is_set() or not revoked & (self._told | self._asked),
                self._revoke_wait_s,
            )
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        with self._changed:
            self._rebalances += 1
            self._assigned -= {each.partition for each in partitions}
            self._lost = True
        consumer.incremental_unassign(partitions)
