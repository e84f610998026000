"""What an outcome does to the rows: records, its workspace, views, digests.

DECIDE and fold share this code, so that a replay gives the same rows byte for byte. It takes an
outcome as the log has it (or will have it) and changes nothing itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from engine.application import Application, rows, schema
from engine.application.types import EntryPoint, ProjectorType, RecordType, ViewType
from engine.errors import Code
from engine.limits import ID_FIRST, ROW_BYTES_MAX, WORKSPACE_PAGE
from engine.sandbox.host_guests import Guests, Trapped
from engine.sandbox.host_projector import ProjectorCall, ViewRows
from engine.sandbox.host_rows import RowMap
from engine.sandbox.host_scope import Scope
from engine.sandbox.host_unique import index_rows
from engine.sandbox.host_values import UNKNOWN, AbiMisused, CallStopped, Row, RuleBroken
from engine.sandbox.session import Call
from engine.wire import Change, Outcome

# Outcomes with these codes are not projected: a projector that failed would fail again in fold.
UNPROJECTED = frozenset(
    {
        Code.EXTENSION_TRAPPED,
        Code.TIME_EXCEEDED,
        Code.MEMORY_EXCEEDED,
        Code.ABI_MISUSED,
        Code.SCAN_TOO_WIDE,
        Code.OUTCOME_TOO_LARGE,
    }
)


class Rejection(Exception):  # noqa: N818 - it becomes an outcome, which is no error
    """Why a command is rejected: a code, a message, a field."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


@dataclass(slots=True)
class Effects:
    """Rows an outcome writes, and the differences to its tables' digests."""

    rows: RowMap = field(default_factory=dict[bytes, "bytes | None"])
    digests: dict[int, int] = field(default_factory=dict[int, int])
    missed: list[bytes] = field(default_factory=list[bytes])

    def put(self, table: int, key: bytes, before: int, value: bytes | None) -> None:
        """Write or delete a row whose present value's hash is `before` (0 = none)."""
        self.rows[key] = value
        after = 0 if value is None else rows.row_hash(key, value)
        self.digests[table] = self.digests.get(table, 0) + after - before


def run_entry(guests: Guests, entry: EntryPoint, call: Call, time_ms: int | None) -> None:
    """Run an entry; raise Rejection where it ended badly. `call.missed` comes before either."""
    trap: Trapped | None = None
    try:
        guests.run(entry, call, time_ms)
    except Trapped as fault:
        trap = fault
    except CallStopped:
        assert call.stopped is not None
    if call.missed:
        return
    if isinstance(call.stopped, RuleBroken):
        raise Rejection(call.stopped.code, call.stopped.message, call.stopped.field)
    if isinstance(call.stopped, AbiMisused):
        raise Rejection(Code.ABI_MISUSED, str(call.stopped))
    if trap is not None:
        raise Rejection(trap.code, trap.message)


