"""Reads of one partition: records, views, a workspace's log, from one consistent picture.

Owns how stored rows become values: each is decoded by the schema of the application that wrote
it and resolved to the one in force. Values are as the codec has them (dates are numbers); JSON is
a gateway's business. Writes nothing.
"""

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

from engine import limits
from engine.application import Application, rows
from engine.application.generations import generations_of
from engine.application.schema import decode
from engine.application.types import RecordType, ViewType
from engine.model import Position
from engine.partition.ledger import position_of
from engine.partition.paging import CursorError, Found, Scope, find
from engine.partition.selection import Selection
from engine.ports import StoreView

__all__ = ["CursorError", "Found", "Page", "PartitionReader", "Scope", "StoredRecord"]


class StoredRecord(TypedDict):
    """A record as it stands; `root` and `parent` are 0 unless it is nested."""

    id: int
    active: bool
    fields: dict[str, Any]
    root: int
    parent: int
    children: "dict[str, list[StoredRecord]]"  # by type, where they were read


class Page(NamedTuple):
    """Rows in their order; `next` continues behind them, None = there are no more."""

    rows: list[dict[str, Any]]
    next: bytes | None
    keys: list[bytes]  # of each row: its place in the table, behind the workspace


Nested = Mapping[str, Any] | None  # of types; by each, what is wanted below it


