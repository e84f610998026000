"""An Application from its parts: manifest, schema texts, modules, table numbers.

The one place that both ways into an application share (a folder, a record of the log), so that
equal content gives equal objects. Owns the checks across files. Reads nothing.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.application import schema
from engine.application.manifest import Manifest, did_you_mean, parse_manifest, wrong
from engine.application.types import (
    Application,
    Check,
    CommandType,
    EntryPoint,
    Extension,
    KeyColumn,
    ProjectorType,
    RecordSchema,
    RecordType,
    Table,
    ViewType,
)
from engine.errors import ApplicationError
from engine.limits import TABLE_MAX, TABLE_RECORDS_FIRST, TABLE_VIEWS_FIRST

Problems = list[tuple[str, str]]

RESERVED_COLUMNS = frozenset({"after", "limit", "min_sequence"})  # parameters of every query
_CHECKED = frozenset({"int", "long", "float", "double"})


@dataclass(slots=True, frozen=True)
class Parts:
    """What an application is made of; `modules` by the extension's name, `file` for errors."""

    manifest: str
    schema_texts: Mapping[str, str]
    modules: Mapping[str, bytes]
    file: str


def schema_files(manifest: Manifest) -> list[tuple[str, str]]:
    """Return (key, file) for every schema that a manifest names."""
    found = [(f"records.{name}.schema", entry.schema_) for name, entry in manifest.records.items()]
    for name, command in manifest.commands.items():
        found.append((f"commands.{name}.args", command.args))
        if command.result is not None:
            found.append((f"commands.{name}.result", command.result))
    found += [(f"views.{name}.row", entry.row) for name, entry in manifest.views.items()]
    return found


def build(parts: Parts, tables: Sequence[Table] = (), index: int = 0) -> Application:
    """Build an application; types without a table in `tables` are given new ones."""
    manifest = parse_manifest(parts.manifest, parts.file)
    problems = _cross_problems(manifest)
    if problems:
        raise wrong(parts.file, problems)
    schemas = {file: schema.parse(text, file) for file, text in parts.schema_texts.items()}
    problems = _check_problems(manifest, schemas)
    if problems:
        raise wrong(parts.file, problems)
    tables = number_tables(list(manifest.records), list(manifest.views), tables)
    newest = {(table.kind, table.name): table for table in tables}
    records = _records(manifest, schemas, newest)
    views = _views(manifest, schemas, newest)
    extensions = _extensions(manifest, parts.modules)
    return Application(
        name=manifest.application.name,
        version=manifest.application.version,
        partitions=manifest.application.partitions,
        fingerprint=_fingerprint(parts, extensions),
        index=index,
        manifest=parts.manifest,
        schema_texts=dict(parts.schema_texts),
        records=records,
        commands=_commands(manifest, schemas),
        views=views,
        projectors=_projectors(manifest),
        extensions=extensions,
        record_tables={record.table: record for record in records.values()},
        view_tables={view.table: view for view in views.values()},
        tables=tables,
    )


def number_tables(
    records: Sequence[str], views: Sequence[str], known: Sequence[Table]
) -> tuple[Table, ...]:
    """Return `known` and a new table for each name that has none, in order.

    Of several generations of a view, the last one listed is the one in use.
    """
    tables = list(known)
    for kind, names in (("record", records), ("view", views)):
        taken = {table.name for table in tables if table.kind == kind}
        for name in names:
            if name not in taken:
                generation = 1 if kind == "view" else 0
                tables.append(Table(kind, name, generation, next_table(kind, tables)))
    return tuple(tables)


def next_table(kind: str, tables: Sequence[Table]) -> int:
    """Return the first table number of a kind that was never given."""
    first, last = (
        (TABLE_RECORDS_FIRST, TABLE_VIEWS_FIRST - 1)
        if kind == "record"
        else (TABLE_VIEWS_FIRST, TABLE_MAX)
    )
    number = max((table.table + 1 for table in tables if table.kind == kind), default=first)
    if number > last:
        raise ApplicationError("E1102", f"all table numbers of {kind}s are used up")
    return number


def _cross_problems(manifest: Manifest) -> Problems:
    """Return what the manifest's sections say wrongly about each other."""
    problems: Problems = []
    runs = [(f"commands.{name}.run", entry.run) for name, entry in manifest.commands.items()]
    runs += [(f"projectors.{name}.run", entry.run) for name, entry in manifest.projectors.items()]
    for key, run in runs:
        extension = run.partition(":")[0]
        if extension not in manifest.extensions:
            hint = did_you_mean(extension, list(manifest.extensions))
            problems.append((key, f"there is no extension {extension}{hint}"))
    for name, view in manifest.views.items():
        columns = [column.partition(":")[0] for column in view.key]
        problems += [
            (f"views.{name}.key", f"the column {column} is there twice")
            for column in sorted(set(columns))
            if columns.count(column) > 1
        ]
        problems += [
            (f"views.{name}.key", f"a query has a parameter {column}: no column can be named so")
            for column in columns
            if column in RESERVED_COLUMNS
        ]
    problems += _projector_problems(manifest)
    return problems


