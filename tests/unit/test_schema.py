"""Avro schemas: what is supported, and values in binary and JSON form, strict both ways."""

import io
import json
import math
from typing import Any

import fastavro
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.application import schema
from engine.application.schema import SchemaMismatch
from engine.application.types import RecordSchema
from engine.wire import WireError

FIELDS: list[Any] = [
    {"name": "flag", "type": "boolean"},
    {"name": "small", "type": "int"},
    {"name": "big", "type": "long", "default": 7},
    {"name": "single", "type": "float"},
    {"name": "real", "type": "double", "default": 1},
    {"name": "text", "type": "string", "default": "none"},
    {"name": "data", "type": "bytes", "default": "\u00ff"},
    {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 3}},
    {"name": "suit", "type": {"type": "enum", "name": "Suit", "symbols": ["HEARTS", "SPADES"]}},
    {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "exact", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {
        "name": "price",
        "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2},
    },
    {
        "name": "rate",
        "type": {
            "type": "fixed",
            "name": "Rate",
            "size": 4,
            "logicalType": "decimal",
            "precision": 6,
            "scale": 6,
        },
    },
    {"name": "maybe", "type": ["null", "string"], "default": None},
    {"name": "other", "type": ["null", "Suit"]},
    {"name": "numbers", "type": {"type": "array", "items": "long"}, "default": []},
    {
        "name": "lines",
        "type": {
            "type": "array",
            "items": {
                "type": "record",
                "name": "Line",
                "fields": [
                    {"name": "sku", "type": "string"},
                    {"name": "due", "type": ["null", {"type": "int", "logicalType": "date"}]},
                    {"name": "tags", "type": {"type": "array", "items": "string"}},
                ],
            },
        },
    },
]


def parse(*fields: Any) -> RecordSchema:
    text = json.dumps({"type": "record", "name": "Thing", "fields": list(fields)})
    return schema.parse(text, "thing.avsc")


def one(type_: Any, **more: Any) -> RecordSchema:
    return parse({"name": "f", "type": type_, **more})


ALL = parse(*FIELDS)

LONG = st.integers(-(1 << 63), (1 << 63) - 1)
INT = st.integers(-(1 << 31), (1 << 31) - 1)


def decimals(digits: int, size: int = 0) -> st.SearchStrategy[bytes]:
    bound = 10**digits - 1

    def pack(number: int) -> bytes:
        length = size or (number if number >= 0 else ~number).bit_length() // 8 + 1
        return number.to_bytes(length, "big", signed=True)

    return st.integers(-bound, bound).map(pack)


VALUES = st.fixed_dictionaries(
    {
        "flag": st.booleans(),
        "small": INT,
        "big": LONG,
        "single": st.floats(width=32, allow_nan=False),
        "real": st.floats(allow_nan=False),
        "text": st.text(max_size=20),
        "data": st.binary(max_size=20),
        "hash": st.binary(min_size=3, max_size=3),
        "suit": st.sampled_from(["HEARTS", "SPADES"]),
        "day": INT,
        "at": LONG,
        "exact": LONG,
        "price": decimals(12),
        "rate": decimals(6, 4),
        "maybe": st.none() | st.text(max_size=5),
        "other": st.none() | st.sampled_from(["HEARTS", "SPADES"]),
        "numbers": st.lists(LONG, max_size=4),
        "lines": st.lists(
            st.fixed_dictionaries(
                {
                    "sku": st.text(max_size=4),
                    "due": st.none() | INT,
                    "tags": st.lists(st.text(max_size=3), max_size=3),
                }
            ),
            max_size=3,
        ),
    }
)


@given(VALUES)
def test_encoded_values_come_back_and_are_what_fastavro_writes(value: dict[str, Any]) -> None:
    data = schema.encode(ALL, value)
    assert schema.decode(ALL, data) == value
    out = io.BytesIO()
    fastavro.schemaless_writer(out, ALL.avro, value)
    assert data == out.getvalue()


