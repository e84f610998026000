"""What a change of the record model does to what is already written: workspaces, records, commands.

The rule behind most verdicts: rules hold for what a command changes from now on, and what is stored
is not checked again. So a narrower rule is compatible. What would make stored rows unreadable,
unreachable or missing in an index is refused.
"""

from collections.abc import Iterator, Mapping

from engine.application.differences import Entry, Verdict, paired, renames, schema_entries
from engine.application.resolution import source_of
from engine.application.types import Application, Check, CommandType, RecordType, Unique

_FROM_NOW_ON = "holds for changes from now on; what is stored is not checked again"


def workspaces(old: Application, new: Application) -> Iterator[Entry]:
    """Compare the kinds of workspaces."""
    if new.workspaces and not old.workspaces:
        why = "the workspaces that are there have no kind"
        for name in new.workspaces:
            yield Entry("added", f"workspaces.{name}", Verdict.REFUSED, why)
        return
    for name in old.workspaces:
        if name not in new.workspaces:
            why = "its workspaces could no longer be used; keep it"
            yield Entry("removed", f"workspaces.{name}", Verdict.REFUSED, why)
        else:
            yield from _workspace(old, new, name)
    for name in new.workspaces:
        if name not in old.workspaces:
            why = "there is no such workspace yet"
            yield Entry("added", f"workspaces.{name}", Verdict.COMPATIBLE, why)


def _workspace(old: Application, new: Application, name: str) -> Iterator[Entry]:
    before, after, where = old.workspaces[name], new.workspaces[name], f"workspaces.{name}"
    names = renames(old.records, new.records)
    for record in old.records:
        # A type that is gone altogether is told about at the type.
        if record in before.records and names.get(record, "") not in {"", *after.records}:
            why = f"the workspaces' records of type {record} could no longer be changed"
            yield Entry("removed", f"{where}.records.{record}", Verdict.REFUSED, why)
    yield from _joined(f"{where}.records", before.records, after.records, names)
    names = renames(old.commands, new.commands)
    for command in sorted(before.commands):
        if names.get(command, "") not in {"", *after.commands}:
            why = "rejected as not_in_workspace from now on"
            yield Entry("removed", f"{where}.commands.{command}", Verdict.COMPATIBLE, why)
    yield from _joined(f"{where}.commands", before.commands, after.commands, names)
    names = renames(old.views, new.views)
    for view in sorted(before.views):
        if names.get(view, "") not in {"", *after.views}:
            why = "no longer served in these workspaces"
            yield Entry("removed", f"{where}.views.{view}", Verdict.COMPATIBLE, why)
    known = {names[view] for view in old.views if view in names}
    kept = {names[view] for view in before.views if view in names}
    for view in sorted(after.views & known - kept):
        why = "it has no rows of what has happened in these workspaces"
        yield Entry("added", f"{where}.views.{view}", Verdict.REBUILD, why)


def _joined(
    where: str, before: frozenset[str], after: frozenset[str], names: Mapping[str, str]
) -> Iterator[Entry]:
    """Yield what was in the application already and is now in the kind too."""
    known = {names[name] for name in before if name in names}
    for name in sorted(after & set(names.values()) - known):
        why = "these workspaces have none yet"
        yield Entry("added", f"{where}.{name}", Verdict.COMPATIBLE, why)


def records(old: Application, new: Application) -> Iterator[Entry]:
    """Compare the record types."""
    names = renames(old.records, new.records)
    for before, after, entries in paired("records", old.records, new.records):
        yield from entries
        if before is None:
            assert after is not None
            why = "nothing is stored yet"
            yield Entry("added", f"records.{after.name}", Verdict.COMPATIBLE, why)
        elif after is None:
            why = "its records would be lost; keep it and stop using it, or rename it"
            yield Entry("removed", f"records.{before.name}", Verdict.REFUSED, why)
        else:
            yield from _record(before, after, names)


def _record(old: RecordType, new: RecordType, names: Mapping[str, str]) -> Iterator[Entry]:
    where = f"records.{new.name}"
    parent = names.get(old.parent, old.parent)
    if parent != new.parent:
        why = (
            f"its records lie {f'below {old.parent}' if old.parent else 'below no other'} for ever"
        )
        yield Entry("changed", f"{where}.parent", Verdict.REFUSED, why)
    elif old.kind != new.kind and not new.parent:
        why = f"a record's kind is for ever: {old.kind}"
        yield Entry("changed", f"{where}.kind", Verdict.REFUSED, why)
    yield from schema_entries(old.schema, new.schema, f"{where}.schema", Verdict.REFUSED)
    if parent == new.parent and old.occurs != new.occurs:
        yield Entry("changed", f"{where}.occurs", Verdict.COMPATIBLE, _FROM_NOW_ON)
    yield from _field_rules(old, new, names, where)
    yield from _uniques(old, new, where)


