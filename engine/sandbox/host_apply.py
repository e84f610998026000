"""What an outcome does to the rows: records, its workspace, views, digests.

DECIDE and fold share this code, so that a replay gives the same rows byte for byte. It takes an
outcome as the log has it (or will have it) and changes nothing itself.
"""

from typing import Any

from engine.application import rows
from engine.limits import ID_FIRST, WORKSPACE_PAGE
from engine.sandbox.host_project import (
    Effects,
    Rejection,
    Runner,
    context_of,
    encode_row,
    project,
    run_entry,
)
from engine.sandbox.host_scope import Scope
from engine.sandbox.host_unique import index_rows
from engine.sandbox.host_values import UNKNOWN
from engine.wire import Change, Outcome

__all__ = ["Effects", "Folder", "Rejection", "context_of", "encode_row", "run_entry"]


class Folder:
    """Computes the effects of outcomes: rows by the application in force, views by the runners.

    `only_views`: records and workspaces are left alone, because a generation is being built.
    """

    def __init__(self, scope: Scope, runners: list[Runner], *, only_views: bool = False) -> None:
        self._scope = scope
        self._runners = [runner for runner in runners if runner.events]
        self._only_views = only_views

    def effects(self, outcome: Outcome, args: dict[str, Any] | None, *, budget: bool) -> Effects:
        """Return what an outcome changes; `args` as it was decided with, None = as it is logged.

        Raises Rejection where a projector ends badly.
        """
        effects = Effects()
        if self._only_views:
            kind = self._kind(outcome, effects)
        else:
            for change in outcome["changes"]:
                self._record(outcome["workspace"], change, effects)
            kind = self._workspace(outcome, effects)
        for runner in self._runners:
            if runner.projects(outcome):
                own = runner.scope is self._scope
                project(runner, outcome, args if own else None, effects, kind, budget=budget)
        return effects

    def _kind(self, outcome: Outcome, effects: Effects) -> str:
        """Return the kind of a workspace that has begun; it never changes."""
        if outcome["workspace_sequence"] == 0 or not self._scope.application.workspaces:
            return ""
        key = rows.workspace_key(outcome["workspace"])
        value = self._scope.rows.get(key)
        if value is UNKNOWN:
            effects.missed.append(key)
        return rows.decode_workspace(value).kind if isinstance(value, bytes) else ""

    def _record(self, workspace: str, change: Change, effects: Effects) -> None:
        type_ = self._scope.application.record_tables[change["type"]]
        if type_.kind == "operation":
            return  # it lives in its outcome only
        key = rows.record_key(type_.table, workspace, change["root"], change["id"])
        body = change["body"]
        if type_.parent:
            body = rows.join_nested(change["parent"], body)
        value = self._scope.codec.encode(type_, body, active=change["op"] != "deactivate")
        effects.put(type_.table, key, change["before"], value)
        if type_.uniques:
            for index_key, before, holder in index_rows(type_, workspace, change):
                effects.put(rows.TABLE_UNIQUE, index_key, before, holder)

    def _workspace(self, outcome: Outcome, effects: Effects) -> str:
        """Count the outcome; a workspace begins with its first accepted one. Return its kind."""
        number, name = outcome["workspace_sequence"], outcome["workspace"]
        if number == 0:
            return ""
        key = rows.workspace_key(name)
        value = self._scope.rows.get(key)
        if value is UNKNOWN:
            effects.missed.append(key)
            return ""
        command = self._scope.application.command(outcome["name"])
        kind = command.creates if command else ""
        row, before = rows.Workspace(0, 0, ID_FIRST, [], kind), 0
        if isinstance(value, bytes):
            row, before = rows.decode_workspace(value), rows.row_hash(key, value)
        assert number == row.last + 1, "the workspace's sequence has a gap"
        recent = [*row.recent, outcome["sequence"]]
        if len(recent) == WORKSPACE_PAGE:
            page = rows.workspace_log_key(name, (number - 1) // WORKSPACE_PAGE)
            effects.put(rows.TABLE_WORKSPACE_LOG, page, 0, rows.encode_sequences(recent))
            recent = []
        accepted, status = row.accepted, row.status
        if outcome["code"] == "":
            accepted = number
            status = rows.GONE if command and command.deactivates else status
        next_id = _next_id(row.next_id, outcome)
        row = rows.Workspace(number, accepted, next_id, recent, row.kind, status)
        effects.put(rows.TABLE_WORKSPACE, key, before, rows.encode_workspace(row))
        return row.kind


def _next_id(next_id: int, outcome: Outcome) -> int:
    created = [change["id"] for change in outcome["changes"] if change["op"] == "create"]
    return max(next_id, *(id_ + 1 for id_ in created)) if created else next_id
