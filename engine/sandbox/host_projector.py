"""What a projector may do: the `Call` of one event, on the views that the projector declares.

Owns the view rows that one outcome's projectors work on, and the limits on them. A limit may be
raised in a later release but never lowered: fold runs projectors under the same ones. The bound of
a scan alone decides nothing in fold.
"""

from collections.abc import Iterator
from typing import Any

from engine.application import rows, schema
from engine.application.types import KeyColumn, ProjectorType, ViewType
from engine.limits import FIELD_BYTES_MAX, VIEW_ROWS_MAX
from engine.sandbox.host_scope import Scope, ScopedCall, row_cell
from engine.sandbox.host_values import UNKNOWN, Cell, Cursor, Row, Unknown
from engine.sandbox.session import EVENT, NONE


class ViewRows:
    """The view rows that the projectors of one outcome work on."""

    def __init__(self, scope: Scope, *, bounded: bool) -> None:
        self._scope = scope
        self._rows: dict[bytes, Row] = {}
        self.bounded = bounded
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
        return self.hold(view, key, value if isinstance(value, bytes) else None)

    def hold(self, view: ViewType, key: bytes, value: bytes | None) -> Row:
        """Return the row at a key whose stored value is given."""
        known = self._rows.get(key)
        if known is not None:
            return known
        row = Row(view.schema, {}, key)
        row.type = view
        row.present = value is not None
        if value is not None:
            row.before = value
            row.values = self._scope.codec.decode(view, value)
        self._rows[key] = row
        return row

    def changed_below(self, prefix: bytes) -> dict[bytes, bytes | None]:
        """Return the changed rows below a prefix; what they hold is asked of `hold`."""
        return {
            row.key: b"" if row.present else None
            for row in self.changed
            if row.key.startswith(prefix)
        }


class ProjectorCall(ScopedCall):
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
        self._cells[EVENT] = row_cell(event, writable=False)

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
        return self._hold(row_cell(row, writable=False)) if row.present else NONE

    def put(self, k: int) -> int:
        """Return a writable handle of the row at a key: as it is, else new with defaults."""
        row = self._row(k)
        if not row.present:
            row.present = True
            row.values = schema.zero(row.schema)
        if not row.changed:
            self._changing(row)
        return self._hold(row_cell(row, writable=True))

    def remove(self, k: int) -> None:
        """Remove the row at a key, if there is one."""
        row = self._row(k)
        if row.present:
            row.present = False
            if not row.changed:
                self._changing(row)

    def scan(self, k: int, columns: int, reverse: bool) -> int:  # noqa: FBT001 - an ABI's argument
        """Return a cursor over a view's rows whose first `columns` key columns are those of `k`."""
        view, cell = self._key(k)
        if not 0 <= columns <= len(view.key):
            raise self._misused(f"scan: the key of {view.name} has no {columns} columns")
        prefix = self._encoded(view, cell, view.key[:columns])
        changed = self._views.changed_below(prefix)
        bounded = self._views.bounded
        found = self._below(view.name, prefix, changed, reverse=reverse, bounded=bounded)
        pairs = [] if isinstance(found, Unknown) else found
        held = [self._views.hold(view, key, value) for key, value in pairs]
        return self._hold(Cursor(self._found(view, held)))

    def _found(self, view: ViewType, held: list[Row]) -> Iterator[int]:
        kinds = [column.kind for column in view.key]
        for row in held:
            if not row.present:
                continue  # removed since
            columns = rows.decode_columns(row.key, kinds)
            names = (column.name for column in view.key)
            values = {**row.values, **dict(zip(names, columns, strict=True))}
            yield self._hold(Cell((*row.schema.fields, *view.key), values, row))

    def _key(self, k: int) -> tuple[ViewType, Cell]:
        cell = self._cell(k)
        view = cell.view
        if view is None:
            raise self._misused(f"handle {k} is no key of a view")
        return view, cell

    def _row(self, k: int) -> Row:
        view, cell = self._key(k)
        return self._views.load(view, self._encoded(view, cell, view.key))

    def _encoded(self, view: ViewType, cell: Cell, key: tuple[KeyColumn, ...]) -> bytes:
        """Return the bytes of a key, or of the prefix that its first columns are."""
        unset = [column.name for column in key if cell.values.get(column.name) is None]
        if unset:
            raise self._misused(f"the key of {view.name} lacks {', '.join(unset)}")
        columns = [(column.kind, cell.values.get(column.name)) for column in key]
        encoded = rows.view_key(view.table, self._workspace, columns)
        if len(encoded) > FIELD_BYTES_MAX:
            raise self._misused(f"a key of {view.name} is over {FIELD_BYTES_MAX} bytes")
        return encoded

    def _changing(self, row: Row) -> None:
        if len(self._views.changed) >= VIEW_ROWS_MAX:
            raise self._misused(f"an outcome may change at most {VIEW_ROWS_MAX} view rows")
        self._views.changed.append(row)
        row.changed = True
