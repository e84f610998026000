"""The values a call works on: rows, what handles stand for, and which value a field can hold.

Rows hold Python's forms: an enum as its symbol, a string as str, dates and times as ints. Knows
nothing of calls, hosts and stores.
"""

import json
import math
import struct
from collections.abc import Generator, Iterator
from enum import Enum
from typing import Any, Literal, Protocol

from engine.application import schema
from engine.application.types import (
    Field,
    KeyColumn,
    RecordSchema,
    RecordType,
    Unique,
    ViewType,
)
from engine.limits import FIELD_BYTES_MAX

I64_KINDS = frozenset({"boolean", "int", "long", "enum", "date", "time"})
F64_KINDS = frozenset({"float", "double"})
BYTES_KINDS = frozenset({"string", "bytes", "fixed"})

_FLOAT = struct.Struct("<f")
_INT = (-(1 << 31), (1 << 31) - 1)
_LONG_MIN, _LONG_MAX = -(1 << 63), (1 << 63) - 1


class CallStopped(Exception):  # noqa: N818 - it ends a call; not every way to end is an error
    """A method's way to end the extension's run."""


class AbiMisused(CallStopped):
    """The extension asked for what it may not, or for too much."""


class Missed(CallStopped):
    """A row is needed that is not cached."""


class RuleBroken(CallStopped):
    """A rule forbids what the extension did; the command is rejected with the rule's own code."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


class Unknown(Enum):
    """What a row source answers where it doesn't know whether there is a row."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN


class Prefix(bytes):
    """Stands among the keys of missing rows for all rows that begin with it."""

    __slots__ = ()


class RowSource(Protocol):
    """Rows as they are before this command."""

    def get(self, key: bytes) -> bytes | Unknown | None:
        """Return a stored row, None where there is none, UNKNOWN where that is not known."""
        ...

    def scan(
        self, prefix: bytes, *, reverse: bool = False
    ) -> Generator[tuple[bytes, bytes]] | Literal[Unknown.UNKNOWN]:
        """Yield the rows below a prefix in (reverse) key order; UNKNOWN where they aren't known."""
        ...


CONTEXT = schema.parse(
    json.dumps(
        {
            "type": "record",
            "name": "Context",
            "fields": [
                {"name": "workspace", "type": "string"},
                {"name": "command_id", "type": "bytes"},
                {"name": "name", "type": "string"},
                {"name": "command_time", "type": "long"},
                {"name": "registered_at", "type": "long"},
                {"name": "sequence", "type": "long"},
                {"name": "workspace_sequence", "type": "long"},
                {"name": "principal_subject", "type": ["null", "string"]},
                {"name": "principal_kind", "type": ["null", "string"]},
                {"name": "code", "type": "string"},
                {
                    "name": "op",
                    "type": [
                        "null",
                        {
                            "type": "enum",
                            "name": "Op",
                            "symbols": [
                                "create",
                                "update",
                                "activate",
                                "deactivate",
                                "execute",
                                "rejected",
                            ],
                        },
                    ],
                },
                {"name": "type", "type": ["null", "string"]},
                {"name": "id", "type": ["null", "long"]},
                {"name": "root", "type": ["null", "long"]},
                {"name": "parent", "type": ["null", "long"]},
            ],
        }
    ),
    "context",
)


class Row:
    """A record or a view row as calls of one command work on it."""

    __slots__ = (
        "active",
        "before",
        "changed",
        "created",
        "id",
        "key",
        "parent",
        "present",
        "root",
        "schema",
        "touched",
        "type",
        "values",
        "was_active",
    )

    def __init__(
        self, schema: RecordSchema, values: dict[str, Any], key: bytes = b"", id_: int = 0
    ) -> None:
        self.schema = schema
        self.values = values
        self.key = key
        self.id = id_
        self.root = id_  # of a nested record, its document
        self.parent = 0  # the record it is nested in
        self.type: RecordType | ViewType | None = None
        self.before: bytes | None = None  # the stored value it replaces
        self.present = True
        self.created = False
        self.changed = False
        self.active = True
        self.was_active = True
        self.touched = 0  # bitmap of the fields that were set


