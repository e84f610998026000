"""A replica's life on a node: recover, stand by, claim, own, release.

    RECOVERING ──▶ STANDBY ──▶ CLAIMING ──▶ OWNING ──▶ RELEASING ──▶ CLOSED
                     ▲  ▲         │ ▲         │ │           │
                     │  └─────────┘ └─────────┘ │           │
                     │  another came first,     │           │
                     │  an append's fate is     │           │
                     │  unknown                 │           │
                     └──────────────────────────┴───────────┘
                       another's claim counts, or it was handed over

Everything but OWNING reads the event log through the `Follower`; OWNING is the `Processor`'s walk.
When to claim is told by `standing` (standby.py), how it becomes an owner is in claiming.py.
"""

from engine import limits, wire
from engine.errors import EngineError, LogError, StoreError, UnavailableError
from engine.model import (
    Bounds,
    Input,
    Phase,
)
from engine.partition.building import Builder
from engine.partition.claiming import Claimed, Claiming, Sending
from engine.partition.ledger import Ledger
from engine.partition.ownership import head_fields
from engine.partition.processor import OwnershipLost, Ports, Processor
from engine.partition.recovery import Follower
from engine.partition.restoring import DAMAGED
from engine.partition.shown import Identity, Shown
from engine.partition.standby import Standing, Watch, may_claim
from engine.ports import ObjectStore, PartitionStore, Random
from engine.wire import Kind

__all__ = ["Identity", "Replica"]

