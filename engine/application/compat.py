"""What a change of an application does to what is already written.

Every difference gets a verdict: compatible, rebuild (a view must be built again from the log) or
refused (something written before could not be read, or would mean something else).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine.application import compat_records
from engine.application.differences import Entry, Verdict, paired, renames, schema_entries
from engine.application.generations import rebuilt, translated
from engine.application.resolution import problems
from engine.application.types import Application, ProjectorType, RecordSchema, ViewType

__all__ = ["Diff", "Entry", "Verdict", "diff", "is_higher"]


@dataclass(slots=True, frozen=True)
class Diff:
    """All differences between two applications, in the manifest's order."""

    entries: tuple[Entry, ...]

    @property
    def deployable(self) -> bool:
        """Say whether the new one may take over; what needs a rebuild is built meanwhile."""
        return not self.obstacles

    @property
    def obstacles(self) -> tuple[Entry, ...]:
        """Return the entries that stand against it."""
        return tuple(entry for entry in self.entries if entry.verdict is Verdict.REFUSED)


def diff(old: Application, new: Application) -> Diff:
    """Compare the application in force with the one that shall follow it."""
    if old.fingerprint == new.fingerprint:
        return Diff(())
    return Diff(
        (
            *_heads(old, new),
            *compat_records.workspaces(old, new),
            *compat_records.records(old, new),
            *compat_records.commands(old, new),
            *_views(old, new),
            *_projectors(old, new),
            *_kept(old, new),
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


def _views(old: Application, new: Application) -> Iterator[Entry]:
    written = {view for projector in new.projectors for view in projector.writes}
    for before, after, entries in paired("views", old.views, new.views):
        yield from entries
        if before is not None and after is not None:
            yield from _view(before, after)
        elif before is not None:
            why = "its rows are no longer served; the log can build them again"
            yield Entry("removed", f"views.{before.name}", Verdict.COMPATIBLE, why)
        elif after is not None and after.name in written:
            why = "it is built from the log, and answers once that is done"
            yield Entry("added", f"views.{after.name}", Verdict.REBUILD, why)
        elif after is not None:
            yield Entry("added", f"views.{after.name}", Verdict.COMPATIBLE, "nothing writes it")


def _view(old: ViewType, new: ViewType) -> Iterator[Entry]:
    where = f"views.{new.name}"
    if old.key != new.key:
        why = "its rows are built again under the new key; the old ones answer meanwhile"
        yield Entry("changed", f"{where}.key", Verdict.REBUILD, why)
    yield from schema_entries(old.schema, new.schema, f"{where}.row", Verdict.REBUILD)


def _projectors(old: Application, new: Application) -> Iterator[Entry]:
    before = {projector.name: projector for projector in old.projectors}
    after = {projector.name: projector for projector in new.projectors}
    views = renames(old.views, new.views)
    written = {view for projector in new.projectors for view in projector.writes}
    for name, projector in before.items():
        if name in after:
            yield from _projector(translated(projector, old, new), after[name])
            continue
        left = [views[view] for view in projector.writes if view in views]
        lost = [view for view in left if view not in written]
        verdict, why = Verdict.COMPATIBLE, "its views go with it"
        if lost:
            verdict = Verdict.REFUSED
            why = f"{', '.join(lost)} would stop following the log; remove the view with it"
        elif left:
            verdict, why = Verdict.REBUILD, f"{', '.join(left)} is built again by another projector"
        yield Entry("removed", f"projectors.{name}", verdict, why)
    for name in _only(after, before):
        stale = [view for view in after[name].writes if view in views.values()]
        verdict = Verdict.REBUILD if stale else Verdict.COMPATIBLE
        why = f"{', '.join(stale)} is built again by this one" if stale else "with its views"
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
            why = f"{views} is built again, or it would not be what the log says"
            yield Entry("changed", f"{where}.{key}", Verdict.REBUILD, why)


def _kept(old: Application, new: Application) -> Iterator[Entry]:
    """Refuse what an old projector couldn't read: it goes on until the new rows are built."""
    again = rebuilt(old, new)
    for before in old.projectors:
        projector = translated(before, old, new)
        views = [view for view in projector.writes if view in again]
        if not views:
            continue
        why = (
            f"the old projector of {', '.join(views)} can't read it, and it goes on until the new "
            "rows are built: make this change in one version and the view's in the next"
        )
        read = {source for source, _ in projector.on}
        for known, record, _ in paired("records", old.records, new.records):
            if known is None or record is None or record.name not in read:
                continue
            if _only_forward(known.schema, record.schema):
                yield Entry("changed", f"records.{record.name}.schema", Verdict.REFUSED, why)
        for known, command, _ in paired("commands", old.commands, new.commands):
            if (
                known is not None
                and command is not None
                and _only_forward(known.args, command.args)
            ):
                yield Entry("changed", f"commands.{command.name}.args", Verdict.REFUSED, why)


def _only_forward(old: RecordSchema, new: RecordSchema) -> bool:
    """Say whether `new` reads what `old` has written, but not the other way round."""
    return not problems(old, new) and bool(problems(new, old))


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
