"""What the parts of an application say wrongly about each other: the cross checks.

`manifest_problems` needs the manifest only; `schema_problems` its schemas too. Both yield pairs of
(key of the manifest, what is wrong), so that an author sees all errors at once.
"""

from collections.abc import Iterable, Iterator, Mapping

from engine.application import checks, patterns
from engine.application.manifest import did_you_mean
from engine.application.sections import CheckSection, Manifest, RecordSection
from engine.application.types import Check, Field, Pattern, RecordSchema
from engine.errors import Code
from engine.limits import NESTING_MAX

Problem = tuple[str, str]

# Parameters of every query.
RESERVED_COLUMNS = frozenset({"after", "keys", "limit", "min_sequence", "order", "stale", "where"})

_NUMBERS = frozenset({"int", "long", "float", "double"})
_INTEGERS = frozenset({"int", "long"})
_LENGTHS = frozenset({"string", "bytes", "array"})
_COLUMNS = {
    "boolean": "boolean",
    "int": "long",
    "long": "long",
    "float": "double",
    "double": "double",
    "string": "string",
    "enum": "string",
    "bytes": "bytes",
    "fixed": "bytes",
}


def manifest_problems(manifest: Manifest) -> Iterator[Problem]:
    """Yield what the manifest's sections say wrongly about each other."""
    yield from _runs(manifest)
    yield from _nesting(manifest)
    yield from _references(manifest)
    yield from _workspaces(manifest)
    yield from _commands(manifest)
    yield from _renames(manifest)
    yield from _columns(manifest)
    yield from _projectors(manifest)


def root_of(manifest: Manifest, name: str) -> str:
    """Return the type of the document that a record type lies in; itself, if not nested."""
    for _ in range(NESTING_MAX + 1):
        parent = manifest.records[name].parent
        if parent is None:
            return name
        name = parent
    raise AssertionError("the nesting is checked before")


def column_kind(field: Field) -> str:
    """Return the kind of key column that a field's values fill; "" where they can't."""
    if field.logical == "date":
        return "date"
    if field.logical.startswith("timestamp"):
        return "time"
    # One number has several forms as a decimal of bytes.
    return "" if field.logical == "decimal" else _COLUMNS.get(field.kind, "")


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    return f"there is no {kind} {name}{did_you_mean(name, list(known))}"


def _runs(manifest: Manifest) -> Iterator[Problem]:
    runs = [(f"commands.{name}.run", entry.run) for name, entry in manifest.commands.items()]
    runs += [(f"projectors.{name}.run", entry.run) for name, entry in manifest.projectors.items()]
    for key, run in runs:
        if run is not None and (extension := run.partition(":")[0]) not in manifest.extensions:
            yield key, _unknown("extension", extension, manifest.extensions)


def _nesting(manifest: Manifest) -> Iterator[Problem]:
    records = manifest.records
    for name, record in records.items():
        key, path = f"records.{name}.parent", [name]
        while (parent := records[path[-1]].parent) is not None:
            if parent not in records:
                if path == [name]:
                    yield key, _unknown("record", parent, records)
                break
            if parent in path:
                circle = path[path.index(parent) :]
                if name in circle:
                    yield key, f"goes in a circle: {' in '.join((*circle, parent))}"
                break
            path.append(parent)
        else:
            if len(path) > NESTING_MAX:
                yield key, f"is nested more than {NESTING_MAX} deep"
            root = records[path[-1]]
            if root.kind == "singleton" and len(path) > 1:
                yield key, f"a singleton such as {path[-1]} has no nested records"
            if root.kind == "operation" and record.unique and len(path) > 1:
                yield f"records.{name}.unique", f"{path[-1]} is not stored; it has no unique fields"


def _kind(manifest: Manifest, name: str) -> str:
    """Return the kind of a record type, or "" where its parents are wrong."""
    for _ in range(NESTING_MAX + 1):
        record = manifest.records.get(name)
        if record is None:
            return ""
        if record.parent is None:
            return record.kind or ""
        name = record.parent
    return ""


