"""JSON Schemas of an application's records and of the engine's own answers, for OpenAPI.

What comes in is described as it must be, what goes out as it may be: what is stored may be older
than a rule, and `keys` leaves fields out. Examples are made from the schemas themselves.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from engine.application.types import Application, Check, Field, KeyColumn, RecordSchema, RecordType

Schema = dict[str, Any]

LONG: Schema = {"type": "integer", "minimum": -(1 << 63), "maximum": (1 << 63) - 1}
COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1}
TEXT: Schema = {"type": "string"}
_SPECIAL: Schema = {"enum": ["NaN", "Infinity", "-Infinity"]}
_KINDS: dict[str, Schema] = {
    "boolean": {"type": "boolean"},
    "int": {"type": "integer", "minimum": -(1 << 31), "maximum": (1 << 31) - 1},
    "long": LONG,
    "float": {"anyOf": [{"type": "number"}, _SPECIAL]},
    "double": {"anyOf": [{"type": "number"}, _SPECIAL]},
    "string": TEXT,
    "bytes": {"type": "string", "contentEncoding": "base64", "examples": ["AAE="]},
}
_LOGICAL: dict[str, Schema] = {
    "date": {"type": "string", "format": "date", "examples": ["2026-11-23"]},
    "timestamp-millis": {
        "type": "string",
        "format": "date-time",
        "examples": ["2026-11-23T12:00:00.000Z"],
    },
    "timestamp-micros": {
        "type": "string",
        "format": "date-time",
        "examples": ["2026-11-23T12:00:00.000000Z"],
    },
}
COLUMNS: dict[str, Schema] = {
    "long": LONG,
    "date": _LOGICAL["date"],
    "time": _LOGICAL["timestamp-millis"],
    "double": {"type": "number"},
    "string": TEXT,
    "bytes": _KINDS["bytes"],
    "boolean": {"type": "boolean"},
}
ID: Schema = {
    "type": "string",
    "format": "uuid",
    "examples": ["01937b1e-7c00-7000-8000-0123456789ab"],
}
PICTURE: Schema = {"partition": COUNT, "sequence": COUNT}
STANDING: Schema = {**PICTURE, "stale": {"const": True}}  # also of a node that stands by
IDS: Schema = {
    "type": "object",
    "description": "The ids that temporary ones have become.",
    "additionalProperties": COUNT,
    "examples": [{"1": 65_536}],
}


def obj(properties: Mapping[str, Schema], *, optional: Iterable[str] = ()) -> Schema:
    """Return the schema of an object whose properties are all there, but for some."""
    required = [name for name in properties if name not in set(optional)]
    return {"type": "object", "properties": dict(properties), "required": required}


def args_schema(schema: RecordSchema) -> Schema:
    """Return the JSON Schema of a record that a client sends."""
    body = _object(schema.fields, _field)
    required = [field.name for field in schema.fields if not field.has_default]
    return body | {"required": required} if required else body


def record_schema(schema: RecordSchema) -> Schema:
    """Return the JSON Schema of a record that a client is sent."""
    return _object(schema.fields, _field_out)


def _object(fields: Iterable[Field], make: Any) -> Schema:
    return {
        "type": "object",
        "properties": {field.name: make(field) for field in fields},
        "additionalProperties": False,
    }


def _field(field: Field) -> Schema:
    schema = _value(field, args_schema)
    return {"anyOf": [schema, {"type": "null"}]} if field.nullable else schema


def _field_out(field: Field) -> Schema:
    """Return a field's schema; a time outside of the years 1 to 9999 goes out as a number."""
    schema = _value(field, record_schema)
    if field.logical in _LOGICAL:
        schema = schema | {"type": ["string", "integer"]}
    return {"anyOf": [schema, {"type": "null"}]} if field.nullable else schema


def _value(field: Field, nested: Any) -> Schema:
    if field.logical == "decimal":
        return _decimal(field)
    if field.logical:
        return _LOGICAL[field.logical]
    if field.kind == "array":
        assert field.item is not None
        return {"type": "array", "items": _value(field.item, nested)}
    if field.kind == "record":
        assert field.items is not None
        return dict(nested(field.items))
    return _scalar(field)


def _scalar(field: Field) -> Schema:
    if field.kind == "enum":
        return {"type": "string", "enum": list(field.symbols)}
    if field.kind == "fixed":
        return _KINDS["bytes"] | {"examples": [base64.b64encode(bytes(field.size)).decode()]}
    return _KINDS[field.kind]