class PartitionReader:
    """Decodes rows of a store view by the applications that wrote them."""

    def __init__(
        self, view: StoreView, applications: Mapping[int, Application], *, stale: bool = False
    ) -> None:
        self.stale = stale  # not read at the partition's owner: others may have seen newer rows
        self._view = view
        self._applications = applications
        self._position: Position | None = None
        self._in_force: Application | None = None

    def close(self) -> None:
        """Let go of the picture."""
        self._view.close()

    def position(self) -> Position:
        """Return where this picture stands in the log."""
        if self._position is None:
            self._position = position_of(self._view) or Position()
        return self._position

    @property
    def application(self) -> Application | None:
        """Return the application in force in this picture; None before the first.

        Its views are those that count: while a view's new generation is built, the old one.
        """
        index = self.position().host.application
        if index not in self._applications:
            return None
        if self._in_force is None:
            prefix = rows.table_prefix(rows.TABLE_WAITING)
            found = self._view.scan(prefix, rows.prefix_end(prefix))
            waiting = dict(rows.decode_waiting(key, value) for key, value in found)
            made = generations_of(self._applications, index, waiting)
            self._in_force = made.application
        return self._in_force

    def application_of(self, index: int) -> Application | None:
        """Return the application of that index: what an outcome or a row names."""
        return self._applications.get(index)

    def record(
        self, type_: str, workspace: str, record_id: int, root: int | None = None
    ) -> StoredRecord | None:
        """Return a record, inactive ones too; None if there is none.

        A nested record is found by its document's id, `root`.
        """
        application = self.application
        found = application.records.get(type_) if application else None
        if found is None:
            return None
        key = rows.record_key(
            found.table, workspace, record_id if root is None else root, record_id
        )
        value = self._view.get(key)
        return None if value is None else self._stored_record(found, key, value)

    def add_children(
        self,
        type_: str,
        workspace: str,
        record: StoredRecord,
        wanted: Nested,
        scope: Scope,
    ) -> None:
        """Read what is nested below a record into its `children`; raises TooWideError.

        `wanted` names the types, and those nested in them; None means all of them.
        """
        application = self.application
        assert application is not None
        root = record["root"] or record["id"]
        start = (application.records[type_], {record["id"]: record})
        self._add_nested(start, workspace, root, wanted, scope)

    def _add_nested(
        self,
        above: tuple[RecordType, dict[int, StoredRecord]],
        workspace: str,
        root: int,
        wanted: Nested,
        scope: Scope,
    ) -> None:
        application, (parent_type, parents) = self.application, above
        assert application is not None
        for name in parent_type.children:
            if wanted is not None and name not in wanted:
                continue
            type_ = application.records[name]
            for parent in parents.values():
                parent["children"][name] = []
            nested: dict[int, StoredRecord] = {}
            start = rows.workspace_prefix(type_.table, workspace) + rows.encode_long(root)
            for key, value in self._view.scan(start, rows.prefix_end(start)):
                scope.take(len(value))
                record = self._stored_record(type_, key, value)
                if record["parent"] in parents and (record["active"] or scope.inactive):
                    parents[record["parent"]]["children"][name].append(record)
                    nested[record["id"]] = record
            below = None if wanted is None else wanted[name]
            self._add_nested((type_, nested), workspace, root, below, scope)

    def find_view_rows(self, view: str, workspace: str, selection: Selection) -> Found:
        """Return a page of a view's rows, in key order unless the selection has another.

        Raises CursorError for an `after` outside of the selection, TooWideError if too many rows
        would have to be looked at.
        """
        application = self.application
        found = application.views.get(view) if application else None
        if found is None:
            return Found([], [], more=False)

        def look(key: bytes, value: bytes, _scope: Scope) -> bytes | None:
            if not selection.reads:
                return b""
            row = self._view_row(found, key, value)
            return selection.sort_key(row) if selection.wants(row) else None

        base = rows.workspace_prefix(found.table, workspace)
        kinds = [column.kind for column in found.key]
        return find(self._view, base, kinds, selection, look, Scope())

    def view_row(self, view: str, workspace: str, key: bytes) -> dict[str, Any]:
        """Return one of the rows found, its key's columns with it."""
        application = self.application
        assert application is not None
        found = application.views[view]
        return self._view_row(found, *self._found(found.table, workspace, key))

    def view_rows(self, view: str, workspace: str, selection: Selection) -> Page:
        """Return a page of a view's rows, all at once; raises what `find_view_rows` does."""
        found = self.find_view_rows(view, workspace, selection)
        listed = [self.view_row(view, workspace, key) for key in found.keys]
        return Page(listed, found.next, found.keys)

    def find_record_rows(
        self, type_: str, workspace: str, selection: Selection, *, inactive: bool = False
    ) -> Found:
        """Return a page of a type's records, by id unless ordered otherwise.

        Raises what `find_view_rows` does.
        """
        application = self.application
        found = application.records.get(type_) if application else None
        if found is None:
            return Found([], [], more=False)

        def look(key: bytes, value: bytes, scope: Scope) -> bytes | None:
            if not (inactive or not rows.decode_value(value).flags & rows.INACTIVE):
                return None
            if not selection.reads:
                return b""
            record = self._stored_record(found, key, value)
            if not selection.may_want(_flat(record)):
                return None
            if selection.within:
                start = (found, {record["id"]: record})
                root = record["root"] or record["id"]
                self._add_nested(start, workspace, root, selection.within, scope)
            row = _flat(record)
            return selection.sort_key(row) if selection.wants(row) else None

        base = rows.workspace_prefix(found.table, workspace)
        scope = Scope(inactive=inactive)
        return find(self._view, base, ["long", "long"], selection, look, scope)

    def record_row(self, type_: str, workspace: str, key: bytes) -> StoredRecord:
        """Return one of the records found."""
        application = self.application
        assert application is not None
        found = application.records[type_]
        return self._stored_record(found, *self._found(found.table, workspace, key))

    def _found(self, table: int, workspace: str, key: bytes) -> tuple[bytes, bytes]:
        whole = rows.workspace_prefix(table, workspace) + key
        value = self._view.get(whole)
        assert value is not None, "a row that was found is in the same picture"
        return whole, value

    def _stored_record(self, type_: RecordType, key: bytes, value: bytes) -> StoredRecord:
        row, root, parent = rows.decode_value(value), 0, 0
        body = row.body
        if type_.parent:
            parent, body = rows.split_nested(body)
            root = rows.decode_long(key[-16:-8])
        writer = self._applications[row.application].record_tables[row.type].schema
        return StoredRecord(
            id=rows.decode_long(key[-8:]),
            active=not row.flags & rows.INACTIVE,
            fields=decode(type_.schema, body, writer),
            root=root,
            parent=parent,
            children={},
        )

    def _view_row(self, view: ViewType, key: bytes, value: bytes) -> dict[str, Any]:
        kinds = [column.kind for column in view.key]
        columns = zip(
            (column.name for column in view.key), rows.decode_columns(key, kinds), strict=True
        )
        row = rows.decode_value(value)
        writer = self._applications[row.application].view_tables[row.type].schema
        return dict(columns) | decode(view.schema, row.body, writer)

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

    def last_sequence(self, workspace: str) -> int:
        """Return the partition sequence of a workspace's last outcome; 0 before the first."""
        row = self.workspace(workspace)
        if row is None:
            return 0
        return row.recent[-1] if row.recent else self._sequence_of(workspace, row.last)

    def passed(self, workspace: str, sequence: int) -> int:
        """Return how many of a workspace's outcomes stand at or below a partition sequence."""
        row = self.workspace(workspace)
        numbers = range(1, row.last + 1 if row else 1)
        return bisect_right(numbers, sequence, key=lambda at: self._sequence_of(workspace, at))

    def _sequence_of(self, workspace: str, number: int) -> int:
        return self.sequences(workspace, number - 1, 1)[0][1]

    def offset_of(self, sequence: int) -> int | None:
        """Return the event log's offset of an outcome; None if its page is gone."""
        start = rows.table_prefix(rows.TABLE_PAGES)
        for key, value in self._view.scan(start, rows.page_key(sequence + 1), reverse=True):
            page = rows.decode_page(key, value)
            behind = sequence - page.first_sequence
            return page.first_offset + behind if behind < page.length else None
        return None


def _flat(record: StoredRecord) -> dict[str, Any]:
    """Return what conditions see of a record: a field hides what else has its name."""
    nested = {name: [_flat(one) for one in below] for name, below in record["children"].items()}
    ids = {"id": record["id"], "root": record["root"], "parent": record["parent"]}
    return nested | ids | record["fields"]
