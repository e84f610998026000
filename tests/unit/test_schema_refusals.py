"""Schemas that no application may have, and older values that newer schemas read or refuse."""

from typing import Any

import pytest
from test_schema import ALL, FIELDS, one, parse

from engine.application import schema
from engine.errors import ApplicationError
from engine.wire import WireError, crc64


@pytest.mark.parametrize(
    ("type_", "says"),
    [
        ("strin", "the type strin is not supported"),
        ({"type": "map", "values": "int"}, "the type map is not supported"),
        ("null", "the type null is not supported"),
        (["int", "null"], "only supported union"),
        (["null", "int", "string"], "only supported union"),
        (["null", ["null", "int"]], "only supported union"),
        ({"type": "string", "logicalType": "uuid"}, "logical type uuid of string"),
        ({"type": "long", "logicalType": "date"}, "logical type date of long"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 3}, "scale"),
        ({"type": "bytes", "logicalType": "decimal"}, "precision"),
        (
            {"type": "fixed", "name": "F", "size": 1, "logicalType": "decimal", "precision": 3},
            "can't hold 3 digits",
        ),
        ({"type": "fixed", "name": "F", "size": 0}, "size"),
        ({"type": "enum", "name": "E", "symbols": []}, "symbols"),
        ({"type": "enum", "name": "E", "symbols": ["A", "A"]}, "twice"),
        ({"type": "record", "name": "R", "fields": []}, "only supported as an array's element"),
        ({"type": "array", "items": ["null", "int"]}, "must be records or scalars"),
        ({"type": "array", "items": {"type": "array", "items": "int"}}, "records or scalars"),
        ({"type": "array", "items": {"type": "record", "name": "R", "fields": []}}, "a field"),
        ({"type": "array", "items": "Thing"}, "where it is used"),
        (5, "not Avro"),
    ],
)
def test_what_is_not_supported_names_file_and_field(type_: Any, says: str) -> None:
    with pytest.raises(ApplicationError, match=says) as caught:
        one(type_)
    assert caught.value.code == "E1103"
    assert caught.value.where["file"] == "thing.avsc"
    assert str(caught.value.where["field"]).rstrip("[]") == "f"


@pytest.mark.parametrize(
    ("type_", "default"),
    [
        ("int", 1 << 31),
        ("int", None),
        ("string", 1),
        ("bytes", "\u0100"),
        (["null", "int"], 1),
        ({"type": "array", "items": "int"}, [1]),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "B"),
    ],
)
def test_wrong_defaults_name_file_and_field(type_: Any, default: Any) -> None:
    with pytest.raises(ApplicationError, match="E1103") as caught:
        one(type_, default=default)
    assert caught.value.where == {"file": "thing.avsc", "field": "f"}


@pytest.mark.parametrize("text", ["", "[]", '"int"', '{"type": "record"}', "[" * 100_000])
def test_what_is_no_record_schema_names_the_file(text: str) -> None:
    with pytest.raises(ApplicationError, match="E1103"):
        schema.parse(text, "thing.avsc")


def test_a_field_may_not_be_there_twice() -> None:
    with pytest.raises(ApplicationError, match="twice"):
        parse({"name": "a", "type": "int"}, {"name": "a", "type": "int"})


def test_the_fingerprint_is_that_of_the_schema_as_written() -> None:
    raw = {"type": "record", "name": "Thing", "fields": FIELDS}
    assert schema.fingerprint(ALL) == crc64(raw)


def resolve(writer: Any, reader: Any, value: Any) -> Any:
    before, after = one(writer), one(reader)
    data = schema.encode(before, {"f": value})
    return schema.decode(after, data, before)["f"]


def test_older_values_are_read_by_newer_schemas() -> None:
    assert resolve("int", "long", 5) == 5
    wide = resolve("int", "double", 5)
    assert (wide, type(wide)) == (5.0, float)
    assert resolve("string", "bytes", "ä") == "ä".encode()
    assert resolve("int", ["null", "long"], 5) == 5
    assert resolve(["null", "int"], ["null", "double"], None) is None
    few = {"type": "enum", "name": "E", "symbols": ["A", "B"], "default": "B"}
    many = {"type": "enum", "name": "E", "symbols": ["C", "A"]}
    assert resolve(many, few, "A") == "A"
    assert resolve(many, few, "C") == "B"
    longs = {"type": "array", "items": "double"}
    assert resolve({"type": "array", "items": "int"}, longs, [1, 2]) == [1.0, 2.0]
    before = parse({"name": "a", "type": "int"}, {"name": "gone", "type": "string"})
    after = parse(
        {"name": "new", "type": {"type": "array", "items": "int"}, "default": []},
        {"name": "b", "type": "long", "aliases": ["a"]},
    )
    data = schema.encode(before, {"a": 1, "gone": "x"})
    value = schema.decode(after, data, before)
    assert value == {"new": [], "b": 1}
    assert list(value) == ["new", "b"]
    with pytest.raises(WireError, match="cut off"):
        schema.decode(after, data[:1], before)


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        ("long", "int"),
        ("bytes", "string"),
        (["null", "int"], "int"),
        ({"type": "fixed", "name": "F", "size": 1}, {"type": "fixed", "name": "F", "size": 2}),
        (
            {"type": "enum", "name": "E", "symbols": ["A", "B"]},
            {"type": "enum", "name": "E", "symbols": ["A"]},
        ),
    ],
)
def test_what_can_not_be_read_is_refused_by_name(writer: Any, reader: Any) -> None:
    with pytest.raises(WireError, match="f: "):
        schema.decode(one(reader), b"\0", one(writer))