@given(VALUES)
def test_json_comes_back_through_real_json(value: dict[str, Any]) -> None:
    as_json = orjson.loads(orjson.dumps(schema.to_json(ALL, value)))
    assert list(as_json) == [field.name for field in ALL.fields]
    assert schema.from_json(ALL, as_json) == value


@given(VALUES, st.data())
def test_cut_off_or_longer_data_is_refused(value: dict[str, Any], data: st.DataObject) -> None:
    encoded = schema.encode(ALL, value)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(WireError):
        schema.decode(ALL, encoded[:cut])
    with pytest.raises(WireError, match="1 bytes too many"):
        schema.decode(ALL, encoded + b"\0")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_wire_error(data: bytes) -> None:
    try:
        value = schema.decode(ALL, data)
    except WireError:
        return
    assert schema.decode(ALL, schema.encode(ALL, value)).keys() == value.keys()
    schema.to_json(ALL, value)


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("boolean", b"\x02"),
        ("int", b"\x80\x80\x80\x80\x10"),
        ("long", b"\xff" * 9 + b"\x02"),
        ("long", b"\x80" * 11 + b"\x01"),
        ("string", b"\x02\xff"),
        ("string", b"\x01"),
        ("string", b"\xfe\xff\xff\xff\x0fabc"),
        (["null", "int"], b"\x04\x02"),
        (["null", "int"], b"\x01\x02"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, b"\x04"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, b"\x01"),
        ({"type": "array", "items": "boolean"}, b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f\x00"),
        ({"type": "array", "items": "long"}, b"\x01\x04\x02\x00"),
    ],
)
def test_damaged_data_is_refused(type_: Any, data: bytes) -> None:
    with pytest.raises(WireError):
        schema.decode(one(type_), data)


def test_arrays_in_several_blocks_are_read() -> None:
    array = one({"type": "array", "items": "long"})
    assert schema.decode(array, b"\x02\x02\x01\x02\x04\x00") == {"f": [1, 2]}


@pytest.mark.parametrize(
    ("type_", "value", "says"),
    [
        ("boolean", 1, "must be a boolean, not int"),
        ("int", True, "must be an int, not bool"),
        ("int", 1 << 31, "must be from -2147483648 to 2147483647"),
        ("long", 1.0, "must be a long, not float"),
        ("long", -(1 << 63) - 1, "must be from"),
        ("float", 1e39, "too large for a float"),
        ("double", 10**400, "too large for a double"),
        ("double", True, "must be a double, not bool"),
        ("double", "1", "must be a double, not str"),
        ("string", b"x", "must be a string, not bytes"),
        ("string", "\ud800", "surrogate"),
        ("string", None, "must be a string, not NoneType"),
        ("bytes", "x", "must be a bytes value, not str"),
        ({"type": "fixed", "name": "F", "size": 2}, b"x", "must have 2 bytes, not 1"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "C", "must be one of A, B"),
        (["null", "int"], "x", "must be an int, not str"),
        ({"type": "array", "items": "int"}, {}, "must be an array, not dict"),
    ],
)
def test_wrong_values_name_their_field(type_: Any, value: Any, says: str) -> None:
    with pytest.raises(SchemaMismatch, match=says) as caught:
        schema.encode(one(type_), {"f": value})
    assert caught.value.field == "f"


def test_wrong_values_inside_arrays_are_named_by_their_path() -> None:
    value = {**schema.zero(ALL), "lines": [{"sku": "a", "due": None, "tags": ["x", 2]}]}
    with pytest.raises(SchemaMismatch) as caught:
        schema.encode(ALL, value)
    assert caught.value.field == "lines[0].tags[1]"


def test_missing_and_unknown_fields() -> None:
    thing = parse({"name": "a", "type": "int"}, {"name": "b", "type": "int", "default": 5})
    assert schema.decode(thing, schema.encode(thing, {"a": 1})) == {"a": 1, "b": 5}
    assert schema.from_json(thing, {"a": 1}) == {"a": 1, "b": 5}
    for check in (schema.encode, schema.from_json):
        with pytest.raises(SchemaMismatch, match="a: is missing"):
            check(thing, {"b": 1})
        with pytest.raises(SchemaMismatch, match="c: is not a field"):
            check(thing, {"a": 1, "c": 1})
        with pytest.raises(SchemaMismatch, match="must be an object"):
            check(thing, [1])  # pyright: ignore[reportArgumentType]


