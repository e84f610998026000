"""The bytes that rows are ordered by sort as their values do."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_reading import schema

from engine.partition.selection import (
    rank,
)

KINDS = {
    "long": {"type": "long"},
    "double": {"type": "double"},
    "string": {"type": "string"},
    "bytes": {"type": "bytes"},
    "boolean": {"type": "boolean"},
    "decimal": {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 2},
    "enum": {"type": "enum", "name": "E", "symbols": ["z", "m", "a"]},
}
VALUES: dict[str, Any] = {
    "long": st.integers(-(1 << 63), (1 << 63) - 1),
    "double": st.floats(allow_nan=False),
    "string": st.text(),
    "bytes": st.binary(),
    "boolean": st.booleans(),
    "decimal": st.integers(-(10**30) + 1, 10**30 - 1),
    "enum": st.sampled_from(["z", "m", "a"]),
}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_ranks_sort_as_values_do(kind: str, data: st.DataObject) -> None:
    field = schema("K", {"name": "f", "type": KINDS[kind]}).by_name["f"]
    values = data.draw(st.tuples(VALUES[kind], VALUES[kind]))
    if kind == "decimal":
        ranks = [rank(field, value.to_bytes(16, "big", signed=True)) for value in values]
    else:
        ranks = [rank(field, value) for value in values]
    if kind == "enum":
        values = tuple(field.symbols.index(value) for value in values)
    assert (ranks[0] < ranks[1], ranks[0] == ranks[1]) == (
        values[0] < values[1],
        values[0] == values[1],
    )
