"""Planted bugs: the shipped code with one rule of the log protocol taken out, by name.

Each must be found: by its trace (test_traces.py), and where the table in test_simulator.py names
it also by the simulator, within a bounded number of seeds.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from engine.errors import LogError
from engine.log.simulated_broker import Session
from engine.model import Bounds, Decided, Duplicate, LogRecord, Phase
from engine.partition import claiming
from engine.partition.building import Builder
from engine.partition.claiming import Claimed, Claiming
from engine.partition.ledger import Ledger
from engine.partition.ownership import Claim, LogState, Verdict
from engine.partition.processor import Flight, OwnershipLost, Processor
from engine.partition.recovery import Follower
from engine.partition.replica import Replica
from engine.replies import first_outcome
from engine.sandbox import host_steps
from engine.sandbox.host_apply import Rejection
from engine.sandbox.host_dedup import DedupWindow
from engine.sandbox.python import PythonHost
from engine.sandbox.wasm_host import WasmHost
from engine.wire import Kind

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]


def _let_python_judge(patch: Patch) -> None:
    """Take away the shortcut for outcomes that plainly count, so that a bug is everywhere."""
    patch.setattr(WasmHost, "chained", PythonHost.chained)


def equal_epochs_count(patch: Patch) -> None:
    """F1: of two equal epochs the second counts too."""
    original = LogState._judge_owner

    def judge(self: LogState, offset: int, value: bytes, head: Any) -> Any:
        if head.epoch == self.position.epoch:
            self.position.epoch -= 1
        return original(self, offset, value, head)

    patch.setattr(LogState, "_judge_owner", judge)


def an_older_epoch_counts(patch: Patch) -> None:
    """F1: any claim counts, whatever its epoch."""
    original = LogState._judge_owner

    def judge(self: LogState, *record: Any) -> Any:
        epoch, self.position.epoch = self.position.epoch, -1
        try:
            return original(self, *record)
        finally:
            if self.position.epoch == -1:
                self.position.epoch = epoch

    patch.setattr(LogState, "_judge_owner", judge)


def any_epoch_counts(patch: Patch) -> None:
    """F2: a record counts whatever its epoch."""
    _let_python_judge(patch)
    original = LogState._refused

    def refused(self: LogState, head: Any) -> Any:
        return original(self, head._replace(epoch=self.position.epoch))

    patch.setattr(LogState, "_refused", refused)


def any_sequence_counts(patch: Patch) -> None:
    """F3: an outcome counts wherever it lies in its epoch, and on whatever past."""
    _let_python_judge(patch)
    refused, judge = LogState._refused, LogState._judge_outcome

    def refuse(self: LogState, head: Any) -> Any:
        host = self.position.host
        if head.kind is Kind.OUTCOME:
            head = head._replace(sequence=host.sequence + 1)
        return refused(self, head)

    def outcome(self: LogState, value: bytes, head: Any) -> Any:
        return judge(self, value, head._replace(previous=self.position.host.previous))

    patch.setattr(LogState, "_refused", refuse)
    patch.setattr(LogState, "_judge_outcome", outcome)


def any_past_counts(patch: Patch) -> None:
    """The chain: an outcome counts on whatever outcome it was decided."""
    _let_python_judge(patch)
    judge = LogState._judge_outcome

    def outcome(self: LogState, value: bytes, head: Any) -> Any:
        return judge(self, value, head._replace(previous=self.position.host.previous))

    patch.setattr(LogState, "_judge_outcome", outcome)


def marks_count_anywhere(patch: Patch) -> None:
    """F3 for marks: a mark counts at any sequence of its epoch."""
    refused = LogState._refused

    def refuse(self: LogState, head: Any) -> Any:
        if head.kind is Kind.MARK:
            head = head._replace(sequence=self.position.host.sequence)
        return refused(self, head)

    patch.setattr(LogState, "_refused", refuse)


def a_hole_stops_readers(patch: Patch) -> None:
    """F3 as a stop: a record above the next one ends the reading for good."""
    _let_python_judge(patch)
    original = LogState.judge

    def judge(self: LogState, offset: int, value: bytes | None, leader_epoch: int = -1) -> Any:
        judged = original(self, offset, value, leader_epoch)
        if judged.verdict is Verdict.ALARM:
            raise LogError("E1304", "planted: the log has a hole", offset=offset)
        return judged

    patch.setattr(LogState, "judge", judge)


def a_claim_above_is_believed(patch: Patch) -> None:
    """F4: a claim that has read more than this reader goes unnoticed."""
    original = LogState._judge_owner

    def judge(self: LogState, offset: int, value: bytes, head: Any) -> Any:
        low = min(head.sequence, self.position.host.sequence)
        return original(self, offset, value, head._replace(sequence=low))

    patch.setattr(LogState, "_judge_owner", judge)


def the_store_keeps_the_epoch_of_its_last_outcome(patch: Patch) -> None:
    """F5: a claim that was read is forgotten at a restart."""
    original = Ledger.move

    def move(self: Ledger, state: LogState) -> None:
        epoch = self.position.epoch if self.position.host.sequence else state.position.epoch
        original(self, state)
        self._write([], replace(state.position, epoch=epoch))

    patch.setattr(Ledger, "move", move)


def a_log_is_known_by_its_length(patch: Patch) -> None:
    """F6: a log that lost its tail and grew again is taken for the old one."""
    original = Follower.verify

    def verify(self: Follower, bounds: Bounds) -> bool:
        if not bounds.begin < self.ledger.position.offset <= bounds.end:
            return original(self, bounds)
        self.ledger.position.topic_id = bounds.topic_id
        return True

    patch.setattr(Follower, "verify", verify)


def a_record_behind_released_counts(patch: Patch) -> None:
    """R6: who has released may go on."""
    _let_python_judge(patch)
    original = LogState._refused

    def refused(self: LogState, head: Any) -> Any:
        self.position.released = False
        return original(self, head)

    patch.setattr(LogState, "_refused", refused)


def epochs_are_a_counter(patch: Patch) -> None:
    """The epoch names no claim: after a lost tail two claims share one."""
    original = claiming.make_claim

    class Zero:
        def below(self, bound: int) -> int:
            del bound
            return 0

        def bytes(self, count: int) -> bytes:
            return Zero.source.bytes(count)

        source: Any = None

    def make(state: LogState, node: str, topic_id: str, random: Any, **more: Any) -> Claim:
        Zero.source = random
        return original(state, node, topic_id, Zero(), **more)

    patch.setattr(claiming, "make_claim", make)


def claims_are_known_by_the_nodes_name(patch: Patch) -> None:
    """C1: two processes with one configured name take each other's claims for theirs."""
    original = claiming.make_claim

    class Named:
        def __init__(self, node: str, random: Any) -> None:
            self.node, self.below = node, random.below

        def bytes(self, count: int) -> bytes:
            return self.node.encode().ljust(count, b"\0")

    def make(state: LogState, node: str, topic_id: str, random: Any, **more: Any) -> Claim:
        return original(state, node, topic_id, Named(node, random), **more)

    patch.setattr(claiming, "make_claim", make)


