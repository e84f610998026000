"""Extension ABI v1: what a WASM guest may import, must export, and how it says what it wants.

Owns the table of imports, the description a guest gives of itself, its resolution against an
application, and the buffer layout of whole-record calls. It runs nothing.

Memory: the guest defines one memory and exports it as `memory`; the host imports nothing into the
guest but functions of the module `partita1`. Pointers are offsets into that memory.

Description: `partita_describe() -> i64` returns (pointer << 32 | length) of a static UTF-8 text.
One statement a line, words separated by one space; the first line is `abi 1`:

    entry credit                             an exported function () -> () that the manifest names
    record account                           a record type, for record() and create()
    view statement                           a view, for key()
    unique table.number                      a unique of a record type, for unique_key()
    field record account balance i64         a field of a record type ...
    field args credit amount i64             ... of a command's arguments, or of its result ...
    field view statement total i64           ... of a view's row ...
    field context command_time i64           ... or of the context
    key statement day i64                    a column of a view's key; counts among the fields
    plan record account balance,owner        fields of one record, for read() and write()

The ordinal of a name is its place among the statements of its kind, from 0. `key` statements share
the ordinals of `field`, since the same functions take both. The last word of `field` and `key` is
the access: i64 (boolean int long enum, dates and times as numbers), f64 (float double), bytes
(string bytes fixed, decimals), array. `lines.amount` names a field of an array's records, and
`tags[]` an array's scalar item.

Whole-record calls: `read` and `write` use 8-byte little-endian slots. Slot 0 holds a null bit per
field of the plan (bit 0 = its first field); slot 1 + i is the value of field i: an integer, a
double, or for bytes an offset from the start of the buffer (low half) and a length (high half).
Bytes lie behind the slots. `read` and `get_bytes` return the length there is and copy nothing
when it is more than the capacity.

Handles: 0 none, 1 arguments, 2 context, 3 event (projectors), 4 result; others live for one call.
What ABI v1 names but this engine doesn't serve yet (emit, timer, cancel) is not in the table, so
asking for it is refused at load.

Cursors are handles too, and `next` is all that takes them. A row found by `scan` has its key's
columns, which `get_*` read by the ordinals of `key` statements. A unique's key takes the fields of
its record type by the ordinals of `field record` statements.
"""

import difflib
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from engine.application.types import (
    Application,
    CommandType,
    Extension,
    Field,
    KeyColumn,
    RecordSchema,
    RecordType,
    Unique,
    ViewType,
)
from engine.errors import ApplicationError
from engine.limits import DESCRIPTION_BYTES_MAX, DESCRIPTION_NAMES_MAX, PLAN_FIELDS_MAX
from engine.sandbox.host_values import CONTEXT

T = TypeVar("T")

VERSION = 1
MODULE = "partita1"
DESCRIBE = "partita_describe"
MEMORY = "memory"
SLOT_BYTES = 8


class Signature(NamedTuple):
    """The types of an imported function."""

    params: tuple[str, ...]
    results: tuple[str, ...]


def _signature(text: str) -> Signature:
    params, _, results = text.partition("->")
    return Signature(tuple(params.split()), tuple(results.split()))


# h = handle, f = field or key ordinal, t = record type, v = view, u = unique, k = handle of a key
# of a view or of a unique, c = cursor.
IMPORTS: Mapping[str, Signature] = {
    name: _signature(text)
    for name, text in {
        "get_i64": "i32 i32 -> i64",  # (h, f)
        "get_f64": "i32 i32 -> f64",  # (h, f)
        "get_bytes": "i32 i32 i32 i32 -> i32",  # (h, f, pointer, capacity) -> length
        "is_null": "i32 i32 -> i32",  # (h, f)
        "length": "i32 i32 -> i32",  # (h, f) of an array
        "item": "i32 i32 i32 -> i32",  # (h, f, index) -> h
        "set_i64": "i32 i32 i64 ->",  # (h, f, value)
        "set_f64": "i32 i32 f64 ->",  # (h, f, value)
        "set_bytes": "i32 i32 i32 i32 ->",  # (h, f, pointer, length)
        "set_null": "i32 i32 ->",  # (h, f)
        "append": "i32 i32 -> i32",  # (h, f) -> h of the new item
        "read": "i32 i32 i32 i32 -> i32",  # (h, plan, pointer, capacity) -> length
        "write": "i32 i32 i32 i32 ->",  # (h, plan, pointer, length)
        "record": "i32 i64 -> i32",  # (t, id) -> h or 0
        "create": "i32 -> i32",  # (t) -> h
        "child": "i32 i32 -> i32",  # (h, t) -> h
        "child_of": "i32 i32 i64 -> i32",  # (h, t, id) -> h or 0
        "children": "i32 i32 -> i32",  # (h, t) -> c
        "unique_key": "i32 -> i32",  # (u) -> k
        "unique": "i32 -> i64",  # (k) -> id or 0
        "id": "i32 -> i64",  # (h)
        "is_active": "i32 -> i32",  # (h)
        "set_active": "i32 i32 ->",  # (h, boolean)
        "key": "i32 -> i32",  # (v) -> k
        "view": "i32 -> i32",  # (k) -> h or 0
        "put": "i32 -> i32",  # (k) -> h
        "remove": "i32 ->",  # (k)
        "scan": "i32 i32 i32 -> i32",  # (k, columns, reverse) -> c
        "next": "i32 -> i32",  # (c) -> h or 0
        "reject": "i32 i32 i32 i32 ->",  # (code pointer, length, text pointer, length)
        "reject_field": "i32 i32 i32 i32 i32 i32 ->",  # the same, and field pointer, length
        "log": "i32 i32 i32 ->",  # (level, pointer, length)
    }.items()
}

