"""Rules R2-R4: which records count, by the traces of the protocol's counterexamples."""

from typing import Any

import pytest

from engine import wire
from engine.errors import LogError, StoreError
from engine.partition.ownership import LogState, Verdict, make_claim
from engine.wire import Kind
from engine.world import SeededRandom


class Writer:
    """Makes records by hand, as an owner of some epoch would."""

    def __init__(self, epoch: int, sequence: int = 0, previous: int = 0) -> None:
        self.epoch, self.sequence, self.previous = epoch, sequence, previous

    def head(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "sequence": self.sequence,
            "previous": self.previous,
            "skippable": False,
        }

    def owner(self, claim: int = 1, **other: Any) -> bytes:
        fields = {
            **self.head(),
            "claim_id": bytes([claim]) * 16,
            "node": f"n{claim}",
            "incarnation": 7,
            "engine_version": "0",
            "format": 1,
            "command_topic_id": "t",
            **other,
        }
        return wire.encode_event(Kind.OWNER, fields)

    def released(self) -> bytes:
        return wire.encode_event(Kind.RELEASED, {**self.head(), "successor": None})

    def mark(self, offset: int) -> bytes:
        fields = {
            **self.head(),
            "inputs": [{"input": "commands", "offset": offset}],
            "emitted_sequence": 0,
            "registered_at": 0,
            "newest_command_time": 0,
            "dedup_floor": 0,
            "digests": [],
        }
        return wire.encode_event(Kind.MARK, fields)

    def outcome(self, name: str = "a", input_offset: int = 0) -> bytes:
        self.sequence += 1
        value = wire.encode_event(
            Kind.OUTCOME,
            {
                **self.head(),
                "workspace": "w",
                "workspace_sequence": 1,
                "command_id": name.encode().ljust(16, b"\0"),
                "input": "commands",
                "input_offset": input_offset,
                "command_time": 1,
                "registered_at": 1,
                "name": name,
                "application": 1,
                "args_schema": 0,
                "args": b"",
                "code": "",
                "message": "",
                "changes": [],
                "emits": [],
                "timers": [],
            },
        )
        self.previous = wire.hash64(value)
        return value


def judge(values: list[bytes | None]) -> tuple[list[Verdict], LogState]:
    state = LogState()
    return [state.judge(at, value).verdict for at, value in enumerate(values)], state


def counts(values: list[bytes | None]) -> list[bool]:
    return [verdict is Verdict.COUNTS for verdict in judge(values)[0]]


def test_of_two_equal_epochs_the_first_wins() -> None:
    first, second = Writer(1), Writer(1)
    log = [first.owner(1), first.outcome("a"), second.owner(2), second.outcome("b")]
    assert counts(log) == [True, True, False, False]


def test_a_zombies_records_are_void_behind_a_newer_owner() -> None:
    old, new = Writer(1), Writer(2)
    log = [old.owner(1), old.outcome("a")]
    late = old.outcome("b")
    new.sequence, new.previous = 1, wire.hash64(log[1])
    log += [new.owner(2), late, new.outcome("c"), old.mark(9), old.released()]
    assert counts(log) == [True, True, True, False, True, False, False]
    assert judge(log)[1].position.released is False


def test_a_record_that_lands_twice_counts_once() -> None:
    writer = Writer(1)
    owner, first = writer.owner(), writer.outcome("a")
    second = writer.outcome("b")
    assert counts([owner, first, first, second, first]) == [True, True, False, True, False]


def test_behind_a_lost_record_nothing_counts_and_an_alarm_is_raised() -> None:
    writer = Writer(1)
    owner, _lost, second = writer.owner(), writer.outcome("a"), writer.outcome("b")
    verdicts, state = judge([owner, second])
    assert verdicts == [Verdict.COUNTS, Verdict.ALARM]
    assert state.alarms == 1
    assert state.position.host.sequence == 0


