"""The rules of records: whether what a command has changed may become an outcome.

They are asked once, at the end of a command, for each changed row in the order of its first change;
so references may be set before what they refer to is made. They decide in DECIDE only: a fold
applies what was decided. A row that is needed and not known is noted, and taken to keep the rules:
the command is run again when it is known.
"""

from collections.abc import Iterator
from typing import Any

from engine.application import checks, rows
from engine.application.types import RecordType, Reference, Unique
from engine.errors import Code
from engine.limits import FIELD_BYTES_MAX, ID_FIRST
from engine.sandbox.host_apply import Rejection
from engine.sandbox.host_calls import CommandCall
from engine.sandbox.host_scope import Scope
from engine.sandbox.host_unique import shown, unique_key
from engine.sandbox.host_values import UNKNOWN, Row, RuleBroken, Unknown

_Values = dict[str, Any]


class Rules:
    """One command's changed rows under the rules of one application."""

    def __init__(self, scope: Scope, workspace: str, call: CommandCall) -> None:
        self._scope = scope
        self._records = scope.application.records
        self._workspace = workspace
        self._call = call
        self._taken: dict[bytes, int | None] = {}  # of the unique index, by this command
        self.missed: list[bytes] = []

    def check(self) -> None:
        """Raise Rejection at the first rule that is broken; `missed` comes before that."""
        nests = False
        for row in self._call.changed:
            type_ = _type(row)
            self._row(row, type_)
            nests = nests or bool(type_.parent or type_.children)
        if nests:
            self._occurrences()

    def _row(self, row: Row, type_: RecordType) -> None:
        if not row.active and not row.was_active:
            what = f"{type_.name} {row.id} is inactive and was changed"
            raise Rejection(Code.INACTIVE_RECORD, what, type_.name)
        if type_.parent:
            self._parents(row, type_)
        self._required(row, type_)
        # An older application may have allowed what stands in a field that is left as it is.
        is_whole = row.created or not row.was_active
        for check in type_.checks:
            if not (is_whole or row.touched >> check.field.ordinal & 1):
                continue
            why = checks.violation(check, row.values[check.field.name])
            if why:
                name = f"{type_.name}.{check.field.name}"
                raise Rejection(Code.CHECK_FAILED, f"{name} {why}", name)
        if type_.references or type_.uniques:
            before = self._before(row, type_)
            for reference in type_.references:
                self._reference(row, type_, reference, before)
            for unique in type_.uniques:
                self._unique(row, type_, unique, before)

    def _before(self, row: Row, type_: RecordType) -> _Values | None:
        if row.before is None:
            return None
        return self._scope.codec.decode_record(type_, row.key, row.id, row.before).values

    def _parents(self, row: Row, type_: RecordType) -> None:
        """Check that no record above a nested one is inactive, but for what this command closes."""
        for above in self._above(row, type_):
            if not above.active and not above.was_active:
                over = f"{_type(above).name} {above.id}"
                what = f"{type_.name} {row.id} lies in {over}, which is inactive"
                raise Rejection(Code.INACTIVE_RECORD, what, type_.name)

    def _above(self, row: Row, type_: RecordType) -> Iterator[Row]:
        while type_.parent:
            type_ = self._records[type_.parent]
            # A nested record is only reached through the ones above it, so they are known.
            row = self._call.known[self._key(type_, row.root, row.parent)]
            yield row

    def _key(self, type_: RecordType, root: int, id_: int) -> bytes:
        return rows.record_key(type_.table, self._workspace, root, id_)

    def _required(self, row: Row, type_: RecordType) -> None:
        for field in type_.required:
            is_set = row.touched >> field.ordinal & 1
            name = f"{type_.name}.{field.name}"
            if row.created and not is_set:
                raise Rejection(Code.REQUIRED, f"{name} is required and was not set", name)
            value = row.values[field.name]
            refers = any(reference.field is field for reference in type_.references)
            if is_set and (checks.is_empty(field, value) or (refers and value == 0)):
                what = f"{name} is required and would be {value!r}"
                raise Rejection(Code.REQUIRED, what, name)

    def _reference(
        self, row: Row, type_: RecordType, reference: Reference, before: _Values | None
    ) -> None:
        """Check what a record newly refers to; what it referred to before may have gone since."""
        field = reference.field.name
        id_ = row.values[field]
        news = before is None or not row.was_active or before[field] != id_
        if not id_ or not row.active or not news:
            return
        found = [self._is_active(self._records[name], id_) for name in reference.targets]
        if not any(found):
            name = f"{type_.name}.{field}"
            what = f"{name} would be {id_}, which is no active {' or '.join(reference.targets)}"
            raise Rejection(Code.INVALID_REFERENCE, what, name)

    def _is_active(self, type_: RecordType, id_: int) -> bool:
        """Tell whether a document is there and active; what isn't known is taken to be."""
        if id_ < ID_FIRST:
            return False
        key = self._key(type_, id_, id_)
        row = self._call.known.get(key)
        if row is not None:
            return row.active
        value = self._scope.rows.get(key)
        if value is UNKNOWN:
            self.missed.append(key)
            return True
        return isinstance(value, bytes) and not rows.decode_value(value).flags & rows.INACTIVE

    def _unique(self, row: Row, type_: RecordType, unique: Unique, before: _Values | None) -> None:
        name = f"{type_.name}.{unique.fields[0].name}"
        key = unique_key(self._workspace, unique, row.values)
        if len(key) > FIELD_BYTES_MAX:
            what = f"{type_.name}.{unique.name} would be unique by over {FIELD_BYTES_MAX} bytes"
            raise Rejection(Code.TOO_LARGE, what, name)
        if before is not None and row.was_active:
            if unique_key(self._workspace, unique, before) != key:
                what = (
                    f"{type_.name} {row.id} is active: its {shown(unique, before)} "
                    f"can't become {shown(unique, row.values)}"
                )
                raise Rejection(Code.UNIQUE_CHANGED, what, name)
            if not row.active:
                self._taken[key] = None
            return
        holder = self._holder(key)
        if holder is not None:
            what = f"there is a {type_.name} with {shown(unique, row.values)} already: {holder}"
            raise Rejection(Code.NOT_UNIQUE, what, name)
        self._taken[key] = row.id

    def _holder(self, key: bytes) -> int | None:
        if key in self._taken:
            return self._taken[key]
        value = self._scope.rows.get(key)
        if value is UNKNOWN:
            self.missed.append(key)
        return rows.decode_id(value) if isinstance(value, bytes) else None

    def _occurrences(self) -> None:
        """Check how many nested records are active below each parent that was touched."""
        done: set[tuple[str, int, int]] = set()
        for row in self._call.changed:
            type_ = _type(row)
            if not row.created and row.active == row.was_active:
                continue
            groups = [(child, row.root, row.id) for child in type_.children if row.active]
            if type_.parent:
                groups.insert(0, (type_.name, row.root, row.parent))
            for group in groups:
                if group not in done:
                    done.add(group)
                    self._count(*group)

    def _count(self, name: str, root: int, parent: int) -> None:
        type_ = self._records[name]
        above_type = self._records[type_.parent]
        above = self._call.known[self._key(above_type, root, parent)]
        if not above.active:
            return
        before = len(self._call.missed)
        try:
            found = self._call.active_children(type_, above)
        except RuleBroken as why:
            raise Rejection(why.code, why.message, why.field) from None
        self.missed += self._call.missed[before:]
        if isinstance(found, Unknown):
            return
        least, most = type_.occurs
        if not least <= len(found) <= most:
            field = f"{above_type.name}.{name}"
            few = len(found) < least
            bound = f"at least {least}" if few else f"at most {most}"
            what = f"{above_type.name} {parent} would have {len(found)} {name}, {bound} is allowed"
            raise Rejection(Code.TOO_FEW if few else Code.TOO_MANY, what, field)


def _type(row: Row) -> RecordType:
    assert isinstance(row.type, RecordType)
    return row.type
