"""What a change of an application does to what is already written.

Every difference gets a verdict: compatible, rebuild (a view must be built again from the log) or
refused (something written before could not be read, or would mean something else).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from engine.application.resolution import problems, source_of
from engine.application.types import (
    Application,
    CommandType,
    ProjectorType,
    RecordSchema,
    RecordType,
    ViewType,
)


class Verdict(StrEnum):
    """What becomes of a change."""

    COMPATIBLE = "compatible"
    REBUILD = "rebuild"
    REFUSED = "refused"


@dataclass(slots=True, frozen=True)
class Entry:
    """One difference: `what` is added, removed or changed; `where` a key of the manifest."""

    what: str
    where: str
    verdict: Verdict
    why: str


@dataclass(slots=True, frozen=True)
class Diff:
    """All differences between two applications, in the manifest's order."""

    entries: tuple[Entry, ...]

    @property
    def deployable(self) -> bool:
        """Say whether the new application may take over; what needs a rebuild may not, so far."""
        return all(entry.verdict is Verdict.COMPATIBLE for entry in self.entries)

    @property
    def obstacles(self) -> tuple[Entry, ...]:
        """Return the entries that stand against it."""
        return tuple(entry for entry in self.entries if entry.verdict is not Verdict.COMPATIBLE)


def diff(old: Application, new: Application) -> Diff:
    """Compare the application in force with the one that shall follow it."""
    if old.fingerprint == new.fingerprint:
        return Diff(())
    return Diff(
        (
            *_heads(old, new),
            *_records(old, new),
            *_commands(old, new),
            *_views(old, new),
            *_projectors(old, new),
            *_extensions(old, new),
        )
    )


def is_higher(new: str, old: str) -> bool:
    """Say whether the semantic version `new` has precedence over `old`."""
    return _precedence(new) > _precedence(old)


def _precedence(version: str) -> tuple[object, ...]:
    core, _, pre = version.partition("-")
    numbers = tuple(int(part) for part in core.split("."))
    # A number is below a word, and any pre-release is below the release.
    parts = tuple(
        (0, int(part), "") if re.fullmatch(r"[0-9]+", part) else (1, 0, part)
        for part in pre.split(".")
    )
    return (numbers, not pre, parts)


def _only(these: Mapping[str, object], those: Mapping[str, object]) -> list[str]:
    return [name for name in these if name not in those]


def _heads(old: Application, new: Application) -> Iterator[Entry]:
    if old.name != new.name:
        why = f"an application's name is for ever: {old.name}"
        yield Entry("changed", "application.name", Verdict.REFUSED, why)
    if old.partitions != new.partitions:
        why = f"the number of partitions is for ever: {old.partitions}"
        yield Entry("changed", "application.partitions", Verdict.REFUSED, why)
    if not is_higher(new.version, old.version):
        why = f"the version must be higher than {old.version}, not {new.version}"
        yield Entry("changed", "application.version", Verdict.REFUSED, why)


def _schema(old: RecordSchema, new: RecordSchema, where: str, otherwise: Verdict) -> list[Entry]:
    """Compare what was written with what will read it; unreadable is `otherwise`."""
    found = problems(old, new)
    entries = [Entry("changed", f"{where}.{field}", otherwise, why) for field, why in found]
    taken = {source.name for field in new.fields if (source := source_of(field, old))}
    for field in old.fields:
        if field.name not in taken:
            why = "its stored values are no longer read; the log keeps them"
            entries.append(Entry("removed", f"{where}.{field.name}", Verdict.COMPATIBLE, why))
    for field in new.fields:
        if field.has_default and source_of(field, old) is None:
            why = "what is stored reads as its default"
            entries.append(Entry("added", f"{where}.{field.name}", Verdict.COMPATIBLE, why))
    broken = {field for field, _ in found}
    for field, _ in problems(new, old):
        if field not in broken and re.split(r"[.\[]", field)[0] in new.by_name:
            why = "readable now, but a roll-back to the old schema would be refused"
            entries.append(Entry("changed", f"{where}.{field}", Verdict.COMPATIBLE, why))
    if not entries and old.text != new.text:
        entries.append(Entry("changed", where, Verdict.COMPATIBLE, "reads the same"))
    return entries


def _records(old: Application, new: Application) -> Iterator[Entry]:
    for name, record in old.records.items():
        if name in new.records:
            yield from _record(record, new.records[name])
        else:
            why = "its records would be lost; keep it and stop using it"
            yield Entry("removed", f"records.{name}", Verdict.REFUSED, why)
    for name in _only(new.records, old.records):
        yield Entry("added", f"records.{name}", Verdict.COMPATIBLE, "nothing is stored yet")


def _record(old: RecordType, new: RecordType) -> Iterator[Entry]:
    where = f"records.{old.name}"
    if old.kind != new.kind:
        why = f"a record's kind is for ever: {old.kind}"
        yield Entry("changed", f"{where}.kind", Verdict.REFUSED, why)
    yield from _schema(old.schema, new.schema, f"{where}.schema", Verdict.REFUSED)
    before = {(check.field.name, check.minimum, check.maximum) for check in old.checks}
    after = {(check.field.name, check.minimum, check.maximum) for check in new.checks}
    for field in sorted({entry[0] for entry in before ^ after}):
        why = "holds for changes from now on; what is stored is not checked again"
        yield Entry("changed", f"{where}.checks.{field}", Verdict.COMPATIBLE, why)