def _projector_problems(manifest: Manifest) -> Iterator[tuple[str, str]]:
    writers: dict[str, str] = {}
    for name, projector in manifest.projectors.items():
        for event in projector.on:
            source, _, operation = event.partition(".")
            kind = "command" if operation == "execute" else "record"
            known = list(manifest.commands if operation == "execute" else manifest.records)
            if source not in known:
                hint = did_you_mean(source, known)
                yield f"projectors.{name}.on", f"there is no {kind} {source}{hint}"
        if len(set(projector.on)) != len(projector.on):
            yield f"projectors.{name}.on", "an entry is there twice"
        for view in projector.writes:
            if view not in manifest.views:
                hint = did_you_mean(view, list(manifest.views))
                yield f"projectors.{name}.writes", f"there is no view {view}{hint}"
            elif view in writers:
                yield (
                    f"projectors.{name}.writes",
                    f"the view {view} is already written by the projector {writers[view]}",
                )
            else:
                writers[view] = name


def _check_problems(manifest: Manifest, schemas: Mapping[str, RecordSchema]) -> Problems:
    problems: Problems = []
    for name, record in manifest.records.items():
        fields = schemas[record.schema_].by_name
        for field_name, check in record.checks.items():
            key = f"records.{name}.checks.{field_name}"
            field = fields.get(field_name)
            if field is None:
                hint = did_you_mean(field_name, list(fields))
                problems.append((key, f"{record.schema_} has no field {field_name}{hint}"))
            elif field.kind not in _CHECKED:
                problems.append((key, f"a {field.kind} has no bounds; numbers have"))
            elif field.kind in {"int", "long"} and float in {type(check.min), type(check.max)}:
                problems.append((key, f"the bounds of {field.kind} fields are integers"))
    return problems


def _records(
    manifest: Manifest,
    schemas: Mapping[str, RecordSchema],
    tables: Mapping[tuple[str, str], Table],
) -> dict[str, RecordType]:
    records: dict[str, RecordType] = {}
    for name, entry in manifest.records.items():
        parsed = schemas[entry.schema_]
        checks = tuple(
            Check(parsed.by_name[field], check.min, check.max)
            for field, check in entry.checks.items()
        )
        table = tables["record", name].table
        records[name] = RecordType(name, table, entry.kind, parsed, checks)
    return records


def _views(
    manifest: Manifest,
    schemas: Mapping[str, RecordSchema],
    tables: Mapping[tuple[str, str], Table],
) -> dict[str, ViewType]:
    views: dict[str, ViewType] = {}
    for name, entry in manifest.views.items():
        table = tables["view", name]
        pairs = (column.split(":") for column in entry.key)
        key = tuple(KeyColumn(column, kind) for column, kind in pairs)
        views[name] = ViewType(name, table.table, table.generation, schemas[entry.row], key)
    return views


def _commands(manifest: Manifest, schemas: Mapping[str, RecordSchema]) -> dict[str, CommandType]:
    return {
        name: CommandType(
            name,
            schemas[entry.args],
            _entry_point(entry.run),
            None if entry.result is None else schemas[entry.result],
        )
        for name, entry in manifest.commands.items()
    }


def _projectors(manifest: Manifest) -> tuple[ProjectorType, ...]:
    return tuple(
        ProjectorType(
            name,
            tuple((event.partition(".")[0], event.partition(".")[2]) for event in entry.on),
            tuple(entry.writes),
            _entry_point(entry.run),
            entry.revision,
        )
        for name, entry in manifest.projectors.items()
    )


def _entry_point(run: str) -> EntryPoint:
    extension, _, function = run.partition(":")
    return EntryPoint(extension, function)


def _extensions(manifest: Manifest, modules: Mapping[str, bytes]) -> dict[str, Extension]:
    extensions: dict[str, Extension] = {}
    for name, entry in manifest.extensions.items():
        kind = "wasm" if entry.wasm is not None else "python"
        extensions[name] = Extension(
            name,
            kind,
            entry.wasm or entry.python or "",
            modules[name],
            hashlib.sha256(modules[name]).digest(),
            entry.time_ms,
            entry.memory_kib,
        )
    return extensions


def _fingerprint(parts: Parts, extensions: Mapping[str, Extension]) -> bytes:
    """Return the sha256 over all parts, each with its length before it."""
    pieces = [parts.manifest.encode()]
    for name, text in sorted(parts.schema_texts.items()):
        pieces += [name.encode(), text.encode()]
    for name, extension in sorted(extensions.items()):
        pieces += [name.encode(), extension.sha256]
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(len(piece).to_bytes(8) + piece)
    return digest.digest()
