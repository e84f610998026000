"""The simulator is clean on the shipped code, repeatable, and red on every planted bug."""

from collections.abc import Callable

import pytest

from engine import wire
from engine.partition.building import Builder
from engine.partition.ownership import LogState
from engine.partition.processor import Flight, Processor
from engine.partition.replica import Replica
from engine.sandbox.host_dedup import DedupWindow
from engine.simulator.run import Simulation, simulate
from engine.wire import Kind

REGRESSIONS = [1876, 3103]
SMOKE_SEEDS = 60
SMOKE_PARTS = 4
PLANTED_SEEDS = 60


@pytest.mark.parametrize("part", range(SMOKE_PARTS))
def test_a_few_seeds_are_clean(part: int) -> None:
    for seed in range(1 + part, 1 + SMOKE_SEEDS, SMOKE_PARTS):
        assert simulate(seed).faults == [], f"again: partita simulate --seed {seed}"


def test_a_seed_is_repeatable() -> None:
    logs = []
    for _ in range(2):
        simulation = Simulation(7)
        simulation.run()
        logs.append([simulation.broker.events(partition) for partition in range(2)])
    assert logs[0] == logs[1]
    assert sum(len(log) for log in logs[0]) > 50


def test_faults_really_happen() -> None:
    results = [simulate(seed) for seed in range(1, 13)]
    assert sum(result.crashes for result in results) > 5
    assert sum(result.pauses for result in results) > 5
    assert sum(sum(result.injected.values()) for result in results) > 5


def test_views_are_built_and_switched_under_faults() -> None:
    switches = crashes = 0
    for seed in range(1, 25):
        simulation = Simulation(seed)
        result = simulation.run()
        records = [record for at in range(2) for record in simulation.broker.events(at)]
        heads = [head for record in records if (head := wire.head(record.value))]
        found = sum(head.kind is Kind.SWITCH for head in heads)
        switches += found
        crashes += result.crashes if found else 0
    assert switches > 5
    assert crashes > 5


Patch = Callable[[pytest.MonkeyPatch], None]


def skip_the_contiguity_check(patch: pytest.MonkeyPatch) -> None:
    original = Processor._confirm_first

    def confirm(self: Processor, flight: Flight) -> list[int] | None:
        if flight.ticket is not None and flight.last_offset is not None:
            self._state.position.offset = flight.last_offset - flight.record_count + 1
        return original(self, flight)

    patch.setattr(Processor, "_confirm_first", confirm)


def apply_before_confirmed(patch: pytest.MonkeyPatch) -> None:
    original = Processor._confirm_first

    def confirm(self: Processor, flight: Flight) -> list[int] | None:
        if flight.ticket is not None:
            flight.last_offset = self._state.position.offset + flight.record_count - 1
        return original(self, flight)

    patch.setattr(Processor, "_confirm_first", confirm)


def drop_the_dedup(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(DedupWindow, "find", lambda _self, _id: 0)


def accept_an_older_epoch(patch: pytest.MonkeyPatch) -> None:
    original = LogState._judge_owner

    def judge(self: LogState, *record: object) -> object:
        epoch, self.position.epoch = self.position.epoch, -1
        try:
            return original(self, *record)  # type: ignore[arg-type]
        finally:
            if self.position.epoch == -1:
                self.position.epoch = epoch

    patch.setattr(LogState, "_judge_owner", judge)


def accept_any_epoch(patch: pytest.MonkeyPatch) -> None:
    original = LogState._refused

    def refused(self: LogState, head: object) -> object:
        return original(self, head._replace(epoch=self.position.epoch))  # type: ignore[attr-defined]

    patch.setattr(LogState, "_refused", refused)


def decide_before_the_own_claim_is_met(patch: pytest.MonkeyPatch) -> None:
    original = Replica._claiming

    def claiming(self: Replica, follower: object) -> bool:
        assert self._claim is not None
        state = follower.state  # type: ignore[attr-defined]
        if follower.applications.newest() is not None and state.claim_id != self._claim.claim_id:  # type: ignore[attr-defined]
            state.position.epoch, state.claim_id = self._claim.epoch, self._claim.claim_id
            follower.claim_time_ms = self._ports.clock.now_ms()  # type: ignore[attr-defined]
        return original(self, follower)  # type: ignore[arg-type]

    patch.setattr(Replica, "_claiming", claiming)


def let_a_view_count_before_it_is_built(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Builder, "complete", lambda _self, _projector, _offset: True)


def switch_while_batches_are_in_flight(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Processor, "quiet", True)


PLANTED: list[Patch] = [
    skip_the_contiguity_check,
    apply_before_confirmed,
    drop_the_dedup,
    accept_an_older_epoch,
    accept_any_epoch,
    decide_before_the_own_claim_is_met,
    let_a_view_count_before_it_is_built,
    switch_while_batches_are_in_flight,
]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for seed in range(1, 1 + PLANTED_SEEDS):
        if simulate(seed).faults:
            return
    pytest.fail(f"{plant.__name__}: {PLANTED_SEEDS} seeds found nothing")


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_a_seed_that_failed_once_is_clean(seed: int) -> None:
    assert simulate(seed).faults == []
