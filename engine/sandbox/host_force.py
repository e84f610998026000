"""What a host runs: the application in force, and older code whose views still count.

Owns how that is loaded and closed again. Holds no rows and decides nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.application import Application
from engine.application.generations import Projection, Views
from engine.sandbox.host_apply import Folder
from engine.sandbox.host_guests import Guests
from engine.sandbox.host_project import Runner
from engine.sandbox.host_rows import RowCodec
from engine.sandbox.host_scope import Scope
from engine.sandbox.host_values import RowSource


@dataclass(slots=True)
class InForce:
    """The application that decides, and what is made from it."""

    application: Application
    older: list[Application]  # newest first, itself too
    known: Mapping[int, Application]
    runners: list[Runner]  # its own first, then those of older ones
    folder: Folder
    only_views: bool
    view_tables: frozenset[int]  # of all views that are kept

    @property
    def scope(self) -> Scope:
        """Return where its own code works."""
        return self.runners[0].scope

    @property
    def guests(self) -> Guests:
        """Return its own extensions."""
        return self.runners[0].guests

    def close(self) -> None:
        """Let go of all extensions."""
        for runner in self.runners:
            runner.guests.close()


def put_in_force(
    applications: Mapping[int, Application],
    index: int,
    views: Views | None,
    rows: RowSource,
    load: Callable[[Application], Guests],
) -> InForce:
    """Load application `index`, and the older ones that `views` names."""
    application = applications[index]
    own = tuple(Projection(index, projector) for projector in application.projectors)
    runs = views.projections if views else own
    older = [applications[at] for at in sorted(applications, reverse=True) if at <= index]
    runners: list[Runner] = []
    tables: set[int] = set()
    for at in sorted({index, *(run.application for run in runs)}, reverse=True):
        made = applications[at]
        scope = Scope(made, RowCodec(applications, made), rows)
        projectors = [run.projector for run in runs if run.application == at]
        runners.append(Runner(scope, load(made), projectors, applications))
        tables |= {made.views[view].table for each in projectors for view in each.writes}
    only_views = views is not None and views.only
    folder = Folder(runners[0].scope, runners, only_views=only_views)
    return InForce(application, older, applications, runners, folder, only_views, frozenset(tables))
