"""A replica's life on a node: recover, claim, own, release; and what ends an ownership.

    RECOVERING ──▶ CLAIMING ──▶ OWNING ──▶ RELEASING ──▶ CLOSED
                      ▲  ▲─────────┘ an append's fate is unknown
                      └── WAITING ◀─ another owner's claim counts

Everything but OWNING reads the event log through the `Follower`; OWNING is the `Processor`'s walk.
"""

from collections.abc import Callable

from engine import limits, wire
from engine.errors import EngineError, LogError, UnavailableError
from engine.model import (
    Bounds,
    Input,
    Phase,
)
from engine.partition.building import Builder
from engine.partition.ledger import Ledger
from engine.partition.ownership import Claim, head_fields, make_claim
from engine.partition.processor import OwnershipLost, Ports, Processor
from engine.partition.recovery import Follower
from engine.partition.shown import Identity, Shown
from engine.ports import ObjectStore, PartitionStore, Random
from engine.wire import Kind

__all__ = ["Identity", "Replica"]


class Replica(Shown):
    """One partition on this node. `tick` never blocks; `open` and `close` may, for a while."""

    def __init__(
        self,
        identity: Identity,
        ports: Ports,
        store: PartitionStore,
        content: ObjectStore,
        random: Random,
    ) -> None:
        super().__init__(identity, ports, store)
        self._content = content
        self._random = random
        self._bounds: Bounds | None = None
        self._command_bounds: Bounds | None = None
        self._verified = False
        self._claim: Claim | None = None
        self._deadline_ms = 0
        self._tickets: set[int] = set()
        self._released_ticket: int | None = None

    def open(self) -> None:
        """Open the store's position and the host, and ask the logs how long they are; may block."""
        ledger = Ledger(self._store)
        events, host = self._ports.events, self._ports.host
        self._bounds = events.bounds()
        self._command_bounds = self._ports.commands.bounds()
        builder = Builder(self.identity.partition, self._ports.builds, ledger)
        builder.begin_offset = self._bounds.begin
        follower = Follower(self.identity.partition, events, ledger, host, self._content, builder)
        follower.open()
        self._progress.start(ledger.position.offset, self._bounds.end)
        self._follower = follower

    def tick(self) -> bool:
        """Do what the phase asks for; return True if anything moved. Raises EngineError to stop."""
        follower = self._follower
        assert follower is not None, "open() comes first"
        match self.phase:
            case Phase.RECOVERING:
                moved = self._recover(follower)
            case Phase.CLAIMING:
                moved = self._claiming(follower)
            case Phase.WAITING:
                moved = self._wait(follower)
            case Phase.OWNING | Phase.RELEASING:
                moved = self._own(follower)
            case Phase.CLOSED | Phase.STOPPED:
                return False
        # Its turn comes behind a batch, so that a build never delays more than one.
        return follower.builder.tick() or moved

    def release(self) -> None:
        """Take no more, confirm what is in flight, say Released; CLOSED when that is done."""
        if self.phase is Phase.OWNING:
            assert self._processor is not None
            self._processor.taking = False
            self.phase = Phase.RELEASING
            self._deadline_ms = self._ports.clock.monotonic_ms() + limits.REVOKE_WAIT_MS
        elif self.phase is not Phase.RELEASING:
            self.phase = Phase.CLOSED

    def stop(self, problem: EngineError) -> None:
        """Stop on an error that only a person can mend."""
        self.problem = problem
        self.phase = Phase.STOPPED

    def close(self) -> None:
        """Close store and host, and let go of the logs; bounded, safe in any phase."""
        self._ports.events.rest()
        self._ports.commands.rest()
        self._ports.host.close()
        if self._follower is not None:
            self._follower.builder.close()
        self._store.close()

    def _recover(self, follower: Follower) -> bool:
        """Fold up to where the log ended at the start; the claim's barrier reads the rest."""
        assert self._bounds is not None
        if not self._verified:
            self._verified = follower.verify(self._bounds)
            if not self._verified:
                return False
            follower.seek()
            self._deadline_ms = self._ports.clock.monotonic_ms() + limits.RECOVER_IDLE_MS
        count = follower.tick()
        if count:
            self._deadline_ms = self._ports.clock.monotonic_ms() + limits.RECOVER_IDLE_MS
        # The last offsets may hold no record, as where somebody else wrote in a transaction.
        if follower.state.position.offset < self._bounds.end and not self._expired():
            return count > 0
        self._start_claim(follower)
        return True

    def _start_claim(self, follower: Follower) -> None:
        """Append an Owner record of a higher epoch than any read (R4)."""
        assert self._command_bounds is not None
        claim = make_claim(
            follower.state,
            self.identity.node,
            self._command_bounds.topic_id,
            self._random,
        )
        self._claim = claim
        self.deploying.forget()
        self.counters["claims"] += 1
        self._append(claim.value)
        self.phase = Phase.CLAIMING

    def _append(self, value: bytes) -> None:
        self._tickets = {self._ports.events.append([b""], [value])}
        self._deadline_ms = self._ports.clock.monotonic_ms() + limits.APPEND_DEADLINE_MS

    def _claiming(self, follower: Follower) -> bool:
        """Decide nothing until the own reader has met the own claim and it counted."""
        assert self._claim is not None
        count = follower.tick()
        if follower.state.claim_id == self._claim.claim_id:
            return self._met_claim(follower) or count > 0
        if self._claim.claim_id in follower.void_claims or (
            follower.state.position.epoch > self._claim.epoch
        ):
            self._lose("another claim came first")
        elif follower.holding:
            self._put_off()
        elif self._failed_append():
            self._start_claim(follower)
        return count > 0

    def _put_off(self) -> None:
        """Let no time run out while the fold waits for a view to be built."""
        self.reason = "a view's new generation counts in the log and is being built here"
        wait_ms = limits.APPEND_DEADLINE_MS
        self._deadline_ms = self._ports.clock.monotonic_ms() + wait_ms

    def _failed_append(self) -> bool:
        """Return True when the fate of the record on its way is not known in time."""
        failed = any(
            report.last_offset is None
            for report in self._ports.events.reports()
            if report.ticket in self._tickets
        )
        return failed or self._ports.clock.monotonic_ms() > self._deadline_ms

    def _met_claim(self, follower: Follower) -> bool:
        """Own the partition, once an application is in force; return True if anything moved."""
        if self.deploying.underway:
            if not self.deploying.met(follower):
                if self._failed_append():
                    self._start_claim(follower)
                return False
        else:
            skew_ms = abs(follower.claim_time_ms - self._ports.clock.now_ms())
            if skew_ms > limits.CLOCK_AHEAD_MS_MAX:
                self._lose(f"this node's clock is {skew_ms} ms off the log's")
                return True
            self._ports.events.reports()
            value = self.deploying.at_claim(follower)
            if value is not None:
                self._append(value)
                return True
        self._ports.events.reports()
        self._start_walk(follower)
        return True

    def _start_walk(self, follower: Follower) -> None:
        self._walk(follower)
        self.counters["takeovers"] += 1
        self.phase = Phase.OWNING

    def _walk(self, follower: Follower) -> None:
        """Begin the walk where the fold stands."""
        assert self._claim is not None
        position = follower.state.position
        self._ports.host.own(self._claim.epoch)
        self._ports.events.rest()
        self._ports.commands.seek(self._resume_offset(position.resume.get(Input.COMMANDS, 0)))
        state = follower.state.copy()
        self._processor = Processor(
            self.identity.partition, self._ports, follower.ledger, state, self.counters
        )

    def _resume_offset(self, offset: int) -> int:
        """Return where to take commands from; raise LogError E1305 if some of them are gone."""
        assert self._command_bounds is not None
        begin = self._command_bounds.begin
        if offset >= begin:
            return offset
        if self.identity.accept_lost_commands:
            return begin
        raise LogError(
            "E1305",
            f"{begin - offset} commands expired before they were decided: the command log begins "
            f"at offset {begin}, the next to take is {offset}",
            "Go on behind the gap with --accept-lost-commands",
            partition=self.identity.partition,
        )

    def _own(self, follower: Follower) -> bool:
        assert self._processor is not None
        if self._released_ticket is not None:
            return self._released()
        if self.deploying.underway:
            return self._turn_met(follower)
        try:
            moved = self._processor.tick()
        except (OwnershipLost, UnavailableError) as lost:
            self._forget(follower)
            if self.phase is Phase.RELEASING:
                self.phase = Phase.CLOSED
            elif isinstance(lost, OwnershipLost) and lost.superseded:
                self._lose(str(lost))
            else:
                self.reason = str(lost)
                self._start_claim(follower)
            return True
        if self.phase is Phase.RELEASING:
            self._release()
        else:
            self._turn(follower, self._processor)
        return moved

    def _turn(self, follower: Follower, processor: Processor) -> None:
        """Write what changes the host's work, if it is time to; between batches (R10)."""
        value = self.deploying.between(follower, processor)
        if value is None:
            return
        # From here on the log is read: it says when the record counts, or who was faster.
        self._ports.commands.rest()
        follower.seek()
        self._append(value)

    def _turn_met(self, follower: Follower) -> bool:
        """Go on with the walk once the own reader has met the record."""
        assert self._claim is not None
        count = follower.tick()
        if follower.state.claim_id != self._claim.claim_id:
            # Even if the record counted: what was read behind it may hold another's claim.
            self._forget(follower)
            self._end_or(lambda: self._lose("another owner's claim counts"))
        elif self.deploying.met(follower):
            self._ports.events.reports()
            self._walk(follower)
            assert self._processor is not None
            self._processor.taking = self.phase is Phase.OWNING
        elif self._failed_append():
            self.reason = "it is not known what became of an application or a view's switch"
            self._forget(follower)
            self._end_or(lambda: self._start_claim(follower))
        return count > 0

    def _end_or(self, then: Callable[[], None]) -> None:
        if self.phase is Phase.RELEASING:
            self.phase = Phase.CLOSED
        else:
            then()

    def _release(self) -> None:
        """Append Released as the last record once nothing is in flight; don't wait for ever."""
        assert self._processor is not None
        if self._expired():
            self.phase = Phase.CLOSED
        elif self._processor.idle:
            fields = {**head_fields(self._processor.confirmed), "successor": None}
            value = wire.encode_event(Kind.RELEASED, fields)
            self._released_ticket = self._ports.events.append([b""], [value])

    def _released(self) -> bool:
        """Close once Released is reported, or after a bounded time; nothing comes behind it."""
        reports = self._ports.events.reports()
        if self._expired() or any(report.ticket == self._released_ticket for report in reports):
            self.phase = Phase.CLOSED
        return self.phase is Phase.CLOSED

    def _expired(self) -> bool:
        return self._ports.clock.monotonic_ms() > self._deadline_ms

    def _forget(self, follower: Follower) -> None:
        """Drop everything unconfirmed and read on from what is applied."""
        self._processor = None
        self.deploying.forget()
        self.counters["lost"] += 1
        self._ports.commands.rest()
        self._ports.host.discard()
        follower.seek()

    def _lose(self, reason: str) -> None:
        """Follow the log for a while; the wait is random so that two nodes don't keep step."""
        self.reason = reason
        self._claim = None
        wait_ms = limits.RECLAIM_WAIT_MS + self._random.below(limits.RECLAIM_WAIT_MS)
        self._deadline_ms = self._ports.clock.monotonic_ms() + wait_ms
        self.phase = Phase.WAITING

    def _wait(self, follower: Follower) -> bool:
        """Follow the owner; claim when it has released, or is silent for the wait's length."""
        sequence = follower.state.position.host.sequence
        count = follower.tick()
        now_ms = self._ports.clock.monotonic_ms()
        if follower.state.position.host.sequence > sequence or follower.holding:
            self._deadline_ms = now_ms + limits.RECLAIM_WAIT_MS
        if follower.state.position.released or now_ms > self._deadline_ms:
            self._start_claim(follower)
        return count > 0