class Cell:
    """What a handle stands for: a row, an item of a row's array, or the columns of a view's key."""

    __slots__ = ("bit", "fields", "row", "values", "view", "writable")

    def __init__(
        self,
        fields: "tuple[Field | KeyColumn, ...]",
        values: "dict[str, Any] | Element",
        row: Row | None = None,
        *,
        writable: bool = False,
    ) -> None:
        self.fields = fields
        self.values = values
        self.row = row
        self.writable = writable
        self.bit = 0  # of the row's array that this is an item of; 0 = it is the row itself
        self.view: ViewType | None = None

    def has(self, field: Field | KeyColumn) -> bool:
        """Tell whether this very field (not one like it) belongs here."""
        fields = self.fields
        if isinstance(field, Field):
            return field.ordinal < len(fields) and fields[field.ordinal] is field
        return id(field) in map(id, fields)


class Cursor(Cell):
    """What a cursor's handle stands for: handles of the rows that are left, made one by one."""

    __slots__ = ("handles",)

    def __init__(self, handles: Iterator[int]) -> None:
        super().__init__((), {})
        self.handles = handles


class UniqueKey(Cell):
    """What a handle of a unique's key stands for: the fields of its record type, to be set."""

    __slots__ = ("unique",)

    def __init__(self, unique: Unique, schema: RecordSchema) -> None:
        super().__init__(schema.fields, {}, writable=True)
        self.unique = unique


class Element:
    """A scalar of an array, dressed as the one field of a row."""

    __slots__ = ("_index", "_items")

    def __init__(self, items: list[Any], index: int) -> None:
        self._items = items
        self._index = index

    def get(self, name: str) -> Any:
        """Return the scalar; an element's field has no name."""
        assert not name
        return self._items[self._index]

    def __setitem__(self, name: str, value: Any) -> None:
        assert not name
        self._items[self._index] = value


def normal(field: Field | KeyColumn, value: Any) -> Any:
    """Return a value of set_* as a row holds it; raise AbiMisused where the field can't."""
    kind = field.kind
    if kind == "long" and type(value) is int and _LONG_MIN <= value <= _LONG_MAX:
        return value
    if value is None and isinstance(field, Field) and field.nullable:
        return None
    if kind in BYTES_KINDS and isinstance(value, bytes):
        return _text(field, value) if kind == "string" else _fixed(field, value)
    if kind in I64_KINDS and isinstance(value, int):
        return _scalar(field, value)
    if kind in F64_KINDS and isinstance(value, int | float):
        return _double(field, float(value))
    raise AbiMisused(f"{field.name} ({kind}) takes no {type(value).__name__}")


def _scalar(field: Field | KeyColumn, value: int) -> Any:
    if field.kind == "enum" and isinstance(field, Field):
        if 0 <= value < len(field.symbols):
            return field.symbols[value]
    elif field.kind == "boolean":
        if value in {0, 1}:
            return bool(value)
    else:
        low, high = _INT if field.kind == "int" else (_LONG_MIN, _LONG_MAX)
        if low <= value <= high:
            return int(value)
    raise AbiMisused(f"{field.name} ({field.kind}) can't hold this number")


def _double(field: Field | KeyColumn, value: float) -> float:
    if math.isnan(value):
        return math.nan  # one NaN, so that replicas stay equal
    if field.kind == "double":
        return value
    try:
        return float(_FLOAT.unpack(_FLOAT.pack(value))[0])
    except OverflowError:
        raise AbiMisused(f"{field.name} (float) can't hold this number") from None


def _bounded(field: Field | KeyColumn, data: bytes) -> bytes:
    if len(data) <= FIELD_BYTES_MAX:
        return data
    raise AbiMisused(f"{field.name} got {len(data)} bytes, at most {FIELD_BYTES_MAX} are allowed")


def _text(field: Field | KeyColumn, data: bytes) -> str:
    try:
        return _bounded(field, data).decode()
    except UnicodeDecodeError:
        raise AbiMisused(f"{field.name} (string) is not UTF-8") from None


def _fixed(field: Field | KeyColumn, data: bytes) -> bytes:
    if isinstance(field, Field) and field.kind == "fixed" and len(data) != field.size:
        raise AbiMisused(f"{field.name} takes {field.size} bytes, not {len(data)}")
    return _bounded(field, data)
