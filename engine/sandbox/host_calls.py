"""What a command may do, and what a projector may: the two kinds of `Call`.

Owns the working rows of one command and the limits on them. Whether an outcome comes of it is the
host's business; nothing here is seen by another command. A limit may be raised in a later release
but never lowered: fold runs projectors under the same ones.
"""

import re
from dataclasses import dataclass
from typing import Any

from engine.application import Application, rows, schema
from engine.application.types import CommandType, ProjectorType, RecordType, ViewType
from engine.errors import REFUSALS
from engine.limits import (
    CHANGES_MAX,
    CODE_LENGTH_MAX,
    FIELD_BYTES_MAX,
    ID_FIRST,
    MESSAGE_LENGTH_MAX,
    SINGLETON_ID,
    VIEW_ROWS_MAX,
)
from engine.sandbox.host_rows import RowCodec
from engine.sandbox.host_values import CONTEXT, Cell, Row
from engine.sandbox.session import (
    ARGS,
    CONTEXT_HANDLE,
    EVENT,
    NONE,
    RESULT,
    UNKNOWN,
    Call,
    Missed,
    RowSource,
)

_CODE = re.compile("[a-z][a-z0-9_]*")
_LONG_MAX = (1 << 63) - 1


@dataclass(slots=True, frozen=True)
class Scope:
    """Where calls work: one application's rows, before the command at hand."""

    application: Application
    codec: RowCodec
    rows: RowSource


class _ScopedCall(Call):
    def __init__(
        self, scope: Scope, generation: int, args: dict[str, Any], context: dict[str, Any]
    ) -> None:
        super().__init__(generation)
        self._scope = scope
        self._workspace: str = context["workspace"]
        self._handles: dict[bytes, int] = {}
        self._cells[CONTEXT_HANDLE] = Cell(CONTEXT.fields, context)
        command = scope.application.commands.get(context["name"])
        if command is not None:
            self._cells[ARGS] = Cell(command.args.fields, args)


class CommandCall(_ScopedCall):
    """A command at work on its workspace's records."""

    def __init__(
        self,
        scope: Scope,
        command: CommandType,
        args: dict[str, Any],
        context: dict[str, Any],
        next_id: int,
    ) -> None:
        super().__init__(scope, context["sequence"] * 8, args, context)
        self._next_id = next_id
        self.changed: list[Row] = []
        self.result: Row | None = None
        if command.result is not None:
            self.result = Row(command.result, schema.zero(command.result))
            self._cells[RESULT] = _cell(self.result, writable=True)

    def record(self, type_: RecordType, id_: int) -> int:
        """Return a handle of a record, active or not, or 0 if there is none."""
        self._own(type_)
        if type_.kind == "singleton":
            if id_ != SINGLETON_ID:
                raise self._misused(f"{type_.name} is a singleton: its id is 0")
        elif not ID_FIRST <= id_ <= _LONG_MAX:
            return NONE
        key = rows.record_key(type_.table, self._workspace, id_, id_)
        handle = self._handles.get(key)
        if handle is not None:
            return handle
        value = self._scope.rows.get(key)
        if value is UNKNOWN:
            self.missed.append(key)
            self.stopped = Missed(type_.name)
            raise self.stopped
        if value is None:
            return NONE
        assert isinstance(value, bytes)
        values, active = self._scope.codec.decode(type_.schema, type_.table, value)
        row = Row(type_.schema, values, key, id_)
        row.type, row.before = type_, value
        row.active = row.was_active = active
        return self._hold_row(row)

    def create(self, type_: RecordType) -> int:
        """Return a handle of a new record; an id of the workspace's counter, a singleton's is 0."""
        self._own(type_)
        if type_.kind == "singleton":
            if self.record(type_, SINGLETON_ID) != NONE:
                raise self._misused(f"{type_.name} exists already: it is a singleton")
            id_ = SINGLETON_ID
        else:
            id_, self._next_id = self._next_id, self._next_id + 1
        key = rows.record_key(type_.table, self._workspace, id_, id_)
        row = Row(type_.schema, schema.zero(type_.schema), key, id_)
        row.type, row.created = type_, True
        self._changing(row)
        return self._hold_row(row)

    def is_active(self, h: int) -> bool:
        """Tell whether a record is active."""
        return self._record_row(h).active

    def set_active(self, h: int, active: bool) -> None:  # noqa: FBT001 - an ABI's argument
        """Activate or deactivate a record; an inactive one may not be changed otherwise."""
        row = self._record_row(h)
        if row.created and not active:
            raise self._misused("a record may not be created and deactivated by one command")
        if row.active != active:
            row.active = active
            if not row.changed:
                self._changing(row)

    def reject(self, code: str, text: str, field: str | None = None) -> None:
        """Reject the command; the first one counts, and nothing the command did."""
        self._alive()
        why = _wrong_rejection(code, text, field)
        if why:
            raise self._misused(f"reject: {why}")
        if self.rejected is None:
            self.rejected = (code, text, field)

    def finish(self) -> None:
        """Check what can only be checked at the end; raise AbiMisused."""
        for row in self.changed:
            if not row.active and not row.was_active:
                assert row.type is not None
                raise self._misused(f"{row.type.name} {row.id} is inactive and was changed")

    def _own(self, type_: RecordType) -> None:
        self._alive()
        if self._scope.application.records.get(type_.name) is not type_:
            raise self._misused(f"record type {type_.name} is not one of this application")

    def _alive(self) -> None:
        if self.stopped is not None:
            raise self.stopped

    def _changing(self, row: Row) -> None:
        if row.type is not None:
            if len(self.changed) >= CHANGES_MAX:
                raise self._misused(f"a command may change at most {CHANGES_MAX} records")
            self.changed.append(row)
        row.changed = True

    def _hold_row(self, row: Row) -> int:
        handle = self._hold(_cell(row, writable=True))
        self._handles[row.key] = handle
        return handle

    def _record_row(self, h: int) -> Row:
        cell = self._cell(h)
        if cell.row is None or cell.bit or not isinstance(cell.row.type, RecordType):
            raise self._misused(f"handle {h} is no record")
        return cell.row


