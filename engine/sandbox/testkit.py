"""An application in one process, for its author's tests: no broker, no store, no sleep.

    kit = TestKit("topology/bank")
    kit.send("acct-1", "open", {"owner": "Ada"})
    outcome = kit.send("acct-1", "credit", {"amount": 500})
    assert outcome.accepted
    assert kit.record("acct-1", "account")["balance"] == 500
    assert kit.row("acct-1", "statement", day="2023-11-14", entry=1)["amount"] == 500
    kit.replay()

Commands run in a state host as they would on a node: the one in WASM, or with `host="python"`, and
for extensions in Python, the plain one. Values have the forms that HTTP has (dates and times as
text). Time stands still until `pass_time`.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

from sortedcontainers import SortedDict

from engine import wire
from engine.application import Application, generic, rows, schema
from engine.application.folder import load_application
from engine.application.types import KeyColumn, RecordSchema, RecordType
from engine.model import Batch, Decided, Duplicate, HostState, Input, Position
from engine.sandbox.guests import load_guests
from engine.sandbox.host_ranges import DictReader
from engine.sandbox.hosts import wasm_host
from engine.sandbox.python import PythonHost
from engine.wire import Outcome

_START_MS = 1_700_000_000_000
_EPOCH = date(1970, 1, 1)


@dataclass(slots=True, frozen=True)
class KitOutcome:
    """What became of a command."""

    accepted: bool
    code: str
    message: str
    field: str | None
    sequence: int  # 0 = refused, there is no outcome
    workspace_sequence: int
    command_id: uuid.UUID
    result: dict[str, Any] | None = None
    duplicate: bool = False
    changes: tuple[dict[str, Any], ...] = ()

    @property
    def ids(self) -> dict[int, int]:
        """Of a generic command: the ids that its temporary ones stand for."""
        ids = (self.result or {}).get("ids", {})
        return {int(temporary): id_ for temporary, id_ in ids.items()}


@dataclass(slots=True, frozen=True)
class KitWorkspace:
    """A workspace that has accepted a command."""

    kind: str  # "" where the application declares none
    gone: bool
    accepted: int  # its last accepted outcome: what `expected_sequence` is compared with


class TestKit:
    """One application with all its workspaces, held in dictionaries."""

    __test__ = False  # pytest takes classes of this name for its own

    def __init__(
        self, application: str | Path | Application, host: Literal["python", "wasm"] = "wasm"
    ) -> None:
        if not isinstance(application, Application):
            application = load_application(Path(application))
        # One partition holds every workspace, whatever the manifest says.
        self.application = replace(application, partitions=1, index=1)
        self.rows: SortedDict = SortedDict()
        self.digests: dict[int, int] = {}
        self.outcomes: list[Outcome] = []
        self.now_ms = _START_MS
        self._log = Batch()
        self._taken = 0
        kinds = {each.kind for each in self.application.extensions.values()}
        self._wasm = host == "wasm" and kinds == {"wasm"}
        self._host = self._open(self.rows)

    def send(
        self,
        workspace: str,
        command: str,
        args: Mapping[str, Any] | None = None,
        *,
        command_id: uuid.UUID | None = None,
        expected_sequence: int | None = None,
    ) -> KitOutcome:
        """Send a command and return its outcome. Wrong arguments raise SchemaMismatch."""
        type_ = self.application.commands[command]
        values = generic.args_from_json(self.application, type_, dict(args or {}))
        # An id that is a function of the test alone: version 8 is for one's own use.
        command_id = command_id or uuid.UUID(int=(8 << 76 | 2 << 62) | self._taken + 1)
        value = wire.encode_command(
            {
                "command_id": command_id.bytes,
                "name": command,
                "args_schema": type_.args.fingerprint,
                "args": schema.encode(type_.args, values),
                "expected_sequence": expected_sequence,
            }
        )
        return self.send_raw(workspace, value)

    def send_raw(self, workspace: str, value: bytes) -> KitOutcome:
        """Send the bytes of a command as a client would publish them."""
        batch = Batch()
        batch.add(self._taken, self.now_ms, workspace.encode(), value)
        self._taken += 1
        decided = self._host.decide(batch, Input.COMMANDS, self.now_ms)
        while not decided.done:
            _provide(self._host, decided, self.rows)
            decided = self._host.decide(batch, Input.COMMANDS, self.now_ms)
        _apply(decided, self.rows, self.digests)
        for encoded, key in zip(decided.outcomes, decided.workspaces, strict=True):
            self.outcomes.append(wire.decode_outcome(encoded))
            self._log.add(len(self._log), self.now_ms, key, encoded)
        self._host.confirm(decided.state.sequence)
        return self._answer(decided)

    def pass_time(self, duration_ms: int) -> None:
        """Let time pass: later commands are appended that much later."""
        self.now_ms += duration_ms

    def change(self, workspace: str, *changes: Mapping[str, Any]) -> KitOutcome:
        """Send changes by the application's generic command, its first one."""
        command = next(each.name for each in self.application.commands.values() if each.generic)
        return self.send(workspace, command, {"changes": list(changes)})

    def workspace(self, workspace: str) -> KitWorkspace | None:
        """Return what a workspace is, or None before its first accepted command."""
        value = self.rows.get(rows.workspace_key(workspace))
        if value is None:
            return None
        row = rows.decode_workspace(value)
        return KitWorkspace(row.kind, row.status != rows.ACTIVE, row.accepted)

    def record(self, workspace: str, type_: str, record_id: int = 0) -> dict[str, Any] | None:
        """Return a document or singleton, active or not, or None. A singleton's id is 0."""
        record = self.application.records[type_]
        value = self.rows.get(rows.record_key(record.table, workspace, record_id, record_id))
        return None if value is None else _record(record, value)[1]

    def records(
        self, workspace: str, type_: str, *, inactive: bool = True
    ) -> dict[int, dict[str, Any]]:
        """Return all records of a type by id; nested ones too, whatever they are nested in."""
        record = self.application.records[type_]
        return {
            rows.decode_long(key[-8:]): _record(record, self.rows[key])[1]
            for key in self._keys(record.table, workspace)
            if inactive or _active(self.rows[key])
        }

    def children(
        self, workspace: str, type_: str, parent_id: int, *, inactive: bool = False
    ) -> dict[int, dict[str, Any]]:
        """Return by id the records of a nested type that lie in one parent, the active ones."""
        record = self.application.records[type_]
        held = {key: self.rows[key] for key in self._keys(record.table, workspace)}
        found = {key: (value, *_record(record, value)) for key, value in held.items()}
        return {
            rows.decode_long(key[-8:]): fields
            for key, (value, parent, fields) in found.items()
            if parent == parent_id and (inactive or _active(value))
        }

    def is_active(self, workspace: str, type_: str, record_id: int = 0) -> bool:
        """Tell whether a record is there and active."""
        return record_id in self.records(workspace, type_, inactive=False)

    def view(self, workspace: str, view: str, **columns: Any) -> list[dict[str, Any]]:
        """Return a view's rows in key order, each with its key's columns.

        `columns` are columns of the key: only rows that have these values are returned.
        """
        type_ = self.application.views[view]
        unknown = columns.keys() - {column.name for column in type_.key}
        if unknown:
            raise KeyError(f"the key of {view} has no {', '.join(sorted(unknown))}")
        found: list[dict[str, Any]] = []
        for key in self._keys(type_.table, workspace):
            decoded = rows.decode_columns(key, [column.kind for column in type_.key])
            pairs = zip(type_.key, decoded, strict=True)
            row = {column.name: _column(column, part) for column, part in pairs}
            if columns.items() <= row.items():
                found.append({**row, **_shown(type_.schema, self.rows[key])})
        return found

    def row(self, workspace: str, view: str, **columns: Any) -> dict[str, Any] | None:
        """Return the row of a view at a key, or None; every column of the key is wanted."""
        type_ = self.application.views[view]
        missing = {column.name for column in type_.key} - columns.keys()
        if missing:
            raise KeyError(f"the key of {view} has {', '.join(sorted(missing))} too")
        return next(iter(self.view(workspace, view, **columns)), None)

    def replay(self) -> None:
        """Fold all outcomes anew; AssertionError where rows or digests differ from what is held."""
        held: SortedDict = SortedDict()
        digests: dict[int, int] = {}
        host, rest = self._open(held), self._log
        while rest:
            decided = host.fold(rest)
            _apply(decided, held, digests)
            _provide(host, decided, held)
            rest = rest.rest(decided.done)
        host.close()
        different = sorted(set(held.items()) ^ set(self.rows.items()))
        assert not different, f"{len(different)} rows differ after a replay: {different[:4]}"
        assert digests == self.digests, "the digests differ after a replay"

    def close(self) -> None:
        """Let go of the extensions."""
        self._host.close()

    def _keys(self, table: int, workspace: str) -> list[bytes]:
        prefix = rows.workspace_prefix(table, workspace)
        return list(self.rows.irange(prefix, rows.prefix_end(prefix), inclusive=(True, False)))

    def _open(self, held: SortedDict) -> PythonHost:
        if self._wasm:
            host = wasm_host(load_guests, DictReader(held))
        else:
            host = PythonHost(load_guests, DictReader(held))
        host.open(0, {1: self.application}, Position(host=HostState(application=1)))
        host.own(1)
        return host

    def _answer(self, decided: Decided) -> KitOutcome:
        if decided.outcomes:
            return self._shown(self.outcomes[-1], duplicate=False)
        (reply,) = decided.replies
        if isinstance(reply, Duplicate):
            return self._shown(self.outcomes[reply.first_sequence - 1], duplicate=True)
        return KitOutcome(
            accepted=False,
            code=reply.code,
            message=reply.message,
            field=reply.field,
            sequence=0,
            workspace_sequence=0,
            command_id=uuid.UUID(bytes=reply.command_id),
        )

    def _shown(self, outcome: Outcome, *, duplicate: bool) -> KitOutcome:
        command = self.application.command(outcome["name"])
        result = None
        if command is not None and outcome["result"] is not None:
            result = generic.result_to_json(command, outcome["result"])
        changes: list[dict[str, Any]] = []
        for change in outcome["changes"]:
            type_ = self.application.record_tables[change["type"]]
            body = schema.to_json(type_.schema, schema.decode(type_.schema, change["body"]))
            entry = {"type": type_.name, "id": change["id"], "op": change["op"], "body": body}
            changes.append(entry)
        return KitOutcome(
            accepted=outcome["code"] == "",
            code=outcome["code"],
            message=outcome["message"],
            field=outcome["field"],
            sequence=outcome["sequence"],
            workspace_sequence=outcome["workspace_sequence"],
            command_id=uuid.UUID(bytes=outcome["command_id"]),
            result=result,
            duplicate=duplicate,
            changes=tuple(changes),
        )