ACCESS: Mapping[str, str] = {
    **dict.fromkeys(("boolean", "int", "long", "enum", "date", "time"), "i64"),
    **dict.fromkeys(("float", "double"), "f64"),
    **dict.fromkeys(("string", "bytes", "fixed"), "bytes"),
    "array": "array",
}


@dataclass(slots=True)
class Description:
    """What a guest says it wants, by kind and in order."""

    entries: list[str] = field(default_factory=list[str])
    records: list[str] = field(default_factory=list[str])
    views: list[str] = field(default_factory=list[str])
    uniques: list[str] = field(default_factory=list[str])
    fields: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    plans: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])


# statement -> its number of words, and where its words go; `field context` has one word less.
_STATEMENTS: Mapping[str, tuple[int, str]] = {
    "entry": (2, "entries"),
    "record": (2, "records"),
    "view": (2, "views"),
    "unique": (2, "uniques"),
    "field": (5, "fields"),
    "key": (4, "fields"),
    "plan": (4, "plans"),
}


def parse(data: bytes, file: str) -> Description:
    """Parse a description; raise ApplicationError E1104 for anything the grammar doesn't have."""
    if len(data) > DESCRIPTION_BYTES_MAX:
        raise _wrong(f"its description has {len(data)} bytes", file, most=DESCRIPTION_BYTES_MAX)
    try:
        lines = data.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise _wrong("its description is not UTF-8", file) from None
    if lines[0] != f"abi {VERSION}":
        raise _wrong(
            f"its description begins with {lines[0][:40]!r} instead of 'abi {VERSION}'", file
        )
    if len(lines) > DESCRIPTION_NAMES_MAX:
        raise _wrong(f"it asks for {len(lines)} names", file, most=DESCRIPTION_NAMES_MAX)
    description = Description()
    for number, line in enumerate(lines[1:], 2):
        _parse_line(line, number, description, file)
    return description


def _parse_line(line: str, number: int, description: Description, file: str) -> None:
    words = tuple(line.split(" "))
    count, kind = _STATEMENTS.get(words[0], (0, ""))
    if words[0] in {"field", "plan"} and words[1:2] == ("context",):
        count -= 1
    if not kind or len(words) != count or not all(words):
        raise _wrong(f"line {number} of its description is {line[:80]!r}", file)
    target = getattr(description, kind)
    target.append(words if kind in {"fields", "plans"} else words[1])


class Plan:
    """The fields that one whole-record call moves, and the codec of its buffer."""

    __slots__ = ("_bytes", "_slots", "fields", "size_bytes")

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.fields = fields
        access = [ACCESS[each.kind] for each in fields]
        self._bytes = [at for at, each in enumerate(access) if each == "bytes"]
        codes = {"i64": "q", "f64": "d", "bytes": "Q"}
        self._slots = struct.Struct("<Q" + "".join(codes[each] for each in access))
        self.size_bytes = self._slots.size

    def pack(self, values: Sequence[int | float | str | bytes | None]) -> bytes:
        """Return the buffer that `read` hands to a guest."""
        slots: list[int | float] = [0]
        tail: list[bytes] = []
        end = self.size_bytes
        for at, value in enumerate(values):
            if value is None:
                slots[0] = int(slots[0]) | 1 << at
                slots.append(0)
            elif isinstance(value, str | bytes):
                data = value.encode() if isinstance(value, str) else value
                slots.append(len(data) << 32 | end)
                end += len(data)
                tail.append(data)
            else:
                slots.append(value)
        return self._slots.pack(*slots) + b"".join(tail)

    def unpack(self, data: bytes) -> list[int | float | bytes | None]:
        """Return the values of a guest's buffer; raise ValueError where it points outside."""
        if len(data) < self.size_bytes:
            raise ValueError(f"{len(data)} bytes where the plan needs {self.size_bytes}")
        nulls, *values = self._slots.unpack_from(data)
        for at in self._bytes:
            start, length = values[at] & 0xFFFFFFFF, values[at] >> 32
            if not nulls >> at & 1 and start + length > len(data):
                raise ValueError(f"field {self.fields[at].name} lies outside of the buffer")
            values[at] = data[start : start + length]
        if nulls:
            return [None if nulls >> at & 1 else value for at, value in enumerate(values)]
        return values