class Folder:
    """Computes the effects of outcomes under one application."""

    def __init__(self, scope: Scope, guests: Guests) -> None:
        self._scope = scope
        self._guests = guests
        self._projectors = _by_event(scope.application)

    def projected(self, outcome: Outcome) -> bool:
        """Tell whether a projector may run for an outcome, so that its arguments are needed."""
        code = outcome["code"]
        if code == "":
            return bool(self._projectors)
        event = (outcome["name"], "rejected")
        return event in self._projectors and code not in UNPROJECTED and _has_row(outcome)

    def effects(self, outcome: Outcome, args: dict[str, Any] | None, *, budget: bool) -> Effects:
        """Return what an outcome changes; `args` None = no projector runs.

        Raises Rejection where a projector ends badly.
        """
        effects = Effects()
        for change in outcome["changes"]:
            self._record(outcome["workspace"], change, effects)
        kind = self._workspace(outcome, effects)
        if args is not None and self._projectors:
            self._views(outcome, args, effects, kind, budget=budget)
        return effects

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
        command = self._scope.application.commands.get(outcome["name"])
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

    def _views(
        self, outcome: Outcome, args: dict[str, Any], effects: Effects, kind: str, *, budget: bool
    ) -> None:
        """Run the projectors: for each change in order, then for the command itself."""
        views = ViewRows(self._scope, bounded=budget)
        try:
            for change in outcome["changes"]:
                type_ = self._scope.application.record_tables[change["type"]]
                event = (type_.name, change["op"])
                for projector in self._for(event, kind):
                    call = self._call(views, projector, outcome, args, event, change)
                    call.show(_after_image(type_, change))
                    self._run(projector.run, call, budget=budget)
            event = (outcome["name"], "rejected" if outcome["code"] else "execute")
            for projector in self._for(event, kind):
                call = self._call(views, projector, outcome, args, event, None)
                self._run(projector.run, call, budget=budget)
            if not views.missed:
                self._write(views, effects)
        except Rejection:
            if not views.missed:
                raise
        effects.missed += views.missed

    def _for(self, event: tuple[str, str], kind: str) -> Iterator[ProjectorType]:
        """Yield the projectors of an event, but those of views that the workspace doesn't have."""
        known = self._scope.application.workspaces.get(kind)
        for projector in self._projectors.get(event, ()):
            if known is None or known.views.issuperset(projector.writes):
                yield projector

    def _call(
        self,
        views: ViewRows,
        projector: ProjectorType,
        outcome: Outcome,
        args: dict[str, Any],
        event: tuple[str, str],
        change: Change | None,
    ) -> ProjectorCall:
        context = context_of(outcome)
        context["type"], context["op"] = event
        if change is not None:
            context["id"], context["root"] = change["id"], change["root"]
            context["parent"] = change["parent"]
        return ProjectorCall(views, self._scope, projector, args, context)

    def _run(self, entry: EntryPoint, call: ProjectorCall, *, budget: bool) -> None:
        time_ms = self._scope.application.extensions[entry.extension].time_ms
        run_entry(self._guests, entry, call, time_ms if budget else None)

    def _write(self, views: ViewRows, effects: Effects) -> None:
        for row in views.changed:
            value = self._encode(row) if row.present else None
            if value == row.before:
                continue
            before = 0 if row.before is None else rows.row_hash(row.key, row.before)
            assert row.type is not None
            effects.put(row.type.table, row.key, before, value)

    def _encode(self, row: Row) -> bytes:
        assert isinstance(row.type, ViewType)
        return self._scope.codec.encode(row.type, encode_row(row))


def encode_row(row: Row) -> bytes:
    """Return the Avro body of a row; raise Rejection where that can't be."""
    assert row.type is not None
    try:
        body = schema.encode(row.schema, row.values)
    except schema.SchemaMismatch as fault:
        raise Rejection(Code.ABI_MISUSED, f"{row.type.name}: {fault}") from fault
    if len(body) > ROW_BYTES_MAX:
        why = f"{row.type.name} has {len(body)} bytes, at most {ROW_BYTES_MAX} are allowed"
        raise Rejection(Code.ABI_MISUSED, why)
    return body


def context_of(outcome: Outcome) -> dict[str, Any]:
    """Return the context of a call, as `CONTEXT` has it."""
    principal = outcome["principal"]
    return {
        "workspace": outcome["workspace"],
        "command_id": outcome["command_id"],
        "name": outcome["name"],
        "command_time": outcome["command_time"],
        "registered_at": outcome["registered_at"],
        "sequence": outcome["sequence"],
        "workspace_sequence": outcome["workspace_sequence"],
        "principal_subject": principal["subject"] if principal else None,
        "principal_kind": principal["kind"] if principal else None,
        "code": outcome["code"],
        "op": None,
        "type": None,
        "id": None,
        "root": None,
        "parent": None,
    }


def _after_image(type_: RecordType, change: Change) -> Row:
    row = Row(type_.schema, schema.decode(type_.schema, change["body"]), b"", change["id"])
    row.type = type_
    row.root, row.parent = change["root"], change["parent"]
    return row


def _has_row(outcome: Outcome) -> bool:
    """Tell whether the workspace has begun: garbage keys don't grow views."""
    return outcome["workspace_sequence"] > 0


def _next_id(next_id: int, outcome: Outcome) -> int:
    created = [change["id"] for change in outcome["changes"] if change["op"] == "create"]
    return max(next_id, *(id_ + 1 for id_ in created)) if created else next_id


def _by_event(application: Application) -> dict[tuple[str, str], list[ProjectorType]]:
    found: dict[tuple[str, str], list[ProjectorType]] = {}
    for projector in application.projectors:
        for event in projector.on:
            found.setdefault(event, []).append(projector)
    return found
