"""What a query answers, as JSON: one record, a type's records, a view's rows.

A picture is parsed once, as strictly as may be, and then read from any number of readers: by a
query once, by a subscription after every change. Knows no responses.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypeVar

from starlette.requests import Request

from engine import limits
from engine.application import Application, rows
from engine.application.forms import value_to_json
from engine.application.schema import to_json
from engine.application.types import KeyColumn, RecordType, ViewType
from engine.errors import Code
from engine.http import criteria, projection
from engine.http.context import Context
from engine.http.criteria import Known
from engine.http.paged import Rows
from engine.http.parameters import bad, boolean, integer, query, segment, workspace_of
from engine.http.problems import HttpCode, Problem
from engine.http.projection import Tree, project
from engine.partition.reading import CursorError, Found, PartitionReader, Scope, StoredRecord
from engine.partition.selection import COLUMN_FIELDS, Selection, TooWideError

# The options of a page, and of what a subscription watches.
PAGE = ("where", "order", "keys", *criteria.PAGING, *criteria.FRESHNESS)
WATCHED = ("where", "keys")

T = TypeVar("T")
ID = (KeyColumn("id", "long"),)


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


def picture_json(partition: int, reader: PartitionReader) -> dict[str, Any]:
    """Return what every answer says of its picture."""
    stale = {"stale": True} if reader.stale else {}
    return {"partition": partition, "sequence": reader.position().host.sequence, **stale}


class RecordPicture:
    """One record; a document with what is nested in it."""

    def __init__(self, context: Context, request: Request, options: tuple[str, ...]) -> None:
        self._context = context
        self._name = segment(request, "type")
        application = context.node.application
        type_ = _record_type(application, self._name)
        root = ("root",) if type_.parent else ()
        self.given = query(request, ("keys", "inactive", *root, *options))
        self.workspace = workspace_of(request)
        self._id = integer("id", segment(request, "id"), 0)
        self._root = None
        if root:
            if "root" not in self.given:
                raise bad("root", f"is missing: the id of the {type_.root} that it is nested in")
            self._root = integer("root", self.given["root"], 0)
        self._inactive = _inactive(self.given)
        _record_keys(self.given, application, type_)
        self.brief = not type_.children  # one row, which takes no thread of its own to read

    @property
    def named(self) -> dict[str, Any]:
        """Return what it is a picture of."""
        return {"type": self._name, "id": self._id}

    def read(self, reader: PartitionReader) -> dict[str, Any]:
        """Return the record; a problem if there is none."""
        application = _application(self._context, reader)
        type_ = _record_type(application, self._name)
        check_workspace(application, reader, self.workspace, self._name, "records")
        found = reader.record(self._name, self.workspace, self._id, self._root)
        if found is None:
            raise Problem(
                404,
                HttpCode.UNKNOWN_RECORD,
                f"there is no {self._name} {self._id} in this workspace",
                **picture_json(self._context.node.partition_of(self.workspace), reader),
            )
        keys = _record_keys(self.given, application, type_)
        _bounded(
            lambda: reader.add_children(
                self._name,
                self.workspace,
                found,
                keys,
                Scope(inactive=self._inactive),
            )
        )
        return {"type": self._name} | _record_json(application, type_, found, keys)


class RecordsPicture:
    """A page of a type's records: by id, inactive ones only if they are asked for."""

    def __init__(self, context: Context, request: Request, options: tuple[str, ...]) -> None:
        self._context = context
        self._name = segment(request, "type")
        application = context.node.application
        type_ = _record_type(application, self._name)
        columns = criteria.column_names(_record_columns(type_))
        self.given = query(request, (*columns, *options, "inactive"))
        self.workspace = workspace_of(request)
        self._inactive = _inactive(self.given)
        self._parse(application, type_)
        self.brief = False  # any number of inactive ones may lie between

    def _parse(self, application: Application, type_: RecordType) -> tuple[Selection, Tree | None]:
        columns = _record_columns(type_)
        ids = (*columns, KeyColumn("parent", "long")) if type_.parent else columns
        known = record_known(application, type_, ids)
        keys = _record_keys(self.given, application, type_)
        return criteria.selection(self.given, columns, known), keys

    def page(self, reader: PartitionReader, head: dict[str, Any]) -> Rows:
        """Return the page; what is nested in its records only where `keys` names it.

        It ends early where too much would be read that is nested, and `next` goes on from there.
        """
        application = _application(self._context, reader)
        type_ = _record_type(application, self._name)
        check_workspace(application, reader, self.workspace, self._name, "records")
        selection, keys = self._parse(application, type_)
        found = _bounded(
            lambda: reader.find_record_rows(
                self._name, self.workspace, selection, inactive=self._inactive
            )
        )
        scope = Scope(inactive=self._inactive)

        def listed() -> Iterator[tuple[bytes, dict[str, Any]]]:
            for place, key in zip(found.places, found.keys, strict=True):
                record = reader.record_row(self._name, self.workspace, key)
                try:
                    if keys:
                        reader.add_children(self._name, self.workspace, record, keys, scope)
                except TooWideError as fault:
                    if place == found.places[0]:
                        raise _too_wide(str(fault)) from None
                    return
                yield place, _record_json(application, type_, record, keys)

        return Rows(head | {"type": self._name}, listed(), _follow(self.given, found))


