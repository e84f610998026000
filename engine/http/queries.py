"""Queries over HTTP: records, views and a workspace's log, each from one consistent picture.

Every answer carries the partition and the sequence of its picture; `min_sequence` waits, within a
bound, until the picture is at least that new: read your own writes.
"""

import asyncio
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from engine import limits
from engine.application import Application
from engine.application.schema import to_json
from engine.application.types import ViewType
from engine.http import parameters
from engine.http.context import Context, Json
from engine.http.outcomes import Applications, outcome_json, read_outcome
from engine.http.parameters import bad, integer, query, segment, workspace_of
from engine.http.problems import HttpCode, Problem
from engine.partition.reading import CursorError, PartitionReader

MIN_SEQUENCE = "min_sequence"
_LOOKUPS = 16


class Queries:
    """Handlers of what a workspace holds."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def record(self, request: Request) -> Response:
        """Return one record."""
        given = query(request, (MIN_SEQUENCE,))
        workspace, name = workspace_of(request), segment(request, "type")
        record_type = self._context.node.application.records.get(name)
        if record_type is None:
            known = ", ".join(sorted(self._context.node.application.records))
            raise Problem(
                404, HttpCode.UNKNOWN_RECORD_TYPE, f"there is no record type {name!r}", known
            )
        record_id = integer("id", segment(request, "id"), 0)

        def read(reader: PartitionReader) -> dict[str, Any]:
            found = reader.record(name, workspace, record_id)
            picture = _picture(partition, reader)
            if found is None:
                raise Problem(
                    404,
                    HttpCode.UNKNOWN_RECORD,
                    f"there is no {name} {record_id} in this workspace",
                    **picture,
                )
            schema = _application(self._context, reader).records[name].schema
            body = {"type": name, "id": record_id, "active": found["active"]}
            return picture | body | {"fields": to_json(schema, found["fields"])}

        partition = await self._reach(workspace, given)
        return _answer(await self._context.read(partition, read))

    async def view(self, request: Request) -> Response:
        """Return a page of a view's rows."""
        name = segment(request, "view")
        view = self._context.node.application.views.get(name)
        if view is None:
            known = ", ".join(sorted(self._context.node.application.views))
            raise Problem(
                404, HttpCode.UNKNOWN_VIEW, f"there is no view {name!r}", f"Views are: {known}"
            )
        allowed = (*(column.name for column in view.key), "limit", "after", MIN_SEQUENCE)
        given = query(request, allowed)
        workspace = workspace_of(request)
        prefix = parameters.key_prefix(view.key, given)
        limit, after = parameters.limit(given), parameters.cursor(given)

        def read(reader: PartitionReader) -> dict[str, Any]:
            try:
                page = reader.view_rows(name, workspace, prefix, limit, after)
            except CursorError as fault:
                raise bad("after", str(fault)) from None
            kind = _application(self._context, reader).views.get(name, view)
            rows = [_row(kind, row) for row in page.rows]
            follow = parameters.cursor_text(page.next)
            return _picture(partition, reader) | {"rows": rows, "next": follow}

        partition = await self._reach(workspace, given)
        return _answer(await self._context.read(partition, read))

    async def events(self, request: Request) -> Response:
        """Return a page of the workspace's outcomes, in order."""
        given = query(request, ("after", "limit", MIN_SEQUENCE))
        workspace, limit = workspace_of(request), parameters.limit(given)
        after = integer("after", given.get("after", "0"), 0)
        context = self._context

        def read(reader: PartitionReader) -> _Log:
            numbers = reader.sequences(workspace, after, limit)
            row = reader.workspace(workspace)
            return _Log(
                _picture(partition, reader),
                [number for number, _ in numbers],
                [reader.offset_of(sequence) for _, sequence in numbers],
                row.last if row else 0,
                reader.application_of,
            )

        partition = await self._reach(workspace, given)
        log = await context.read(partition, read)
        events = await self._events(partition, log)
        reached = log.numbers[len(events) - 1] if events else log.last
        follow = reached if reached < log.last else None
        return _answer(log.picture | {"next": follow, "events": events})

    async def _events(self, partition: int, log: "_Log") -> list[dict[str, Any]]:
        """Read outcomes back; the page ends early where they grow beyond QUERY_BYTES_MAX."""
        events: list[dict[str, Any]] = []
        size = 0
        for start in range(0, len(log.offsets), _LOOKUPS):
            part = log.offsets[start : start + _LOOKUPS]
            for value in await asyncio.gather(
                *(self._context.event(partition, offset) for offset in part)
            ):
                outcome = read_outcome(value)
                if outcome is None:
                    raise Problem(410, HttpCode.GONE, "the log no longer holds these outcomes")
                size += len(value or b"")
                if events and size > limits.QUERY_BYTES_MAX:
                    return events
                events.append(outcome_json(partition, outcome, log.applications))
        return events

    async def _reach(self, workspace: str, given: dict[str, str]) -> int:
        partition = self._context.node.partition_of(workspace)
        if MIN_SEQUENCE in given:
            await self._context.reach(partition, integer(MIN_SEQUENCE, given[MIN_SEQUENCE], 0))
        return partition


class _Log(NamedTuple):
    """A page of a workspace's log, as one picture has it: where its outcomes stand."""

    picture: dict[str, Any]
    numbers: list[int]
    offsets: list[int | None]
    last: int
    applications: Applications


def _application(context: Context, reader: PartitionReader) -> Application:
    return reader.application or context.node.application


def _picture(partition: int, reader: PartitionReader) -> dict[str, Any]:
    return {"partition": partition, "sequence": reader.position().host.sequence}


def _row(view: ViewType, row: dict[str, Any]) -> dict[str, Any]:
    columns = {
        column.name: parameters.column_json(column.kind, row[column.name]) for column in view.key
    }
    return columns | to_json(view.schema, row)


def _answer(body: dict[str, Any]) -> Response:
    headers = {
        "Partita-Partition": str(body["partition"]),
        "Partita-Sequence": str(body["sequence"]),
    }
    return Json(body, headers=headers)
