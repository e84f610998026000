"""JSON Schemas of an application's records and of the engine's own answers, for OpenAPI."""

from collections.abc import Iterable
from typing import Any

from engine.application.types import Field, KeyColumn, RecordSchema

Schema = dict[str, Any]

LONG: Schema = {"type": "integer", "minimum": -(1 << 63), "maximum": (1 << 63) - 1}
COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1}
_SPECIAL: Schema = {"enum": ["NaN", "Infinity", "-Infinity"]}
_KINDS: dict[str, Schema] = {
    "boolean": {"type": "boolean"},
    "int": {"type": "integer", "minimum": -(1 << 31), "maximum": (1 << 31) - 1},
    "long": LONG,
    "float": {"anyOf": [{"type": "number"}, _SPECIAL]},
    "double": {"anyOf": [{"type": "number"}, _SPECIAL]},
    "string": {"type": "string"},
    "bytes": {"type": "string", "contentEncoding": "base64"},
    "fixed": {"type": "string", "contentEncoding": "base64"},
}
_LOGICAL: dict[str, Schema] = {
    "date": {"type": "string", "format": "date"},
    "timestamp-millis": {"type": "string", "format": "date-time"},
    "timestamp-micros": {"type": "string", "format": "date-time"},
    "decimal": {"type": "string", "pattern": r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"},
}
COLUMNS: dict[str, Schema] = {
    "long": LONG,
    "date": _LOGICAL["date"],
    "time": _LOGICAL["timestamp-millis"],
    "double": {"type": "number"},
    "string": {"type": "string"},
    "bytes": _KINDS["bytes"],
    "boolean": {"type": "boolean"},
}
ID: Schema = {"type": "string", "format": "uuid"}
PICTURE: Schema = {"partition": COUNT, "sequence": COUNT}


def record_schema(schema: RecordSchema) -> Schema:
    """Return the JSON Schema of a record's JSON form."""
    return _object(schema.fields)


def _object(fields: Iterable[Field]) -> Schema:
    listed = tuple(fields)
    body: Schema = {
        "type": "object",
        "properties": {field.name: _field(field) for field in listed},
        "additionalProperties": False,
    }
    required = [field.name for field in listed if not field.has_default]
    return body | {"required": required} if required else body


def _field(field: Field) -> Schema:
    schema = _value(field)
    if field.nullable:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema


def _value(field: Field) -> Schema:
    if field.logical:
        return _LOGICAL[field.logical]
    if field.kind == "enum":
        return {"type": "string", "enum": list(field.symbols)}
    if field.kind == "array":
        assert field.item is not None
        return {"type": "array", "items": _value(field.item)}
    if field.kind == "record":
        assert field.items is not None
        return record_schema(field.items)
    return _KINDS[field.kind]


def row_schema(schema: RecordSchema, key: tuple[KeyColumn, ...]) -> Schema:
    """Return the schema of a view's row: its key columns and its fields."""
    columns = {column.name: COLUMNS[column.kind] for column in key}
    row = record_schema(schema)
    names = [*columns, *(field.name for field in schema.fields if field.name not in columns)]
    return {"type": "object", "properties": columns | row["properties"], "required": names}


def problem() -> Schema:
    """Return the schema of a problem."""
    text: Schema = {"type": "string"}
    return {
        "type": "object",
        "description": "RFC 9457",
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "code": text,
            "hint": text,
            "field": {"type": "string", "description": "What of the request is wrong."},
            "partition": COUNT,
            "sequence": COUNT,
            "offset": COUNT,
        },
        "required": ["type", "title", "status", "detail", "code"],
    }


def outcome() -> Schema:
    """Return the schema of an outcome."""
    text: Schema = {"type": "string"}
    change: Schema = {
        "type": "object",
        "properties": {
            "type": {"type": ["string", "integer"]},
            "id": LONG,
            "root": LONG,
            "op": {"enum": ["create", "update", "activate", "deactivate"]},
            "set": {"type": "array", "items": text},
            "fields": {"type": "object"},
        },
        "required": ["type", "id", "root", "op", "set", "fields"],
    }
    return {
        "type": "object",
        "properties": {
            "command_id": ID,
            "workspace": text,
            **PICTURE,
            "workspace_sequence": COUNT,
            "epoch": COUNT,
            "input": {"enum": ["commands", "emits", "timer"]},
            "input_offset": LONG,
            "command_time": text,
            "registered_at": text,
            "application": {"type": ["string", "integer"]},
            "command": text,
            "args": {"type": "object"},
            "code": {"type": "string", "description": "Empty: accepted."},
            "message": text,
            "field": text,
            "changes": {"type": "array", "items": change},
            "result": {"type": "object"},
            "traceparent": text,
        },
        "required": ["command_id", "workspace", "partition", "sequence", "command", "code"],
    }
