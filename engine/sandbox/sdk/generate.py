"""Writes the typed C header of an extension from its application's manifest and schemas.

Owns the shape of the generated code: what is there for each command, record type and view, and the
description that the host resolves at load (engine.sandbox.abi). The output is a function of the
application alone. Compiles nothing.
"""

from collections.abc import Iterator, Sequence
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
    Reference,
    Unique,
    ViewType,
)
from engine.errors import ApplicationError
from engine.sandbox import abi
from engine.sandbox.host_values import CONTEXT
from engine.sandbox.sdk.accessors import (
    TYPES,
    Accessors,
    Scope,
    c_name,
    function,
    parameter,
    procedure,
)


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


class _Header:
    """One header in the making: ordinals are given out as the code that uses them is written."""

    def __init__(self, application: Application, extension: Extension) -> None:
        self._application = application
        self._extension = extension
        self._accessors = Accessors()

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
        yield from self._handles()
        yield from self._context()
        for command in application.commands.values():
            if command.run is not None and command.run.extension == name:
                yield from self._arguments(f"{command.name}_args", command.name, command.args)
                if command.result is not None:
                    scope = Scope(
                        f"{command.name}_result", f"result {command.name}", "", "PARTITA_RESULT"
                    )
                    yield from self._titled(f"result of {command.name}", scope, command.result)
        yield from self._rejections()
        for record in application.records.values():
            yield from self._record(record)
        for view in application.views.values():
            yield from self._view(view)
        yield from self._description()
        yield "#endif"

    def _context(self) -> Iterator[str]:
        scope = Scope("context", "context", "", "PARTITA_CONTEXT", writable=False)
        yield ""
        yield "/* The command that is being decided, or that a projector sees the effect of. */"
        for field in CONTEXT.fields:
            yield from self._accessors.field(scope, field)

    def _arguments(self, prefix: str, command: str, schema: RecordSchema) -> Iterator[str]:
        scope = Scope(prefix, f"args {command}", "", "PARTITA_ARGS", writable=False)
        yield from self._titled(f"arguments of {command}", scope, schema)

    def _titled(self, title: str, scope: Scope, schema: RecordSchema) -> Iterator[str]:
        yield ""
        yield f"/* The {title}. */"
        yield from self._accessors.fields(scope, schema)

    def _handles(self) -> Iterator[str]:
        yield ""
        yield "/* What stands for a record during one call, and what an id belongs to. */"
        for name in self._application.records:
            yield f"typedef struct {{ partita_handle handle; }} {name}_t;"
            yield f"typedef int64_t {name}_id_t;"

    def _rejections(self) -> Iterator[str]:
        """Write a rejection for each error that a command of this extension declares."""
        codes: dict[str, None] = {}
        for command in self._application.commands.values():
            if command.run is not None and command.run.extension == self._extension.name:
                codes.update(dict.fromkeys(command.errors))
        if codes:
            yield ""
            yield "/* The declared errors, with the manifest's message; return after one. `field`"
            yield ' * is a literal, the name of the field or argument that is to blame, or "". */'
        for code in codes:
            yield f'#define reject_{code}(field) partita_reject_field("{code}", "", field)'

    def _record(self, record: RecordType) -> Iterator[str]:
        name, ordinal = record.name, self._accessors.ordinal("record", record.name)
        yield ""
        nested = f", nested in {record.parent}" if record.parent else ""
        yield f"/* The record type {name} ({record.kind}{nested}). */"
        yield from self._access(record, ordinal)
        yield function(f"{name}_t {name}_event(void)", f"({name}_t){{PARTITA_EVENT}}")
        holder = f"{name}_t {name}"
        yield function(f"bool {name}_exists({holder})", f"{name}.handle != 0")
        yield function(f"{name}_id_t {name}_id({holder})", f"partita_id({name}.handle)")
        yield function(f"bool {name}_is_active({holder})", f"partita_is_active({name}.handle)")
        yield procedure(
            f"{name}_set_active({holder}, bool active)",
            f"partita_set_active({name}.handle, active)",
        )
        single = [each for each in record.references if len(each.targets) == 1]
        ids = {each.field.name: f"{each.targets[0]}_id_t" for each in single}
        scope = Scope(name, f"record {name}", holder, f"{name}.handle", ids=ids)
        yield from self._accessors.fields(scope, record.schema)
        for each in single:
            yield self._followed(scope, each)
        for unique in record.uniques:
            yield from self._unique(unique)

    def _access(self, record: RecordType, ordinal: int) -> Iterator[str]:
        """Write how a record is made and found."""
        name, parent = record.name, record.parent
        if parent:
            above = f"{parent}_t {c_name(parent)}"
            handle = f"{c_name(parent)}.handle"
            yield function(
                f"{name}_t {name}_create({above})",
                f"({name}_t){{partita_child({handle}, {ordinal})}}",
            )
            yield function(
                f"{name}_t {name}_get({above}, {name}_id_t id)",
                f"({name}_t){{partita_child_of({handle}, {ordinal}, id)}}",
            )
            yield from _cursor(name)
            yield function(
                f"{name}_cursor_t {name}_children({above})",
                f"({name}_cursor_t){{partita_children({handle}, {ordinal})}}",
            )
            return
        yield function(f"{name}_t {name}_create(void)", f"({name}_t){{partita_create({ordinal})}}")
        if record.kind == "operation":
            return  # which nobody can read again
        given = "void" if record.kind == "singleton" else f"{name}_id_t id"
        sought = "0" if record.kind == "singleton" else "id"
        yield function(
            f"{name}_t {name}_get({given})", f"({name}_t){{partita_record({ordinal}, {sought})}}"
        )

    def _followed(self, scope: Scope, reference: Reference) -> str:
        """Return how a command gets the record that a field refers to."""
        name, (target,) = f"{scope.prefix}_{scope.name_of(reference.field)}", reference.targets
        ordinal = self._accessors.ordinal("record", target)
        value = f"({target}_t){{partita_record({ordinal}, {name}({scope.prefix}))}}"
        return function(f"{target}_t {name}_get({scope.holder})", value)

    def _unique(self, unique: Unique) -> Iterator[str]:
        """Write the look-up of the active record that has a unique's values; 0 = none."""
        record, ordinal = (
            unique.record,
            self._accessors.ordinal("unique", f"{unique.record}.{unique.name}"),
        )
        given = ", ".join(map(parameter, unique.fields))
        yield f"static inline {record}_id_t {record}_by_{unique.name}({given})"
        yield "{"
        yield f"    partita_handle key = partita_unique_key({ordinal});"
        yield from self._columns(f"field record {record}", unique.fields)
        yield "    return partita_unique(key);"
        yield "}"

    def _view(self, view: ViewType) -> Iterator[str]:
        name, ordinal = view.name, self._accessors.ordinal("view", view.name)
        yield ""
        yield f"/* The view {name}: make a key, then get, put or remove its row; or scan. */"
        yield f"typedef struct {{ partita_handle handle; }} {name}_key_t;"
        yield f"typedef struct {{ partita_handle handle; }} {name}_t;"
        yield from self._key(view, ordinal)
        key = f"{name}_key_t key"
        yield function(f"{name}_t {name}_get({key})", f"({name}_t){{partita_view(key.handle)}}")
        yield function(f"{name}_t {name}_put({key})", f"({name}_t){{partita_put(key.handle)}}")
        yield procedure(f"{name}_remove({key})", "partita_remove(key.handle)")
        holder = f"{name}_t {name}"
        scope = Scope(name, f"view {name}", holder, f"{name}.handle")
        yield from self._scans(view, ordinal, scope)
        yield function(f"bool {name}_exists({holder})", f"{name}.handle != 0")
        yield from self._accessors.fields(scope, view.schema)

    def _key(self, view: ViewType, ordinal: int) -> Iterator[str]:
        given = ", ".join(map(parameter, view.key)) or "void"
        yield f"static inline {view.name}_key_t {view.name}_key({given})"
        yield "{"
        yield f"    partita_handle key = partita_key({ordinal});"
        yield from self._columns(f"key {view.name}", view.key)
        yield f"    return ({view.name}_key_t){{key}};"
        yield "}"

    def _columns(self, place: str, columns: Sequence[Field | KeyColumn]) -> Iterator[str]:
        """Write how the variable `key` gets the columns that are given as parameters."""
        kind, _, rest = place.partition(" ")
        for column in columns:
            access = abi.ACCESS[column.kind]
            field = self._accessors.ordinal(kind, f"{rest} {column.name} {access}")
            value = c_name(column.name)
            value = f"{value}, {value}_length" if access == "bytes" else value
            yield f"    partita_set_{access}(key, {field}, {value});"

    def _scans(self, view: ViewType, ordinal: int, scope: Scope) -> Iterator[str]:
        """Write a scan of all rows and one by each prefix of the key, and what only they find."""
        if not view.key:
            return
        name = view.name
        yield from _cursor(name)
        for count in range(len(view.key)):
            columns = view.key[:count]
            by = "_".join(("_by", *(column.name for column in columns))) if columns else ""
            given = ", ".join((*map(parameter, columns), "uint32_t direction"))
            yield f"static inline {name}_cursor_t {name}_scan{by}({given})"
            yield "{"
            yield f"    partita_handle key = partita_key({ordinal});"
            yield from self._columns(f"key {name}", columns)
            yield f"    return ({name}_cursor_t){{partita_scan(key, {count}, direction)}};"
            yield "}"
        names = view.schema.by_name
        for column in view.key:
            if column.name not in names:
                yield self._found(view, column, scope)

    def _found(self, view: ViewType, column: KeyColumn, scope: Scope) -> str:
        """Return the accessor of a key's column, of a row that a scan has found."""
        access, name = abi.ACCESS[column.kind], f"{view.name}_{scope.name_of(column)}"
        field = self._accessors.ordinal("key", f"{view.name} {column.name} {access}")
        place = f"{scope.handle}, {field}"
        if access == "bytes":
            given = f"{scope.holder}, void *data, uint32_t capacity"
            value = f"partita_get_bytes({place}, data, capacity)"
            return function(f"uint32_t {name}({given})", value)
        return function(f"{TYPES[access]} {name}({scope.holder})", f"partita_get_{access}({place})")

    def _description(self) -> Iterator[str]:
        statements = [f"entry {entry}" for entry in entries(self._application, self._extension)]
        statements += self._accessors.statements()
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


def _cursor(name: str) -> Iterator[str]:
    """Write the type of a cursor, whose rows partita_each goes through."""
    yield f"typedef struct {{ partita_handle handle; }} {name}_cursor_t;"
    given, value = f"{name}_cursor_t cursor", f"({name}_t){{partita_next(cursor.handle)}}"
    yield function(f"{name}_t {name}_next({given})", value)