def test_an_outcome_decided_on_another_past_does_not_count() -> None:
    """Trace "decides again": s1 and s2 of a second decision behind the first decision's s1."""
    writer = Writer(1)
    owner, first = writer.owner(), writer.outcome("a", 0)
    again = Writer(1)
    other_first, other_second = again.outcome("a", 5), again.outcome("b")
    verdicts, _ = judge([owner, first, other_first, other_second])
    assert verdicts == [Verdict.COUNTS, Verdict.COUNTS, Verdict.SUPERSEDED, Verdict.ALARM]


def test_marks_count_only_at_the_current_sequence_and_move_resume() -> None:
    writer = Writer(1)
    early = writer.mark(3)
    owner, outcome = writer.owner(), writer.outcome("a", 4)
    late = Writer(1, 2).mark(99)
    verdicts, state = judge([owner, early, outcome, early, late])
    assert verdicts == [
        Verdict.COUNTS,
        Verdict.COUNTS,
        Verdict.COUNTS,
        Verdict.SUPERSEDED,
        Verdict.ALARM,
    ]
    assert state.position.resume == {"commands": 5}


def test_nothing_counts_behind_released_but_a_new_owner() -> None:
    writer = Writer(1)
    log = [writer.owner(), writer.released(), writer.outcome("a"), Writer(2).owner(2)]
    assert counts(log) == [True, True, False, True]


def test_resume_belongs_to_the_command_topic_that_the_owner_names() -> None:
    writer = Writer(1)
    log = [writer.owner(), writer.outcome("a", 41)]
    newer = Writer(2, 1, wire.hash64(log[1]))
    _, state = judge([*log, newer.owner(command_topic_id="another")])
    assert state.position.resume == {}


@pytest.mark.parametrize(
    "garbage",
    [None, b"", b"\xc3\x01", b"\xc3\x01" + b"\xff" * 40, b"{}", Writer(1).owner()[:14]],
)
def test_garbage_changes_nothing_but_the_position(garbage: bytes | None) -> None:
    writer = Writer(1)
    log = [writer.owner(), garbage, writer.outcome("a")]
    assert counts(log) == [True, False, True]
    assert judge(log)[1].position.offset == 3


def test_a_claim_above_the_readers_sequence_stops_that_reader() -> None:
    with pytest.raises(StoreError) as caught:
        judge([Writer(1, sequence=5).owner()])
    assert caught.value.code == "E1204"


def test_a_newer_format_stops_the_reader_not_the_log() -> None:
    with pytest.raises(LogError) as caught:
        judge([Writer(1).owner(format=2)])
    assert caught.value.code == "E1304"


def unknown(*, skippable: bool) -> bytes:
    return b"\xc3\x01" + b"12345678" + b"\x02\x00\x00" + (b"\x01" if skippable else b"\x00")


def test_an_unknown_kind_is_skipped_only_if_it_says_so() -> None:
    owner = Writer(1).owner()
    assert counts([owner, unknown(skippable=True)]) == [True, False]
    with pytest.raises(LogError) as caught:
        judge([owner, unknown(skippable=False)])
    assert caught.value.code == "E1304"


def test_a_claim_is_higher_than_any_epoch_read_and_never_the_same() -> None:
    random = SeededRandom(1)
    state = LogState()
    epochs = set()
    for offset in range(50):
        claim = make_claim(state, "n", "t", random)
        assert claim.epoch > state.position.epoch
        assert state.judge(offset, claim.value).verdict is Verdict.COUNTS
        assert state.claim_id == claim.claim_id
        epochs.add(claim.epoch & ((1 << 20) - 1))
    assert len(epochs) > 40


def application(writer: Writer, index: int) -> bytes:
    fields = {
        **writer.head(),
        "index": index,
        "version": "1.0.0",
        "fingerprint": bytes(32),
        "manifest": "",
        "tables": [],
        "schemas": [],
        "modules": [],
    }
    return wire.encode_event(Kind.APPLICATION, fields)


def test_an_application_that_lands_twice_counts_once() -> None:
    """Found by seed 1876 of the simulator: it moves no sequence that would tell the copy."""
    writer = Writer(1)
    first = application(writer, 1)
    log = [writer.owner(), first, first, application(writer, 2), application(writer, 2)]
    assert counts(log) == [True, True, False, True, False]
    assert judge(log)[1].position.host.application == 2
