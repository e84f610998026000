"""One execution of one entry of an extension: what the calls of FORMATS 7 mean, in Python terms.

The import functions of a WASM guest and the builtin Python extensions both end here, so that both
see the same rules. Names are resolved before: methods take fields, types and columns as objects of
the application in force, and check by identity that they belong to the handle they are used with.
This module knows no log, no store and no WASM; `host_calls` says what a command and a projector
may do.

Handles are ints. Well known are 0 none, 1 args, 2 context, 3 event, 4 result. All others are given
out by a call and carry its generation, so a forged one, or one kept from an earlier call, is found.

    handle      in a command                    in a projector
    1 args      the command's arguments         the same
    2 context   `CONTEXT` with op, type and     `CONTEXT`: op, type (record type or command) and
                id null                         id say what happened; code is "" (accepted)
    3 event     none                            the changed record's after-image; none on execute
    4 result    the command's result, if it     none
                declares one

args, context and event are read only. A command works on records (`record`, `create`, `child`,
`children`, `unique`, `set_active`, `reject`) and sees no views. A projector sees the event and the
views it declares in `writes` (`key`, `view`, `put`, `remove`, `scan`) and nothing else, so that
replay needs nothing else. A cursor's rows are those of the moment it was asked for.

Forms of values: boolean, int, long (with dates and times) and enums (the symbol's index) go
through get_i64 and set_i64; float and double through get_f64 and set_f64; string (UTF-8), bytes
and fixed (decimals too) through get_bytes and set_bytes. A null reads as its type's zero; `is_null`
tells them apart. `get` and `set` are the same in Python's own forms, for Python extensions.

Whatever an extension does wrong, limits included, raises `AbiMisused`, or `RuleBroken` where that
has a code of its own. A row that is not cached
raises `Missed`: the command is run again when it is. `reject` returns, and everything the call
does besides is dropped. Whoever runs an extension stops it when a method raises `CallStopped`;
`Call.stopped` keeps the reason, so it is found again even if the extension swallowed it.
"""

import copy
from typing import Any, cast

from engine.application import schema
from engine.application.types import Field, KeyColumn, RecordType, Unique, ViewType
from engine.limits import HANDLES_MAX, LOGS_MAX, MESSAGE_LENGTH_MAX
from engine.sandbox.host_values import (
    BYTES_KINDS,
    CONTEXT,
    F64_KINDS,
    I64_KINDS,
    UNKNOWN,
    AbiMisused,
    CallStopped,
    Cell,
    Cursor,
    Element,
    Missed,
    Row,
    normal,
)

__all__ = [
    "ARGS",
    "CONTEXT",
    "CONTEXT_HANDLE",
    "EVENT",
    "NONE",
    "RESULT",
    "UNKNOWN",
    "Call",
    "CallStopped",
    "Missed",
]

NONE, ARGS, CONTEXT_HANDLE, EVENT, RESULT = range(5)
GENERATION_MAX = 1 << 18  # a handle is generation << 12 | number: a positive i32
LOG_LEVELS = ("debug", "info", "warning", "error")

assert HANDLES_MAX <= 1 << 12


