"""Writes the typed C header of an extension from its application's manifest and schemas.

Owns the shape of the generated code: accessors per field, row structures for whole-record calls,
and the description that the host resolves at load (engine.sandbox.abi). The output is a function of
the application alone. Compiles nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.application.building import Parts, build, schema_files
from engine.application.manifest import MANIFEST_FILE, parse_manifest
from engine.application.types import (
    Application,
    Extension,
    Field,
    KeyColumn,
    RecordSchema,
    RecordType,
    ViewType,
)
from engine.errors import ApplicationError
from engine.limits import PLAN_FIELDS_MAX
from engine.sandbox import abi
from engine.sandbox.host_values import CONTEXT

# What a structure's member or a parameter can't be called in the generated code.
_TAKEN = frozenset(
    [
        *("auto", "bool", "break", "case", "char", "const", "continue", "default", "do", "double"),
        *("else", "enum", "extern", "false", "float", "for", "goto", "if", "inline", "int", "long"),
        *("register", "restrict", "return", "short", "signed", "sizeof", "static", "struct"),
        *("switch", "true", "typedef", "union", "unsigned", "void", "volatile", "while"),
        *("key", "nulls", "text"),
    ]
)
_TYPES = {"i64": "int64_t", "f64": "double"}


def read_sources(folder: Path) -> Application:
    """Return the application of a folder whose extensions need not be built yet."""
    file = folder / MANIFEST_FILE
    try:
        text = file.read_text()
    except OSError as fault:
        message = f"{fault.strerror}: {file}"
        raise ApplicationError("E1101", message, "Name the folder of an application") from fault
    manifest = parse_manifest(text, str(file))
    texts: dict[str, str] = {}
    for key, name in schema_files(manifest):
        try:
            texts[name] = (folder / name).read_text()
        except OSError as fault:
            message = f"{name}: {fault.strerror}"
            raise ApplicationError("E1103", message, file=file, key=key) from fault
    return build(Parts(text, texts, dict.fromkeys(manifest.extensions, b""), str(file)))


def header(application: Application, extension: Extension) -> str:
    """Return the text of build/<extension>.h."""
    return "\n".join(_Header(application, extension).lines()) + "\n"


def entries(application: Application, extension: Extension) -> list[str]:
    """Return the functions of an extension that the manifest names."""
    runs = application.entry_points
    return list(dict.fromkeys(run.function for run in runs if run.extension == extension.name))


@dataclass(slots=True, frozen=True)
class _Scope:
    """Where fields are: how C names them, how the description does, and who holds them.

    `holder` is the C parameter that carries the handle, empty where the handle is well known.
    """

    prefix: str
    place: str
    holder: str
    handle: str
    path: str = ""
    writable: bool = True


class _Header:
    """One header in the making: ordinals are given out as the code that uses them is written."""

    def __init__(self, application: Application, extension: Extension) -> None:
        self._application = application
        self._extension = extension
        self._statements: dict[str, list[str]] = {"record": [], "view": [], "field": [], "plan": []}

    def lines(self) -> Iterator[str]:
        application, name = self._application, self._extension.name
        both = sorted(application.records.keys() & application.views.keys())
        if both:
            message = f"{both[0]} is the name of a record type and of a view"
            raise ApplicationError("E1102", message, "C has one name for both: rename one")
        guard = f"PARTITA_GENERATED_{name.upper()}_H"
        yield "/* Written by `partita extension build` from application.toml and its schemas. */"
        yield f"#ifndef {guard}"
        yield f"#define {guard}"
        yield '#include "partita.h"'
        yield ""
        yield f"/* What `{name}` consists of: define each of these. */"
        for entry in entries(application, self._extension):
            yield f'PARTITA_EXPORT("{entry}") void {entry}(void);'
        yield from self._context()
        for command in application.commands.values():
            if command.run is not None and command.run.extension == name:
                yield from self._arguments(f"{command.name}_args", command.name, command.args)
                if command.result is not None:
                    scope = _Scope(
                        f"{command.name}_result", f"result {command.name}", "", "PARTITA_RESULT"
                    )
                    yield from self._titled(f"result of {command.name}", scope, command.result)
        for record in application.records.values():
            yield from self._record(record)
        for view in application.views.values():
            yield from self._view(view)
        yield from self._description()
        yield "#endif"

    def _ordinal(self, kind: str, words: str) -> int:
        known = self._statements["field" if kind == "key" else kind]
        statement = f"{kind} {words}"
        if statement not in known:
            known.append(statement)
        return known.index(statement)

    def _context(self) -> Iterator[str]:
        scope = _Scope("context", "context", "", "PARTITA_CONTEXT", writable=False)
        yield ""
        yield "/* The command that is being decided, or that a projector sees the effect of. */"
        for field in CONTEXT.fields:
            yield from self._field(scope, field)

    def _arguments(self, prefix: str, command: str, schema: RecordSchema) -> Iterator[str]:
        scope = _Scope(prefix, f"args {command}", "", "PARTITA_ARGS", writable=False)
        yield from self._titled(f"arguments of {command}", scope, schema)

    def _titled(self, title: str, scope: _Scope, schema: RecordSchema) -> Iterator[str]:
        yield ""
        yield f"/* The {title}. */"
        yield from self._fields(scope, schema)

    def _record(self, record: RecordType) -> Iterator[str]:
        name, ordinal = record.name, self._ordinal("record", record.name)
        yield ""
        yield f"/* The record type {name} ({record.kind}). */"
        yield f"typedef struct {{ partita_handle handle; }} {name}_t;"
        given = "void" if record.kind == "singleton" else "int64_t id"
        sought = "0" if record.kind == "singleton" else "id"
        yield _function(
            f"{name}_t {name}_get({given})", f"({name}_t){{partita_record({ordinal}, {sought})}}"
        )
        yield _function(f"{name}_t {name}_create(void)", f"({name}_t){{partita_create({ordinal})}}")
        yield _function(f"{name}_t {name}_event(void)", f"({name}_t){{PARTITA_EVENT}}")
        holder = f"{name}_t {name}"
        yield _function(f"bool {name}_exists({holder})", f"{name}.handle != 0")
        yield _function(f"int64_t {name}_id({holder})", f"partita_id({name}.handle)")
        yield _function(f"bool {name}_is_active({holder})", f"partita_is_active({name}.handle)")
        yield _procedure(
            f"{name}_set_active({holder}, bool active)",
            f"partita_set_active({name}.handle, active)",
        )
        scope = _Scope(name, f"record {name}", holder, f"{name}.handle")
        yield from self._fields(scope, record.schema)

    def _view(self, view: ViewType) -> Iterator[str]:
        name, ordinal = view.name, self._ordinal("view", view.name)
        yield ""
        yield f"/* The view {name}: make a key, then get, put or remove its row. */"
        yield f"typedef struct {{ partita_handle handle; }} {name}_key_t;"
        yield f"typedef struct {{ partita_handle handle; }} {name}_t;"
        yield from self._key(view, ordinal)
        key = f"{name}_key_t key"
        yield _function(f"{name}_t {name}_get({key})", f"({name}_t){{partita_view(key.handle)}}")
        yield _function(f"{name}_t {name}_put({key})", f"({name}_t){{partita_put(key.handle)}}")
        yield _procedure(f"{name}_remove({key})", "partita_remove(key.handle)")
        holder = f"{name}_t {name}"
        yield _function(f"bool {name}_exists({holder})", f"{name}.handle != 0")
        yield from self._fields(_Scope(name, f"view {name}", holder, f"{name}.handle"), view.schema)

    def _key(self, view: ViewType, ordinal: int) -> Iterator[str]:
        parameters = [_parameter(column) for column in view.key]
        yield f"static inline {view.name}_key_t {view.name}_key({', '.join(parameters) or 'void'})"
        yield "{"
        yield f"    partita_handle key = partita_key({ordinal});"
        for column in view.key:
            access = abi.ACCESS[column.kind]
            field = self._ordinal("key", f"{view.name} {column.name} {access}")
            value = _c_name(column.name)
            value = f"{value}, {value}_length" if access == "bytes" else value
            yield f"    partita_set_{access}(key, {field}, {value});"
        yield f"    return ({view.name}_key_t){{key}};"
        yield "}"

    def _fields(self, scope: _Scope, schema: RecordSchema) -> Iterator[str]:
        for field in schema.fields:
            yield from self._field(scope, field)
        scalars = [field for field in schema.fields if abi.ACCESS[field.kind] != "array"]
        if scalars:
            yield from self._row(scope, scalars[:PLAN_FIELDS_MAX])

    def _field(self, scope: _Scope, field: Field) -> Iterator[str]:
        access = abi.ACCESS[field.kind]
        ordinal = self._ordinal("field", f"{scope.place} {scope.path}{field.name} {access}")
        name = f"{scope.prefix}_{field.name}"
        yield from _symbols(name, field)
        place = f"{scope.handle}, {ordinal}"
        holder = scope.holder or "void"
        if access == "array":
            yield from self._array(scope, field, name, ordinal)
        elif access == "bytes":
            given = _joined(scope.holder, "void *data, uint32_t capacity")
            yield _function(
                f"uint32_t {name}({given})", f"partita_get_bytes({place}, data, capacity)"
            )
        else:
            yield _function(f"{_TYPES[access]} {name}({holder})", f"partita_get_{access}({place})")
        if field.nullable:
            yield _function(f"bool {name}_is_null({holder})", f"partita_is_null({place})")
        if scope.writable:
            yield from self._setters(scope, field, ordinal)

    def _setters(self, scope: _Scope, field: Field, ordinal: int) -> Iterator[str]:
        access = abi.ACCESS[field.kind]
        name = f"{scope.prefix}_set_{field.name}"
        place = f"{scope.handle}, {ordinal}"
        if access == "bytes":
            given = _joined(scope.holder, "const void *data, uint32_t length")
            yield _procedure(f"{name}({given})", f"partita_set_bytes({place}, data, length)")
        elif access != "array":
            given = _joined(scope.holder, f"{_TYPES[access]} value")
            yield _procedure(f"{name}({given})", f"partita_set_{access}({place}, value)")
        if field.nullable:
            yield _procedure(f"{name}_null({scope.holder or 'void'})", f"partita_set_null({place})")

    def _array(self, scope: _Scope, field: Field, name: str, ordinal: int) -> Iterator[str]:
        place, holder = f"{scope.handle}, {ordinal}", scope.holder or "void"
        yield _function(f"uint32_t {name}_length({holder})", f"partita_length({place})")
        yield f"typedef struct {{ partita_handle handle; }} {name}_t;"
        given = _joined(scope.holder, "uint32_t index")
        yield _function(
            f"{name}_t {name}_item({given})", f"({name}_t){{partita_item({place}, index)}}"
        )
        if scope.writable:
            yield _function(
                f"{name}_t {name}_append({holder})", f"({name}_t){{partita_append({place})}}"
            )
        inner = _Scope(
            name,
            scope.place,
            f"{name}_t item",
            "item.handle",
            f"{scope.path}{field.name}.",
            scope.writable,
        )
        if field.items is not None:
            yield from self._fields(inner, field.items)
        elif field.item is not None:
            yield from self._scalar_item(inner, field)

    def _scalar_item(self, scope: _Scope, field: Field) -> Iterator[str]:
        assert field.item is not None
        access = abi.ACCESS[field.item.kind]
        ordinal = self._ordinal("field", f"{scope.place} {scope.path.removesuffix('.')}[] {access}")
        place = f"{scope.handle}, {ordinal}"
        if access == "bytes":
            given = _joined(scope.holder, "void *data, uint32_t capacity")
            yield _function(
                f"uint32_t {scope.prefix}_value({given})",
                f"partita_get_bytes({place}, data, capacity)",
            )
            setter, passed = "const void *data, uint32_t length", "data, length"
        else:
            kind = _TYPES[access]
            yield _function(
                f"{kind} {scope.prefix}_value({scope.holder})", f"partita_get_{access}({place})"
            )
            setter, passed = f"{kind} value", "value"
        if scope.writable:
            given = _joined(scope.holder, setter)
            yield _procedure(
                f"{scope.prefix}_set_value({given})", f"partita_set_{access}({place}, {passed})"
            )

    def _row(self, scope: _Scope, fields: Sequence[Field]) -> Iterator[str]:
        """Write the structure of a whole-record call, in the layout that abi.Plan has."""
        name = f"{scope.prefix}_row"
        paths = ",".join(f"{scope.path}{field.name}" for field in fields)
        plan = self._ordinal("plan", f"{scope.place} {paths}")
        texts = [field for field in fields if abi.ACCESS[field.kind] == "bytes"]
        yield "typedef struct {"
        yield "    uint64_t nulls;"
        for field in fields:
            kind = _TYPES.get(abi.ACCESS[field.kind], "partita_text")
            yield f"    {kind} {_c_name(field.name)};"
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
            yield f"    end = partita_row_end(end, row->{_c_name(field.name)});"
        yield "    (void)row;"
        yield "    return end;"
        yield "}"
        for field in texts:
            given = f"{name} *row, const void *data, uint32_t length"
            slot = f"row, {name}_end(row), sizeof *row, &row->{_c_name(field.name)}, data, length"
            yield _function(f"bool {name}_set_{field.name}({given})", f"partita_row_append({slot})")
        given = _joined(scope.holder, f"{name} *row")
        read = f"partita_read({scope.handle}, {plan}, row, sizeof *row) <= sizeof *row"
        yield _function(f"bool {scope.prefix}_read({given})", read)
        if scope.writable:
            given = _joined(scope.holder, f"const {name} *row")
            write = f"partita_write({scope.handle}, {plan}, row, {name}_end(row))"
            yield _procedure(f"{scope.prefix}_write({given})", write)

    def _description(self) -> Iterator[str]:
        statements = [f"entry {entry}" for entry in entries(self._application, self._extension)]
        for kind in self._statements.values():
            statements += kind
        yield ""
        yield "/* What the host is asked for; it is resolved when the extension is loaded. */"
        yield "static const char partita_description[] ="
        yield f'    "abi {abi.VERSION}\\n"'
        for statement in statements:
            yield f'    "{statement}\\n"'
        yield "    ;"
        yield f'PARTITA_EXPORT("{abi.DESCRIBE}") uint64_t {abi.DESCRIBE}(void)'
        yield "{"
        yield "    uint64_t pointer = (uintptr_t)partita_description;"
        yield "    return pointer << 32 | (sizeof partita_description - 1);"
        yield "}"


def _function(signature: str, value: str) -> str:
    return f"static inline {signature}\n{{\n    return {value};\n}}"


def _procedure(signature: str, call: str) -> str:
    return f"static inline void {signature}\n{{\n    {call};\n}}"


def _joined(holder: str, rest: str) -> str:
    return f"{holder}, {rest}" if holder else rest


def _c_name(name: str) -> str:
    return f"{name}_" if name in _TAKEN else name


def _parameter(column: KeyColumn) -> str:
    access, name = abi.ACCESS[column.kind], _c_name(column.name)
    if access == "bytes":
        return f"const void *{name}, uint32_t {name}_length"
    return f"{_TYPES[access]} {name}"


def _symbols(name: str, field: Field) -> Iterator[str]:
    if field.symbols:
        symbols = ", ".join(
            f"{name.upper()}_{symbol.upper()} = {at}" for at, symbol in enumerate(field.symbols)
        )
        yield f"enum {{ {symbols} }};"
