"""The generic command's arguments and result, in Avro and in JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine import wire
from engine.application import schema
from engine.application.codec import SchemaMismatch
from engine.application.folder import load_application
from engine.application.generic import (
    args_from_json,
    args_to_json,
    changes_from_json,
    changes_schema,
    changes_to_json,
    result_to_json,
)
from engine.application.types import Application

FILES = {
    "application.toml": """\
application = { name = "inn", version = "1.0.0", partitions = 1 }
records.order = { schema = "order.avsc", kind = "operational" }
records.line = { schema = "line.avsc", parent = "order" }
commands.change = { generic = ["order", "line"] }
commands.count = { args = "line.avsc", run = "inn:count", result = "line.avsc" }
extensions.inn = { python = "inn:Inn" }
""",
    "order.avsc": json.dumps(
        {
            "type": "record",
            "name": "Order",
            "fields": [
                {"name": "day", "type": {"type": "int", "logicalType": "date"}},
                {"name": "note", "type": "string"},
                {"name": "table", "type": ["null", "long"], "default": None},
            ],
        }
    ),
    "inn.py": "",
    "line.avsc": json.dumps(
        {"type": "record", "name": "Line", "fields": [{"name": "count", "type": "int"}]}
    ),
}


@pytest.fixture
def application(tmp_path: Path) -> Application:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return load_application(tmp_path)


REQUEST: dict[str, Any] = {
    "changes": [
        {"op": "create", "type": "order", "id": 1, "fields": {"day": "2013-01-31", "note": ""}},
        {"op": "create", "type": "line", "id": 0, "parent": 1, "fields": {"count": 2}},
        {"op": "update", "type": "order", "id": 70_000, "fields": {"table": None}},
        {"op": "deactivate", "type": "order", "id": 70_001},
    ]
}


def test_arguments_have_one_meaning_in_json_and_avro(application: Application) -> None:
    args = changes_from_json(application, REQUEST)
    order = application.records["order"].schema
    first, nested, cleared, off = args["changes"]
    # An explicit empty is in `set`; what is not given is not, whatever the body says.
    assert first["set"] == ["day", "note"]
    writer, body = schema.split_named(first["body"])
    assert writer == order.fingerprint
    assert schema.decode(order, body) == {"day": 15_736, "note": "", "table": None}
    assert (nested["parent"], nested["id"]) == (1, 0)
    assert cleared["set"] == ["table"]
    assert (off["set"], off["body"]) == ([], b"")

    encoded = schema.encode(changes_schema(), args)
    assert encoded == wire.encode_changes(args["changes"])
    assert wire.decode_changes(encoded) == args["changes"]
    assert schema.decode(changes_schema(), encoded) == args
    assert changes_to_json(application, args) == REQUEST
    assert application.commands["change"].args is changes_schema()


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ([], "must be an object"),
        ({}, "changes: must be an array"),
        ({"changes": {}}, "changes: must be an array"),
        ({"changes": [], "more": 1}, "more: is not a field"),
        ({"changes": [1]}, "changes[0]: must be an object"),
        ({"changes": [{"type": "order"}]}, "changes[0].op: is missing"),
        ({"changes": [{"op": "create"}]}, "changes[0].type: is missing"),
        ({"changes": [{"op": "create", "type": "ordre"}]}, "'ordre' is not a type"),
        ({"changes": [{"op": "create", "type": ["order"]}]}, "is not a type"),
        ({"changes": [{"op": "delete", "type": "order"}]}, "op"),
        ({"changes": [{"op": "create", "type": "order", "id": "1"}]}, "id"),
        ({"changes": [{"op": "create", "type": "order", "id": 1 << 63}]}, "id"),
        ({"changes": [{"op": "create", "type": "order", "parent": 1.5}]}, "parent"),
        ({"changes": [{"op": "create", "type": "order", "sub": 1}]}, "sub: is not one of op, type"),
        (
            {"changes": [{"op": "create", "type": "order", "fields": []}]},
            "changes[0].fields: must be an object",
        ),
        (
            {"changes": [{"op": "create", "type": "order", "fields": {"not": 1}}]},
            "changes[0].fields.not: is not a field of order",
        ),
        (
            {"changes": [{"op": "create", "type": "order", "fields": {"day": "31.1.2013"}}]},
            "changes[0].fields.day: must be a date",
        ),
        (
            {"changes": [{"op": "create", "type": "line", "fields": {"count": 1 << 31}}]},
            "changes[0].fields.count",
        ),
    ],
)
def test_a_wrong_request_names_its_place(
    application: Application, request_: Any, says: str
) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        changes_from_json(application, request_)
    assert says in str(caught.value)


def test_arguments_of_an_older_application_are_shown_as_far_as_known(
    application: Application,
) -> None:
    gone = {
        "op": "update",
        "type": "gone",
        "id": 7,
        "parent": 0,
        "root": 0,
        "set": ["x"],
        "body": b"\x02",
    }
    damaged = {**gone, "type": "order", "body": b"\xff"}
    line = application.records["line"].schema
    other = {**damaged, "set": ["note"], "body": schema.encode_named(line, schema.zero(line))}
    shown = changes_to_json(application, {"changes": [gone, damaged, other]})
    assert shown == {
        "changes": [
            {"op": "update", "type": "gone", "id": 7},
            {"op": "update", "type": "order", "id": 7, "fields": {}},
            {"op": "update", "type": "order", "id": 7, "fields": {}},
        ]
    }


def test_a_result_says_which_id_became_which() -> None:
    ids = {1: 65_536, 2: 65_537}
    assert wire.decode_changed(wire.encode_changed(ids)) == ids
    assert wire.decode_changed(wire.encode_changed({})) == {}
    for damaged in (b"", b"\x02\x02a\x02\x00", b"\x02\x021\x02"):
        with pytest.raises(wire.WireError):
            wire.decode_changed(damaged)


def test_any_command_has_arguments_and_a_result_in_json(application: Application) -> None:
    change, count = application.commands["change"], application.commands["count"]
    args = args_from_json(application, change, REQUEST)
    assert args == changes_from_json(application, REQUEST)
    assert args_to_json(application, change, args) == REQUEST
    assert args_to_json(application, count, args_from_json(application, count, {"count": 3})) == {
        "count": 3
    }
    assert result_to_json(change, wire.encode_changed({1: 65_536})) == {"ids": {"1": 65_536}}
    assert result_to_json(count, b"\x06") == {"count": 3}
    with pytest.raises(SchemaMismatch):
        args_from_json(application, count, REQUEST)
    with pytest.raises(wire.WireError):
        result_to_json(count, b"")
