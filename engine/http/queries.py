"""Queries over HTTP: records, views and a workspace's log, each from one consistent picture.

Every answer carries the partition and the sequence of its picture; `min_sequence` waits, within a
bound, until the picture is at least that new: read your own writes.
"""

import asyncio
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from engine import limits
from engine.http.context import Context, Json
from engine.http.criteria import MIN_SEQUENCE
from engine.http.outcomes import Applications, outcome_json, read_outcome
from engine.http.parameters import integer, limit, query, workspace_of
from engine.http.pictures import (
    PAGE,
    Picture,
    RecordPicture,
    RecordsPicture,
    ViewPicture,
    check_workspace,
    picture_json,
)
from engine.http.problems import HttpCode, Problem
from engine.partition.reading import PartitionReader

_LOOKUPS = 16


class Queries:
    """Handlers of what a workspace holds."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def record(self, request: Request) -> Response:
        """Return one record."""
        return await self._picture(request, RecordPicture(self._context, request, (MIN_SEQUENCE,)))

    async def records(self, request: Request) -> Response:
        """Return a page of a type's records."""
        return await self._picture(request, RecordsPicture(self._context, request, PAGE))

    async def view(self, request: Request) -> Response:
        """Return a page of a view's rows."""
        return await self._picture(request, ViewPicture(self._context, request, PAGE))

    async def _picture(self, request: Request, picture: Picture) -> Response:
        partition = await self._reach(workspace_of(request), picture.given)

        def read(reader: PartitionReader) -> dict[str, Any]:
            return picture_json(partition, reader) | picture.read(reader).body

        return _answer(await self._context.read(partition, read))

    async def events(self, request: Request) -> Response:
        """Return a page of the workspace's outcomes, in order."""
        given = query(request, ("after", "limit", MIN_SEQUENCE))
        workspace, most = workspace_of(request), limit(given)
        after = integer("after", given.get("after", "0"), 0)
        context = self._context

        def read(reader: PartitionReader) -> _Log:
            check_workspace(reader.application or context.node.application, reader, workspace)
            numbers = reader.sequences(workspace, after, most)
            row = reader.workspace(workspace)
            return _Log(
                picture_json(partition, reader),
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


def _answer(body: dict[str, Any]) -> Response:
    headers = {
        "Partita-Partition": str(body["partition"]),
        "Partita-Sequence": str(body["sequence"]),
    }
    return Json(body, headers=headers)