class ViewPicture:
    """A page of a view's rows."""

    def __init__(self, context: Context, request: Request, options: tuple[str, ...]) -> None:
        self._context = context
        self._name = segment(request, "view")
        self.workspace = workspace_of(request)
        serving = context.node.serving(context.node.partition_of(self.workspace))
        view = _view_type(serving, self._name)
        self.given = query(request, (*criteria.column_names(view.key), *options))
        selection, _ = self._parse(view)
        self.brief = not selection.reads and selection.limit <= limits.PAGE_BRIEF_ROWS_MAX

    def _parse(self, view: ViewType) -> tuple[Selection, Tree | None]:
        columns = dict.fromkeys(column.name for column in view.key)
        keys = projection.wanted(self.given, columns | projection.tree(view.schema.fields))
        return criteria.selection(self.given, view.key, view_known(view)), keys

    def all(self, reader: PartitionReader) -> "Watched":
        """Return all rows, by their keys; a problem if they are more than can be watched."""
        view = self._checked(reader)
        selection, keys = self._parse(view)
        most = limits.SUBSCRIPTION_ROWS_MAX
        page = _bounded(
            lambda: reader.view_rows(self._name, self.workspace, replace(selection, limit=most))
        )
        if page.next is not None:
            raise _too_wide(f"more than {len(page.rows)} rows would have to be watched")
        fields = view_known(view).fields
        listed = [_row_json(view, fields, row, keys) for row in page.rows]
        return Watched(view, dict(zip(page.keys, listed, strict=True)))

    def page(self, reader: PartitionReader, head: dict[str, Any]) -> Rows:
        """Return the page."""
        view = self._checked(reader)
        selection, keys = self._parse(view)
        found = _bounded(lambda: reader.find_view_rows(self._name, self.workspace, selection))
        fields = view_known(view).fields

        def listed() -> Iterator[tuple[bytes, dict[str, Any]]]:
            for place, key in zip(found.places, found.keys, strict=True):
                row = reader.view_row(self._name, self.workspace, key)
                yield place, _row_json(view, fields, row, keys)

        return Rows(head, listed(), _follow(self.given, found))

    def _checked(self, reader: PartitionReader) -> ViewType:
        application = _application(self._context, reader)
        view = _view_type(application, self._name)
        check_workspace(application, reader, self.workspace, self._name, "views")
        return view


def _application(context: Context, reader: PartitionReader) -> Application:
    return reader.application or context.node.application