def _provide(host: PythonHost, decided: Decided, held: SortedDict) -> None:
    """Give a host the rows that it misses, if it does."""
    found: dict[bytes, bytes | None] = {key: held.get(key) for key in decided.missing}
    for prefix in decided.missing_prefixes:
        keys = held.irange(prefix, rows.prefix_end(prefix), inclusive=(True, False))
        found.update((key, held[key]) for key in keys)
    if found or decided.missing_prefixes:
        host.provide(found, decided.missing_prefixes)


def _apply(decided: Decided, held: dict[bytes, bytes], digests: dict[int, int]) -> None:
    for key, value in decided.rows.items():
        if value is None:
            held.pop(key, None)
        else:
            held[key] = value
    for table, difference in decided.digests.items():
        digests[table] = wire.signed64(digests.get(table, 0) + difference)


def _column(column: KeyColumn, value: Any) -> Any:
    if column.kind == "date":
        return (_EPOCH + timedelta(days=value)).isoformat()
    return value


def _active(value: bytes) -> bool:
    return not rows.decode_value(value).flags & rows.INACTIVE


def _record(type_: RecordType, value: bytes) -> tuple[int, dict[str, Any]]:
    """Return the id of the record that one is nested in, 0 for a document, and the fields."""
    body = rows.decode_value(value).body
    parent, body = rows.split_nested(body) if type_.parent else (0, body)
    return parent, schema.to_json(type_.schema, schema.decode(type_.schema, body))


def _shown(record_schema: RecordSchema, value: bytes) -> dict[str, Any]:
    body = rows.decode_value(value).body
    return schema.to_json(record_schema, schema.decode(record_schema, body))
