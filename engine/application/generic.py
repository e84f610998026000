"""The generic command: its arguments and result, in Avro and in JSON.

Owns the form only: which ids exist, and whether the rules hold, a host decides.
"""

import functools
from collections.abc import Mapping
from typing import Any, cast

from engine import wire
from engine.application import forms, schema
from engine.application.codec import SchemaMismatch, wrong_type
from engine.application.types import Application, CommandType, RecordSchema, RecordType

_KEYS = ("op", "type", "id", "parent", "root", "fields")


@functools.cache
def changes_schema() -> RecordSchema:
    """Return the schema of a generic command's arguments."""
    return schema.parse(wire.schema_text("changes"), "changes.avsc")


def args_from_json(application: Application, command: CommandType, value: object) -> dict[str, Any]:
    """Return any command's arguments from their JSON form; raise SchemaMismatch."""
    if command.generic:
        return changes_from_json(application, value)
    return schema.from_json(command.args, value)


def args_to_json(
    application: Application, command: CommandType, args: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the JSON form of any command's arguments."""
    if command.generic:
        return changes_to_json(application, args)
    return schema.to_json(command.args, args)


def result_to_json(command: CommandType, result: bytes) -> dict[str, Any]:
    """Return the JSON form of any command's result: of a generic one, `{"ids": {"1": 65536}}`.

    Raises WireError where it is not of the command's schema.
    """
    if command.generic:
        ids = wire.decode_changed(result)
        return {"ids": {str(temporary): number for temporary, number in ids.items()}}
    if command.result is None:
        raise wire.WireError(f"{command.name} declares no result")
    return schema.to_json(command.result, schema.decode(command.result, result))


def changes_from_json(application: Application, value: object) -> dict[str, Any]:
    """Return the arguments of a generic command's JSON form; raise SchemaMismatch.

    The form is `{"changes": [{"op": "create", "type": "table", "id": 1, "fields": {…}}]}`; fields
    that are not given are left as they are, or at create as the schema has them.
    """
    if not isinstance(value, dict):
        raise wrong_type("object", value)
    given = cast("dict[str, Any]", value)
    for key in given:
        if key != "changes":
            raise SchemaMismatch(key, "is not a field of the schema")
    listed = given.get("changes")
    if not isinstance(listed, list):
        raise wrong_type("array", listed).inside("changes")
    changes: list[dict[str, Any]] = []
    for number, entry in enumerate(cast("list[Any]", listed)):
        try:
            changes.append(_change_from_json(application, entry))
        except SchemaMismatch as mismatch:
            raise mismatch.inside(f"[{number}]").inside("changes") from None
    args = {"changes": changes}
    changes_schema().codec.encode(args)
    return args


def changes_to_json(application: Application, args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON form of a generic command's arguments.

    What `application` doesn't know is left out of `fields`: arguments may be older than it.
    """
    changes: list[dict[str, Any]] = []
    for change in args["changes"]:
        made: dict[str, Any] = {"op": change["op"], "type": change["type"], "id": change["id"]}
        if change["parent"]:
            made["parent"] = change["parent"]
        if change["root"]:
            made["root"] = change["root"]
        type_ = application.records.get(change["type"])
        if change["set"] and type_ is not None:
            made["fields"] = _fields_to_json(type_, change)
        changes.append(made)
    return {"changes": changes}


def _fields_to_json(type_: RecordType, change: Mapping[str, Any]) -> dict[str, Any]:
    try:
        fingerprint, body = schema.split_named(change["body"])
        if fingerprint != type_.schema.fingerprint:
            return {}
        values = schema.decode(type_.schema, body)
    except wire.WireError:
        return {}
    fields = type_.schema.by_name
    return {
        name: forms.value_to_json(fields[name], values[name])
        for name in change["set"]
        if name in fields
    }


def _change_from_json(application: Application, entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise wrong_type("object", entry)
    given = cast("dict[str, Any]", entry)
    for key in given:
        if key not in _KEYS:
            raise SchemaMismatch(key, f"is not one of {', '.join(_KEYS)}")
    for key in ("op", "type"):
        if key not in given:
            raise SchemaMismatch(key, "is missing")
    type_ = application.records.get(given["type"]) if type(given["type"]) is str else None
    if type_ is None:
        raise SchemaMismatch("type", f"{given['type']!r} is not a type of record")
    fields = given.get("fields", {})
    if not isinstance(fields, dict):
        raise wrong_type("object", fields).inside("fields")
    return {
        "op": given["op"],
        "type": type_.name,
        "id": given.get("id", 0),
        "parent": given.get("parent", 0),
        "root": given.get("root", 0),
        "set": list(cast("dict[str, Any]", fields)),
        "body": _body(type_, cast("dict[str, Any]", fields)),
    }


def _body(type_: RecordType, fields: Mapping[str, Any]) -> bytes:
    """Return the record of the given fields, the others at their defaults; empty for none."""
    if not fields:
        return b""
    values = schema.zero(type_.schema)
    try:
        for name, value in fields.items():
            values[name] = _value(type_, name, value)
        return schema.encode_named(type_.schema, values)
    except SchemaMismatch as mismatch:
        raise mismatch.inside("fields") from None


def _value(type_: RecordType, name: str, value: Any) -> Any:
    field = type_.schema.by_name.get(name)
    if field is None:
        raise SchemaMismatch(name, f"is not a field of {type_.name}")
    try:
        return forms.value_from_json(field, value)
    except SchemaMismatch as mismatch:
        raise mismatch.inside(name) from None
