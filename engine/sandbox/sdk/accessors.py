"""Writes the C accessors of fields: one call per field, arrays, and whole rows.

Owns the names of generated functions, and the ordinals: one is given out where the code that uses
it is written. Which records and views there are is `generate`'s business.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.application.types import Field, KeyColumn, RecordSchema
from engine.limits import PLAN_FIELDS_MAX
from engine.sandbox import abi

# What a structure's member or a parameter can't be called in the generated code.
_TAKEN = frozenset(
    [
        *("auto", "bool", "break", "case", "char", "const", "continue", "default", "do", "double"),
        *("else", "enum", "extern", "false", "float", "for", "goto", "if", "inline", "int", "long"),
        *("register", "restrict", "return", "short", "signed", "sizeof", "static", "struct"),
        *("switch", "true", "typedef", "union", "unsigned", "void", "volatile", "while"),
        *("cursor", "direction", "key", "nulls", "text"),
    ]
)
# Accessors that would be called like other functions of the same prefix get an underscore.
_WHOLE = frozenset({"read", "row", "write"})
_RESERVED = {
    "record": _WHOLE
    | {"active", "children", "create", "event", "exists", "get", "id", "is_active", "next"},
    "view": _WHOLE | {"exists", "get", "key", "next", "put", "remove", "scan"},
}
_RESERVED_IN_ITEMS = _WHOLE | {"append", "item", "length"}
TYPES = {"i64": "int64_t", "f64": "double"}


@dataclass(slots=True, frozen=True)
class Scope:
    """Where fields are: how C names them, how the description does, and who holds them.

    `holder` is the C parameter that carries the handle, empty where the handle is well known.
    `ids` are the fields that hold a record's id, with the C type of such an id.
    """

    prefix: str
    place: str
    holder: str
    handle: str
    path: str = ""
    writable: bool = True
    ids: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])

    def name_of(self, field: Field | KeyColumn) -> str:
        """Return what a field's accessors are called behind the prefix."""
        reserved = _RESERVED.get(self.place.split(" ")[0], _WHOLE)
        taken = _RESERVED_IN_ITEMS if self.path else reserved
        return f"{field.name}_" if field.name in taken else field.name

    def type_of(self, field: Field) -> str:
        """Return the C type of a number."""
        return self.ids.get(field.name) or TYPES[abi.ACCESS[field.kind]]