def decide_before_the_own_claim_is_met(patch: Patch) -> None:
    """C2: no barrier."""
    original = Claiming.check

    def check(self: Claiming, follower: Follower, topic_id: str) -> Claimed:
        state, claim = follower.state, self.claim
        assert claim is not None
        if follower.applications.newest() is not None and state.claim_id != claim.claim_id:
            state.position.epoch, state.claim_id = claim.epoch, claim.claim_id
            follower.claim_time_ms = self._clock.now_ms()
        return original(self, follower, topic_id)

    patch.setattr(Claiming, "check", check)


def a_claim_that_was_met_is_believed(patch: Patch) -> None:
    """C2: nobody asks whether the own claim counted."""
    original = Claiming.check

    def check(self: Claiming, follower: Follower, topic_id: str) -> Claimed:
        claim = self.claim
        assert claim is not None
        if claim.claim_id in follower.void_claims:
            follower.state.claim_id = claim.claim_id
        return original(self, follower, topic_id)

    patch.setattr(Claiming, "check", check)


def _go_on(replica: Replica, follower: Follower) -> None:
    """Walk in the epoch that is in force, as if it were one's own."""
    epoch = follower.state.position.epoch
    replica._claiming.claim = Claim(epoch, follower.state.claim_id, b"")
    replica._start_walk(follower)