def test_zero_is_made_of_defaults_and_zeros() -> None:
    made = schema.zero(ALL)
    assert made["big"] == 7
    assert (made["text"], made["data"], made["real"]) == ("none", b"\xff", 1.0)
    assert (made["suit"], made["hash"], made["maybe"]) == ("HEARTS", b"\0\0\0", None)
    assert type(made["real"]) is float
    schema.encode(ALL, made)
    made["numbers"].append(1)
    assert schema.zero(ALL)["numbers"] == []


def test_numbers_that_are_none_have_one_pattern() -> None:
    for type_ in ("float", "double"):
        thing = one(type_)
        strange = -math.nan
        assert schema.encode(thing, {"f": strange}) == schema.encode(thing, {"f": math.nan})
        assert schema.to_json(thing, {"f": strange}) == {"f": "NaN"}
        assert math.isnan(schema.from_json(thing, {"f": "NaN"})["f"])


DATE = {"type": "int", "logicalType": "date"}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}


@pytest.mark.parametrize(
    ("type_", "value", "text"),
    [
        (DATE, 0, "1970-01-01"),
        (DATE, -1, "1969-12-31"),
        (DATE, 15736, "2013-01-31"),
        (DATE, 1 << 30, 1 << 30),
        (MILLIS, 1, "1970-01-01T00:00:00.001Z"),
        (MILLIS, -1, "1969-12-31T23:59:59.999Z"),
        (MICROS, 1_359_609_420_000_001, "2013-01-31T05:17:00.000001Z"),
        (MONEY, b"\x00", "0.00"),
        (MONEY, b"\xff", "-0.01"),
        (MONEY, b"\x03\xe8", "10.00"),
        ("bytes", b"\x00\xff", "AP8="),
        ("double", math.inf, "Infinity"),
    ],
)
def test_the_json_forms(type_: Any, value: Any, text: Any) -> None:
    thing = one(type_)
    assert schema.to_json(thing, {"f": value}) == {"f": text}
    assert schema.from_json(thing, {"f": text}) == {"f": value}


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (DATE, 15736),
        (DATE, "2013-02-30"),
        (DATE, "2013-1-31"),
        (DATE, "20130131"),
        (MILLIS, 0),
        (MILLIS, "2013-01-31T05:17:00"),
        (MILLIS, "2013-01-31"),
        (MILLIS, "2013-01-31T05:17:00.0001Z"),
        (MILLIS, "2013-01-31T25:17:00Z"),
        (MONEY, 1),
        (MONEY, "1.234"),
        (MONEY, "1234.56"),
        (MONEY, "1e3"),
        (MONEY, ""),
        ("bytes", "AP8"),
        ("bytes", "AP8=\n"),
        ("bytes", "ä"),
        ("double", "1.5"),
        ("long", 1.0),
        ("long", "1"),
        ("int", True),
        ("string", None),
        ("string", 5),
    ],
)
def test_wrong_json_names_its_field(type_: Any, value: Any) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        schema.from_json(one(type_), {"f": value})
    assert caught.value.field == "f"


def test_json_that_means_the_same() -> None:
    assert schema.from_json(one(MILLIS), {"f": "1970-01-01t02:00:00.5000+02:00"}) == {"f": 500}
    assert schema.from_json(one(MONEY), {"f": "-1.5"}) == {"f": b"\xff\x6a"}
    assert schema.from_json(one("double"), {"f": 1}) == {"f": 1.0}


def test_a_decimal_of_any_length_can_be_shown() -> None:
    assert len(schema.to_json(one(MONEY), {"f": b"\x01" * 60_000})["f"]) > 100_000
