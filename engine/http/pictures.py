"""What a query answers, as JSON: one record, a type's records, a view's rows.

A picture is parsed once, as strictly as may be, and then read from any number of readers: by a
query once, by a subscription after every change. Knows no responses.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from starlette.requests import Request

from engine import limits
from engine.application import Application, rows
from engine.application.forms import value_to_json
from engine.application.schema import to_json
from engine.application.types import Field, KeyColumn, RecordType, ViewType
from engine.http import criteria, projection
from engine.http.context import Context
from engine.http.parameters import bad, boolean, integer, query, segment, workspace_of
from engine.http.problems import HttpCode, Problem
from engine.http.projection import Tree, project
from engine.partition.reading import CursorError, Page, PartitionReader, StoredRecord
from engine.partition.selection import COLUMN_FIELDS, Selection, TooWideError

# The options of a page, and of what a subscription watches.
PAGE = ("where", "order", "keys", *criteria.PAGING, criteria.MIN_SEQUENCE)
WATCHED = ("where", "keys")

ID = (KeyColumn("id", "long"),)


class Answered(NamedTuple):
    """What a picture shows; of rows, also the key of each."""

    body: dict[str, Any]
    keys: list[bytes]


class Watched(NamedTuple):
    """All rows that a subscription of a view watches, by their keys."""

    view: ViewType
    rows: dict[bytes, dict[str, Any]]

    def columns(self, key: bytes) -> dict[str, Any]:
        """Return the columns of a key: what is left of a row that is gone."""
        kinds = [column.kind for column in self.view.key]
        values = rows.decode_columns(rows.workspace_prefix(0, "") + key, kinds)
        return {
            column.name: value_to_json(COLUMN_FIELDS[column.kind], value)
            for column, value in zip(self.view.key, values, strict=True)
        }


class Picture(Protocol):
    """A query that was understood."""

    @property
    def given(self) -> dict[str, str]:
        """Return its parameters."""
        ...

    def read(self, reader: PartitionReader) -> Answered:
        """Return what it shows now."""
        ...


def picture_json(partition: int, reader: PartitionReader) -> dict[str, Any]:
    """Return what every answer says of its picture."""
    return {"partition": partition, "sequence": reader.position().host.sequence}


class RecordPicture:
    """One record."""

    def __init__(self, context: Context, request: Request, options: tuple[str, ...]) -> None:
        self._context = context
        self._name = segment(request, "type")
        type_ = _record_type(context.node.application, self._name)
        self.given = query(request, ("keys", *options))
        self.workspace = workspace_of(request)
        self._id = integer("id", segment(request, "id"), 0)
        _record_keys(self.given, type_)

    @property
    def named(self) -> dict[str, Any]:
        """Return what it is a picture of."""
        return {"type": self._name, "id": self._id}

    def read(self, reader: PartitionReader) -> Answered:
        """Return the record; a problem if there is none."""
        type_ = _record_type(_application(self._context, reader), self._name)
        found = reader.record(self._name, self.workspace, self._id)
        if found is None:
            raise Problem(
                404,
                HttpCode.UNKNOWN_RECORD,
                f"there is no {self._name} {self._id} in this workspace",
                **picture_json(self._context.node.partition_of(self.workspace), reader),
            )
        body = _record_json(type_, found, _record_keys(self.given, type_))
        return Answered({"type": self._name} | body, [])


class RecordsPicture:
    """A page of a type's records: by id, inactive ones only if they are asked for."""

    def __init__(self, context: Context, request: Request, options: tuple[str, ...]) -> None:
        self._context = context
        self._name = segment(request, "type")
        type_ = _record_type(context.node.application, self._name)
        self.given = query(request, (*criteria.column_names(ID), *options, "inactive"))
        self.workspace = workspace_of(request)
        self._inactive = boolean("inactive", self.given.get("inactive", "false"))
        self._parse(type_)

    def _parse(self, type_: RecordType) -> tuple[Selection, Tree | None]:
        fields = _fields(ID, type_.schema.by_name)
        return criteria.selection(self.given, ID, fields), _record_keys(self.given, type_)

    def read(self, reader: PartitionReader) -> Answered:
        """Return the page."""
        type_ = _record_type(_application(self._context, reader), self._name)
        selection, keys = self._parse(type_)

        def records() -> Page:
            return reader.record_rows(
                self._name, self.workspace, selection, inactive=self._inactive
            )

        page = _bounded(records)
        listed = [_record_json(type_, row, keys) for row in page.rows]
        follow = criteria.cursor_text(self.given, page.next)
        return Answered({"type": self._name, "rows": listed, "next": follow}, page.keys)


