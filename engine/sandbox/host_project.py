"""Runs projectors: one outcome's events, by the code of one application, on its own views.

Usually that is the application in force. While a view is built anew, an older one's projector
keeps the old rows up to date, and the builder runs the new one over all that has happened.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from engine.application import Application, rows, schema
from engine.application.generations import command_names
from engine.application.types import EntryPoint, ProjectorType, RecordSchema, ViewType
from engine.errors import Code, LogError
from engine.limits import ROW_BYTES_MAX
from engine.sandbox.host_guests import Guests, Trapped
from engine.sandbox.host_projector import ProjectorCall, ViewRows
from engine.sandbox.host_rows import RowMap
from engine.sandbox.host_scope import Scope
from engine.sandbox.host_values import AbiMisused, CallStopped, Row, RuleBroken
from engine.sandbox.session import Call
from engine.wire import Change, Outcome, WireError

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
        self.projector = ""  # that ended badly


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


class Runner:
    """The projectors that one application's code runs, and where they work.

    An outcome of another application is read as this one has it, by Avro's rules and in the names
    of this one.
    """

    def __init__(
        self,
        scope: Scope,
        guests: Guests,
        projectors: Iterable[ProjectorType],
        known: Mapping[int, Application],
    ) -> None:
        self.scope = scope
        self.guests = guests
        self.events = _by_event(projectors)
        self._known = known
        self._names: dict[int, dict[str, str]] = {}

    def projects(self, outcome: Outcome) -> bool:
        """Tell whether a projector may run for an outcome, so that its arguments are needed."""
        code = outcome["code"]
        if code == "":
            return True
        # Garbage keys don't grow views: a workspace without a row has none.
        begun = outcome["workspace_sequence"] > 0
        return begun and code not in UNPROJECTED and self.closing(outcome) in self.events

    def command(self, outcome: Outcome) -> str:
        """Return what this application calls the outcome's command; "" if it doesn't know it."""
        writer, reader = outcome["application"], self.scope.application.index
        decided = self._known[writer].command(outcome["name"])  # it may have come by an older name
        if decided is None:
            return ""
        if writer == reader:
            return decided.name
        if writer not in self._names:
            self._names[writer] = command_names(self._known, writer, reader)
        return self._names[writer].get(decided.name, "")

    def closing(self, outcome: Outcome) -> tuple[str, str]:
        """Return the event behind those of an outcome's changes: the command's own."""
        return self.command(outcome), "rejected" if outcome["code"] else "execute"

    def args(self, outcome: Outcome) -> dict[str, Any] | None:
        """Return the logged arguments as this application has them; none of an unknown command.

        Those of a rejected command may be anything: None = it is not projected. Raises Rejection
        for others that can't be read.
        """
        command = self.scope.application.commands.get(self.command(outcome))
        if command is None:
            return {}
        writer = self._writer(command.args, outcome["args_schema"])
        try:
            if writer is not None:
                return schema.decode(command.args, outcome["args"], writer)
        except WireError as fault:
            if not outcome["code"]:
                raise Rejection(Code.ABI_MISUSED, f"the arguments: {fault}") from fault
        if outcome["code"]:
            return None
        raise LogError(
            "E1307",
            f"no schema {outcome['args_schema']} of the arguments of {outcome['name']} is known",
            "Rebuild the partition from the log",
        )

    def _writer(self, reader: RecordSchema, fingerprint: int) -> RecordSchema | None:
        if reader.fingerprint == fingerprint:
            return reader
        return next(
            (
                other.args
                for application in self._known.values()
                for other in application.commands.values()
                if other.args.fingerprint == fingerprint
            ),
            None,
        )

    def after_image(self, outcome: Outcome, change: Change) -> Row:
        """Return a changed record as this application has it."""
        type_ = self.scope.application.record_tables[change["type"]]
        try:
            values = self.scope.codec.image(type_, outcome["application"], change["body"])
        except WireError as fault:
            raise Rejection(Code.ABI_MISUSED, f"{type_.name}: {fault}") from fault
        row = Row(type_.schema, values, b"", change["id"])
        row.type = type_
        row.root, row.parent = change["root"], change["parent"]
        return row


def project(
    runner: Runner,
    outcome: Outcome,
    args: dict[str, Any] | None,
    effects: Effects,
    kind: str,
    *,
    budget: bool,
) -> None:
    """Run the projectors: for each change in order, then for the command itself.

    `kind` is the workspace's; `args` None = the logged ones. Raises Rejection.
    """
    read = runner.args(outcome) if args is None else args
    if read is None:
        return
    views = ViewRows(runner.scope, bounded=budget)
    run = _Run(runner, views, outcome, read, kind, budget=budget)
    try:
        for change in outcome["changes"]:
            type_ = runner.scope.application.record_tables.get(change["type"])
            if type_ is not None:
                run.event((type_.name, change["op"]), change)
        run.event(runner.closing(outcome), None)
        if not views.missed:
            _write(runner.scope, views, effects)
    except Rejection:
        if not views.missed:
            raise
    effects.missed += views.missed


@dataclass(slots=True)
class _Run:
    """One runner's projectors on one outcome."""

    runner: Runner
    views: ViewRows
    outcome: Outcome
    args: dict[str, Any]
    kind: str
    _: KW_ONLY
    budget: bool

    def event(self, event: tuple[str, str], change: Change | None) -> None:
        """Run the projectors of an event; a Rejection names the one that raised it."""
        for projector in self._for(event):
            try:
                self._run(projector, event, change)
            except Rejection as why:
                why.projector = projector.name
                raise

    def _for(self, event: tuple[str, str]) -> Iterator[ProjectorType]:
        """Yield the projectors of an event, but those of views that the workspace doesn't have."""
        known = self.runner.scope.application.workspaces.get(self.kind)
        for projector in self.runner.events.get(event, ()):
            if known is None or known.views.issuperset(projector.writes):
                yield projector

    def _run(self, projector: ProjectorType, event: tuple[str, str], change: Change | None) -> None:
        runner, outcome = self.runner, self.outcome
        context = context_of(outcome)
        context["name"] = runner.command(outcome) or outcome["name"]
        context["type"], context["op"] = event
        if change is not None:
            context["id"], context["root"] = change["id"], change["root"]
            context["parent"] = change["parent"]
        call = ProjectorCall(self.views, runner.scope, projector, self.args, context)
        if change is not None:
            call.show(runner.after_image(outcome, change))
        extension = runner.scope.application.extensions[projector.run.extension]
        time_ms = extension.time_ms if self.budget else None
        run_entry(runner.guests, projector.run, call, time_ms)


def _write(scope: Scope, views: ViewRows, effects: Effects) -> None:
    for row in views.changed:
        assert isinstance(row.type, ViewType)
        value = scope.codec.encode(row.type, encode_row(row)) if row.present else None
        if value == row.before:
            continue
        before = 0 if row.before is None else rows.row_hash(row.key, row.before)
        effects.put(row.type.table, row.key, before, value)


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


def _by_event(projectors: Iterable[ProjectorType]) -> dict[tuple[str, str], list[ProjectorType]]:
    found: dict[tuple[str, str], list[ProjectorType]] = {}
    for projector in projectors:
        for event in projector.on:
            found.setdefault(event, []).append(projector)
    return found
