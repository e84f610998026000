"""Which generation of each view counts, whose code writes it, and what is still being built.

A view whose projector changes gets a new generation: a table of its own, built from the log. Until
a Switch says that it counts, the old one is kept up to date by the code that made it. All of this
is a function of the log: of its Application and Switch records. `waiting` is what a replica
stores of it: by view, the table that counts (0 = none yet) in place of the newest one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from engine.application.differences import renames
from engine.application.resolution import problems
from engine.application.types import Application, ProjectorType


class Projection(NamedTuple):
    """A projector, and the index of the application whose code runs it."""

    application: int
    projector: ProjectorType


@dataclass(slots=True, frozen=True)
class Views:
    """What a state host projects. `only`: it makes the rows of these views and nothing else."""

    projections: tuple[Projection, ...]
    only: bool = False


@dataclass(slots=True, frozen=True)
class Generations:
    """What an application in force means while some of its views are not built yet."""

    application: Application  # with its views as they count; those that don't yet are left out
    views: Views | None  # None = the projectors of the application in force, all of them
    building: tuple[ProjectorType, ...]  # whose views' newest generations don't count yet


def generations_of(
    applications: Mapping[int, Application], index: int, waiting: Mapping[str, int]
) -> Generations:
    """Return what counts under application `index`; `applications` are as the log has them."""
    declared = applications[index]
    if not waiting:
        return Generations(declared, None, ())
    building = tuple(
        projector
        for projector in declared.projectors
        if any(view in waiting for view in projector.writes)
    )
    runs = [
        Projection(index, projector)
        for projector in declared.projectors
        if projector not in building
    ]
    views = {name: view for name, view in declared.views.items() if name not in waiting}
    for name, table in waiting.items():
        if table == 0:
            continue
        keeper = _keeper(applications, index, table)
        views[name] = keeper.view_tables[table]
        projector = _writer(keeper, table)
        projection = projector and Projection(keeper.index, projector)
        if projection is not None and projection not in runs:
            runs.append(projection)
    shown = {name: views[name] for name in declared.views if name in views}
    return Generations(replace(declared, views=shown), Views(tuple(runs)), building)


def waiting_behind(
    applications: Mapping[int, Application], index: int, waiting: Mapping[str, int]
) -> dict[str, int]:
    """Return what waits once application `index` is in force; `waiting` is as of the one before.

    A view that nothing writes has no rows to wait for.
    """
    made, before = applications[index], applications.get(index - 1)
    if before is None:
        return {}
    written = {view for projector in made.projectors for view in projector.writes}
    counting = {
        after: waiting.get(name, before.views[name].table)
        for name, after in renames(before.views, made.views).items()
    }
    found = {
        name: counting.get(name, 0)
        for name, view in made.views.items()
        if name in written and counting.get(name, 0) != view.table
    }
    return _with_orphans(applications, index, found)


def waiting_after(
    applications: Mapping[int, Application],
    index: int,
    waiting: Mapping[str, int],
    projector: ProjectorType,
) -> dict[str, int]:
    """Return what still waits once the views of a projector count."""
    known = applications[index].views
    left = {
        name: table
        for name, table in waiting.items()
        if name in known and name not in projector.writes
    }
    return _with_orphans(applications, index, left)


def switched(
    application: Application, waiting: Mapping[str, int], view: str, generation: int
) -> ProjectorType | None:
    """Return the projector whose views a Switch lets count; None: it changes nothing.

    The views of one projector count together: it reads and writes all of them.
    """
    named = application.views.get(view)
    if named is None or named.generation != generation or view not in waiting:
        return None
    return next((one for one in application.projectors if view in one.writes), None)


def counting_tables(application: Application, waiting: Mapping[str, int]) -> set[int]:
    """Return the tables of views whose rows are part of the state."""
    tables = {view.table for name, view in application.views.items() if name not in waiting}
    return tables | {table for table in waiting.values() if table}


def rebuilt(old: Application, new: Application) -> frozenset[str]:
    """Return the views of `new` whose rows must be built again from the log.

    Those that one projector writes are built together.
    """
    writers = [translated(projector, old, new) for projector in old.projectors]
    before = {view: projector for projector in writers for view in projector.writes}
    names = renames(old.views, new.views)
    stored = {after: old.views[name] for name, after in names.items()}
    shown = {
        view
        for kind in new.workspaces.values()
        for view in kind.views & stored.keys()
        if kind.name in old.workspaces and stored[view].name not in old.workspaces[kind.name].views
    }
    found: set[str] = set()
    for projector in new.projectors:
        for name in projector.writes:
            writer, known, view = before.get(name), stored.get(name), new.views[name]
            same = (
                known is not None
                and writer is not None
                and name not in shown
                and known.key == view.key
                and _identity(writer) == _identity(projector)
                and not problems(known.schema, view.schema)
            )
            if not same:
                found.update(projector.writes)
    return frozenset(found)


def _identity(projector: ProjectorType) -> tuple[object, ...]:
    on, writes = frozenset(projector.on), frozenset(projector.writes)
    return (projector.name, on, writes, projector.run, projector.revision)


def _keeper(applications: Mapping[int, Application], index: int, table: int) -> Application:
    """Return the newest application that declares a view in a table."""
    return next(
        applications[at] for at in range(index, 0, -1) if table in applications[at].view_tables
    )


def _writer(application: Application, table: int) -> ProjectorType | None:
    name = application.view_tables[table].name
    return next((one for one in application.projectors if name in one.writes), None)


def _with_orphans(
    applications: Mapping[int, Application], index: int, waiting: Mapping[str, int]
) -> dict[str, int]:
    """Add the tables of removed views that an old projector writes beside one that still counts.

    Such a table has a name that no view can have.
    """
    found = dict(waiting)
    counting = counting_tables(applications[index], waiting)
    for table in filter(None, waiting.values()):
        keeper = _keeper(applications, index, table)
        projector = _writer(keeper, table)
        for name in projector.writes if projector else ():
            other = keeper.views[name].table
            if other not in counting:
                found[f"{name}#{other}"] = other
    return found


def translated(projector: ProjectorType, old: Application, new: Application) -> ProjectorType:
    """Return an old projector in the new application's names."""
    names = {
        "record": renames(old.records, new.records),
        "command": renames(old.commands, new.commands),
    }
    views = renames(old.views, new.views)
    on: list[tuple[str, str]] = []
    for source, operation in projector.on:
        kind = "command" if operation in {"execute", "rejected"} else "record"
        on.append((names[kind].get(source, source), operation))
    writes = tuple(views.get(view, view) for view in projector.writes)
    return replace(projector, on=tuple(on), writes=writes)


def command_names(
    applications: Mapping[int, Application], writer: int, reader: int
) -> dict[str, str]:
    """Return what application `reader` calls the commands of application `writer`."""
    low, high = min(writer, reader), max(writer, reader)
    names = {name: name for name in applications[low].commands}
    for at in range(low, high):
        step = renames(applications[at].commands, applications[at + 1].commands)
        names = {first: step[name] for first, name in names.items() if name in step}
    return names if writer <= reader else {name: first for first, name in names.items()}
