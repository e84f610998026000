"""Rows in memory: which one is seen, what is undone, and that the cache has a bound."""

from hypothesis import given, settings
from hypothesis import strategies as st
from sortedcontainers import SortedDict

from engine.model import HostState
from engine.sandbox.host_ranges import DictReader
from engine.sandbox.host_rows import Rows
from engine.sandbox.session import UNKNOWN


def test_the_newest_row_is_seen_and_each_layer_can_be_taken_away():
    rows = Rows()
    assert rows.get(b"a") is UNKNOWN
    rows.provide(b"a", b"0")
    rows.change(HostState(1), {b"a": b"1"})
    rows.change(HostState(2), {b"a": b"2"})
    rows.guess()
    rows.change(HostState(3), {b"a": None})
    assert rows.get(b"a") is None
    rows.settle()
    assert rows.get(b"a") == b"2"
    assert rows.confirm(1) == HostState(1)
    assert rows.get(b"a") == b"2"
    rows.discard()
    assert rows.get(b"a") == b"1"


def test_the_least_recently_used_rows_go_first_and_never_unconfirmed_ones():
    rows = Rows(cache_max=2)
    rows.change(HostState(1), {b"u": b"1"})
    for key in (b"a", b"b", b"c", b"d"):
        rows.provide(key, b"x")
    assert rows.get(b"a") == b"x"
    rows.confirm(0)
    assert [rows.get(key) for key in (b"a", b"b", b"c", b"d")] == [b"x", UNKNOWN, UNKNOWN, b"x"]
    assert rows.get(b"u") == b"1"


def test_the_cache_has_a_bound_in_bytes():
    rows = Rows(cache_bytes_max=2 * 200 + 30)
    rows.provide(b"a", b"x" * 19)
    rows.provide(b"b", b"x" * 9)
    rows.confirm(0)
    assert rows.get(b"a") == b"x" * 19
    assert rows.size_bytes == 2 * 200 + 30
    rows.change_confirmed({b"b": b"x" * 10})
    rows.confirm(0)
    assert rows.get(b"a") is UNKNOWN
    assert rows.get(b"b") == b"x" * 10


def test_a_host_that_can_read_is_never_without_a_row():
    stored = SortedDict({b"a": b"1"})
    rows = Rows(DictReader(stored))
    assert (rows.get(b"a"), rows.get(b"b")) == (b"1", None)
    stored[b"a"] = b"2"
    assert rows.get(b"a") == b"1"


LAYERS = st.lists(
    st.tuples(
        st.sampled_from(["fold", "change", "confirm", "discard", "guess", "scan"]),
        st.sampled_from([b"p", b"pa", b"pb", b"pb0", b"pc", b"q"]),
        st.one_of(st.none(), st.binary(max_size=2)),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(LAYERS, st.booleans())
def test_a_range_is_what_is_stored_with_all_layers_above_it(steps, reading):
    stored, folded, pending, sequence = SortedDict(), {}, [], 0
    rows = Rows(DictReader(stored) if reading else None)
    for step, key, value, reverse in steps:
        if step == "fold" and not pending:
            folded[key] = value
            rows.change_confirmed({key: value})
        elif step == "change" and not folded:
            sequence += 1
            pending.append((sequence, {key: value}))
            rows.change(HostState(sequence), {key: value})
        elif step == "discard":
            pending.clear()
            rows.discard()
        elif step == "confirm":
            done, changed = pending.pop(0) if pending else (0, folded)
            apply(stored, changed)
            folded = {}
            rows.confirm(done)
        now = SortedDict(stored)
        for changed in (folded, *(changed for _, changed in pending)):
            apply(now, changed)
        if step == "guess":
            rows.guess()
            rows.change(HostState(sequence + 1), {key: value})
            guessed = SortedDict(now)
            apply(guessed, {key: value})
            assert scanned(rows, stored, b"p", reverse) == expected(guessed, b"p", reverse)
            rows.settle()
        if step == "scan":
            prefix = key[:2]
            assert scanned(rows, stored, prefix, reverse) == expected(now, prefix, reverse)


def apply(held, changed):
    for key, value in changed.items():
        if value is None:
            held.pop(key, None)
        else:
            held[key] = value


def expected(held, prefix, reverse):
    return sorted([pair for pair in held.items() if pair[0].startswith(prefix)], reverse=reverse)


def scanned(rows, stored, prefix, reverse):
    """Scan, providing what is missing as a store would."""
    if rows.scan(prefix) is UNKNOWN:
        rows.provide_range(prefix, expected(stored, prefix, reverse=False))
    return list(rows.scan(prefix, reverse=reverse))


KEYS = st.sampled_from([b"a", b"b", b"c"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["provide", "change", "confirm", "discard", "guess"]),
        KEYS,
        st.one_of(st.none(), st.binary(max_size=3)),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_it_agrees_with_plain_dictionaries(steps):
    rows, stored, pending, sequence = Rows(cache_max=1, cache_bytes_max=204), {}, [], 0
    for step, key, value in steps:
        if step == "provide":
            rows.provide(key, stored.get(key))
        elif step == "change":
            sequence += 1
            pending.append((sequence, {key: value}))
            rows.change(HostState(sequence), {key: value})
        elif step == "guess":
            rows.guess()
            rows.change(HostState(sequence + 1), {key: b"guess"})
            assert rows.get(key) == b"guess"
            rows.settle()
        elif step == "discard":
            pending.clear()
            rows.discard()
        elif pending:
            done, changed = pending.pop(0)
            stored.update(changed)
            rows.confirm(done)
        now = dict(stored)
        for _, changed in pending:
            now.update(changed)
        assert rows.get(key) in {UNKNOWN, now.get(key)}
        assert not any(key in changed for _, changed in pending) or rows.get(key) == now[key]
