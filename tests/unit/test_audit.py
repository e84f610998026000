"""Each kind of fault is planted into a hand-made log, and must be found, and nothing else."""

import uuid

import pytest
from audit_world import NOW, History, command_id
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.audit import Alarm, Broken, counting
from engine.audit.commands import undecodable_id
from engine.audit.rules import Rule, Ruling
from engine.errors import EngineError
from engine.limits import DEDUP_WINDOW_MS, ID_AHEAD_MS_MAX
from engine.model import LogRecord
from engine.partition.ownership import LogState
from engine.wire import Kind, encode_command, hash64


@pytest.fixture
def history() -> History:
    """Three decided commands of two workspaces, the last one rejected."""
    history = History()
    history.own(1 << 20)
    history.application()
    history.step(1)
    history.step(2, "b")
    record = history.ask(3)
    history.count(history.decide(record, 3, code="too_poor"))
    return history


def kinds(report) -> list[str]:
    return [finding.kind for finding in report.differences]


def test_a_sound_history_is_sound(history):
    history.mark(3)
    report = history.audit(settled=True)
    assert report.differences == []
    assert report.alarms == []
    assert (report.commands, report.distinct_ids, report.outcomes) == (3, 3, 3)
    assert (report.accepted, report.rejected) == (2, {"too_poor": 1})
    assert (report.owners, report.marks, report.superseded) == (1, 1, 0)


def test_a_doubled_outcome_is_found(history):
    again = history.ask(1)
    history.count(history.decide(again, 1))
    assert kinds(history.audit()) == [Broken.DOUBLED]


def test_an_id_without_a_time_may_come_again_after_the_window():
    history = History()
    history.own(1 << 20)
    history.application()
    free = uuid.UUID(int=7, version=4).bytes
    for time_ms in (NOW, NOW + DEDUP_WINDOW_MS):
        record = history.ask(1, command_id=free)
        history.count(history.decide(record, 1, command_id=free, command_time=time_ms))
    assert kinds(history.audit()) == []


def test_a_duplicate_gets_no_outcome_and_a_conflict_neither(history):
    history.ask(1)
    history.ask(2, "b", name="debit")
    history.mark(5)
    report = history.audit(settled=True)
    assert kinds(report) == []
    assert (report.duplicates, report.refused, report.distinct_ids) == (1, 1, 3)


def test_a_gap_in_the_sequence_loses_its_command(history):
    history.decide(history.ask(4), 4, sequence=history.sequence + 2)
    history.step(5)
    report = history.audit()
    assert kinds(report) == [Broken.UNDECIDED]
    assert report.differences[0].offset == 3
    assert [alarm.kind for alarm in report.alarms] == [Alarm.GAP]


def test_a_wrong_previous_voids_an_outcome(history):
    history.decide(history.ask(4), 4, previous=12)
    history.step(5)
    report = history.audit()
    assert kinds(report) == [Broken.UNDECIDED]
    assert [alarm.kind for alarm in report.alarms] == [Alarm.CHAIN]


def test_a_lost_command_is_found(history):
    history.ask(4)
    history.step(5)
    report = history.audit()
    assert kinds(report) == [Broken.UNDECIDED]
    assert report.differences[0].log == "commands"


def test_a_command_that_a_mark_passed_over_is_lost(history):
    history.ask(4)
    history.mark(4)
    assert kinds(history.audit()) == [Broken.UNDECIDED]


def test_waiting_commands_are_pending_until_all_is_settled(history):
    history.ask(4)
    report = history.audit()
    assert (kinds(report), report.pending) == ([], 1)
    assert kinds(history.audit(settled=True)) == [Broken.UNDECIDED]


def test_superseded_records_are_ignored(history):
    zombie = history.epoch
    record = history.ask(4)
    history.own((2 << 20) + 5)
    history.decide(record, 4, epoch=zombie)
    history.own(1 << 20, sequence=0)  # a late claim of an older epoch
    history.append_raw(b"garbage")
    history.append_raw(None)
    history.count(history.decide(record, 4))
    report = history.audit(settled=True)
    assert kinds(report) == []
    assert (report.superseded, report.outcomes, report.owners) == (4, 4, 2)


def test_of_two_equal_epochs_the_first_wins(history):
    record = history.ask(4)
    history.own(2 << 20)
    history.own(2 << 20)
    report = history.audit()
    assert (report.owners, report.superseded) == (2, 1)
    history.count(history.decide(record, 4))
    assert kinds(history.audit()) == []


def test_nothing_counts_behind_a_release(history):
    history.append(Kind.RELEASED)
    history.decide(history.ask(4), 4)
    report = history.audit()
    assert (report.outcomes, report.pending) == (3, 1)
    assert [alarm.kind for alarm in report.alarms] == [Alarm.AFTER_RELEASE]


def test_an_owner_that_read_more_than_there_is(history):
    history.own(2 << 20, sequence=9)
    assert kinds(history.audit()) == [Broken.LOST_TAIL]


def test_decided_out_of_order(history):
    first, second = history.ask(4), history.ask(5)
    history.count(history.decide(second, 5, command_time=NOW + 9, registered_at=NOW + 9))
    history.count(history.decide(first, 4, command_time=NOW + 9, registered_at=NOW + 9))
    assert kinds(history.audit()) == [Broken.ORDER]


def test_time_going_back(history):
    history.count(history.decide(history.ask(4), 4, registered_at=NOW - 1))
    assert kinds(history.audit()) == [Broken.ORDER]