def check_workspace(
    application: Application,
    reader: PartitionReader,
    workspace: str,
    name: str = "",
    what: Literal["records", "views"] = "records",
) -> None:
    """Refuse a workspace that is gone, is not there yet, or doesn't have what is asked for."""
    row = reader.workspace(workspace)
    if row is not None and row.status == rows.GONE:
        raise Problem(410, Code.WORKSPACE_GONE, f"the workspace {workspace!r} is gone")
    if not application.workspaces:
        return
    kind = application.workspaces.get(row.kind) if row is not None else None
    if row is None:
        makers = [name for name, made in application.commands.items() if made.creates]
        hint = f"Make it with one of: {', '.join(makers)}"
        raise Problem(404, Code.UNKNOWN_WORKSPACE, f"there is no workspace {workspace!r}", hint)
    if kind is not None and name:
        has = kind.records if what == "records" else kind.views
        if name not in has:
            why = f"a workspace of the kind {kind.name} has no {what} {name!r}"
            raise Problem(404, Code.NOT_IN_WORKSPACE, why, f"It has: {', '.join(sorted(has))}")


def _record_type(application: Application, name: str) -> RecordType:
    found = application.records.get(name)
    if found is not None and found.kind == "operation":
        why = f"a {name} lives in the outcome of its command only"
        raise Problem(404, HttpCode.UNKNOWN_RECORD_TYPE, why, "GET .../events has outcomes")
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


def record_known(
    application: Application, type_: RecordType, columns: tuple[KeyColumn, ...]
) -> Known:
    """Return what conditions may name of a record, and of what is nested in it."""
    below = {
        name: record_known(application, application.records[name], ID) for name in type_.children
    }
    return criteria.known(columns, type_.schema.by_name, below)


def view_known(view: ViewType) -> Known:
    """Return what conditions may name of a view's row."""
    return criteria.known(view.key, view.schema.by_name)


def _follow(given: Mapping[str, str], found: Found) -> Callable[[bytes | None], str | None]:
    """Return what makes the cursor of a page that ended with the row at a place."""

    def cursor(place: bytes | None) -> str | None:
        all_told = place is None or place == found.places[-1]
        return None if all_told and not found.more else criteria.cursor_text(given, place)

    return cursor


def _row_json(
    view: ViewType, fields: criteria.Fields, row: Mapping[str, Any], keys: Tree | None
) -> dict[str, Any]:
    columns = {
        column.name: value_to_json(fields[column.name], row[column.name]) for column in view.key
    }
    return project(columns | to_json(view.schema, row), keys)


def _inactive(given: Mapping[str, str]) -> bool:
    return boolean("inactive", given.get("inactive", "false"))


def _record_columns(type_: RecordType) -> tuple[KeyColumn, ...]:
    """Return the key columns of a type's rows: a document's is its id twice."""
    return (KeyColumn("root", "long"), *ID) if type_.parent else ID


def _record_keys(
    given: Mapping[str, str], application: Application, type_: RecordType
) -> Tree | None:
    return projection.wanted(given, _record_tree(application, type_))


def _record_tree(application: Application, type_: RecordType) -> Tree:
    """Return what `keys` may name: fields, and types nested below; a field hides such a type."""
    nested: Tree = {
        name: _record_tree(application, application.records[name]) for name in type_.children
    }
    return nested | projection.tree(type_.schema.fields)


def _record_json(
    application: Application, type_: RecordType, record: StoredRecord, keys: Tree | None
) -> dict[str, Any]:
    body: dict[str, Any] = {"id": record["id"], "active": record["active"]}
    if type_.parent:
        body |= {"root": record["root"], "parent": record["parent"]}
    body["fields"] = project(to_json(type_.schema, record["fields"]), keys)
    if record["children"]:
        body["children"] = {
            name: [
                _record_json(application, application.records[name], child, (keys or {}).get(name))
                for child in children
            ]
            for name, children in record["children"].items()
        }
    return body


def _bounded(read: Callable[[], T]) -> T:
    try:
        return read()
    except CursorError as fault:
        raise bad("after", str(fault)) from None
    except TooWideError as fault:
        raise _too_wide(str(fault)) from None


def _too_wide(why: str) -> Problem:
    hint = "Narrow it by the first key columns or a range on them; an order looks at all rows"
    return Problem(422, HttpCode.QUERY_TOO_WIDE, why, hint)