class ViewPicture:
    """A page of a view's rows."""

    def __init__(self, context: Context, request: Request, options: tuple[str, ...]) -> None:
        self._context = context
        self._name = segment(request, "view")
        view = _view_type(context.node.application, self._name)
        self.given = query(request, (*criteria.column_names(view.key), *options))
        self.workspace = workspace_of(request)
        self._parse(view)

    def _parse(self, view: ViewType) -> tuple[Selection, Tree | None]:
        fields = _fields(view.key, view.schema.by_name)
        known = dict.fromkeys(column.name for column in view.key)
        keys = projection.wanted(self.given, known | projection.tree(view.schema.fields))
        return criteria.selection(self.given, view.key, fields), keys

    def all(self, reader: PartitionReader) -> "Watched":
        """Return all rows, by their keys; a problem if they are more than can be watched."""
        view = _view_type(_application(self._context, reader), self._name)
        selection, keys = self._parse(view)
        most = limits.SUBSCRIPTION_ROWS_MAX
        page = _bounded(
            lambda: reader.view_rows(self._name, self.workspace, replace(selection, limit=most))
        )
        if page.next is not None:
            raise _too_wide(f"more than {len(page.rows)} rows would have to be watched")
        listed = zip(page.keys, self._listed(view, page, keys), strict=True)
        return Watched(view, dict(listed))

    def read(self, reader: PartitionReader) -> Answered:
        """Return the page."""
        view = _view_type(_application(self._context, reader), self._name)
        selection, keys = self._parse(view)
        page = _bounded(lambda: reader.view_rows(self._name, self.workspace, selection))
        follow = criteria.cursor_text(self.given, page.next)
        return Answered({"rows": self._listed(view, page, keys), "next": follow}, page.keys)

    def _listed(self, view: ViewType, page: Page, keys: Tree | None) -> list[dict[str, Any]]:
        return [
            project(_columns_json(view, row) | to_json(view.schema, row), keys) for row in page.rows
        ]


def _application(context: Context, reader: PartitionReader) -> Application:
    return reader.application or context.node.application


def _record_type(application: Application, name: str) -> RecordType:
    found = application.records.get(name)
    if found is None:
        known = ", ".join(sorted(application.records))
        raise Problem(404, HttpCode.UNKNOWN_RECORD_TYPE, f"there is no record type {name!r}", known)
    return found


def _view_type(application: Application, name: str) -> ViewType:
    found = application.views.get(name)
    if found is None:
        known = f"Views are: {', '.join(sorted(application.views))}"
        raise Problem(404, HttpCode.UNKNOWN_VIEW, f"there is no view {name!r}", known)
    return found


def _fields(columns: tuple[KeyColumn, ...], fields: Mapping[str, Field]) -> dict[str, Field]:
    """Return what conditions and orders may name; a field hides a column of its name."""
    return {column.name: COLUMN_FIELDS[column.kind] for column in columns} | dict(fields)


def _columns_json(view: ViewType, row: Mapping[str, Any]) -> dict[str, Any]:
    fields = _fields(view.key, view.schema.by_name)
    return {
        column.name: value_to_json(fields[column.name], row[column.name]) for column in view.key
    }


def _record_keys(given: Mapping[str, str], type_: RecordType) -> Tree | None:
    return projection.wanted(given, projection.tree(type_.schema.fields))


def _record_json(
    type_: RecordType, record: StoredRecord | Mapping[str, Any], keys: Tree | None
) -> dict[str, Any]:
    fields = project(to_json(type_.schema, record["fields"]), keys)
    return {"id": record["id"], "active": record["active"], "fields": fields}


def _bounded(read: Callable[[], Page]) -> Page:
    try:
        return read()
    except CursorError as fault:
        raise bad("after", str(fault)) from None
    except TooWideError as fault:
        raise _too_wide(str(fault)) from None


def _too_wide(why: str) -> Problem:
    hint = "Narrow it by the first key columns or a range on them; an order looks at all rows"
    return Problem(422, HttpCode.QUERY_TOO_WIDE, why, hint)