@dataclass(slots=True, frozen=True)
class Resolved:
    """A description's names as the application's own objects, by ordinal."""

    entries: frozenset[str]
    records: tuple[RecordType, ...]
    views: tuple[ViewType, ...]
    uniques: tuple[Unique, ...]
    fields: tuple[Field | KeyColumn, ...]
    plans: tuple[Plan, ...]


def resolve(description: Description, application: Application, extension: Extension) -> Resolved:
    """Look every name up; raise ApplicationError E1104 for one that is missing or mistyped."""
    file = extension.target
    names = _Names(application, file)
    wanted = {run.function for run in application.entry_points if run.extension == extension.name}
    for missing in sorted(wanted.difference(description.entries)):
        raise _wrong(f"the manifest names its function {missing!r}, which it doesn't have", file)
    return Resolved(
        entries=frozenset(description.entries),
        records=tuple(names.record(name) for name in description.records),
        views=tuple(names.view(name) for name in description.views),
        uniques=tuple(names.unique(name) for name in description.uniques),
        fields=tuple(names.field(words) for words in description.fields),
        plans=tuple(names.plan(words) for words in description.plans),
    )


class _Names:
    """An application's names, as a description writes them."""

    def __init__(self, application: Application, file: str) -> None:
        self._application = application
        self._file = file

    def record(self, name: str) -> RecordType:
        return _known(self._application.records, name, "record type", self._file)

    def view(self, name: str) -> ViewType:
        return _known(self._application.views, name, "view", self._file)

    def unique(self, name: str) -> Unique:
        return _known(self._application.uniques, name, "unique", self._file)

    def field(self, words: tuple[str, ...]) -> Field | KeyColumn:
        *place, path, access = words
        if place[0] == "key":
            columns = {column.name: column for column in self.view(place[1]).key}
            found: Field | KeyColumn = _known(columns, path, "key column", self._file)
        else:
            found = self._path(self._schema(place[1:]), path)
        if ACCESS.get(found.kind) != access:
            message = f"it asks for {path!r} ({found.kind}) as {access}"
            raise _wrong(message, self._file, key=" ".join(words))
        return found

    def plan(self, words: tuple[str, ...]) -> Plan:
        *place, paths = words
        schema = self._schema(place[1:])
        fields = tuple(self._path(schema, path) for path in paths.split(","))
        if len(fields) > PLAN_FIELDS_MAX:
            raise _wrong(f"a plan of {len(fields)} fields", self._file, most=PLAN_FIELDS_MAX)
        if len({path.rpartition(".")[0] for path in paths.split(",")}) > 1:
            raise _wrong("a plan over several records", self._file, key=" ".join(words))
        for each in fields:
            if ACCESS.get(each.kind, "array") == "array":
                message = f"a plan can't hold {each.name!r} ({each.kind})"
                raise _wrong(message, self._file, key=" ".join(words))
        return Plan(fields)

    def _schema(self, place: Sequence[str]) -> RecordSchema:
        scope, *rest = place
        lookups: Mapping[str, Callable[[str], RecordSchema | None]] = {
            "record": lambda name: self.record(name).schema,
            "view": lambda name: self.view(name).schema,
            "args": lambda name: self._command(name).args,
            "result": lambda name: self._command(name).result,
            "context": lambda _: CONTEXT,
        }
        lookup = _known(lookups, scope, "kind of field", self._file)
        schema = lookup(rest[0] if rest else "")
        if schema is None:
            raise _wrong(f"the command {rest[0]!r} has no result", self._file)
        return schema

    def _command(self, name: str) -> CommandType:
        return _known(self._application.commands, name, "command", self._file)

    def _path(self, schema: RecordSchema, path: str) -> Field:
        *outer, last = path.split(".")
        for name in outer:
            items = _known(schema.by_name, name, f"field of {schema.name}", self._file).items
            if items is None:
                raise _wrong(f"{name!r} of {path!r} is not an array of records", self._file)
            schema = items
        found = _known(
            schema.by_name, last.removesuffix("[]"), f"field of {schema.name}", self._file
        )
        if last.endswith("[]"):
            if found.item is None or found.items is not None:
                raise _wrong(f"{path!r} is not an array of scalars", self._file)
            return found.item
        return found


def _known(names: Mapping[str, T], name: str, what: str, file: str) -> T:
    found = names.get(name)
    if found is None:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(names) or 'none'}"
        raise ApplicationError("E1104", f"it asks for the {what} {name!r}", hint, file=file)
    return found


def _wrong(message: str, file: str, **where: str | int) -> ApplicationError:
    return ApplicationError("E1104", message, "", file=file, **where)
