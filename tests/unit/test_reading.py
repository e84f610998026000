"""Reads of a partition: every row by its writer's schema, pages and cursors, one picture."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import limits, wire
from engine.application import Application, rows
from engine.application.schema import encode, parse
from engine.application.types import KeyColumn, RecordType, ViewType
from engine.model import HostState, Position
from engine.partition.reading import CursorError, PartitionReader, StoredRecord
from engine.partition.selection import (
    COLUMN_FIELDS,
    Condition,
    Order,
    Selection,
    TooWideError,
    Within,
    rank,
)
from engine.store.memory import MemoryStore

ITEM, LINES = limits.TABLE_RECORDS_FIRST, limits.TABLE_VIEWS_FIRST


def schema(name: str, *fields: dict[str, Any]) -> Any:
    return parse(json.dumps({"type": "record", "name": name, "fields": list(fields)}), "x.avsc")


COUNT = {"name": "count", "type": "long"}
NOTE = {"name": "note", "type": "string", "default": "none"}
OLD, NEW = schema("Item", COUNT), schema("Item", COUNT, NOTE)
KEY = (KeyColumn("day", "date"), KeyColumn("name", "string"), KeyColumn("at", "double"))


def application(index: int, item: Any) -> Application:
    record = RecordType("item", ITEM, "operational", item)
    view = ViewType("lines", LINES, 1, item, KEY)
    return Application(
        name="test",
        version=f"{index}.0.0",
        partitions=1,
        fingerprint=bytes(32),
        index=index,
        manifest="",
        schema_texts={},
        records={"item": record},
        commands={},
        views={"lines": view},
        projectors=(),
        extensions={},
        record_tables={ITEM: record},
        view_tables={LINES: view},
    )


ALONE: dict[str, Any] = {"root": 0, "parent": 0, "children": {}}
APPLICATIONS = {1: application(1, OLD), 2: application(2, NEW)}


def position(sequence: int = 7) -> tuple[bytes, bytes]:
    at = Position(host=HostState(sequence=sequence, application=2))
    return rows.POSITION_KEY, wire.encode_position(at, limits.FORMAT)


def item(workspace: str, number: int, value: bytes, flags: int = 0, index: int = 2) -> Any:
    key = rows.record_key(ITEM, workspace, number, number)
    return key, rows.encode_value(index, ITEM, flags, value)


def line(workspace: str, day: int, name: str, at: float, count: int) -> tuple[bytes, bytes]:
    columns = zip(("date", "string", "double"), (day, name, at), strict=True)
    value = rows.encode_value(1, LINES, 0, encode(OLD, {"count": count}))
    return rows.view_key(LINES, workspace, columns), value


def reader(*stored: tuple[bytes, bytes]) -> PartitionReader:
    store = MemoryStore()
    store.write([position(), *stored])
    return PartitionReader(store.view(), APPLICATIONS)


def test_an_empty_store_has_nothing() -> None:
    empty = PartitionReader(MemoryStore().view(), {})
    assert empty.position() == Position()
    assert empty.application is None
    assert empty.record("item", "w", 1) is None
    assert empty.view_rows("lines", "w", Selection()) == ([], None, [])
    assert empty.workspace("w") is None
    assert empty.sequences("w", 0, 10) == []
    assert empty.offset_of(1) is None


def test_a_record_of_an_older_application_is_read_by_its_own_schema() -> None:
    old = item("w", 65_536, encode(OLD, {"count": 3}), index=1)
    new = item("w", 65_537, encode(NEW, {"count": 4, "note": "hi"}), rows.INACTIVE)
    found = reader(old, new)
    assert found.record("item", "w", 65_536) == {
        "id": 65_536,
        "active": True,
        "fields": {"count": 3, "note": "none"},
        **ALONE,
    }
    assert found.record("item", "w", 65_537) == {
        "id": 65_537,
        "active": False,
        "fields": {"count": 4, "note": "hi"},
        **ALONE,
    }
    assert found.record("item", "w", 65_538) is None
    assert found.record("item", "v", 65_536) is None
    assert found.record("absent", "w", 65_536) is None


def test_a_workspace_never_sees_another_ones_rows() -> None:
    found = reader(line("a", 1, "x", 0.0, 1), line("ab", 1, "x", 0.0, 2))
    assert [row["count"] for row in found.view_rows("lines", "a", Selection(limit=10)).rows] == [1]


def test_views_are_paged_by_prefix_in_key_order() -> None:
    lines = [
        line("w", day, name, at, day * 100 + len(name) * 10 + int(at))
        for day in (-1, 0, 2)
        for name in ("", "a", "a\x00b", "b")
        for at in (-1.5, 0.0, 2.0)
    ]
    found = reader(*lines)
    everything = found.view_rows("lines", "w", Selection(limit=1_000)).rows
    assert len(everything) == 36
    keys = [(row["day"], row["name"], row["at"]) for row in everything]
    assert keys == sorted(keys)
    assert everything[0]["note"] == "none"
    one = found.view_rows(
        "lines",
        "w",
        Selection(
            prefix=(
                0,
                "a",
            ),
            limit=1_000,
        ),
    ).rows
    assert [(row["name"], row["at"]) for row in one] == [("a", -1.5), ("a", 0.0), ("a", 2.0)]
    for prefix in ([], [0], [2, "a\x00b"], [2, "b", 2.0]):
        expected = found.view_rows("lines", "w", Selection(prefix=tuple(prefix), limit=1_000))
        assert expected.next is None
        pages: list[dict[str, Any]] = []
        after = None
        while True:
            page = found.view_rows(
                "lines", "w", Selection(prefix=tuple(prefix), limit=2, after=after)
            )
            assert len(page.rows) <= 2
            pages += page.rows
            after = page.next
            if after is None:
                break
        assert pages == expected.rows


def test_only_what_is_read_to_be_judged_counts_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = reader(*(line("w", day, "x", 0.0, day) for day in range(5)))
    monkeypatch.setattr(limits, "QUERY_SCAN_BYTES_MAX", 20)
    page = found.find_view_rows("lines", "w", Selection(limit=100))
    assert len(page.keys) == 5
    with pytest.raises(TooWideError):
        found.find_view_rows("lines", "w", Selection(where=(condition("count", "ge", 0),)))


def test_a_condition_within_holds_for_one_and_the_same() -> None:
    nested = [{"count": 1, "day": 2}, {"count": 3, "day": 4, "c": [{"count": 9}]}]
    row: dict[str, Any] = {"items": nested, "none": []}
    high, low = condition("count", "ge", 3), condition("day", "lt", 3)
    assert Within("items", (high,)).holds(row)
    assert Within("items", (low,)).holds(row)
    assert not Within("items", (high, low)).holds(row)
    assert Within("items", (high, Within("c", (condition("count", "gt", 8),)))).holds(row)
    assert not Within("items", (low, Within("c", (condition("count", "gt", 8),)))).holds(row)
    assert not Within("none", ()).holds(row)
    assert not Within("absent", ()).holds(row)
    both = Selection(where=(Within("items", (high, Within("c", ()))),))
    assert both.within == {"items": {"c": {}}}
    assert both.may_want({})
    assert not both.wants({})


def test_a_cursor_of_another_query_is_refused() -> None:
    found = reader(*(line("w", day, "x", 0.0, day) for day in range(4)))
    cursor = found.view_rows("lines", "w", Selection(limit=1)).next
    assert cursor is not None
    with pytest.raises(CursorError):
        found.view_rows("lines", "w", Selection(prefix=(3,), limit=1, after=cursor))


@given(st.binary(max_size=40))
def test_any_cursor_either_is_refused_or_stays_inside_the_query(cursor: bytes) -> None:
    found = reader(*(line("w", day, "x", 0.0, day) for day in range(3)), line("x", 1, "", 0.0, 9))
    try:
        page = found.view_rows("lines", "w", Selection(prefix=(1,), limit=10, after=cursor))
    except CursorError:
        return
    assert all(row["day"] == 1 and row["count"] != 9 for row in page.rows)


@given(st.integers(0, 100), st.integers(0, 110), st.integers(1, 120))
def test_a_workspaces_log_is_read_across_its_pages(last: int, after: int, limit: int) -> None:
    sequences = [number * 3 + 1 for number in range(1, last + 1)]
    size = limits.WORKSPACE_PAGE
    full = len(sequences) // size
    stored = [
        (
            rows.workspace_log_key("w", page),
            rows.encode_sequences(sequences[page * size : (page + 1) * size]),
        )
        for page in range(full)
    ]
    row = rows.Workspace(last, last, 65_536, sequences[full * size :])
    found = reader((rows.workspace_key("w"), rows.encode_workspace(row)), *stored)
    expected = list(enumerate(sequences, start=1))[after : after + limit]
    assert found.sequences("w", after, limit) == expected


def test_a_full_page_may_still_stand_in_the_row() -> None:
    # A row turns into a page once it is full; both ways of standing must read alike.
    recent = list(range(101, 101 + limits.WORKSPACE_PAGE))
    row = rows.Workspace(len(recent), len(recent), 65_536, recent)
    found = reader((rows.workspace_key("w"), rows.encode_workspace(row)))
    assert found.sequences("w", 30, 5) == [(31, 131), (32, 132)]


def test_offsets_are_found_through_pages() -> None:
    pages = [
        rows.Page(1, 10, 3, 0, []),
        rows.Page(4, 20, 1, 0, [bytes(16)]),
        rows.Page(5, 300, 2, 0, [bytes(16)] * 2),
    ]
    found = reader(
        *((rows.page_key(page.first_sequence), rows.encode_page(page)) for page in pages)
    )
    assert [found.offset_of(sequence) for sequence in range(9)] == [
        None,
        10,
        11,
        12,
        20,
        300,
        301,
        None,
        None,
    ]


def test_a_picture_stays_as_it_was() -> None:
    store = MemoryStore()
    store.write([position(7)])
    picture = PartitionReader(store.view(), APPLICATIONS)
    store.write([position(8), item("w", 65_536, encode(NEW, {"count": 1}))])
    assert picture.position().host.sequence == 7
    assert picture.record("item", "w", 65_536) is None
    assert PartitionReader(store.view(), APPLICATIONS).position().host.sequence == 8
    picture.close()


def wide(count: int) -> PartitionReader:
    return reader(*(line("w", number, "x", float(-number), number % 7) for number in range(count)))


def by(name: str, *, descending: bool = False) -> Order:
    kinds = {column.name: column.kind for column in KEY}
    field = COLUMN_FIELDS[kinds[name]] if name in kinds else NEW.by_name[name]
    return Order(name, field, descending)


def condition(name: str, operator: str, *values: Any) -> Condition:
    field = by(name).field
    return Condition(name, field, operator, tuple(rank(field, value) for value in values))


LINE = st.tuples(
    st.integers(-2, 2), st.sampled_from(["", "a", "a\x00", "b", "é", "\U0001f600"]), st.floats()
)
ORDERS = st.lists(st.tuples(st.sampled_from(["day", "name", "count"]), st.booleans()), max_size=3)


@given(
    st.dictionaries(LINE.filter(lambda key: key[2] == key[2]), st.integers(-3, 3), max_size=30),
    ORDERS,
    st.integers(1, 5),
    st.tuples(st.sampled_from(["lt", "le", "gt", "ge", "ne"]), st.integers(-3, 3)),
)
def test_filter_order_and_page_agree_with_a_plain_model(
    stored: dict[Any, int], orders: list[Any], limit: int, test: tuple[str, int]
) -> None:
    operators = {
        "lt": int.__lt__,
        "le": int.__le__,
        "gt": int.__gt__,
        "ge": int.__ge__,
        "ne": int.__ne__,
    }
    found = reader(*(line("w", *key, count) for key, count in stored.items()))
    expected = [
        row
        for row in found.view_rows("lines", "w", Selection(limit=1_000)).rows
        if operators[test[0]](row["count"], test[1])
    ]
    for name, descending in reversed(orders):
        expected.sort(key=lambda row: row[name], reverse=descending)
    order = tuple(by(name, descending=descending) for name, descending in orders)
    where = (condition("count", test[0], test[1]),)
    rows_found: list[dict[str, Any]] = []
    after = None
    while True:
        page = found.view_rows("lines", "w", Selection((), None, None, where, order, limit, after))
        rows_found += page.rows
        after = page.next
        if after is None:
            break
    assert rows_found == expected


@given(st.binary(max_size=30))
def test_any_cursor_of_an_order_gives_rows_of_the_query(cursor: bytes) -> None:
    found = wide(10)
    page = found.view_rows("lines", "w", Selection(order=(by("count"),), after=cursor))
    assert len(page.rows) <= 10


def test_a_range_has_both_its_ends() -> None:
    found = wide(10)
    days = [row["day"] for row in found.view_rows("lines", "w", Selection(low=3, high=5)).rows]
    assert days == [3, 4, 5]
    assert found.view_rows("lines", "w", Selection(low=6, high=5)).rows == []


def test_too_many_rows_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    found = wide(20)
    monkeypatch.setattr(limits, "QUERY_SCAN_MAX", 10)
    assert len(found.view_rows("lines", "w", Selection(limit=9)).rows) == 9
    with pytest.raises(TooWideError):
        found.view_rows("lines", "w", Selection(order=(by("count"),)))
    with pytest.raises(TooWideError):
        found.view_rows("lines", "w", Selection(where=(condition("count", "gt", 100),)))
    monkeypatch.setattr(limits, "QUERY_SCAN_MAX", 1_000)
    monkeypatch.setattr(limits, "QUERY_SCAN_BYTES_MAX", 50)
    with pytest.raises(TooWideError):
        found.view_rows("lines", "w", Selection(order=(by("count"),)))


def test_records_are_listed_without_the_inactive_ones() -> None:
    found = reader(
        item("w", 1, encode(NEW, {"count": 1})),
        item("w", 2, encode(NEW, {"count": 2}), rows.INACTIVE),
        item("w", 3, encode(OLD, {"count": 3}), index=1),
        item("v", 4, encode(NEW, {"count": 4})),
    )

    def listed(selection: Selection, *, inactive: bool = False) -> list[StoredRecord]:
        page = found.find_record_rows("item", "w", selection, inactive=inactive)
        return [found.record_row("item", "w", key) for key in page.keys]

    assert [row["id"] for row in listed(Selection())] == [1, 3]
    everything = listed(Selection(), inactive=True)
    assert [(row["id"], row["active"]) for row in everything] == [(1, True), (2, False), (3, True)]
    two = Selection(where=(condition("note", "in", "none"),), order=(by("count", descending=True),))
    assert [row["id"] for row in listed(two)] == [3, 1]
