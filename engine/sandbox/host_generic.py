"""The generic command: changes of records that a client asks for, under an extension's rules.

Owns temporary ids: 1 to 65,535, chosen by the client, unique in the request. Real ones are given in
the order of creation, so a reference may name a record that a later change of the request makes. A
parent must be made before its children.
"""

import math
from operator import itemgetter
from typing import Any, cast

from engine import wire
from engine.application import schema
from engine.application.resolution import source_of
from engine.application.types import CommandType, Field, RecordSchema, RecordType
from engine.errors import Code
from engine.limits import FIELD_BYTES_MAX, ID_FIRST, SINGLETON_ID, TEMPORARY_ID_MAX
from engine.sandbox.host_calls import CommandCall
from engine.sandbox.host_scope import Scope
from engine.sandbox.host_values import RuleBroken
from engine.sandbox.session import NONE

_TEMPORARY = range(1, TEMPORARY_ID_MAX + 1)


class GenericRun:
    """One generic command at work."""

    def __init__(self, scope: Scope, call: CommandCall, command: CommandType) -> None:
        self._scope = scope
        self._call = call
        self._command = command
        self._ids: dict[int, int] = {}  # temporary -> real
        self._made: dict[int, int] = {}  # temporary -> handle

    def run(self, args: dict[str, Any]) -> bytes:
        """Make the changes; return the result. Raises RuleBroken, and what a call raises."""
        changes: list[dict[str, Any]] = args["changes"]
        most = self._command.changes_max
        if len(changes) > most:
            what = f"{len(changes)} changes, {self._command.name} takes at most {most}"
            raise RuleBroken(Code.TOO_MANY_CHANGES, what, "changes")
        types = [self._type(change, at) for at, change in enumerate(changes)]
        self._number(changes, types)
        for at, (change, type_) in enumerate(zip(changes, types, strict=True)):
            if change["op"] == "create":
                self._create(change, type_, f"changes[{at}]")
            else:
                self._update(change, type_, f"changes[{at}]")
        return wire.encode_changed(self._ids)

    def _type(self, change: dict[str, Any], at: int) -> RecordType:
        name = change["type"]
        type_ = self._scope.application.record(name)
        if type_ is None or type_.name not in self._command.generic:
            what = f"{self._command.name} changes no records of type {name!r}"
            raise RuleBroken(Code.INVALID_ARGUMENTS, what, f"changes[{at}].type")
        return type_

    def _number(self, changes: list[dict[str, Any]], types: list[RecordType]) -> None:
        """Give every temporary id its real one."""
        next_id = self._call.next_id
        for at, (change, type_) in enumerate(zip(changes, types, strict=True)):
            if change["op"] != "create":
                continue
            id_, path = change["id"], f"changes[{at}].id"
            if id_ != 0 and id_ not in _TEMPORARY:
                what = f"{path} is {id_}: a new record's is 0 or from 1 to {TEMPORARY_ID_MAX}"
                raise RuleBroken(Code.INVALID_ID, what, path)
            if id_ in self._ids:
                raise RuleBroken(Code.INVALID_ID, f"{path}: {id_} is there twice", path)
            real = SINGLETON_ID
            if type_.kind != "singleton":
                real, next_id = next_id, next_id + 1
            if id_:
                self._ids[id_] = real

    def _create(self, change: dict[str, Any], type_: RecordType, path: str) -> None:
        call, id_ = self._call, change["id"]
        if type_.parent:
            handle = call.child(self._parent(change, type_, path), type_)
        else:
            self._no_parent(change, type_, path)
            if type_.kind == "singleton" and call.record(type_, SINGLETON_ID) != NONE:
                what = f"{type_.name} exists already: it is a singleton"
                raise RuleBroken(Code.INVALID_ID, what, f"{path}.id")
            handle = call.create(type_)
        if id_:
            self._made[id_] = handle
        self._set(change, type_, handle, path)

    def _update(self, change: dict[str, Any], type_: RecordType, path: str) -> None:
        op, id_ = change["op"], change["id"]
        handle = self._find(change, type_, path)
        if handle == NONE:
            what = f"{path}: there is no {type_.name} {id_}"
            raise RuleBroken(Code.UNKNOWN_RECORD, what, f"{path}.id")
        if op == "update":
            self._set(change, type_, handle, path)
            return
        if change["set"]:
            what = f"{path}: {op} takes no fields; they are changed by an update"
            raise RuleBroken(Code.INVALID_ARGUMENTS, what, f"{path}.set")
        if self._call.row_of(handle).created:
            what = f"{path}: {type_.name} {id_} is new; it can't be {op}d by the same command"
            raise RuleBroken(Code.INVALID_ID, what, f"{path}.id")
        self._call.set_active(handle, op == "activate")

    def _find(self, change: dict[str, Any], type_: RecordType, path: str) -> int:
        """Return the handle of the record that a change names, or 0."""
        id_ = change["id"]
        if id_ in _TEMPORARY:
            handle = self._made.get(id_, NONE)
            if handle == NONE or self._call.row_of(handle).type is not type_:
                what = f"{path}.id is {id_}: no {type_.name} of that id was made before"
                raise RuleBroken(Code.INVALID_ID, what, f"{path}.id")
            return handle
        is_singleton = type_.kind == "singleton"
        if id_ < 0 or (id_ == 0) != is_singleton:
            what = f"{path}.id is {id_}: {'its' if is_singleton else 'an existing record'} id is "
            what += "0" if is_singleton else f"from {ID_FIRST} up"
            raise RuleBroken(Code.INVALID_ID, what, f"{path}.id")
        if type_.parent:
            return self._call.child_of(self._parent(change, type_, path), type_, id_)
        self._no_parent(change, type_, path)
        return self._call.record(type_, id_)

    def _no_parent(self, change: dict[str, Any], type_: RecordType, path: str) -> None:
        if change["parent"]:
            what = f"{path}.parent is {change['parent']}, but {type_.name} is nested in nothing"
            raise RuleBroken(Code.INVALID_ID, what, f"{path}.parent")

    def _parent(self, change: dict[str, Any], type_: RecordType, path: str) -> int:
        """Return the handle of the record that a change's record is nested in."""
        id_, above = change["parent"], self._scope.application.records[type_.parent]
        if id_ in _TEMPORARY:
            handle = self._made.get(id_, NONE)
        elif not above.parent:
            handle = self._call.record(above, id_)
        else:
            handle = self._call.nested(above, change["root"], id_)
        if handle == NONE or self._call.row_of(handle).type is not above:
            what = f"{path}.parent is {id_}, which is no {above.name}"
            raise RuleBroken(Code.UNKNOWN_RECORD, what, f"{path}.parent")
        return handle

    def _set(self, change: dict[str, Any], type_: RecordType, handle: int, path: str) -> None:
        if not change["set"]:
            return
        writer, given = self._given(change, type_, path)
        refers = {reference.field.name for reference in type_.references}
        places = {name: at for at, name in enumerate(change["set"])}
        for name in places:
            if name not in writer.by_name:
                what = f"{path}: {type_.name} has no field {name!r}"
                raise RuleBroken(Code.INVALID_ARGUMENTS, what, f"{path}.set")
        fields = ((source_of(field, writer), field) for field in type_.schema.fields)
        wanted = [(places[old.name], field) for old, field in fields if old and old.name in places]
        for _, field in sorted(wanted, key=itemgetter(0)):
            value = given[field.name]
            if field.name in refers and value in _TEMPORARY:
                value = self._resolved(type_, field.name, value)
            self._call.set_field(handle, field, _bounded(type_, field, value))

    def _given(
        self, change: dict[str, Any], type_: RecordType, path: str
    ) -> tuple[RecordSchema, dict[str, Any]]:
        """Return the schema that a change's body was written by, and its fields as of today."""
        field = f"{path}.body"
        try:
            fingerprint, body = schema.split_named(change["body"])
            writer = self._scope.codec.writer_of(type_, fingerprint)
            if writer is None:
                what = f"{path}: no schema {fingerprint} of {type_.name} is known"
                raise RuleBroken(Code.UNKNOWN_SCHEMA, what, field)
            return writer, schema.decode(type_.schema, body, writer)
        except wire.WireError as why:
            what = f"{path}: the body is not of the schema of {type_.name}: {why}"
            raise RuleBroken(Code.INVALID_ARGUMENTS, what, field) from None

    def _resolved(self, type_: RecordType, name: str, temporary: int) -> int:
        real = self._ids.get(temporary)
        if real is None:
            field = f"{type_.name}.{name}"
            what = f"{field} would be {temporary}, a temporary id that nothing here has"
            raise RuleBroken(Code.INVALID_REFERENCE, what, field)
        return real


def _bounded(type_: RecordType, field: Field, value: Any) -> Any:
    """Return a value as an extension could have set it."""
    if isinstance(value, float):
        return math.nan if math.isnan(value) else value  # one NaN, so that replicas stay equal
    if isinstance(value, str | bytes):
        size_bytes = len(value.encode() if isinstance(value, str) else value)
        if size_bytes > FIELD_BYTES_MAX:
            name = f"{type_.name}.{field.name}"
            what = f"{name} has {size_bytes} bytes, at most {FIELD_BYTES_MAX} are allowed"
            raise RuleBroken(Code.TOO_LARGE, what, name)
    if isinstance(value, list):
        return [_bounded(type_, field, item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {name: _bounded(type_, field, item) for name, item in items}
    return value