@pytest.mark.parametrize(
    "fields",
    [
        {"command_id": command_id(9)},
        {"name": "debit"},
        {"args": b"other"},
        {"command_time": NOW + 2},
    ],
)
def test_an_altered_outcome(history, fields):
    history.count(history.decide(history.ask(4), 4, **fields))
    assert Broken.ALTERED in kinds(history.audit())


def test_an_outcome_of_another_workspace(history):
    history.count(history.decide(history.ask(4, "a"), 4, workspace="b", workspace_sequence=2))
    assert kinds(history.audit()) == [Broken.ALTERED]


def test_an_invented_outcome(history):
    ghost = LogRecord(9, NOW + 9, b"a", b"")
    history.count(history.decide(ghost, 9))
    assert kinds(history.audit()) == []  # the command may have come after the commands were read
    assert kinds(history.audit(settled=True)) == [Broken.INVENTED]


def test_workspace_sequences_are_dense(history):
    history.count(history.decide(history.ask(4), 4, workspace_sequence=9))
    assert kinds(history.audit()) == [Broken.WORKSPACE_SEQUENCE]


def test_a_workspace_begins_with_its_first_accepted_outcome(history):
    value = history.decide(history.ask(4, "new"), 4, "new", code="no")
    history.sequence, history.previous = history.sequence + 1, hash64(value)
    history.step(5, "new")
    assert kinds(history.audit()) == []


def test_accepted_in_a_partition_of_others(history):
    report = history.audit(partitions=64)
    assert set(kinds(report)) == {Broken.PARTITION, Broken.WORKSPACE_SEQUENCE}


def test_another_application_than_the_one_in_force(history):
    history.count(history.decide(history.ask(4), 4, application=2))
    assert kinds(history.audit()) == [Broken.APPLICATION]


def test_undecodable_commands_have_derived_ids(history):
    for value in (b"garbage", None, b"{", encode_command_cut()):
        record = history.ask_raw(value, b"a")
        derived = undecodable_id(0, record.offset)
        history.count(history.decide(record, 0, command_id=derived, code="undecodable", args=b""))
    report = history.audit(settled=True)
    assert kinds(report) == []
    assert (report.distinct_ids, report.rejected["undecodable"]) == (7, 4)


def encode_command_cut() -> bytes:
    fields = {"command_id": bytes(16), "name": "credit", "args_schema": 7, "args": b"args"}
    return encode_command(fields)[:-3]


def test_json_commands_are_matched_by_id_and_name(history):
    text = '{"command_id": "%s", "name": "credit", "args": {}}'
    record = history.ask_raw((text % uuid.UUID(bytes=command_id(4))).encode(), b"a")
    history.count(history.decide(record, 4, args=b"encoded"))
    assert kinds(history.audit()) == []


@pytest.mark.parametrize("time_ms", [NOW - 2 * DEDUP_WINDOW_MS, NOW + 2 * ID_AHEAD_MS_MAX])
def test_refusals_leave_no_record(history, time_ms):
    history.ask(4, command_id=command_id(4, time_ms))
    history.step(5)
    report = history.audit()
    assert (kinds(report), report.refused) == ([], 1)


def test_another_command_topic_begins_its_offsets_anew(history):
    history.own(2 << 20, command_topic_id="other")
    history.epoch = 2 << 20
    history.commands.clear()
    record = history.ask(6)
    history.count(history.decide(record, 6, command_time=NOW + 9, registered_at=NOW + 9))
    report = history.audit(settled=True)
    assert (kinds(report), report.outcomes) == ([], 4)


@st.composite
def logs(draw) -> list[bytes | None]:
    """Logs of small numbers, so that epochs, sequences and hashes often meet."""
    history = History()
    history.epoch = draw(st.integers(0, 2))
    for _ in range(draw(st.integers(1, 12))):
        match draw(st.integers(0, 6)):
            case 0:
                history.own(draw(st.integers(1, 3)), sequence=draw(st.integers(0, 2)))
            case 1 | 2 | 3:
                epoch = draw(st.integers(1, 3))
                value = history.decide(LogRecord(0, NOW, b"", b""), 1, epoch=epoch)
                if draw(st.booleans()):
                    history.count(value)
            case 4:
                history.mark(0, epoch=draw(st.integers(1, 3)))
            case 5:
                history.append(Kind.RELEASED, epoch=draw(st.integers(1, 3)))
            case _:
                history.append_raw(draw(st.sampled_from([None, b"", b"\xc3\x01", b"\xc3\x01" * 9])))
    return [record.value for record in history.events]


@settings(max_examples=200, deadline=None)
@given(logs())
def test_both_writings_of_the_rule_agree(values):
    rule, state = Rule(), LogState()
    for offset, value in enumerate(values):
        ruling, _, _ = rule.read(value)
        try:
            judged = state.judge(offset, value)
        except EngineError:
            assert ruling in {Ruling.LOST_TAIL, Ruling.UNKNOWN}
            return
        assert (ruling is Ruling.COUNTS) == (judged.verdict.value == "counts")
        assert (rule.epoch, rule.sequence) == (state.position.epoch, state.position.host.sequence)


def test_the_filter_for_outside_readers(history):
    history.append_raw(b"garbage")
    history.decide(history.ask(4), 4, epoch=5)
    found = [kind for kind, _ in counting(history.events)]
    assert found == [Kind.OWNER, Kind.APPLICATION, *[Kind.OUTCOME] * 3]
