"""The dedup window against a plain model: exact, bounded, and undone as it was done."""

import random

import pytest
from host_world import World
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.application.rows import Page
from engine.limits import DEDUP_WINDOW_MIN_MS, DEDUP_WINDOW_MS, ID_AHEAD_MS_MAX
from engine.sandbox.guests import load_guests
from engine.sandbox.host_dedup import DedupWindow
from engine.sandbox.python import PythonHost
from engine.world import uuid7

START_MS = 1_700_000_000_000


def id_of(number, time_ms=START_MS):
    return uuid7(time_ms, number.to_bytes(10))


def window(ids_max=1_000, sequence=0, floor=0):
    made = DedupWindow(ids_max)
    made.start(sequence, floor)
    return made


def test_an_id_is_found_by_its_sequence():
    dedup = window()
    for sequence in range(1, 500):
        dedup.add(sequence, id_of(sequence), START_MS)
    assert [dedup.find(id_of(sequence)) for sequence in range(1, 500)] == list(range(1, 500))
    assert dedup.find(id_of(500)) == 0
    assert len(dedup) == 499


def test_the_floor_is_a_fold_of_command_times_and_never_falls():
    dedup = window()
    dedup.add(1, id_of(1), START_MS)
    assert dedup.floor == START_MS - DEDUP_WINDOW_MS
    dedup.add(2, id_of(2), START_MS + 5)
    dedup.raise_floor(3)
    assert dedup.floor == START_MS + 5 - DEDUP_WINDOW_MS


def test_an_id_that_came_again_after_its_time_is_found_at_its_newest_place():
    dedup, twice = window(), b"any sixteen byte"
    dedup.add(1, twice, START_MS)
    later = START_MS + DEDUP_WINDOW_MS + ID_AHEAD_MS_MAX
    dedup.add(2, id_of(2), later)
    assert dedup.find(twice) == 0
    dedup.add(3, twice, later)
    assert dedup.find(twice) == 3


def test_an_entry_is_forgotten_once_no_id_of_its_time_can_be_accepted():
    dedup = window()
    dedup.add(1, id_of(1), START_MS)
    last = START_MS + DEDUP_WINDOW_MS + ID_AHEAD_MS_MAX
    dedup.add(2, id_of(2), last - 1)
    dedup.forget(3, dedup.floor)
    assert dedup.find(id_of(1)) == 1
    dedup.add(3, id_of(3), last)
    assert dedup.find(id_of(1)) == 0
    dedup.forget(4, dedup.floor)
    assert dedup.find(id_of(1)) == 0
    assert [dedup.find(id_of(n)) for n in (2, 3)] == [2, 3]


def test_above_the_bound_the_floor_rises_but_not_into_the_last_two_minutes():
    dedup = window(ids_max=3)
    for sequence in (1, 2, 3):
        dedup.add(sequence, id_of(sequence), START_MS + sequence)
    soon = START_MS + 1 + ID_AHEAD_MS_MAX + DEDUP_WINDOW_MIN_MS
    assert dedup.is_full(soon - 1)
    assert not dedup.is_full(soon)
    assert dedup.floor_at(soon) == START_MS + 1 + ID_AHEAD_MS_MAX
    dedup.add(4, id_of(4), soon)
    assert dedup.floor == START_MS + 1 + ID_AHEAD_MS_MAX
    assert len(dedup) == 3
    assert dedup.is_full(soon)


def test_asking_changes_nothing():
    dedup = window(ids_max=2)
    dedup.add(1, id_of(1), START_MS)
    dedup.add(2, id_of(2), START_MS)
    floor = dedup.floor
    late = START_MS + DEDUP_WINDOW_MS * 9
    assert not dedup.is_full(late)
    assert dedup.floor_at(late) > floor
    assert (dedup.floor, len(dedup), dedup.find(id_of(1))) == (floor, 2, 1)


def test_fold_takes_more_than_the_bound():
    dedup = window(ids_max=2)
    for sequence in range(1, 10):
        dedup.add(sequence, id_of(sequence), START_MS)
    assert len(dedup) == 9


def test_what_unconfirmed_outcomes_made_forget_comes_back():
    dedup = window()
    dedup.add(1, id_of(1), START_MS)
    floor = dedup.floor
    dedup.forget(2, floor)
    dedup.add(2, id_of(2), START_MS + 2 * DEDUP_WINDOW_MS)
    assert len(dedup) == 1
    dedup.drop_after(1, floor)
    assert (dedup.find(id_of(1)), dedup.find(id_of(2)), dedup.floor) == (1, 0, floor)
    assert len(dedup) == 1
    dedup.add(2, id_of(3), START_MS)
    assert dedup.find(id_of(3)) == 2


def test_pages_fill_it_and_expired_or_known_ones_are_left_out():
    dedup = window(sequence=6, floor=START_MS)
    old = Page(1, 0, 2, START_MS - ID_AHEAD_MS_MAX, [id_of(1), id_of(2)])
    empty = Page(3, 2, 1, START_MS, [])
    new = Page(4, 3, 2, START_MS + 1, [id_of(4), id_of(5)])
    for page in (old, empty, new, new, Page(6, 9, 1, START_MS + 2, [id_of(6)])):
        dedup.load(page)
    assert [dedup.find(id_of(n)) for n in range(1, 7)] == [0, 0, 0, 4, 5, 6]
    dedup.add(7, id_of(7), START_MS + 3)
    assert dedup.find(id_of(7)) == 7


def test_a_missing_page_is_noticed():
    dedup = window(sequence=9)
    dedup.load(Page(1, 0, 2, START_MS, [id_of(1), id_of(2)]))
    with pytest.raises(AssertionError):
        dedup.load(Page(4, 0, 1, START_MS, [id_of(4)]))


