"""An Application from its parts: manifest, schema texts, modules, table numbers.

The one place that both ways into an application share (a folder, a record of the log), so that
equal content gives equal objects. What is wrong about them is said in `application.rules`.
Reads nothing.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.application import generic, rules, schema
from engine.application.manifest import parse_manifest, wrong
from engine.application.sections import Manifest
from engine.application.tables import newest, number_tables
from engine.application.types import (
    Application,
    CommandType,
    EntryPoint,
    Extension,
    Field,
    KeyColumn,
    ProjectorType,
    RecordSchema,
    RecordType,
    Reference,
    Table,
    Unique,
    ViewType,
    WorkspaceKind,
)
from engine.limits import OCCURS_MAX

Numbers = Mapping[tuple[str, str], Table]


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
        if command.args is not None:
            found.append((f"commands.{name}.args", command.args))
        if command.result is not None:
            found.append((f"commands.{name}.result", command.result))
    found += [(f"views.{name}.row", entry.row) for name, entry in manifest.views.items()]
    return found


def build(parts: Parts, tables: Sequence[Table] = (), index: int = 0) -> Application:
    """Build an application; types without a table in `tables` are given new ones."""
    manifest = parse_manifest(parts.manifest, parts.file)
    problems = list(rules.manifest_problems(manifest))
    if problems:
        raise wrong(parts.file, problems)
    schemas = {file: schema.parse(text, file) for file, text in parts.schema_texts.items()}
    problems = list(rules.schema_problems(manifest, schemas))
    if problems:
        raise wrong(parts.file, problems)
    tables = number_tables(manifest, tables)
    numbers = newest(tables)
    records = _records(manifest, schemas, numbers)
    views = _views(manifest, schemas, numbers)
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
        workspaces=_workspaces(manifest),
        uniques={
            f"{record.name}.{unique.name}": unique
            for record in records.values()
            for unique in record.uniques
        },
    )


def _records(
    manifest: Manifest, schemas: Mapping[str, RecordSchema], numbers: Numbers
) -> dict[str, RecordType]:
    records: dict[str, RecordType] = {}
    for name, entry in manifest.records.items():
        parsed = schemas[entry.schema_]
        root = rules.root_of(manifest, name)
        least, most = entry.occurs or (0, OCCURS_MAX)
        records[name] = RecordType(
            name=name,
            table=numbers["record", name].table,
            kind=manifest.records[root].kind or "",
            schema=parsed,
            checks=tuple(
                rules.make_check(parsed.by_name[field], check)
                for field, check in entry.checks.items()
            ),
            parent=entry.parent or "",
            root=root,
            children=tuple(
                child for child, other in manifest.records.items() if other.parent == name
            ),
            occurs=(least, most),
            required=tuple(parsed.by_name[field] for field in entry.required),
            references=tuple(
                Reference(parsed.by_name[field], tuple(targets))
                for field, targets in entry.references.items()
            ),
            uniques=tuple(
                _unique(name, unique, [parsed.by_name[field] for field in fields], numbers)
                for unique, fields in entry.unique.items()
            ),
            renamed_from=entry.renamed_from or "",
        )
    return records


def _unique(record: str, name: str, fields: Sequence[Field], numbers: Numbers) -> Unique:
    number = numbers["unique", f"{record}.{name}"].table
    columns = tuple(KeyColumn(field.name, rules.column_kind(field)) for field in fields)
    return Unique(name, record, number, tuple(fields), columns)


def _views(
    manifest: Manifest, schemas: Mapping[str, RecordSchema], numbers: Numbers
) -> dict[str, ViewType]:
    views: dict[str, ViewType] = {}
    for name, entry in manifest.views.items():
        table = numbers["view", name]
        pairs = (column.split(":") for column in entry.key)
        key = tuple(KeyColumn(column, kind) for column, kind in pairs)
        views[name] = ViewType(
            name,
            table.table,
            table.generation,
            schemas[entry.row],
            key,
            entry.renamed_from or "",
        )
    return views


def _commands(manifest: Manifest, schemas: Mapping[str, RecordSchema]) -> dict[str, CommandType]:
    commands: dict[str, CommandType] = {}
    for name, entry in manifest.commands.items():
        args = generic.changes_schema() if entry.args is None else schemas[entry.args]
        commands[name] = CommandType(
            name=name,
            args=args,
            run=None if entry.run is None else _entry_point(entry.run),
            result=None if entry.result is None else schemas[entry.result],
            creates=entry.creates or "",
            deactivates=entry.deactivates,
            errors=dict(entry.errors),
            secret=tuple(args.by_name[field] for field in entry.secret),
            changes_max=entry.changes_max,
            generic=tuple(entry.generic or ()),
            renamed_from=entry.renamed_from or "",
            off=entry.off or _off(manifest, entry.run),
        )
    return commands


def _off(manifest: Manifest, run: str | None) -> str:
    """Return why the extension that decides a command is switched off."""
    return "" if run is None else manifest.extensions[_entry_point(run).extension].off


def _workspaces(manifest: Manifest) -> dict[str, WorkspaceKind]:
    return {
        name: WorkspaceKind(
            name,
            frozenset(manifest.records if entry.records is None else entry.records),
            frozenset(manifest.commands if entry.commands is None else entry.commands),
            frozenset(manifest.views if entry.views is None else entry.views),
        )
        for name, entry in manifest.workspaces.items()
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