def a_restart_goes_on_in_its_epoch(patch: Patch) -> None:
    """C3: who owned before its end owns after its start."""
    original = Replica._start_claim

    def start(self: Replica, follower: Follower) -> None:
        position = follower.state.position
        stored = position.epoch and not position.released and position.host.application
        if self.counters["claims"] == 0 and stored and self.phase is Phase.STANDBY:
            _go_on(self, follower)
        else:
            original(self, follower)

    patch.setattr(Replica, "_start_claim", start)


def what_is_unknown_is_decided_again(patch: Patch) -> None:
    """C3: an append whose fate is unknown is decided again in the same epoch."""
    original = Replica._start_claim

    def start(self: Replica, follower: Follower) -> None:
        if self.phase is Phase.OWNING:
            _go_on(self, follower)
        else:
            original(self, follower)

    patch.setattr(Replica, "_start_claim", start)


def what_is_unknown_is_sent_again(patch: Patch) -> None:
    """C3: the same records go through another session, in the same epoch."""
    original = Processor._confirm_first

    def confirm(self: Processor, flight: Flight) -> list[int] | None:
        try:
            return original(self, flight)
        except OwnershipLost as lost:
            if lost.superseded or not flight.decided.outcomes or flight.last_offset is not None:
                raise
            decided = flight.decided
            flight.ticket = self._ports.events.append(decided.workspaces, decided.outcomes)
            flight.deadline_ms = self._ports.clock.monotonic_ms() + 30_000
            return None

    patch.setattr(Processor, "_confirm_first", confirm)


def commands_are_resumed_where_they_were_taken(patch: Patch) -> None:
    """C4: the offset comes from what was taken by anybody, as a group's committed offset would."""
    taken: dict[str, int] = {}
    take, resume = Processor._append, Replica._resume_offset

    def append(self: Processor, batch: Any, decided: Decided) -> None:
        take(self, batch, decided)
        topic = self._state.position.command_topic_id
        taken[topic] = max(taken.get(topic, 0), batch.offsets[-1] + 1)

    def offset(self: Replica, folded: int) -> int:
        assert self._command_bounds is not None
        return resume(self, taken.get(self._command_bounds.topic_id, folded))

    patch.setattr(Processor, "_append", append)
    patch.setattr(Replica, "_resume_offset", offset)


def any_report_confirms(patch: Patch) -> None:
    """K1: what is reported is confirmed, wherever it lies."""
    original = Processor._confirm_first

    def confirm(self: Processor, flight: Flight) -> list[int] | None:
        if flight.ticket is not None and flight.last_offset is not None:
            self._state.position.offset = flight.last_offset - flight.record_count + 1
        return original(self, flight)

    patch.setattr(Processor, "_confirm_first", confirm)


def the_last_report_confirms_without_gapless(patch: Patch) -> None:
    """K1 with a producer that loses a record and lands a later one: its last report is enough."""

    class Never(set[int]):
        def add(self, ticket: int) -> None:
            del ticket

    original = Session.__init__

    def start(self: Session, *parts: Any) -> None:
        original(self, *parts)
        self.broken = Never()

    patch.setattr(Session, "__init__", start)


def a_batch_is_confirmed_by_the_one_behind_it(patch: Patch) -> None:
    """K2: the next batch is contiguous to this one, so both are taken for confirmed."""
    original = Processor._confirm_first

    def confirm(self: Processor, flight: Flight) -> list[int] | None:
        flights = list(self._flights)[:2]
        if len(flights) > 1 and None not in {one.last_offset for one in flights}:
            first, second = flights
            if second.last_offset == first.last_offset + second.record_count:
                self._state.position.offset = first.last_offset - first.record_count + 1
        return original(self, flight)

    patch.setattr(Processor, "_confirm_first", confirm)