class Call:
    """The methods an extension calls. What only a command or only a projector may, is overridden.

    `k` and `h` are handles. `generation` is a function of the log: replicas agree on handles too.
    """

    def __init__(self, generation: int) -> None:
        self._base = (generation % (GENERATION_MAX - 1) + 1) << 12
        self._cells: list[Cell | None] = [None] * (RESULT + 1)
        self.stopped: CallStopped | None = None
        self.missed: list[bytes] = []
        self.rejected: tuple[str, str, str | None] | None = None  # code, message, field
        self.logs: list[tuple[str, str]] = []

    # Reading.

    def get_i64(self, h: int, field: Field | KeyColumn) -> int:
        """Return a boolean, an int, a long, or an enum's symbol as its index."""
        value = self._read(h, field, I64_KINDS)
        if type(value) is int:
            return value
        if value is None:
            return 0
        if isinstance(value, str) and isinstance(field, Field):
            return field.symbols.index(value)
        return int(value)

    def get_f64(self, h: int, field: Field | KeyColumn) -> float:
        """Return a float or a double."""
        return self._read(h, field, F64_KINDS) or 0.0

    def get_bytes(self, h: int, field: Field | KeyColumn) -> bytes:
        """Return a string in UTF-8, bytes, or a fixed."""
        value = self._read(h, field, BYTES_KINDS)
        if isinstance(value, str):
            return value.encode()
        return value or b""

    def is_null(self, h: int, field: Field | KeyColumn) -> bool:
        """Tell whether a nullable field is null (or a key's column not set yet)."""
        return self._value(h, field) is None

    def length(self, h: int, field: Field) -> int:
        """Return how many items an array has, or how many bytes a string or bytes."""
        value = self._value(h, field)
        if isinstance(value, str):
            return len(value.encode())
        if value is None or isinstance(value, list | bytes):
            return len(value or ())
        raise self._misused(f"{field.name} ({field.kind}) has no length")

    def item(self, h: int, field: Field, index: int) -> int:
        """Return a handle of an array's item: a record, or a scalar with the field `field.item`."""
        items = self._items(h, field)
        if not 0 <= index < len(items):
            raise self._misused(f"{field.name} has {len(items)} items, there is none at {index}")
        return self._hold_item(h, field, items, index)

    def read(self, h: int, plan: tuple[Field, ...]) -> list[Any]:
        """Return many fields at once in the forms of get_*, null as None."""
        cell = self._cell(h)
        has, values = cell.has, cell.values
        found: list[Any] = []
        for field in plan:
            if not has(field):
                raise self._no_field(h, field)
            value = values.get(field.name)
            plain = type(value) is int or type(value) is float
            found.append(value if plain else self._raw(field, value))
        return found

    def get(self, h: int, field: Field | KeyColumn) -> Any:
        """Return a value in Python's form; lists and items are copies."""
        value = self._value(h, field)
        return copy.deepcopy(value) if isinstance(value, list) else value

    # Writing.

    def set_i64(self, h: int, field: Field | KeyColumn, value: int) -> None:
        """Set a boolean, an int, a long, or an enum by its symbol's index."""
        self._store(h, field, I64_KINDS, value)

    def set_f64(self, h: int, field: Field | KeyColumn, value: float) -> None:
        """Set a float or a double."""
        self._store(h, field, F64_KINDS, value)

    def set_bytes(self, h: int, field: Field | KeyColumn, value: bytes) -> None:
        """Set a string from UTF-8, bytes, or a fixed of its exact size."""
        self._store(h, field, BYTES_KINDS, value)

    def set_null(self, h: int, field: Field) -> None:
        """Set a nullable field to null."""
        self._store(h, field, None, None)

    def append(self, h: int, field: Field) -> int:
        """Add an item of defaults or zero to an array; return its handle."""
        items = self._items(h, field)
        cell = self._touch(h, field)
        if field.items is not None:
            items.append(schema.zero(field.items))
        else:
            assert field.item is not None
            items.append(field.item.default)
        cell.values[field.name] = items
        return self._hold_item(h, field, items, len(items) - 1)

    def write(self, h: int, plan: tuple[Field, ...], values: list[Any]) -> None:
        """Set many fields at once, in the forms of set_*, None for null."""
        if len(plan) != len(values):
            raise self._misused(f"a plan of {len(plan)} fields got {len(values)} values")
        cell = self._writable(h)
        has, held, bits = cell.has, cell.values, 0
        for field, value in zip(plan, values, strict=True):
            if not has(field):
                raise self._no_field(h, field)
            bits |= 1 << field.ordinal
            held[field.name] = self._normal(field, value)
        if cell.row is not None:
            cell.row.touched |= cell.bit or bits

    def set(self, h: int, field: Field | KeyColumn, value: Any) -> None:
        """Set a value in Python's form: an enum by its symbol, a string as str."""
        if isinstance(value, str):
            if field.kind == "enum" and isinstance(field, Field) and value in field.symbols:
                value = field.symbols.index(value)
            elif field.kind == "string":
                value = value.encode("utf-8", "surrogatepass")
        self._store(h, field, None, value)

    # What a command may.

    def record(self, type_: RecordType, id_: int) -> int:
        """Return a handle of a record, active or not, or 0 if there is none. A singleton is 0."""
        raise self._misused(f"record {type_.name} {id_}: only a command may read records")

    def create(self, type_: RecordType) -> int:
        """Return a handle of a new record; an id of the workspace's counter, a singleton's is 0."""
        raise self._misused(f"create {type_.name}: only a command may create records")

    def child(self, h: int, type_: RecordType) -> int:
        """Return a handle of a new record nested in another."""
        raise self._misused(f"child {h} {type_.name}: only a command may create records")

    def child_of(self, h: int, type_: RecordType, id_: int) -> int:
        """Return a handle of a record nested in another, or 0 if there is none of that id."""
        raise self._misused(f"child_of {h} {type_.name} {id_}: only a command may read records")

    def children(self, h: int, type_: RecordType) -> int:
        """Return a cursor over the active records nested in another, in the order of their ids."""
        raise self._misused(f"children {h} {type_.name}: only a command may read records")

    def unique_key(self, unique: Unique) -> int:
        """Return a handle of a unique's key, whose fields are set by set_*; unset ones are zero."""
        raise self._misused(f"unique {unique.name}: only a command may read records")

    def unique(self, k: int) -> int:
        """Return the id of the active record that has the key's values, or 0."""
        raise self._misused(f"unique {k}: only a command may read records")

    def is_active(self, h: int) -> bool:
        """Tell whether a record is active."""
        raise self._misused(f"handle {h} is no record")

    def set_active(self, h: int, active: bool) -> None:  # noqa: FBT001 - an ABI's argument
        """Activate or deactivate a record; an inactive one may not be changed otherwise."""
        raise self._misused(f"set_active {h} {active}: only a command may change records")

    def reject(self, code: str, text: str, field: str | None = None) -> None:
        """Reject the command; the first one counts, and nothing the command did."""
        raise self._misused(f"reject {code} {text} {field}: only a command may be rejected")

    # What a projector may.

    def key(self, view: ViewType) -> int:
        """Return a handle of a key of a view, whose columns are set by set_*."""
        raise self._misused(f"key {view.name}: only a projector has views")

    def view(self, k: int) -> int:
        """Return a handle of the row at a key, read only, or 0 if there is none."""
        raise self._misused(f"view {k}: only a projector has views")

    def put(self, k: int) -> int:
        """Return a writable handle of the row at a key: as it is, else new with defaults."""
        raise self._misused(f"put {k}: only a projector has views")

    def remove(self, k: int) -> None:
        """Remove the row at a key, if there is one."""
        raise self._misused(f"remove {k}: only a projector has views")

    def scan(self, k: int, columns: int, reverse: bool) -> int:  # noqa: FBT001 - an ABI's argument
        """Return a cursor over a view's rows whose first `columns` key columns are those of `k`.

        In the order of their keys; such a row has the key's columns too, and is read only.
        """
        raise self._misused(f"scan {k} {columns} {reverse}: only a projector has views")

    # What both may.

    def next(self, cursor: int) -> int:
        """Return a handle of a cursor's next row, or 0 behind the last one."""
        cell = self._cell(cursor)
        if not isinstance(cell, Cursor):
            raise self._misused(f"handle {cursor} is no cursor")
        return next(cell.handles, NONE)

    def id(self, h: int) -> int:
        """Return a record's id; in a projector also that of the event's record."""
        cell = self._cell(h)
        if cell.row is None or not isinstance(cell.row.type, RecordType):
            raise self._misused(f"handle {h} is no record and has no id")
        return cell.row.id

    def log(self, level: int, text: str) -> None:
        """Log a line (0 debug to 3 error). What is too much is left out: logs change no outcome."""
        if not 0 <= level < len(LOG_LEVELS):
            raise self._misused(f"log level {level} is none of 0 to {len(LOG_LEVELS) - 1}")
        if len(self.logs) < LOGS_MAX:
            self.logs.append((LOG_LEVELS[level], text[:MESSAGE_LENGTH_MAX]))

    # For subclasses.

    def _misused(self, message: str) -> AbiMisused:
        fault = AbiMisused(message[:MESSAGE_LENGTH_MAX])
        self.stopped = self.stopped or fault
        return fault

    def _hold(self, cell: Cell) -> int:
        cells = self._cells
        if len(cells) >= HANDLES_MAX:
            raise self._misused(f"more than {HANDLES_MAX} handles in one call")
        cells.append(cell)
        return self._base + len(cells) - 1

    def _changing(self, row: Row) -> None:
        """Note the first change of a row; raise AbiMisused where there are too many."""
        row.changed = True

    def _cell(self, h: int) -> Cell:
        if self.stopped is not None:
            raise self.stopped
        index = h - self._base if h > RESULT else h
        if 0 <= index < len(self._cells) and (index > RESULT or index == h):
            cell = self._cells[index]
            if cell is not None:
                return cell
        raise self._misused(f"handle {h} is not one of this call")

    def _no_field(self, h: int, field: Field | KeyColumn) -> AbiMisused:
        return self._misused(f"handle {h} has no field {field.name} of this schema")

    def _value(self, h: int, field: Field | KeyColumn) -> Any:
        cell = self._cell(h)
        if not cell.has(field):
            raise self._no_field(h, field)
        return cell.values.get(field.name)

    def _read(self, h: int, field: Field | KeyColumn, kinds: frozenset[str]) -> Any:
        value = self._value(h, field)
        if field.kind not in kinds:
            raise self._misused(f"{field.name} is a {field.kind}: read with the wrong function")
        return value

    def _items(self, h: int, field: Field) -> list[Any]:
        value = self._value(h, field)
        if field.item is None:
            raise self._misused(f"{field.name} is not an array")
        return [] if value is None else value

    def _hold_item(self, h: int, field: Field, items: list[Any], index: int) -> int:
        parent = self._cell(h)
        if field.items is not None:
            cell = Cell(field.items.fields, items[index], parent.row, writable=parent.writable)
        else:
            assert field.item is not None
            element = Element(items, index)
            cell = Cell((field.item,), element, parent.row, writable=parent.writable)
        cell.bit = parent.bit or 1 << field.ordinal
        return self._hold(cell)

    def _raw(self, field: Field, value: Any) -> Any:
        if field.kind == "enum" and value is not None:
            return field.symbols.index(value)
        if field.kind == "array":
            raise self._misused(f"{field.name} is an array: not in a plan")
        if isinstance(value, str):
            return value.encode()
        return int(value) if isinstance(value, bool) else value

    def _writable(self, h: int) -> Cell:
        """Return what a handle stands for, as something that is being changed."""
        cell = self._cell(h)
        if not cell.writable:
            raise self._misused(f"handle {h} is read only")
        if cell.row is not None and not cell.row.changed:
            self._changing(cell.row)
        return cell

    def _touch(self, h: int, field: Field | KeyColumn) -> Cell:
        cell = self._writable(h)
        if not cell.has(field):
            raise self._no_field(h, field)
        if cell.row is not None:
            cell.row.touched |= cell.bit or 1 << cast("Field", field).ordinal
        return cell

    def _normal(self, field: Field | KeyColumn, value: Any) -> Any:
        try:
            return normal(field, value)
        except AbiMisused as fault:
            self.stopped = fault
            raise

    def _store(
        self, h: int, field: Field | KeyColumn, kinds: frozenset[str] | None, value: Any
    ) -> None:
        cell = self._touch(h, field)
        if kinds is not None and field.kind not in kinds:
            raise self._misused(f"{field.name} is a {field.kind}: set with the wrong function")
        cell.values[field.name] = self._normal(field, value)