def _references(manifest: Manifest) -> Iterator[Problem]:
    for name, record in manifest.records.items():
        kind = _kind(manifest, name)
        for field, targets in record.references.items():
            key = f"records.{name}.references.{field}"
            for target in targets:
                if target not in manifest.records:
                    yield key, _unknown("record", target, manifest.records)
                    continue
                target_kind = _kind(manifest, target)
                if manifest.records[target].parent is not None:
                    yield key, f"{target} is nested; a reference holds the id of a document"
                elif target_kind == "singleton":
                    yield key, f"{target} is a singleton; it has no id to refer to"
                elif target_kind == "operation":
                    yield key, f"{target} is an operation document; it is not stored"
                elif kind == "configuration" and target_kind != "configuration":
                    yield key, f"configuration may not refer to what is {target_kind}: {target}"


def _workspaces(manifest: Manifest) -> Iterator[Problem]:
    made = {command.creates for command in manifest.commands.values()}
    for name, kind in manifest.workspaces.items():
        key = f"workspaces.{name}"
        for what, listed, known in (
            ("record", kind.records, manifest.records),
            ("command", kind.commands, manifest.commands),
            ("view", kind.views, manifest.views),
        ):
            for entry in listed or ():
                if entry not in known:
                    yield f"{key}.{what}s", _unknown(what, entry, known)
        for entry in kind.records or ():
            record = manifest.records.get(entry)
            if record and record.parent and record.parent not in (kind.records or ()):
                yield f"{key}.records", f"has {entry}, but not {record.parent}, which it lies in"
        if name not in made:
            yield key, f'no command makes such a workspace; give one creates = "{name}"'


def _commands(manifest: Manifest) -> Iterator[Problem]:
    for name, command in manifest.commands.items():
        key = f"commands.{name}"
        kind = command.creates
        if kind is not None and kind not in manifest.workspaces:
            yield f"{key}.creates", _unknown("kind of workspace", kind, manifest.workspaces)
        elif kind is not None:
            listed = manifest.workspaces[kind].commands
            if listed is not None and name not in listed:
                yield f"{key}.creates", f"workspaces.{kind}.commands doesn't have {name}"
        for entry in command.generic or ():
            if entry not in manifest.records:
                yield f"{key}.generic", _unknown("record", entry, manifest.records)
        for code in command.errors:
            if code in {known.value for known in Code}:
                yield f"{key}.errors.{code}", "is a code of the engine's own; choose another"


def _renames(manifest: Manifest) -> Iterator[Problem]:
    for section, entries in (
        ("records", manifest.records),
        ("commands", manifest.commands),
        ("views", manifest.views),
    ):
        taken: dict[str, str] = {}
        for name, entry in entries.items():
            before, key = entry.renamed_from, f"{section}.{name}.renamed_from"
            if before is None:
                continue
            if before in entries:
                yield key, f"{before} is still there; a rename takes its old name away"
            if before in taken:
                yield key, f"{before} has become {taken[before]} already"
            taken[before] = name


def _columns(manifest: Manifest) -> Iterator[Problem]:
    for name, view in manifest.views.items():
        columns = [column.partition(":")[0] for column in view.key]
        for column in sorted(set(columns)):
            key = f"views.{name}.key"
            if columns.count(column) > 1:
                yield key, f"the column {column} is there twice"
            if column in RESERVED_COLUMNS:
                yield key, f"a query has a parameter {column}: no column can be named so"


def _projectors(manifest: Manifest) -> Iterator[Problem]:
    writers: dict[str, str] = {}
    for name, projector in manifest.projectors.items():
        for event in projector.on:
            yield from _event(manifest, f"projectors.{name}.on", event)
        if len(set(projector.on)) != len(projector.on):
            yield f"projectors.{name}.on", "an entry is there twice"
        for view in projector.writes:
            key = f"projectors.{name}.writes"
            if view not in manifest.views:
                yield key, _unknown("view", view, manifest.views)
            elif view in writers:
                yield key, f"the view {view} is already written by the projector {writers[view]}"
            else:
                writers[view] = name


def _event(manifest: Manifest, key: str, event: str) -> Iterator[Problem]:
    source, _, operation = event.partition(".")
    if operation in {"execute", "rejected"}:
        if source not in manifest.commands:
            yield key, _unknown("command", source, manifest.commands)
    elif source not in manifest.records:
        yield key, _unknown("record", source, manifest.records)
    elif operation != "create" and _kind(manifest, source) == "operation":
        yield key, f"{source} is an operation document: it is created and never changed"


