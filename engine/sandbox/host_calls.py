"""What a command may do: the `Call` of one command, on its workspace's records.

Owns the working rows of one command and the limits on them. Whether an outcome comes of it is the
host's business, and whether the rows keep the rules that of `host_rules`; nothing here is seen by
another command.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from engine.application import rows, schema
from engine.application.types import CommandType, Field, RecordType, Unique
from engine.errors import REFUSALS, Code
from engine.limits import CODE_LENGTH_MAX, ID_FIRST, MESSAGE_LENGTH_MAX, SINGLETON_ID
from engine.sandbox.host_scope import Scope, ScopedCall, row_cell
from engine.sandbox.host_unique import unique_key
from engine.sandbox.host_values import UNKNOWN, Cursor, Missed, Row, UniqueKey, Unknown
from engine.sandbox.session import NONE, RESULT

_CODE = re.compile("[a-z][a-z0-9_]*")
_LONG_MAX = (1 << 63) - 1


class CommandCall(ScopedCall):
    """A command at work on its workspace's records."""

    def __init__(
        self,
        scope: Scope,
        command: CommandType,
        args: dict[str, Any],
        context: dict[str, Any],
        workspace: rows.Workspace,
    ) -> None:
        super().__init__(scope, context["sequence"] * 8, args, context)
        self._command = command
        self.next_id = workspace.next_id
        kind = scope.application.workspaces.get(workspace.kind)
        self._records = None if kind is None else kind.records
        self.known: dict[bytes, Row] = {}
        self.changed: list[Row] = []
        self.result: Row | None = None
        if command.result is not None:
            self.result = Row(command.result, schema.zero(command.result))
            self._cells[RESULT] = row_cell(self.result, writable=True)

    # Documents and singletons.

    def record(self, type_: RecordType, id_: int) -> int:
        """Return a handle of a record, active or not, or 0 if there is none."""
        self._own(type_)
        if type_.parent:
            raise self._misused(f"{type_.name} is nested in {type_.parent}: child_of has them")
        if type_.kind == "singleton":
            if id_ != SINGLETON_ID:
                raise self._misused(f"{type_.name} is a singleton: its id is 0")
        elif not ID_FIRST <= id_ <= _LONG_MAX or type_.kind == "operation":
            return NONE
        return self._load(type_, id_, id_)

    def create(self, type_: RecordType) -> int:
        """Return a handle of a new record; an id of the workspace's counter, a singleton's is 0."""
        self._own(type_)
        if type_.parent:
            raise self._misused(f"{type_.name} is nested in {type_.parent}: child makes them")
        if type_.kind == "singleton":
            if self.record(type_, SINGLETON_ID) != NONE:
                raise self._misused(f"{type_.name} exists already: it is a singleton")
            return self._create(type_, SINGLETON_ID, SINGLETON_ID)
        id_ = self._new_id()
        return self._create(type_, id_, id_)

    # Nested records.

    def child(self, h: int, type_: RecordType) -> int:
        """Return a handle of a new record nested in another."""
        above = self._above(h, type_)
        return self._create(type_, above.root, self._new_id(), above.id)

    def child_of(self, h: int, type_: RecordType, id_: int) -> int:
        """Return a handle of a record nested in another, or 0 if there is none of that id."""
        above = self._above(h, type_)
        if type_.kind == "operation" or not ID_FIRST <= id_ <= _LONG_MAX:
            return NONE
        handle = self._load(type_, above.root, id_)
        return NONE if handle == NONE or self._record_row(handle).parent != above.id else handle

    def children(self, h: int, type_: RecordType) -> int:
        """Return a cursor over the active records nested in another, in the order of their ids."""
        above = self._above(h, type_)
        found = self.active_children(type_, above)
        if isinstance(found, Unknown):
            self.stopped = Missed(type_.name)
            raise self.stopped
        return self._hold(Cursor(self._each(type_, above.root, found)))

    def _each(self, type_: RecordType, root: int, ids: list[int]) -> Iterator[int]:
        for id_ in ids:
            yield self._load(type_, root, id_)

    def active_children(self, type_: RecordType, parent: Row) -> list[int] | Unknown:
        """Return the ids of a record's active children; UNKNOWN notes that rows are missing."""
        start = rows.workspace_prefix(type_.table, self._workspace) + rows.encode_long(parent.root)
        own = {key: row for key, row in self.known.items() if key.startswith(start)}
        found: list[int] = []
        if parent.created:  # nothing is stored below it yet
            pairs = sorted((key, b"") for key in own)
        else:
            pairs = self._below(type_.name, start, dict.fromkeys(own, b""))
        if isinstance(pairs, Unknown):
            return pairs
        for key, value in pairs:
            row = own.get(key)
            if row is not None:
                active, above = row.active, row.parent
            else:
                stored = rows.decode_value(value)
                active, above = not stored.flags & rows.INACTIVE, rows.split_nested(stored.body)[0]
            if active and above == parent.id:
                found.append(rows.decode_long(key[-8:]))
        return found

    def _above(self, h: int, type_: RecordType) -> Row:
        """Return the record that records of this type are nested in."""
        self._own(type_)
        row = self._record_row(h)
        assert row.type is not None
        if type_.parent != row.type.name:
            raise self._misused(f"{type_.name} is not nested in {row.type.name}")
        return row

    # Uniques.

    def unique_key(self, unique: Unique) -> int:
        """Return a handle of a unique's key, whose fields are set by set_*; unset ones are zero."""
        type_ = self._scope.application.records.get(unique.record)
        if type_ is None or not any(unique is each for each in type_.uniques):
            raise self._misused(f"unique {unique.name} is not one of this application")
        return self._hold(UniqueKey(unique, type_.schema))

    def unique(self, k: int) -> int:
        """Return the id of the active record that has the key's values, or 0."""
        cell = self._cell(k)
        if not isinstance(cell, UniqueKey):
            raise self._misused(f"handle {k} is no key of a unique")
        values: Mapping[str, Any] = {
            field.name: cell.values.get(field.name) for field in cell.unique.fields
        }
        key = unique_key(self._workspace, cell.unique, values)
        mine = [row for row in self.changed if _name(row) == cell.unique.record]
        for row in mine:  # what this command has made of it counts
            if row.active and unique_key(self._workspace, cell.unique, row.values) == key:
                return row.id
        holder = self._scope.rows.get(key)
        if holder is UNKNOWN:
            self._miss(key, cell.unique.name)
        if not isinstance(holder, bytes):
            return NONE
        id_ = rows.decode_id(holder)
        return NONE if any(row.id == id_ and not row.active for row in mine) else id_

    # Any record.

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
        errors = self._command.errors
        text = text or errors.get(code, "")
        why = _wrong_rejection(code, text, field)
        if why:
            raise self._misused(f"reject: {why}")
        if errors and code not in errors:
            what = f"{self._command.name} declares no error {code!r}: {text}"
            raise self._refused(Code.UNDECLARED_CODE, what)
        if self.rejected is None:
            self.rejected = (code, text, field)

    # What a generic command needs besides.

    def row_of(self, h: int) -> Row:
        """Return the working row that a record's handle stands for."""
        return self._record_row(h)

    def nested(self, type_: RecordType, root: int, id_: int) -> int:
        """Return a handle of a nested record, and know the ones it lies in; 0 if there is none."""
        above = self._scope.application.records[type_.parent]
        handle = self._load(type_, root, id_)
        if handle != NONE:
            parent = self._record_row(handle).parent
            up = self.nested(above, root, parent) if above.parent else self._load(above, root, root)
            assert up != NONE, "a nested record lies in one that is not there"
        return handle

    def set_field(self, h: int, field: Field, value: Any) -> None:
        """Set a field, an array too, to a value as a row holds it."""
        self._touch(h, field).values[field.name] = value

    def _load(self, type_: RecordType, root: int, id_: int) -> int:
        key = rows.record_key(type_.table, self._workspace, root, id_)
        handle = self._handles.get(key)
        if handle is not None:
            return handle
        value = self._scope.rows.get(key)
        if value is UNKNOWN:
            self._miss(key, type_.name)
        if value is None:
            return NONE
        assert isinstance(value, bytes)
        row = self._scope.codec.decode_record(type_, key, id_, value)
        row.root = root
        return self._hold_row(row)

    def _create(self, type_: RecordType, root: int, id_: int, parent: int = 0) -> int:
        key = rows.record_key(type_.table, self._workspace, root, id_)
        row = Row(type_.schema, schema.zero(type_.schema), key, id_)
        row.type, row.created, row.root, row.parent = type_, True, root, parent
        self._changing(row)
        return self._hold_row(row)

    def _new_id(self) -> int:
        id_, self.next_id = self.next_id, self.next_id + 1
        return id_

    def _miss(self, key: bytes, name: str) -> None:
        self.missed.append(key)
        self.stopped = Missed(name)
        raise self.stopped

    def _own(self, type_: RecordType) -> None:
        self._alive()
        if self._scope.application.records.get(type_.name) is not type_:
            raise self._misused(f"record type {type_.name} is not one of this application")

    def _alive(self) -> None:
        if self.stopped is not None:
            raise self.stopped

    def _changing(self, row: Row) -> None:
        if row.type is not None:
            name = row.type.name
            if self._records is not None and name not in self._records:
                raise self._refused(
                    Code.NOT_IN_WORKSPACE, f"a workspace of this kind has no {name}", name
                )
            most = self._command.changes_max
            if len(self.changed) >= most:
                what = f"{self._command.name} would change a record more than the {most} it may"
                raise self._refused(Code.TOO_MANY_CHANGES, what, name)
            self.changed.append(row)
        row.changed = True

    def _hold_row(self, row: Row) -> int:
        handle = self._hold(row_cell(row, writable=True))
        self._handles[row.key] = handle
        self.known[row.key] = row
        return handle

    def _record_row(self, h: int) -> Row:
        cell = self._cell(h)
        if cell.row is None or cell.bit or not isinstance(cell.row.type, RecordType):
            raise self._misused(f"handle {h} is no record")
        return cell.row


def _name(row: Row) -> str:
    return row.type.name if row.type is not None else ""


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
