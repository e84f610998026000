"""How far a log may be trimmed, by hand-made records."""

import pytest

from engine import wire
from engine.model import LogRecord
from engine.partition.snapshots import Manifest
from engine.partition.trimming import Floor, Marked, ceiling, newest_mark, trim_floor
from engine.wire import Kind


def mark(epoch, floor, emitted=0, sequence=5):
    fields = {
        "epoch": epoch,
        "sequence": sequence,
        "previous": 0,
        "skippable": True,
        "inputs": [],
        "emitted_sequence": emitted,
        "registered_at": 0,
        "newest_command_time": 0,
        "dedup_floor": floor,
        "digests": [],
    }
    return wire.encode_event(Kind.MARK, fields)


def owner(epoch):
    fields = {
        "epoch": epoch,
        "sequence": 5,
        "previous": 0,
        "skippable": False,
        "claim_id": bytes(16),
        "node": "n",
        "incarnation": 1,
        "engine_version": "1",
        "format": 1,
        "command_topic_id": "c",
    }
    return wire.encode_event(Kind.OWNER, fields)


def records(*values, begin=0):
    return [LogRecord(begin + at, 1_000 + at, None, value) for at, value in enumerate(values)]


def manifest(offset):
    return Manifest("a", 0, 1, 1, offset, offset, "t", 0, "1", 0, ())


def test_the_newest_mark_of_the_owner_in_force_counts():
    assert newest_mark([], 3) is None
    assert newest_mark(records(mark(3, 10), mark(3, 20)), 3) == Marked(20, 0)
    assert newest_mark(records(mark(3, 10), owner(7), mark(3, 99), mark(7, 12)), 3) == Marked(12, 0)
    assert newest_mark(records(mark(2, 99), b"foreign", None), 3) is None


@pytest.mark.parametrize(
    ("offsets", "archived", "expected"),
    [
        ((), 100, 10),
        ((50, 70), 100, 50),
        ((50, 70), 40, 40),
        ((50, 70), 0, 10),
        ((5,), 100, 10),
    ],
)
def test_snapshots_and_archive_hold_what_is_above_them(offsets, archived, expected):
    assert ceiling(10, [manifest(offset) for offset in offsets], archived).offset == expected


def test_what_is_remembered_by_its_id_stays():
    highest = Floor(8, "the oldest kept snapshot")
    log = records(*(mark(1, 0) for _ in range(10)))
    assert trim_floor(log, highest, Marked(1_004, 0)).offset == 4
    assert trim_floor(log, highest, Marked(900, 0)).offset == 0
    assert trim_floor(log, highest, Marked(2_000, 0)) == highest