def test_ids_that_differ_in_their_last_byte_only_are_told_apart():
    dedup = window()
    ids = [bytes(15) + bytes([n]) for n in range(256)]
    for n, command_id in enumerate(ids[::2]):
        dedup.add(n + 1, command_id, START_MS)
    assert [bool(dedup.find(command_id)) for command_id in ids] == [True, False] * 128


def test_a_long_run_keeps_only_its_window():
    dedup = window(ids_max=100_000)
    for sequence in range(1, 60_001):
        dedup.add(sequence, id_of(sequence), START_MS + sequence * 60_000)
        dedup.forget(sequence + 1, dedup.floor)
    held = (DEDUP_WINDOW_MS + ID_AHEAD_MS_MAX) // 60_000
    assert len(dedup) == held
    assert dedup.find(id_of(60_000 - held)) == 0
    assert dedup.find(id_of(60_001 - held)) == 60_001 - held
    assert len(dedup._ids) < 16 * 4 * held
    assert sum(dedup._used) == held


@pytest.mark.parametrize("dropped", [1, 100, 2_500, 5_000])
def test_taking_ids_out_at_either_end_keeps_all_others(dropped):
    dedup = window(ids_max=100_000)
    ids = [random.Random(n).randbytes(16) for n in range(10_000)]
    for at, command_id in enumerate(ids):
        dedup.add(at + 1, command_id, START_MS + at)
    dedup.drop_after(10_000 - dropped, dedup.floor)
    dedup.raise_floor(START_MS + dropped - 1 + ID_AHEAD_MS_MAX)
    dedup.forget(10_001, dedup.floor)
    expected = [at + 1 if dropped <= at < 10_000 - dropped else 0 for at in range(10_000)]
    assert [dedup.find(command_id) for command_id in ids] == expected


def test_a_host_whose_window_is_full_refuses_until_time_passes():
    world = World(lambda _: PythonHost(load_guests))
    world.host._dedup = window(ids_max=3)
    credits_ = [world.command("open", {"owner": "Ann"}) for _ in range(5)]
    replies = world.send(*credits_)
    assert [str(reply.code) for reply in replies[3:]] == ["dedup_full", "dedup_full"]
    assert [reply.sequence for reply in replies] == [1, 2, 3, 0, 0]
    world.now_ms += ID_AHEAD_MS_MAX + DEDUP_WINDOW_MIN_MS
    floor = START_MS + ID_AHEAD_MS_MAX
    again, fresh = world.send(credits_[3], world.command("credit", {"amount": 1}))
    assert str(again.code) == "id_expired"
    assert (fresh.sequence, fresh.code) == (4, "")
    assert world.ledger.position.host.dedup_floor == floor


class Model:
    """The same, said plainly: everything ever added, and what is confirmed."""

    def __init__(self, ids_max):
        self.ids_max = ids_max
        self.entries = []  # id, command time, floor behind it
        self.confirmed = 0

    def floor(self):
        return self.entries[-1][2] if self.entries else 0

    def live(self, floor):
        return [e for e in self.entries if e[1] + ID_AHEAD_MS_MAX > floor]

    def floor_at(self, time_ms):
        floor = max(self.floor(), time_ms - DEDUP_WINDOW_MS)
        live = self.live(self.floor())
        if len(live) >= self.ids_max:
            oldest = live[0][1] + ID_AHEAD_MS_MAX
            if oldest <= time_ms - DEDUP_WINDOW_MIN_MS:
                floor = max(floor, oldest)
        return floor

    def is_full(self, time_ms):
        live = self.live(self.floor())
        kept = [e for e in live if e[1] + ID_AHEAD_MS_MAX > self.floor_at(time_ms)]
        return len(live) >= self.ids_max and len(kept) == len(live)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from([0, 1, 1_000, 70_000, 200_000, 40_000_000])),
        st.tuples(st.just("confirm"), st.integers(0, 5)),
        st.tuples(st.just("discard"), st.just(0)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(0, 1_000))
def test_it_agrees_with_the_model(steps, seed):
    rng = random.Random(seed)
    ids_max = 6
    dedup, model, now = window(ids_max), Model(ids_max), START_MS
    for step, value in steps:
        if step == "add":
            now += value
            assert dedup.floor_at(now) == model.floor_at(now)
            assert dedup.is_full(now) == model.is_full(now)
            if not model.is_full(now):
                command_id = rng.randbytes(16)
                floor = model.floor_at(now)
                model.entries.append((command_id, now, floor))
                dedup.add(len(model.entries), command_id, now)
        elif step == "confirm":
            model.confirmed = min(model.confirmed + value, len(model.entries))
            if model.confirmed:
                dedup.forget(model.confirmed + 1, model.entries[model.confirmed - 1][2])
        elif step == "discard":
            del model.entries[model.confirmed :]
            dedup.drop_after(model.confirmed, model.floor())
        else:
            del model.entries[model.confirmed :]
            dedup = window(ids_max, model.confirmed, model.floor())
            for at, (command_id, time_ms, _) in enumerate(model.entries):
                dedup.load(Page(at + 1, at, 1, time_ms, [command_id]))
        now = max([now, *[e[1] for e in model.entries]])
        assert dedup.floor == model.floor()
        assert len(dedup) == len(model.live(model.floor()))
        for at, (command_id, time_ms, _) in enumerate(model.entries):
            known = time_ms + ID_AHEAD_MS_MAX > model.floor()
            assert dedup.find(command_id) == (at + 1 if known else 0)