def duplicates_are_answered_from_what_is_in_flight(patch: Patch) -> None:
    """K3: the first outcome of a duplicate need not be confirmed."""
    original = Processor._append

    def append(self: Processor, batch: Any, decided: Decided) -> None:
        original(self, batch, decided)
        for reply in decided.replies:
            if not isinstance(reply, Duplicate):
                continue
            for flight in self._flights:
                ids = flight.decided.ids
                if reply.command_id in ids:
                    value = flight.decided.outcomes[ids.index(reply.command_id)]
                    record = LogRecord(0, 0, None, value)
                    answer = first_outcome(reply, record)
                    self._ports.replies.send(self._partition, answer)

    patch.setattr(Processor, "_append", append)


def apply_before_confirmed(patch: Patch) -> None:
    """K3: what was sent is applied and answered."""
    original = Processor._confirm_first

    def confirm(self: Processor, flight: Flight) -> list[int] | None:
        if flight.ticket is not None:
            flight.last_offset = self._state.position.offset + flight.record_count - 1
        return original(self, flight)

    patch.setattr(Processor, "_confirm_first", confirm)


def drop_the_dedup(patch: Patch) -> None:
    """D1: no id is remembered."""
    patch.setattr(DedupWindow, "find", lambda _self, _id: 0)


def the_floor_is_of_the_owners_clock(patch: Patch) -> None:
    """D1: ids expire by a node's clock, not by the fold of command times."""
    now = [0]
    decide, floor_at = PythonHost.decide, DedupWindow.floor_at

    def deciding(self: PythonHost, batch: Any, source: Any, now_ms: int) -> Decided:
        now[0] = now_ms
        return decide(self, batch, source, now_ms)

    patch.setattr(PythonHost, "decide", deciding)
    patch.setattr(DedupWindow, "floor_at", lambda self, _time: floor_at(self, now[0]))


def expired_ids_are_decided(patch: Patch) -> None:
    """D1: an id below the floor is taken for a new one."""
    original = host_steps.dedupe

    def dedupe(window: Any, request: Any, time_ms: int) -> Any:
        answer = original(window, request, time_ms)
        return None if getattr(answer, "code", "") == "id_expired" else answer

    patch.setattr(host_steps, "dedupe", dedupe)


def refusals_are_outcomes(patch: Patch) -> None:
    """D2: what is refused gets a record."""
    refused: dict[bytes, Any] = {}
    dedupe, check = host_steps.dedupe, host_steps.check

    def deduping(window: Any, request: Any, time_ms: int) -> Any:
        answer = dedupe(window, request, time_ms)
        if getattr(answer, "sequence", 1) == 0:
            refused[request.command_id] = answer
            return None
        return answer

    def checking(request: Any, *rest: Any, **known: Any) -> Any:
        answer = refused.pop(request.command_id, None)
        if answer is not None:
            raise Rejection(answer.code, answer.message)
        return check(request, *rest, **known)

    patch.setattr(host_steps, "dedupe", deduping)
    patch.setattr(host_steps, "check", checking)


def a_clock_that_jumps_is_believed(patch: Patch) -> None:
    """R4: an owner goes on, whatever its clock is set to behind its claim."""
    patch.setattr(Claiming, "clock_jumped_ms", lambda _self: 0)


def let_a_view_count_before_it_is_built(patch: Patch) -> None:
    """A Switch names a generation that isn't complete."""
    patch.setattr(Builder, "complete", lambda _self, _projector, _offset: True)


def switch_while_batches_are_in_flight(patch: Patch) -> None:
    """A Switch comes between the batches of a pipeline."""
    patch.setattr(Processor, "quiet", True)


def the_position_is_written_apart(patch: Patch) -> None:
    """Promise 5: rows and position are two writes, so that a crash can come between them."""
    original = Ledger._write

    def write(self: Ledger, batch: Iterable[tuple[bytes, bytes | None]], position: Any) -> None:
        found = list(batch)
        if found:
            self.store.write(found)
        original(self, [], position)

    patch.setattr(Ledger, "_write", write)
