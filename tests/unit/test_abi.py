"""The ABI's text and buffers: descriptions parse and resolve, or say what is wrong."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.application.building import Parts, build
from engine.errors import ApplicationError
from engine.limits import DESCRIPTION_BYTES_MAX, DESCRIPTION_NAMES_MAX
from engine.sandbox import abi

MANIFEST = """
application = { name = "a", version = "1.0.0", partitions = 1 }
records.order = { schema = "order.avsc", kind = "operational", unique = { paid = ["paid"] } }
commands.place = { args = "place.avsc", run = "x:place", result = "placed.avsc" }
commands.other = { args = "place.avsc", run = "x:other" }
views.sums = { row = "sums.avsc", key = ["day:date", "name:string", "rate:double"] }
projectors.sums = { on = ["order.create"], writes = ["sums"], run = "x:sum" }
extensions.x = { wasm = "x.wasm" }
"""
SCHEMAS = {
    "order.avsc": """{"type": "record", "name": "Order", "fields": [
        {"name": "total", "type": "long"}, {"name": "rate", "type": "double"},
        {"name": "name", "type": ["null", "string"]}, {"name": "paid", "type": "boolean"},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line",
            "fields": [{"name": "amount", "type": "long"}, {"name": "what", "type": "string"}]}}}
    ]}""",
    "place.avsc": """{"type": "record", "name": "Place", "fields": [
        {"name": "total", "type": "long"}]}""",
    "placed.avsc": """{"type": "record", "name": "Placed", "fields": [
        {"name": "number", "type": "long"}]}""",
    "sums.avsc": """{"type": "record", "name": "Sums", "fields": [
        {"name": "total", "type": "long"}]}""",
}
APPLICATION = build(Parts(MANIFEST, SCHEMAS, {"x": b""}, "application.toml"))
ENTRIES = "abi 1\nentry place\nentry other\nentry sum\n"


def resolve(statements: str) -> abi.Resolved:
    description = abi.parse((ENTRIES + statements).encode(), "x.wasm")
    return abi.resolve(description, APPLICATION, APPLICATION.extensions["x"])


def test_names_become_the_applications_own_objects():
    found = resolve(
        "record order\nview sums\nunique order.paid\n"
        "field record order total i64\nkey sums day i64\n"
        "field record order name bytes\nkey sums rate f64\nfield context command_time i64\n"
        "field result place number i64\nfield record order lines array\n"
        "field record order lines.amount i64\nfield record order tags[] bytes\n"
        "plan record order rate,total\nplan record order lines.amount,lines.what\n"
        "plan context command_time,workspace\n"
    )
    order, sums = APPLICATION.records["order"], APPLICATION.views["sums"]
    fields = order.schema.by_name
    assert found.entries == {"place", "other", "sum"}
    assert found.records == (order,)
    assert found.views == (sums,)
    assert found.uniques == (APPLICATION.uniques["order.paid"],)
    assert found.fields[0] is fields["total"]
    assert found.fields[1] is sums.key[0], "key columns share the ordinals of fields"
    assert found.fields[2] is fields["name"]
    assert found.fields[3] is sums.key[2]
    assert found.fields[7] is fields["lines"].items.by_name["amount"]
    assert found.fields[8] is fields["tags"].item
    assert found.plans[0].fields == (fields["rate"], fields["total"])
    assert found.plans[1].fields == tuple(fields["lines"].items.fields)


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        ("record ordr\n", "record type 'ordr'"),
        ("view sum\n", "view 'sum'"),
        ("unique order.number\n", "unique 'order.number'"),
        ("unique order paid\n", "line 5"),
        ("field record order totl i64\n", "field of Order 'totl'"),
        ("field record order total f64\n", "'total' (long) as f64"),
        ("field record order total bytes\n", "'total' (long) as bytes"),
        ("field record order tags bytes\n", "'tags' (array) as bytes"),
        ("field record order total.x i64\n", "not an array of records"),
        ("field record order total[] i64\n", "not an array of scalars"),
        ("field record order lines[] array\n", "not an array of scalars"),
        ("field row order total i64\n", "kind of field 'row'"),
        ("field args plase total i64\n", "command 'plase'"),
        ("field result other number i64\n", "'other' has no result"),
        ("key sums week i64\n", "key column 'week'"),
        ("key sums name i64\n", "'name' (string) as i64"),
        ("plan record order tags\n", "can't hold 'tags'"),
        ("plan record order total,lines.amount\n", "several records"),
        ("plan record order total,\n", "field of Order ''"),
        ("field record order total\n", "line 5"),
        ("field  record order total i64\n", "line 5"),
        ("emit x\n", "line 5"),
        ("\n", "line 5"),
    ],
)
def test_what_is_missing_or_mistyped_is_named(statements, said):
    with pytest.raises(ApplicationError) as caught:
        resolve(statements)
    assert caught.value.code == "E1104"
    assert said in caught.value.message
    assert caught.value.where["file"] == "x.wasm"


def test_a_near_name_is_suggested():
    with pytest.raises(ApplicationError) as caught:
        resolve("field record order totl i64\n")
    assert caught.value.hint == "Did you mean 'total'?"


def test_an_entry_of_the_manifest_must_be_there():
    description = abi.parse(b"abi 1\nentry place\nentry other\n", "x.wasm")
    with pytest.raises(ApplicationError, match="its function 'sum'"):
        abi.resolve(description, APPLICATION, APPLICATION.extensions["x"])


@pytest.mark.parametrize(
    "text", [b"", b"abi 2\n", b"ABI 1\n", b"abi 1 \n", b"\xff\xfe", b"abi 1\n\xc3"]
)
def test_only_this_abi_is_taken(text):
    with pytest.raises(ApplicationError) as caught:
        abi.parse(text, "x.wasm")
    assert caught.value.code == "E1104"


@pytest.mark.parametrize(
    "text", [b"abi 1\n" + b"x" * DESCRIPTION_BYTES_MAX, b"abi 1" + b"\n#" * DESCRIPTION_NAMES_MAX]
)
def test_descriptions_are_bounded(text):
    with pytest.raises(ApplicationError) as caught:
        abi.parse(text, "x.wasm")
    assert "most" in caught.value.where


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(data):
    with contextlib.suppress(ApplicationError):
        abi.parse(b"abi 1\n" + data, "x.wasm")


def test_what_is_not_served_yet_is_not_in_the_table():
    later = {"emit", "timer", "cancel"}
    assert not later & abi.IMPORTS.keys()
    assert all(len(signature.results) <= 1 for signature in abi.IMPORTS.values())


PLAN = abi.Plan(tuple(APPLICATION.records["order"].schema.fields[:4]))
LONG = st.integers(-(2**63), 2**63 - 1)
VALUES = st.tuples(LONG, st.floats(allow_nan=False), st.none() | st.binary(max_size=40), LONG)


@given(VALUES)
def test_a_row_comes_back_as_it_was_packed(values):
    data = PLAN.pack(values)
    assert PLAN.unpack(data) == list(values)
    assert len(data) == 40 + len(values[2] or b"")


@given(st.binary(max_size=120))
def test_any_buffer_unpacks_or_is_refused(data):
    try:
        values = PLAN.unpack(data)
    except ValueError:
        return
    assert values[2] is None or values[2] in data


def test_a_row_has_the_documented_layout():
    data = PLAN.pack([7, 1.5, b"hello", None])
    assert data[:8] == (0b1000).to_bytes(8, "little")
    assert data[8:16] == (7).to_bytes(8, "little")
    assert data[24:28] == (40).to_bytes(4, "little")
    assert data[28:32] == (5).to_bytes(4, "little")
    assert data[40:] == b"hello"