def _decimal(field: Field) -> Schema:
    whole = "1" if field.precision > field.scale else "0"
    example = f"{whole}.{'5'.ljust(field.scale, '0')}" if field.scale else whole
    return {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$", "examples": [example]}


def row_schema(schema: RecordSchema, key: tuple[KeyColumn, ...]) -> Schema:
    """Return the schema of a view's row: its key columns and its fields."""
    columns = {column.name: _column_out(column.kind) for column in key}
    properties = columns | record_schema(schema)["properties"]
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _column_out(kind: str) -> Schema:
    if kind in {"date", "time"}:
        return COLUMNS[kind] | {"type": ["string", "integer"]}
    return {"anyOf": [{"type": "number"}, _SPECIAL]} if kind == "double" else COLUMNS[kind]


def where_schema(fields: Mapping[str, Field]) -> Schema:
    """Return the schema of the conditions on these fields."""
    conditions: dict[str, Schema] = {}
    for name, field in fields.items():
        value = _field(field)
        operators: Schema = {"in": {"type": "array", "items": value}, "ne": value}
        if field.kind != "array":
            operators |= dict.fromkeys(("lt", "le", "gt", "ge"), _value(field, args_schema))
        asked = {"type": "object", "properties": operators, "additionalProperties": False}
        conditions[name] = {"anyOf": [value, asked | {"minProperties": 1}]}
    return {"type": "object", "properties": conditions, "additionalProperties": False}


def stored_schema(type_: RecordType) -> Schema:
    """Return the schema of a record as it stands, with what may be nested in it."""
    properties: dict[str, Schema] = {"id": COUNT, "active": {"type": "boolean"}}
    if type_.parent:
        properties |= {"root": COUNT, "parent": COUNT}
    properties["fields"] = {"$ref": f"#/components/schemas/{type_.name}.record"}
    if type_.children:
        nested = {
            name: {"type": "array", "items": {"$ref": f"#/components/schemas/{name}.stored"}}
            for name in type_.children
        }
        properties["children"] = {"type": "object", "properties": nested}
    return obj(properties, optional=["children"])


def changes_schema(application: Application, types: Iterable[str]) -> Schema:
    """Return the schema of a generic command's arguments: changes of records of these types."""
    entries: list[Schema] = []
    for name in types:
        type_ = application.records[name]
        checks = {check.field.name: check for check in type_.checks}
        fields = {
            field.name: _checked(_field(field), checks.get(field.name))
            for field in type_.schema.fields
        }
        properties: dict[str, Schema] = {
            "op": {"enum": ["create", "update", "activate", "deactivate"]},
            "type": {"const": name},
            "id": COUNT | {"description": "At create 1 to 65535, or left out."},
            "fields": {"type": "object", "properties": fields, "additionalProperties": False},
        }
        if type_.parent:
            properties |= {"parent": COUNT, "root": COUNT}
        entry = obj(properties, optional=["id", "fields", "parent", "root"])
        entries.append(entry | {"additionalProperties": False})
    listed = {"type": "array", "items": {"anyOf": entries}}
    return obj({"changes": listed}) | {"additionalProperties": False}


def _checked(schema: Schema, check: Check | None) -> Schema:
    """Return a field's schema with its rules; those without a word in JSON Schema are left out."""
    if check is None or "type" not in schema or "format" in schema:
        return schema
    rules: Schema = {}
    if schema["type"] in {"integer", "number"}:
        if check.minimum is not None:
            rules["minimum"] = check.minimum
        if check.maximum is not None:
            rules["maximum"] = check.maximum
    if check.one_of is not None:
        rules["enum"] = list(check.one_of)
    words = _LENGTHS.get(schema["type"])
    if check.length is not None and words and "contentEncoding" not in schema:
        rules |= dict(zip(words, check.length, strict=True))
    if check.pattern is not None:
        rules["pattern"] = f"^(?:{check.pattern.text})$"
    return schema | rules


_LENGTHS = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}


def problem() -> Schema:
    """Return the schema of a problem."""
    return {
        "type": "object",
        "description": "RFC 9457",
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": TEXT,
            "status": {"type": "integer"},
            "detail": TEXT,
            "code": TEXT,
            "hint": TEXT,
            "field": {"type": "string", "description": "What of the request is wrong."},
            "partition": COUNT,
            "sequence": COUNT,
            "workspace_sequence": COUNT,
            "offset": COUNT,
            "command_id": ID,
            "idempotency_key": TEXT,
            "duplicate": {"type": "boolean"},
            "progress": {"type": "object"},
        },
        "required": ["type", "title", "status", "detail", "code"],
    }


def outcome() -> Schema:
    """Return the schema of an outcome."""
    properties: dict[str, Schema] = {
        "type": {"type": ["string", "integer"]},
        "id": LONG,
        "root": LONG,
        "parent": LONG,
        "op": {"enum": ["create", "update", "activate", "deactivate"]},
        "set": {"type": "array", "items": TEXT},
        "fields": {"type": "object"},
    }
    return obj(
        {
            "command_id": ID,
            "workspace": TEXT,
            **PICTURE,
            "workspace_sequence": COUNT,
            "epoch": COUNT,
            "input": {"enum": ["commands", "emits", "timer"]},
            "input_offset": LONG,
            "command_time": TEXT,
            "registered_at": TEXT,
            "application": {"type": ["string", "integer"]},
            "command": TEXT,
            "args": {"type": "object"},
            "code": {"type": "string", "description": "Empty: accepted.", "examples": [""]},
            "changes": {"type": "array", "items": obj(properties)},
            "message": TEXT,
            "field": TEXT,
            "result": {"type": "object"},
            "ids": IDS,
            "principal": {"type": "object"},
            "traceparent": TEXT,
        },
        optional=["message", "field", "result", "ids", "principal", "traceparent"],
    )


def sample(schema: Schema, components: Mapping[str, Schema]) -> Any:
    """Return a value that a schema describes."""
    if "$ref" in schema:
        return sample(components[schema["$ref"].rpartition("/")[2]], components)
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return sample(schema["anyOf"][0], components)
    return _sample_of_type(schema, components)


def _sample_of_type(schema: Schema, components: Mapping[str, Schema]) -> Any:
    kind = schema.get("type", "object")
    kind = kind if isinstance(kind, str) else kind[0]
    if kind == "object":
        listed = schema.get("properties", {})
        return {name: sample(value, components) for name, value in listed.items()}
    if kind == "array":
        return [sample(schema["items"], components)]
    if kind in {"integer", "number"}:
        return min(max(1, schema.get("minimum", 1)), schema.get("maximum", 1))
    return {"boolean": True, "null": None}.get(kind, "text")