def schema_problems(manifest: Manifest, schemas: Mapping[str, RecordSchema]) -> Iterator[Problem]:
    """Yield what the manifest says wrongly about the fields of its schemas."""
    for name, record in manifest.records.items():
        yield from _record_fields(manifest, name, record, schemas)
    for name, command in manifest.commands.items():
        if command.args is None:
            continue
        for field in command.secret:
            yield from _has(schemas[command.args], field, f"commands.{name}.secret")


def _has(schema: RecordSchema, name: str, key: str) -> Iterator[Problem]:
    if name not in schema.by_name:
        hint = did_you_mean(name, list(schema.by_name))
        yield key, f"{schema.file} has no field {name}{hint}"


def _record_fields(
    manifest: Manifest, name: str, record: RecordSection, schemas: Mapping[str, RecordSchema]
) -> Iterator[Problem]:
    schema, key = schemas[record.schema_], f"records.{name}"
    fields = schema.by_name
    for field in record.required:
        yield from _has(schema, field, f"{key}.required")
    for field in record.references:
        yield from _has(schema, field, f"{key}.references.{field}")
        if field in fields and (fields[field].kind != "long" or fields[field].logical):
            kind = fields[field].logical or fields[field].kind
            yield f"{key}.references.{field}", f"an id is a long, not {_a(kind)}"
    for unique, names in record.unique.items():
        for field in names:
            yield from _unique_field(schema, field, f"{key}.unique.{unique}")
    for field, check in record.checks.items():
        path = f"{key}.checks.{field}"
        yield from _has(schema, field, path)
        if field in fields:
            default = fields[field].has_default and field not in record.required
            yield from _check(fields[field], check, path, default=default)
    for child, entry in manifest.records.items():
        if entry.parent == name and child in fields:
            yield f"records.{child}", f"its parent {name} has a field {child}; give it another name"


def _unique_field(schema: RecordSchema, name: str, key: str) -> Iterator[Problem]:
    field = schema.by_name.get(name)
    if field is None:
        yield from _has(schema, name, key)
    elif not column_kind(field):
        yield key, f"{name} can't be part of a key: it is {_a(field.logical or field.kind)}"


def _check(field: Field, check: CheckSection, path: str, *, default: bool) -> Iterator[Problem]:
    wrong = list(_misfits(field, check))
    for message in wrong:
        yield path, message
    compiled = None
    if check.pattern is not None:
        try:
            compiled = patterns.compile_pattern(check.pattern)
        except patterns.PatternError as fault:
            yield path, f"the pattern {check.pattern} {fault}"
            return
    if default and not wrong:
        message = checks.violation(make_check(field, check, compiled), field.default)
        if message:
            yield path, f"the schema's default {message}"


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aei" else f"a {kind}"


def _misfits(field: Field, check: CheckSection) -> Iterator[str]:
    bounds = [bound for bound in (check.min, check.max) if bound is not None]
    kind = field.logical if field.logical == "decimal" else field.kind
    if bounds and kind not in _NUMBERS:
        yield f"{_a(kind)} has no bounds; numbers have"
    elif kind in _INTEGERS and any(type(bound) is float for bound in bounds):
        yield f"the bounds of {kind} fields are integers"
    if check.length is not None and kind not in _LENGTHS:
        yield f"{_a(kind)} has no length; strings, bytes and arrays have"
    if check.pattern is not None and kind != "string":
        yield f"{_a(kind)} matches no pattern; strings do"
    if check.one_of is not None:
        yield from _choices(field, kind, check.one_of)


def _choices(field: Field, kind: str, choices: list[str | int]) -> Iterator[str]:
    if kind not in {*_INTEGERS, "string", "enum"}:
        yield f"{_a(kind)} has no choices; strings, enums and integers have"
        return
    wanted = int if kind in _INTEGERS else str
    for choice in choices:
        if type(choice) is not wanted:
            yield f"{choice!r} is no choice of {_a(kind)}"
        elif kind == "enum" and choice not in field.symbols:
            hint = did_you_mean(str(choice), list(field.symbols))
            yield f"the enum has no symbol {choice}{hint}"


def make_check(field: Field, check: CheckSection, pattern: Pattern | None = None) -> Check:
    """Return the check of a field; its pattern must be right, if it isn't given compiled."""
    if pattern is None and check.pattern is not None:
        pattern = patterns.compile_pattern(check.pattern)
    length = None if check.length is None else (check.length[0], check.length[1])
    one_of = None if check.one_of is None else tuple(check.one_of)
    return Check(field, check.min, check.max, length, pattern, one_of)