def _field_rules(
    old: RecordType, new: RecordType, names: Mapping[str, str], where: str
) -> Iterator[Entry]:
    """Compare what is asked of single fields; a renamed field has the rules of its old name."""
    fields = {
        source.name: field.name
        for field in new.schema.fields
        if (source := source_of(field, old.schema))
    }
    before, after = _asked(old, fields, names), _asked(new, {}, {})
    for place in sorted({*before, *after}):
        if before.get(place) != after.get(place):
            yield Entry("changed", f"{where}.{place}", Verdict.COMPATIBLE, _FROM_NOW_ON)


def _asked(
    record: RecordType, fields: Mapping[str, str], names: Mapping[str, str]
) -> dict[str, object]:
    """Return rule.field -> what is asked, with fields and targets by their new names."""

    def place(rule: str, name: str) -> str:
        return f"{rule}.{fields.get(name, name)}"

    asked: dict[str, object] = {place("required", field.name): True for field in record.required}
    for each in record.references:
        targets = frozenset(names.get(target, target) for target in each.targets)
        asked[place("references", each.field.name)] = targets
    for check in record.checks:
        asked[place("checks", check.field.name)] = _meaning(check)
    return asked


def _meaning(check: Check) -> tuple[object, ...]:
    pattern = None if check.pattern is None else check.pattern.text
    return (check.minimum, check.maximum, check.length, pattern, check.one_of)


def _uniques(old: RecordType, new: RecordType, where: str) -> Iterator[Entry]:
    before = {unique.name: unique for unique in old.uniques}
    after = {unique.name: unique for unique in new.uniques}
    for name, unique in after.items():
        place = f"{where}.unique.{name}"
        if name not in before:
            why = "the records that are there are not in its index; begin with a new type of record"
            yield Entry("added", place, Verdict.REFUSED, why)
        elif _columns(before[name], old) != _columns(unique, old, new) or _is_lost(unique, old):
            why = "the records that are there are indexed by other fields"
            yield Entry("changed", place, Verdict.REFUSED, why)
    for name in before:
        if name not in after:
            why = "from now on equal ones are accepted; the unique can't come back"
            yield Entry("removed", f"{where}.unique.{name}", Verdict.COMPATIBLE, why)


def _columns(
    unique: Unique, old: RecordType, new: RecordType | None = None
) -> list[tuple[str, str]]:
    """Return a unique's columns by the old names of their fields."""
    columns: list[tuple[str, str]] = []
    for field, column in zip(unique.fields, unique.columns, strict=True):
        source = field if new is None else source_of(field, old.schema)
        columns.append(("" if source is None else source.name, column.kind))
    return columns


def _is_lost(unique: Unique, old: RecordType) -> bool:
    """Say whether stored values read as others than they are indexed by: an enum's default."""
    sources = ((field, source_of(field, old.schema)) for field in unique.fields)
    return any(source and not {*source.symbols} <= {*field.symbols} for field, source in sources)


def commands(old: Application, new: Application) -> Iterator[Entry]:
    """Compare the commands."""
    names = renames(old.records, new.records)
    for before, after, entries in paired("commands", old.commands, new.commands):
        yield from entries
        if before is None:
            assert after is not None
            why = "nobody has sent it yet"
            yield Entry("added", f"commands.{after.name}", Verdict.COMPATIBLE, why)
        elif after is None:
            why = "commands still under way are rejected as unknown_command"
            yield Entry("removed", f"commands.{before.name}", Verdict.COMPATIBLE, why)
        else:
            yield from _command(before, after, names)


def _command(old: CommandType, new: CommandType, names: Mapping[str, str]) -> Iterator[Entry]:
    where = f"commands.{new.name}"
    yield from schema_entries(old.args, new.args, f"{where}.args", Verdict.REFUSED)
    before = None if old.result is None else old.result.fingerprint
    after = None if new.result is None else new.result.fingerprint
    secret_before = {field.name for field in old.secret}
    secret_after = {field.name for field in new.secret}
    generic = {names.get(name, name) for name in old.generic}
    changes = {
        "run": (old.run != new.run, "decided by another function from now on"),
        "result": (before != after, "old results are read with the old application's schema"),
        "creates": (old.creates != new.creates, "workspaces that are there keep their kind"),
        "deactivates": (old.deactivates != new.deactivates, "holds from now on"),
        "errors": (dict(old.errors) != dict(new.errors), "what was rejected stays as it was"),
        "secret": (secret_before != secret_after, "what is in the log already stays as it is"),
        "changes_max": (old.changes_max != new.changes_max, "holds from now on"),
        "off": (old.off != new.off, "holds from now on"),
        "generic": (generic != set(new.generic), "holds from now on"),
    }
    for key, (changed, why) in changes.items():
        if changed:
            yield Entry("changed", f"{where}.{key}", Verdict.COMPATIBLE, why)