class ViewRows:
    """The view rows that the projectors of one outcome work on."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._rows: dict[bytes, Row] = {}
        self.changed: list[Row] = []
        self.missed: list[bytes] = []

    def load(self, view: ViewType, key: bytes) -> Row:
        """Return the row at a key; one that is not cached is noted, and reads as absent."""
        known = self._rows.get(key)
        if known is not None:
            return known
        value = self._scope.rows.get(key)
        if value is UNKNOWN:
            self.missed.append(key)
            value = None
        row = Row(view.schema, {}, key)
        row.type = view
        row.present = value is not None
        if isinstance(value, bytes):
            row.before = value
            row.values, _ = self._scope.codec.decode(view.schema, view.table, value)
        self._rows[key] = row
        return row


class ProjectorCall(_ScopedCall):
    """A projector at work on the views it declares, for one event of an outcome."""

    def __init__(
        self,
        views: ViewRows,
        scope: Scope,
        projector: ProjectorType,
        args: dict[str, Any],
        context: dict[str, Any],
    ) -> None:
        super().__init__(scope, context["sequence"] * 8 + 1, args, context)
        self._views = views
        self.missed = views.missed
        self._projector = projector

    def show(self, event: Row) -> None:
        """Let handle 3 be the changed record's after-image."""
        self._cells[EVENT] = _cell(event, writable=False)

    def key(self, view: ViewType) -> int:
        """Return a handle of a key of a view, whose columns are set by set_*."""
        if self._scope.application.views.get(view.name) is not view:
            raise self._misused(f"view {view.name} is not one of this application")
        if view.name not in self._projector.writes:
            raise self._misused(f"projector {self._projector.name} doesn't declare {view.name}")
        cell = Cell(view.key, {}, writable=True)
        cell.view = view
        return self._hold(cell)

    def view(self, k: int) -> int:
        """Return a handle of the row at a key, read only, or 0 if there is none."""
        row = self._row(k)
        return self._hold(_cell(row, writable=False)) if row.present else NONE

    def put(self, k: int) -> int:
        """Return a writable handle of the row at a key: as it is, else new with defaults."""
        row = self._row(k)
        if not row.present:
            row.present = True
            row.values = schema.zero(row.schema)
        if not row.changed:
            self._changing(row)
        return self._hold(_cell(row, writable=True))

    def remove(self, k: int) -> None:
        """Remove the row at a key, if there is one."""
        row = self._row(k)
        if row.present:
            row.present = False
            if not row.changed:
                self._changing(row)

    def _row(self, k: int) -> Row:
        cell = self._cell(k)
        view = cell.view
        if view is None:
            raise self._misused(f"handle {k} is no key of a view")
        unset = [column.name for column in view.key if cell.values.get(column.name) is None]
        if unset:
            raise self._misused(f"the key of {view.name} lacks {', '.join(unset)}")
        columns = [(column.kind, cell.values.get(column.name)) for column in view.key]
        key = rows.view_key(view.table, self._workspace, columns)
        if len(key) > FIELD_BYTES_MAX:
            raise self._misused(f"a key of {view.name} is over {FIELD_BYTES_MAX} bytes")
        return self._views.load(view, key)

    def _changing(self, row: Row) -> None:
        if len(self._views.changed) >= VIEW_ROWS_MAX:
            raise self._misused(f"an outcome may change at most {VIEW_ROWS_MAX} view rows")
        self._views.changed.append(row)
        row.changed = True


def _cell(row: Row, *, writable: bool) -> Cell:
    return Cell(row.schema.fields, row.values, row, writable=writable)


def _wrong_rejection(code: str, text: str, field: str | None) -> str:
    """Return why an extension may not reject so, or ""."""
    if code in REFUSALS:
        return f"{code} is a refusal of the engine's own"
    if len(code) > CODE_LENGTH_MAX or not _CODE.fullmatch(code):
        return f"a code is [a-z][a-z0-9_]*, at most {CODE_LENGTH_MAX} long"
    if max(len(text), len(field or "")) > MESSAGE_LENGTH_MAX:
        return f"a message is at most {MESSAGE_LENGTH_MAX} long"
    if not (text + (field or "")).isascii():
        try:
            (text + (field or "")).encode()
        except UnicodeEncodeError:
            return "a message is not valid Unicode"
    return ""
