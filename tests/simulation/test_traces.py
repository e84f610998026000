"""The protocol's counterexamples as regressions: each holds, and fails without its rule.

A trace (reading_traces.py, owning_traces.py) drives shipped replicas on a scripted broker to the
very steps in which the rule matters.
The table at the end names for each trace the planted bugs (planted.py) that must make it fail.
"""

from collections.abc import Callable

import owning_traces as owning
import planted
import pytest
import reading_traces as reading
from planted import Plant
from scripted import Script

from engine.errors import EngineError

Trace = Callable[[Script], None]

# The trace, its rule in the protocol, and the planted bugs that must make it fail.
TRACES: list[tuple[Trace, str, list[Plant]]] = [
    (reading.equal_epochs, "F1", [planted.equal_epochs_count]),
    (reading.lower_epoch, "F1", [planted.an_older_epoch_counts]),
    (reading.zombie, "F2", [planted.any_epoch_counts]),
    (reading.double_landing, "F3", [planted.any_sequence_counts]),
    (reading.hole, "F3", [planted.any_sequence_counts, planted.a_hole_stops_readers]),
    (reading.forked, "the chain", [planted.any_past_counts]),
    (reading.mark_behind_a_hole, "F3 for Mark", [planted.marks_count_anywhere]),
    (reading.claim_above, "F4", [planted.a_claim_above_is_believed]),
    (reading.restart_behind_a_claim, "F5", [planted.the_store_keeps_the_epoch_of_its_last_outcome]),
    (reading.regrown_log, "F6", [planted.a_log_is_known_by_its_length]),
    (owning.lost_claim, "the epoch names the claim", [planted.epochs_are_a_counter]),
    (owning.one_name, "C1", [planted.claims_are_known_by_the_nodes_name]),
    (owning.no_barrier, "C2", [planted.decide_before_the_own_claim_is_met]),
    (owning.unjudged_claim, "C2", [planted.a_claim_that_was_met_is_believed]),
    (owning.restart_in_flight, "C3", [planted.a_restart_goes_on_in_its_epoch]),
    (
        owning.decides_again,
        "C3",
        [planted.what_is_unknown_is_decided_again, planted.what_is_unknown_is_sent_again],
    ),
    (owning.resume_from_the_log, "C4", [planted.commands_are_resumed_where_they_were_taken]),
    (owning.behind_another_owner, "K1", [planted.any_report_confirms]),
    (owning.hole_and_sum, "K1", [planted.the_last_report_confirms_without_gapless]),
    (owning.in_order, "K2", [planted.a_batch_is_confirmed_by_the_one_behind_it]),
    (owning.duplicate_in_flight, "K3", [planted.duplicates_are_answered_from_what_is_in_flight]),
    (owning.unconfirmed, "K3", [planted.apply_before_confirmed]),
    (owning.clock_jump, "R4", [planted.a_clock_that_jumps_is_believed]),
    (owning.clock_set_right, "R4", [planted.a_clock_that_jumps_is_believed]),
    (owning.behind_released, "R6", [planted.a_record_behind_released_counts]),
    (owning.one_floor, "D1", [planted.the_floor_is_of_the_owners_clock]),
    (owning.expired, "D1, D2", [planted.expired_ids_are_decided, planted.refusals_are_outcomes]),
]


@pytest.mark.parametrize("trace", [row[0] for row in TRACES], ids=lambda trace: trace.__name__)
def test_a_trace_holds(trace: Trace) -> None:
    trace(Script())


@pytest.mark.parametrize(
    ("trace", "plant"),
    [(row[0], plant) for row in TRACES for plant in row[2]],
    ids=lambda one: one.__name__,
)
def test_a_trace_fails_without_its_rule(
    trace: Trace, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, EngineError)):
        trace(Script())