def _commands(old: Application, new: Application) -> Iterator[Entry]:
    for name, command in old.commands.items():
        if name in new.commands:
            yield from _command(command, new.commands[name])
        else:
            why = "commands still under way are rejected as unknown_command"
            yield Entry("removed", f"commands.{name}", Verdict.COMPATIBLE, why)
    for name in _only(new.commands, old.commands):
        yield Entry("added", f"commands.{name}", Verdict.COMPATIBLE, "nobody has sent it yet")


def _command(old: CommandType, new: CommandType) -> Iterator[Entry]:
    where = f"commands.{old.name}"
    yield from _schema(old.args, new.args, f"{where}.args", Verdict.REFUSED)
    if old.run != new.run:
        why = "decided by another function from now on"
        yield Entry("changed", f"{where}.run", Verdict.COMPATIBLE, why)
    before = None if old.result is None else old.result.fingerprint
    after = None if new.result is None else new.result.fingerprint
    if before != after:
        why = "old results are read with the old application's schema"
        yield Entry("changed", f"{where}.result", Verdict.COMPATIBLE, why)


def _views(old: Application, new: Application) -> Iterator[Entry]:
    written = {view for projector in new.projectors for view in projector.writes}
    for name, view in old.views.items():
        if name in new.views:
            yield from _view(view, new.views[name])
        else:
            why = "its rows are no longer served; the log can build them again"
            yield Entry("removed", f"views.{name}", Verdict.COMPATIBLE, why)
    for name in _only(new.views, old.views):
        if name in written:
            why = "it must be built from the log, or it would miss what has happened"
            yield Entry("added", f"views.{name}", Verdict.REBUILD, why)
        else:
            yield Entry("added", f"views.{name}", Verdict.COMPATIBLE, "nothing writes it")


def _view(old: ViewType, new: ViewType) -> Iterator[Entry]:
    where = f"views.{old.name}"
    if old.key != new.key:
        why = "its rows are stored under the old key"
        yield Entry("changed", f"{where}.key", Verdict.REBUILD, why)
    yield from _schema(old.schema, new.schema, f"{where}.row", Verdict.REBUILD)


def _projectors(old: Application, new: Application) -> Iterator[Entry]:
    before = {projector.name: projector for projector in old.projectors}
    after = {projector.name: projector for projector in new.projectors}
    for name, projector in before.items():
        if name in after:
            yield from _projector(projector, after[name])
            continue
        left = [view for view in projector.writes if view in new.views]
        verdict = Verdict.REBUILD if left else Verdict.COMPATIBLE
        why = f"{', '.join(left)} would stop following the log" if left else "its views go with it"
        yield Entry("removed", f"projectors.{name}", verdict, why)
    for name in _only(after, before):
        stale = [view for view in after[name].writes if view in old.views]
        verdict = Verdict.REBUILD if stale else Verdict.COMPATIBLE
        why = f"{', '.join(stale)} has rows of another projector" if stale else "with its views"
        yield Entry("added", f"projectors.{name}", verdict, why)


def _projector(old: ProjectorType, new: ProjectorType) -> Iterator[Entry]:
    where = f"projectors.{old.name}"
    views = ", ".join(new.writes)
    if new.revision < old.revision:
        why = f"a revision never goes back: {old.revision}"
        yield Entry("changed", f"{where}.revision", Verdict.REFUSED, why)
    elif new.revision > old.revision:
        why = f"a new revision builds {views} again"
        yield Entry("changed", f"{where}.revision", Verdict.REBUILD, why)
    pairs: Mapping[str, tuple[object, object]] = {
        "on": (frozenset(old.on), frozenset(new.on)),
        "writes": (frozenset(old.writes), frozenset(new.writes)),
        "run": (old.run, new.run),
    }
    for key, (before, after) in pairs.items():
        if before != after:
            why = f"{views} would not be what the log says; raise the revision with it"
            yield Entry("changed", f"{where}.{key}", Verdict.REBUILD, why)


def _extensions(old: Application, new: Application) -> Iterator[Entry]:
    for name, extension in old.extensions.items():
        after = new.extensions.get(name)
        if after is None:
            why = "nothing calls it any more"
            yield Entry("removed", f"extensions.{name}", Verdict.COMPATIBLE, why)
        elif extension.sha256 != after.sha256:
            why = "new code decides from now on; a projector's change needs a new revision"
            yield Entry("changed", f"extensions.{name}", Verdict.COMPATIBLE, why)
        elif extension != after:
            why = "other limits or another name of its file"
            yield Entry("changed", f"extensions.{name}", Verdict.COMPATIBLE, why)
    for name in _only(new.extensions, old.extensions):
        yield Entry("added", f"extensions.{name}", Verdict.COMPATIBLE, "new code")
