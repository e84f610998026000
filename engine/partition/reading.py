"""Reads of one partition: records, views, a workspace's log, from one consistent picture.

Owns how stored rows become values: each is decoded by the schema of the application that wrote
it and resolved to the one in force. Values are as the codec has them (dates are numbers); JSON is
a gateway's business. Writes nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

from engine import limits, wire
from engine.application import Application, rows
from engine.application.schema import decode
from engine.application.types import RecordSchema
from engine.model import Position
from engine.ports import StoreView


class CursorError(ValueError):
    """A cursor that no page of this query has given."""


class StoredRecord(TypedDict):
    """A record as it stands."""

    id: int
    active: bool
    fields: dict[str, Any]


class ViewPage(NamedTuple):
    """Rows of a view in key order; `next` continues behind them, None = there are no more."""

    rows: list[dict[str, Any]]
    next: bytes | None


class PartitionReader:
    """Decodes rows of a store view by the applications that wrote them."""

    def __init__(self, view: StoreView, applications: Mapping[int, Application]) -> None:
        self._view = view
        self._applications = applications
        self._position: Position | None = None

    def close(self) -> None:
        """Let go of the picture."""
        self._view.close()

    def position(self) -> Position:
        """Return where this picture stands in the log."""
        if self._position is None:
            value = self._view.get(rows.POSITION_KEY)
            self._position = Position() if value is None else wire.decode_position(value)[1]
        return self._position

    @property
    def application(self) -> Application | None:
        """Return the application in force in this picture; None before the first."""
        return self._applications.get(self.position().host.application)

    def application_of(self, index: int) -> Application | None:
        """Return the application of that index: what an outcome or a row names."""
        return self._applications.get(index)

    def record(self, type_: str, workspace: str, record_id: int) -> StoredRecord | None:
        """Return a root record, inactive ones too; None if there is none."""
        application = self.application
        found = application.records.get(type_) if application else None
        if found is None:
            return None
        value = self._view.get(rows.record_key(found.table, workspace, record_id, record_id))
        if value is None:
            return None
        row = rows.decode_value(value)
        writer = self._applications[row.application].record_tables[row.type].schema
        fields = decode(found.schema, row.body, writer)
        return StoredRecord(id=record_id, active=not row.flags & rows.INACTIVE, fields=fields)

    def view_rows(
        self,
        view: str,
        workspace: str,
        prefix: Sequence[object],
        limit: int,
        after: bytes | None = None,
    ) -> ViewPage:
        """Return up to `limit` rows whose first key columns equal `prefix`, in key order.

        A page ends early where its rows grow beyond QUERY_BYTES_MAX; it has at least one row.
        `after` is an earlier page's `next`; raises CursorError for one that is not of this query.
        """
        application = self.application
        found = application.views.get(view) if application else None
        if found is None:
            return ViewPage([], None)
        kinds = [column.kind for column in found.key]
        names = [column.name for column in found.key]
        base = len(rows.workspace_prefix(found.table, workspace))
        start = rows.view_key(found.table, workspace, zip(kinds, prefix, strict=False))
        end = rows.prefix_end(start)
        if after is not None:
            behind = start[:base] + after + b"\x00"
            if not behind.startswith(start):
                raise CursorError("the cursor is not of this query")
            start = behind
        page: list[dict[str, Any]] = []
        last, size = b"", 0
        for key, value in self._view.scan(start, end):
            size += len(value)
            if len(page) == limit or (page and size > limits.QUERY_BYTES_MAX):
                return ViewPage(page, last[base:])
            columns = dict(zip(names, rows.decode_columns(key, kinds), strict=True))
            page.append(columns | self._view_row(found.schema, value))
            last = key
        return ViewPage(page, None)

    def _view_row(self, schema: RecordSchema, value: bytes) -> dict[str, Any]:
        row = rows.decode_value(value)
        writer = self._applications[row.application].view_tables[row.type].schema
        return decode(schema, row.body, writer)

    def workspace(self, workspace: str) -> rows.Workspace | None:
        """Return a workspace's row; None before its first accepted outcome."""
        value = self._view.get(rows.workspace_key(workspace))
        return None if value is None else rows.decode_workspace(value)

    def sequences(self, workspace: str, after: int, limit: int) -> list[tuple[int, int]]:
        """Return (workspace sequence, partition sequence) of up to `limit` outcomes behind `after`.

        A workspace's log is full pages of WORKSPACE_PAGE, and what is behind them in its row.
        """
        row = self.workspace(workspace)
        if row is None or after >= row.last:
            return []
        found: list[tuple[int, int]] = []
        paged = row.last - len(row.recent)
        number = max(after, 0) + 1
        last = min(row.last, number + limit - 1)
        while number <= min(paged, last):
            page, at = divmod(number - 1, limits.WORKSPACE_PAGE)
            value = self._view.get(rows.workspace_log_key(workspace, page))
            assert value is not None, f"page {page} of the log of a workspace is missing"
            for sequence in rows.decode_sequences(value)[at:]:
                if number > last:
                    break
                found.append((number, sequence))
                number += 1
        for sequence in row.recent[max(number - paged - 1, 0) :]:
            if number > last:
                break
            found.append((number, sequence))
            number += 1
        return found

    def offset_of(self, sequence: int) -> int | None:
        """Return the event log's offset of an outcome; None if its page is gone."""
        start = rows.table_prefix(rows.TABLE_PAGES)
        for key, value in self._view.scan(start, rows.page_key(sequence + 1), reverse=True):
            page = rows.decode_page(key, value)
            behind = sequence - page.first_sequence
            return page.first_offset + behind if behind < page.length else None
        return None