ENDED = frozenset({Phase.CLOSED, Phase.STOPPED})


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
        self.standing = Standing()  # what the node knows of the others
        self._content = content
        self._random = random
        self._bounds: Bounds | None = None
        self._command_bounds: Bounds | None = None
        self._verified = False
        self._watch = Watch(ports.clock.monotonic_ms())
        self._sending = Sending(ports.events, ports.clock)
        self._claiming = Claiming(identity.node, ports, self._sending, self.deploying, random)
        self._deadline_ms = 0
        self._released_ticket: int | None = None
        self._successor: str | None = None
        self._stays = False  # after a release: as a standby
        self._unreadable: StoreError | None = None

    def open(self) -> None:
        """Open the store's position and the host, and ask the logs how long they are; may block."""
        ledger = Ledger(self._store)
        events, host = self._ports.events, self._ports.host
        self._bounds = events.bounds()
        self._command_bounds = self._ports.commands.bounds()
        builder = Builder(self.identity.partition, self._ports.builds, ledger)
        follower = Follower(self.identity.partition, events, ledger, host, self._content, builder)
        follower.open()
        self._progress.start(ledger.position.offset, self._bounds.end)
        self._follower = follower

    def tick(self) -> bool:
        """Do what the phase asks for; return True if anything moved. Raises EngineError to stop."""
        follower = self._follower
        assert follower is not None, "open() comes first"
        if self._unreadable is not None and self.phase not in ENDED:
            fault, self._unreadable = self._unreadable, None
            raise fault
        match self.phase:
            case Phase.RECOVERING:
                moved = self._recover(follower)
            case Phase.STANDBY:
                moved = self._stand_by(follower)
            case Phase.CLAIMING:
                moved = self._claim(follower)
            case Phase.OWNING | Phase.RELEASING:
                moved = self._own(follower)
            case Phase.CLOSED | Phase.STOPPED:
                return False
        # Its turn comes behind a batch, so that a build never delays more than one.
        return follower.builder.tick() or moved

    def release(self, successor: str | None = None, *, stay: bool = False) -> None:
        """Take no more, confirm what is in flight, say Released and who is to come next.

        Then it is CLOSED, or stands by if it is to `stay`.
        """
        if self.phase is Phase.OWNING:
            assert self._processor is not None
            self._processor.taking = False
            self._successor, self._stays = successor, stay
            self.phase = Phase.RELEASING
            self._deadline_ms = self._ports.clock.monotonic_ms() + limits.REVOKE_WAIT_MS
        elif self.phase is not Phase.RELEASING:
            self.phase = Phase.CLOSED
        elif not stay:
            self._stays = False

    def superseded(self, owner: str) -> None:
        """Own no more: another node has met a later claim of its own, which counted."""
        if self.phase is Phase.OWNING and self._follower is not None:
            self._end(self._follower, f"{owner} owns it by a later claim", superseded=True)

    def unreadable(self, fault: StoreError) -> None:
        """Hear from a reader, on any thread, what it met in the store; the next tick raises it."""
        if fault.code == DAMAGED:
            self._unreadable = fault

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
        if count or follower.holding:  # at a Switch whose views take their time
            self._deadline_ms = self._ports.clock.monotonic_ms() + limits.RECOVER_IDLE_MS
        # The last offsets may hold no record, as where somebody else wrote in a transaction.
        if follower.state.position.offset < self._bounds.end and not self._expired():
            return count > 0
        self._follow()
        return True

    def _follow(self, wait_ms: int = 0) -> None:
        """Stand by; claim no sooner than after `wait_ms`."""
        self._watch = Watch(self._ports.clock.monotonic_ms(), wait_ms)
        self.phase = Phase.STANDBY

    def _stand_by(self, follower: Follower) -> bool:
        """Follow the owner; claim when it has released or is silent, as `may_claim` has it."""
        position = follower.state.position
        before = position.epoch, position.host.sequence
        count = follower.tick()
        position, now_ms = follower.state.position, self._ports.clock.monotonic_ms()
        counted = before != (position.epoch, position.host.sequence) or follower.holding
        self._watch.met(now_ms, counted=counted)
        if position.released:
            self._watch.released(now_ms, follower.state.successor)
        else:
            self._watch.owned()
        if may_claim(self._watch, self.standing, self.identity.node, now_ms):
            self._start_claim(follower)
            return True
        return count > 0

    def _start_claim(self, follower: Follower) -> None:
        assert self._command_bounds is not None
        self._claiming.start(follower, self._command_bounds.topic_id)
        # While the claim is on its way the first commands may be fetched already.
        resume = follower.state.position.resume.get(Input.COMMANDS, 0)
        if resume >= self._command_bounds.begin:
            self._ports.commands.seek(resume)
        self.phase = Phase.CLAIMING

    def _claim(self, follower: Follower) -> bool:
        """Decide nothing until the own reader has met the own claim and it counted."""
        assert self._command_bounds is not None
        count = follower.tick()
        claimed = self._claiming.check(follower, self._command_bounds.topic_id)
        self.counters["claims"] = self._claiming.count
        match claimed:
            case Claimed.OURS:
                self._start_walk(follower)
            case Claimed.LOST | Claimed.UNFIT:
                self._ports.commands.rest()
                self._lose(self._claiming.reason)
            case Claimed.UNKNOWN:
                self.reason = self._claiming.reason
                return count > 0
        return True

    def _start_walk(self, follower: Follower) -> None:
        self._walk(follower)
        self.reason = ""
        self.counters["takeovers"] += 1
        self.phase = Phase.OWNING

    def _walk(self, follower: Follower) -> None:
        """Begin the walk where the fold stands."""
        assert self._claiming.claim is not None
        position = follower.state.position
        self._ports.host.own(self._claiming.claim.epoch)
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
            return self._released(follower)
        if self.deploying.underway:
            return self._turn_met(follower)
        jumped_ms = self._claiming.clock_jumped_ms()
        if abs(jumped_ms) > limits.CLOCK_AHEAD_MS_MAX:
            # Nothing is decided by it before another claim has held it against the log's.
            self._end(follower, f"this node's clock jumped by {jumped_ms} ms", superseded=False)
            return True
        try:
            moved = self._processor.tick()
        except (OwnershipLost, UnavailableError) as lost:
            superseded = isinstance(lost, OwnershipLost) and lost.superseded
            self._end(follower, str(lost), superseded=superseded)
            return True
        if self.phase is Phase.RELEASING:
            self._release(follower)
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
        self._sending.append(value)

    def _turn_met(self, follower: Follower) -> bool:
        """Go on with the walk once the own reader has met the record."""
        count = follower.tick()
        if not self._claiming.counts(follower):
            # Even if the record counted: what was read behind it may hold another's claim.
            self._end(follower, "another owner's claim counts", superseded=True)
        elif self.deploying.met(follower):
            self._sending.met()
            self._walk(follower)
            assert self._processor is not None
            self._processor.taking = self.phase is Phase.OWNING
        elif self._sending.failed():
            why = "it is not known what became of an application or a view's switch"
            self._end(follower, why, superseded=False)
        return count > 0

    def _end(self, follower: Follower, why: str, *, superseded: bool) -> None:
        """Drop everything unconfirmed; claim again, unless somebody else has."""
        self._forget(follower)
        self.counters["lost"] += 1
        if self.phase is Phase.RELEASING:
            self._let_go(follower)
        elif superseded:
            self._lose(why)
        else:
            self.reason = why
            self._start_claim(follower)

    def _release(self, follower: Follower) -> None:
        """Append Released as the last record once nothing is in flight; don't wait for ever."""
        assert self._processor is not None
        if self._expired():
            self._let_go(follower)
        elif self._processor.idle:
            fields = {**head_fields(self._processor.confirmed), "successor": self._successor}
            value = wire.encode_event(Kind.RELEASED, fields)
            self._released_ticket = self._ports.events.append([b""], [value])

    def _released(self, follower: Follower) -> bool:
        """End once Released is reported, or after a bounded time; nothing comes behind it."""
        reports = self._ports.events.reports()
        done = any(report.ticket == self._released_ticket for report in reports)
        if done or self._expired():
            self._let_go(follower)
        return done

    def _let_go(self, follower: Follower) -> None:
        """Own no more: leave, or stand by for whoever comes next."""
        self._released_ticket = None
        if self._stays:
            self._forget(follower)
            self._follow(limits.SUCCESSOR_WAIT_MS)
        else:
            self.phase = Phase.CLOSED

    def _expired(self) -> bool:
        return self._ports.clock.monotonic_ms() > self._deadline_ms

    def _forget(self, follower: Follower) -> None:
        """Drop everything unconfirmed and read on from what is applied."""
        self._processor = None
        self.deploying.forget()
        self._ports.commands.rest()
        self._ports.host.discard()
        follower.seek()

    def _lose(self, reason: str) -> None:
        """Follow the log for a while; the wait is random so that two nodes don't keep step."""
        self.reason = reason
        self._follow(limits.RECLAIM_WAIT_MS + self._random.below(limits.RECLAIM_WAIT_MS))
