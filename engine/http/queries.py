"""Queries over HTTP: records, views and a workspace's log, each from one consistent picture.

Every answer carries the partition and the sequence of its picture; `min_sequence` waits, within a
bound, until the picture is at least that new: read your own writes.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response

from engine import limits
from engine.http.context import Context, Json
from engine.http.criteria import FRESHNESS, MIN_SEQUENCE
from engine.http.outcomes import Applications, outcome_json, read_outcome
from engine.http.paged import Rows, answer, closing, opening, picture_headers, rows_answer
from engine.http.parameters import allows_stale, integer, limit, query, workspace_of
from engine.http.pictures import (
    PAGE,
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
        picture = RecordPicture(self._context, request, FRESHNESS)
        stale = allows_stale(request)
        partition = await self._reach(picture.workspace, picture.given, stale=stale)

        def read(reader: PartitionReader) -> dict[str, Any]:
            return picture_json(partition, reader) | picture.read(reader)

        body = await self._context.read(partition, read, stale=stale, brief=picture.brief)
        return Json(body, headers=picture_headers(body))

    async def records(self, request: Request) -> Response:
        """Return a page of a type's records."""
        return await self._page(request, RecordsPicture(self._context, request, PAGE))

    async def view(self, request: Request) -> Response:
        """Return a page of a view's rows."""
        return await self._page(request, ViewPicture(self._context, request, PAGE))

    async def _page(self, request: Request, picture: RecordsPicture | ViewPicture) -> Response:
        stale = allows_stale(request)
        partition = await self._reach(picture.workspace, picture.given, stale=stale)

        def read(reader: PartitionReader) -> Rows:
            return picture.page(reader, picture_json(partition, reader))

        return await rows_answer(self._context, partition, read, stale=stale, brief=picture.brief)

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
        return await answer(self._context, self._events(partition, log), log.picture)

    async def _events(self, partition: int, log: "_Log") -> AsyncGenerator[bytes, None]:
        """Yield the JSON of a page of outcomes, which are read back a few at a time."""
        told = 0
        part = opening(log.picture, "events")
        for start in range(0, len(log.offsets), _LOOKUPS):
            offsets = log.offsets[start : start + _LOOKUPS]
            values = await asyncio.gather(
                *(self._context.event(partition, offset) for offset in offsets)
            )
            for outcome in map(read_outcome, values):
                if outcome is None:
                    break
                part += b"," if told else b""
                part += orjson.dumps(outcome_json(partition, outcome, log.applications))
                told += 1
            if told < start + len(offsets):
                if not told:
                    raise Problem(410, HttpCode.GONE, "the log no longer holds these outcomes")
                break  # the next page begins at what is gone
            if len(part) >= limits.PAGE_PART_BYTES:
                yield part
                part = b""
        reached = log.numbers[told - 1] if told else log.last
        yield part + closing(reached if reached < log.last else None)

    async def _reach(self, workspace: str, given: dict[str, str], *, stale: bool = False) -> int:
        partition = self._context.node.partition_of(workspace)
        if MIN_SEQUENCE in given:
            least = integer(MIN_SEQUENCE, given[MIN_SEQUENCE], 0)
            await self._context.reach(partition, least, stale=stale)
        return partition


class _Log(NamedTuple):
    """A page of a workspace's log, as one picture has it: where its outcomes stand."""

    picture: dict[str, Any]
    numbers: list[int]
    offsets: list[int | None]
    last: int
    applications: Applications
