"""Stored rows: keys sort as their values do, and everything comes back."""

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.application import rows
from engine.application.rows import Page, RowValue, Workspace
from engine.limits import WORKSPACE_BYTES_MAX

LONG = st.integers(-(1 << 63), (1 << 63) - 1)
DOUBLE = st.floats(allow_nan=False)
NAME = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20
)
# Bytes whose escapes meet: zeros, 0xFF, and what lies beside them.
NEAR = st.lists(st.sampled_from([0, 1, 0xFE, 0xFF]), max_size=6).map(bytes)
DATA = st.binary(max_size=20) | NEAR
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "long": LONG,
    "date": LONG,
    "time": LONG,
    "double": DOUBLE,
    "string": st.text(max_size=12),
    "bytes": DATA,
    "boolean": st.booleans(),
}
COLUMNS = st.lists(
    st.sampled_from(sorted(VALUES)).flatmap(
        lambda kind: st.tuples(st.just(kind), VALUES[kind], VALUES[kind])
    ),
    max_size=4,
)


def sortable(kind: str, value: Any) -> Any:
    # Text sorts by code points, and so do its UTF-8 bytes; Python compares the same way.
    return float(value) if kind == "double" else value


@given(LONG, LONG)
def test_integers_keep_their_order(one: int, other: int) -> None:
    assert rows.decode_long(rows.encode_long(one)) == one
    assert (rows.encode_long(one) < rows.encode_long(other)) == (one < other)


@given(DOUBLE, DOUBLE)
def test_doubles_keep_their_order(one: float, other: float) -> None:
    assert rows.decode_double(rows.encode_double(one)) == one
    assert (rows.encode_double(one) < rows.encode_double(other)) == (one < other)
    assert (rows.encode_double(one) == rows.encode_double(other)) == (one == other)


def test_the_edges_of_doubles() -> None:
    smallest = 5e-324
    ordered = [-math.inf, -1e308, -1.0, -smallest, 0.0, smallest, 1.0, 1e308, math.inf]
    encoded = [rows.encode_double(number) for number in ordered]
    assert encoded == sorted(encoded)
    assert rows.encode_double(-0.0) == rows.encode_double(0.0)


@given(DATA, DATA)
def test_texts_keep_their_order_and_end(one: bytes, other: bytes) -> None:
    assert (rows.encode_text(one) < rows.encode_text(other)) == (one < other)
    joined = rows.encode_text(one) + rows.encode_text(other)
    first, at = rows.decode_text(joined)
    assert (first, rows.decode_text(joined, at)) == (one, (other, len(joined)))


@given(NAME, st.integers(1, 0xFFFF), COLUMNS)
def test_view_keys_keep_order_and_come_back(workspace: str, table: int, columns: list[Any]) -> None:
    kinds = [kind for kind, _, _ in columns]
    one = [value for _, value, _ in columns]
    other = [value for _, _, value in columns]
    key = rows.view_key(table, workspace, zip(kinds, one, strict=True))
    assert rows.decode_columns(key, kinds) == one
    assert rows.table_of(key) == table
    assert rows.workspace_of(key) == workspace
    against = rows.view_key(table, workspace, zip(kinds, other, strict=True))
    in_order = [sortable(*pair) for pair in zip(kinds, one, strict=True)] < [
        sortable(*pair) for pair in zip(kinds, other, strict=True)
    ]
    assert (key < against) == in_order


@given(NAME, COLUMNS, st.data())
def test_a_prefix_of_columns_is_a_range(workspace: str, columns: list[Any], data: Any) -> None:
    pairs = [(kind, value) for kind, value, _ in columns]
    prefix = rows.view_key(0x8000, workspace, pairs[: data.draw(st.integers(0, len(pairs)))])
    key = rows.view_key(0x8000, workspace, pairs)
    assert prefix <= key < rows.prefix_end(prefix)


@given(NAME, NAME, st.integers(1, 0xFFFE), LONG, LONG)
def test_workspaces_and_tables_never_mix(
    workspace: str, other: str, table: int, root: int, number: int
) -> None:
    key = rows.record_key(table, workspace, root, number)
    assert rows.workspace_of(key) == workspace
    if other != workspace:
        start = rows.workspace_prefix(table, other)
        assert not start <= key < rows.prefix_end(start)
    assert rows.table_prefix(table) <= key < rows.table_prefix(table + 1)
    # A document and its nested records are one range, the root first.
    start = rows.workspace_prefix(table, workspace) + rows.encode_long(root)
    assert start <= key < rows.prefix_end(start)


@given(st.binary(min_size=1, max_size=6).filter(lambda data: data.strip(b"\xff")), DATA)
def test_the_end_of_a_prefix_is_tight(prefix: bytes, rest: bytes) -> None:
    end = rows.prefix_end(prefix)
    assert prefix + rest < end
    assert prefix + b"\xff" * 30 < end
    assert not end.startswith(prefix)


@given(st.integers(0, (1 << 32) - 1), st.integers(0, 0xFFFF), st.integers(0, 255), DATA)
def test_values_come_back(application: int, type_: int, flags: int, body: bytes) -> None:
    value = rows.encode_value(application, type_, flags, body)
    assert rows.decode_value(value) == RowValue(application, type_, flags, body)
    assert len(value) == rows.VALUE_HEADER_BYTES + len(body)


@given(
    st.integers(1, 1 << 62),
    st.integers(0, 1 << 62),
    st.integers(0, 1 << 62),
    st.lists(st.binary(min_size=16, max_size=16), max_size=5),
)
def test_pages_come_back(first: int, offset: int, time_ms: int, ids: list[bytes]) -> None:
    page = Page(first, offset, len(ids), time_ms, ids)
    assert rows.decode_page(rows.page_key(first), rows.encode_page(page)) == page
    assert (rows.page_key(first) < rows.page_key(first + 1)) is True
    expired = page._replace(ids=[])
    assert rows.decode_page(rows.page_key(first), rows.encode_page(expired)) == expired


@given(*[st.integers(0, (1 << 64) - 1)] * 3, st.lists(st.integers(0, (1 << 64) - 1), max_size=32))
def test_workspace_rows_come_back(
    last: int, accepted: int, next_id: int, recent: list[int]
) -> None:
    row = Workspace(last, accepted, next_id, recent)
    gone = row._replace(kind="café", status=rows.GONE)
    assert rows.decode_workspace(rows.encode_workspace(gone)) == gone
    assert rows.decode_workspace(rows.encode_workspace(row)) == row
    assert rows.decode_sequences(rows.encode_sequences(recent)) == recent


def test_a_digest_tells_key_from_value() -> None:
    hashes = {rows.row_hash(*pair) for pair in [(b"a", b"bc"), (b"ab", b"c"), (b"abc", b"")]}
    assert len(hashes) == 3
    for hashed in hashes:
        assert struct.pack(">q", hashed)


def test_a_workspace_that_can_not_be_a_key_is_a_fault() -> None:
    for workspace in ("a\0b", "x" * (WORKSPACE_BYTES_MAX + 1)):
        with pytest.raises(AssertionError):
            rows.workspace_key(workspace)


def test_what_waits_is_read_back() -> None:
    key, value = rows.waiting_key("täglich#32769"), rows.encode_waiting(0x8001)
    assert key == b"\x00\x09" + "täglich#32769".encode()
    assert value == b"\x80\x01"
    assert rows.decode_waiting(key, value) == ("täglich#32769", 0x8001)
