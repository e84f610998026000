"""The unique index: which key a record's values have, and what a change does to it.

A row of the index follows from a change alone, so a fold needs no rule and no other row: fields of
a unique never change while their record is active.
"""

from collections.abc import Mapping
from typing import Any

from engine.application import rows, schema
from engine.application.types import Field, RecordType, Unique
from engine.wire import Change

_ZEROS: Mapping[str, Any] = {"string": "", "bytes": b"", "double": 0.0, "boolean": False}


def unique_key(workspace: str, unique: Unique, values: Mapping[str, Any]) -> bytes:
    """Return the key that a record with these values has in the index."""
    columns = [
        (column.kind, _column(field, column.kind, values[field.name]))
        for field, column in zip(unique.fields, unique.columns, strict=True)
    ]
    return rows.unique_key(workspace, unique.number, columns)


def shown(unique: Unique, values: Mapping[str, Any]) -> str:
    """Return the fields of a unique and their values, for a message."""
    return ", ".join(f"{field.name} {values[field.name]!r}" for field in unique.fields)


def index_rows(
    type_: RecordType, workspace: str, change: Change
) -> list[tuple[bytes, int, bytes | None]]:
    """Return rows of the index that a change writes: (key, hash of what it replaces, value)."""
    if change["op"] == "update":
        return []
    values = schema.decode(type_.schema, change["body"])
    value = rows.encode_id(change["id"])
    found: list[tuple[bytes, int, bytes | None]] = []
    for unique in type_.uniques:
        key = unique_key(workspace, unique, values)
        if change["op"] == "deactivate":
            found.append((key, rows.row_hash(key, value), None))
        else:
            found.append((key, 0, value))
    return found


def _column(field: Field, kind: str, value: Any) -> Any:
    if value is None:
        if field.kind == "fixed":
            return bytes(field.size)
        return field.symbols[0] if field.kind == "enum" else _ZEROS.get(kind, 0)
    return value