class Accessors:
    """The accessors of one header in the making, and what its description asks for."""

    def __init__(self) -> None:
        kinds = ("record", "view", "unique", "field", "plan")
        self._statements: dict[str, list[str]] = {kind: [] for kind in kinds}

    def ordinal(self, kind: str, words: str) -> int:
        """Return the ordinal of a name, a new one if it is the first time."""
        known = self._statements["field" if kind == "key" else kind]
        statement = f"{kind} {words}"
        if statement not in known:
            known.append(statement)
        return known.index(statement)

    def statements(self) -> list[str]:
        """Return what the description consists of, in the order of the ordinals."""
        return [each for kind in self._statements.values() for each in kind]

    def fields(self, scope: Scope, schema: RecordSchema) -> Iterator[str]:
        """Write the accessors of all fields of a schema, and its row structure."""
        for field in schema.fields:
            yield from self.field(scope, field)
        scalars = [field for field in schema.fields if abi.ACCESS[field.kind] != "array"]
        if scalars:
            yield from self._row(scope, scalars[:PLAN_FIELDS_MAX])

    def field(self, scope: Scope, field: Field) -> Iterator[str]:
        """Write how one field is read and, where that may be, written."""
        access = abi.ACCESS[field.kind]
        ordinal = self.ordinal("field", f"{scope.place} {scope.path}{field.name} {access}")
        name = f"{scope.prefix}_{scope.name_of(field)}"
        yield from symbols(name, field)
        place = f"{scope.handle}, {ordinal}"
        holder = scope.holder or "void"
        if access == "array":
            yield from self._array(scope, field, name, ordinal)
        elif access == "bytes":
            given = joined(scope.holder, "void *data, uint32_t capacity")
            yield function(
                f"uint32_t {name}({given})", f"partita_get_bytes({place}, data, capacity)"
            )
        else:
            kind = scope.type_of(field)
            yield function(f"{kind} {name}({holder})", f"partita_get_{access}({place})")
        if field.nullable:
            yield function(f"bool {name}_is_null({holder})", f"partita_is_null({place})")
        if scope.writable:
            yield from self._setters(scope, field, ordinal)

    def _setters(self, scope: Scope, field: Field, ordinal: int) -> Iterator[str]:
        access = abi.ACCESS[field.kind]
        name = f"{scope.prefix}_set_{scope.name_of(field)}"
        place = f"{scope.handle}, {ordinal}"
        if access == "bytes":
            given = joined(scope.holder, "const void *data, uint32_t length")
            yield procedure(f"{name}({given})", f"partita_set_bytes({place}, data, length)")
        elif access != "array":
            given = joined(scope.holder, f"{scope.type_of(field)} value")
            yield procedure(f"{name}({given})", f"partita_set_{access}({place}, value)")
        if field.nullable:
            yield procedure(f"{name}_null({scope.holder or 'void'})", f"partita_set_null({place})")

    def _array(self, scope: Scope, field: Field, name: str, ordinal: int) -> Iterator[str]:
        place, holder = f"{scope.handle}, {ordinal}", scope.holder or "void"
        yield function(f"uint32_t {name}_length({holder})", f"partita_length({place})")
        yield f"typedef struct {{ partita_handle handle; }} {name}_t;"
        given = joined(scope.holder, "uint32_t index")
        yield function(
            f"{name}_t {name}_item({given})", f"({name}_t){{partita_item({place}, index)}}"
        )
        if scope.writable:
            yield function(
                f"{name}_t {name}_append({holder})", f"({name}_t){{partita_append({place})}}"
            )
        inner = Scope(
            name,
            scope.place,
            f"{name}_t item",
            "item.handle",
            f"{scope.path}{field.name}.",
            scope.writable,
        )
        if field.items is not None:
            yield from self.fields(inner, field.items)
        elif field.item is not None:
            yield from self._scalar_item(inner, field)

    def _scalar_item(self, scope: Scope, field: Field) -> Iterator[str]:
        assert field.item is not None
        access = abi.ACCESS[field.item.kind]
        ordinal = self.ordinal("field", f"{scope.place} {scope.path.removesuffix('.')}[] {access}")
        place = f"{scope.handle}, {ordinal}"
        if access == "bytes":
            given = joined(scope.holder, "void *data, uint32_t capacity")
            yield function(
                f"uint32_t {scope.prefix}_value({given})",
                f"partita_get_bytes({place}, data, capacity)",
            )
            setter, passed = "const void *data, uint32_t length", "data, length"
        else:
            kind = TYPES[access]
            yield function(
                f"{kind} {scope.prefix}_value({scope.holder})", f"partita_get_{access}({place})"
            )
            setter, passed = f"{kind} value", "value"
        if scope.writable:
            given = joined(scope.holder, setter)
            yield procedure(
                f"{scope.prefix}_set_value({given})", f"partita_set_{access}({place}, {passed})"
            )

    def _row(self, scope: Scope, fields: Sequence[Field]) -> Iterator[str]:
        """Write the structure of a whole-record call, in the layout that abi.Plan has."""
        name = f"{scope.prefix}_row"
        paths = ",".join(f"{scope.path}{field.name}" for field in fields)
        plan = self.ordinal("plan", f"{scope.place} {paths}")
        texts = [field for field in fields if abi.ACCESS[field.kind] == "bytes"]
        yield "typedef struct {"
        yield "    uint64_t nulls;"
        for field in fields:
            kind = TYPES.get(abi.ACCESS[field.kind], "partita_text")
            yield f"    {kind} {c_name(field.name)};"
        if texts:
            yield "    char text[PARTITA_ROW_TEXT];"
        yield f"}} {name};"
        for bit, field in enumerate(fields):
            if field.nullable:
                yield f"#define {name.upper()}_{field.name.upper()}_NULL (1ull << {bit})"
        slots = (len(fields) + 1) * abi.SLOT_BYTES
        yield f"static inline uint32_t {name}_end(const {name} *row)"
        yield "{"
        yield f"    uint32_t end = {slots};"
        for field in texts:
            yield f"    end = partita_row_end(end, row->{c_name(field.name)});"
        yield "    (void)row;"
        yield "    return end;"
        yield "}"
        for field in texts:
            given = f"{name} *row, const void *data, uint32_t length"
            slot = f"row, {name}_end(row), sizeof *row, &row->{c_name(field.name)}, data, length"
            yield function(f"bool {name}_set_{field.name}({given})", f"partita_row_append({slot})")
        given = joined(scope.holder, f"{name} *row")
        read = f"partita_read({scope.handle}, {plan}, row, sizeof *row) <= sizeof *row"
        yield function(f"bool {scope.prefix}_read({given})", read)
        if scope.writable:
            given = joined(scope.holder, f"const {name} *row")
            write = f"partita_write({scope.handle}, {plan}, row, {name}_end(row))"
            yield procedure(f"{scope.prefix}_write({given})", write)


def function(signature: str, value: str) -> str:
    """Return a function that is one expression."""
    return f"static inline {signature}\n{{\n    return {value};\n}}"


def procedure(signature: str, call: str) -> str:
    """Return a function that is one call."""
    return f"static inline void {signature}\n{{\n    {call};\n}}"


def joined(holder: str, rest: str) -> str:
    """Return the parameters of a function with those of its holder first."""
    return f"{holder}, {rest}" if holder else rest


def c_name(name: str) -> str:
    """Return what a name is called in C."""
    return f"{name}_" if name in _TAKEN else name


def parameter(column: Field | KeyColumn) -> str:
    """Return the parameter that takes a column's value."""
    access, name = abi.ACCESS[column.kind], c_name(column.name)
    if access == "bytes":
        return f"const void *{name}, uint32_t {name}_length"
    return f"{TYPES[access]} {name}"


def symbols(name: str, field: Field) -> Iterator[str]:
    """Write the enumerators of an enum's field."""
    if field.symbols:
        symbols = ", ".join(
            f"{name.upper()}_{symbol.upper()} = {at}" for at, symbol in enumerate(field.symbols)
        )
        yield f"enum {{ {symbols} }};"
