"""R4: how a replica comes to own its partition. Nothing is decided before the own claim is met.

Owns the claim on its way and what an owner writes before its first batch. Reads through the
replica's `Follower`; whether to claim at all is decided elsewhere (standby.py).
"""

from enum import Enum

from engine import limits
from engine.partition.deploying import Deploying
from engine.partition.ownership import Claim, make_claim
from engine.partition.processor import Ports
from engine.partition.recovery import Follower
from engine.ports import Clock, EventLog, Random


class Claimed(Enum):
    """What has become of a claim."""

    UNKNOWN = "unknown"  # on its way, or what follows it is
    OURS = "ours"
    LOST = "lost"
    UNFIT = "unfit"  # it counts, but this node must not own


class Sending:
    """One record that is not an outcome on its way to the log, and whether its fate is known."""

    def __init__(self, events: EventLog, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._ticket = 0
        self._deadline_ms = 0

    def append(self, value: bytes) -> None:
        """Append the record; it has a bounded time to be met."""
        self._ticket = self._events.append([b""], [value])
        self.put_off()

    def put_off(self) -> None:
        """Begin the time anew."""
        self._deadline_ms = self._clock.monotonic_ms() + limits.APPEND_DEADLINE_MS

    def met(self) -> None:
        """Forget its report: the reader has met it."""
        self._events.reports()

    def failed(self) -> bool:
        """Return True when its fate is not known in time: its session must end."""
        failed = any(
            report.last_offset is None
            for report in self._events.reports()
            if report.ticket == self._ticket
        )
        return failed or self._clock.monotonic_ms() > self._deadline_ms


class Claiming:
    """The claims of one replica, one after the other."""

    def __init__(
        self, node: str, ports: Ports, sending: Sending, deploying: Deploying, random: Random
    ) -> None:
        self.count = 0
        self.reason = ""  # why it was lost, or takes so long
        self.claim: Claim | None = None
        self._node = node
        self._clock = ports.clock
        self._sending = sending
        self._deploying = deploying
        self._random = random
        self._sent_ms = 0  # when the claim was, by this node's clock
        self._offset_ms = 0  # of that clock from the monotonic one

    def start(self, follower: Follower, command_topic_id: str) -> None:
        """Append an Owner record of a higher epoch than any read."""
        self.claim = make_claim(
            follower.state,
            self._node,
            command_topic_id,
            self._random,
            format_=self._deploying.loaded.format,
        )
        self._deploying.forget()
        self.count += 1
        self._sent_ms = self._clock.now_ms()
        self._offset_ms = self._sent_ms - self._clock.monotonic_ms()
        self._sending.append(self.claim.value)

    def clock_jumped_ms(self) -> int:
        """Return how far this node's clock was set since the claim that showed it to be right."""
        return self._clock.now_ms() - self._clock.monotonic_ms() - self._offset_ms

    def counts(self, follower: Follower) -> bool:
        """Return True while the own claim is the last one that counted."""
        return self.claim is not None and follower.state.claim_id == self.claim.claim_id

    def check(self, follower: Follower, command_topic_id: str) -> Claimed:
        """Return what has become of the claim, after a tick of the fold."""
        assert self.claim is not None
        if self.counts(follower):
            return self._met(follower, command_topic_id)
        if self.claim.claim_id in follower.void_claims or (
            follower.state.position.epoch > self.claim.epoch
        ):
            self.reason = "another claim came first"
            return Claimed.LOST
        if follower.holding:
            # Let no time run out while the fold waits for a view to be built.
            self.reason = "a view's new generation counts in the log and is being built here"
            self._sending.put_off()
        elif self._sending.failed():
            self.start(follower, command_topic_id)
        return Claimed.UNKNOWN

    def _met(self, follower: Follower, command_topic_id: str) -> Claimed:
        """Own the partition, once an application is in force."""
        if self._deploying.underway:
            if not self._deploying.met(follower):
                if self._sending.failed():
                    self.start(follower, command_topic_id)
                return Claimed.UNKNOWN
        else:
            # The log had it after it was sent and before it was met: a slow way is no skew. But
            # behind one a clock that is ahead looks right: only a quicker way tells.
            landed_ms, now_ms = follower.claim_time_ms, self._clock.now_ms()
            skew_ms = max(self._sent_ms - landed_ms, landed_ms - now_ms)
            if skew_ms > limits.CLOCK_AHEAD_MS_MAX:
                self.reason = f"this node's clock is {skew_ms} ms off the log's"
                return Claimed.UNFIT
            if now_ms - landed_ms > limits.CLAIM_WAY_MS_MAX:
                self.reason = f"the claim came back after {now_ms - landed_ms} ms: another is sent"
                self.start(follower, command_topic_id)
                return Claimed.UNKNOWN
            self._sending.met()
            value = self._deploying.at_claim(follower)
            if value is not None:
                self._sending.append(value)
                return Claimed.UNKNOWN
        self._sending.met()
        return Claimed.OURS
