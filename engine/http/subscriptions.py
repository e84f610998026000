"""Subscriptions over HTTP: the changes of a view, a record or a workspace's log, as they happen.

Every event's id begins with a sequence of the partition. A view tells its state and then what
differs, a record its newest state, a log every outcome.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any, NamedTuple

import orjson
from starlette.requests import Request
from starlette.responses import Response

from engine import wire
from engine.http.context import Context
from engine.http.hub import Hub
from engine.http.outcomes import Applications, outcome_json, read_outcome
from engine.http.parameters import integer, query, workspace_of
from engine.http.pictures import (
    WATCHED,
    RecordPicture,
    ViewPicture,
    Watched,
    check_workspace,
    picture_json,
)
from engine.http.problems import HttpCode, Problem
from engine.http.streams import EventStream, Place, Source, event
from engine.partition.reading import PartitionReader

_AT_ONCE = 4
_PLACE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,10}(?:-[0-9]{1,10})?))?")


class Subscriptions:
    """Handlers of .../changes."""

    def __init__(self, context: Context, hub: Hub) -> None:
        self._context = context
        self._hub = hub

    async def view(self, request: Request) -> Response:
        """Tell the changes of a view's rows."""
        picture = ViewPicture(self._context, request, WATCHED)
        return await self._open(
            request, lambda partition: _ViewSource(self._context, partition, picture)
        )

    async def record(self, request: Request) -> Response:
        """Tell the states of a record."""
        picture = RecordPicture(self._context, request, ())
        return await self._open(
            request, lambda partition: _RecordSource(self._context, partition, picture)
        )

    async def events(self, request: Request) -> Response:
        """Tell the outcomes of a workspace."""
        given, workspace = query(request, ("after",)), workspace_of(request)
        after = integer("after", given["after"], 0) if "after" in given else None
        return await self._open(
            request, lambda partition: _LogSource(self._context, partition, workspace, after)
        )

    async def _open(self, request: Request, make: Callable[[int], Source]) -> Response:
        workspace, known = workspace_of(request), _known(request)
        partition = self._context.node.partition_of(workspace)
        self._hub.admit(workspace)
        subscription = None
        try:
            # First the subscription, then the picture: what comes between is told twice or as
            # nothing, never lost.
            subscription = self._hub.open(partition, workspace)
            source = make(partition)
            stream = EventStream(self._context, self._hub, partition, subscription, source)
            stream.told = await source.first(known)
        except BaseException:
            if subscription is not None:
                self._hub.close(partition, subscription)
            self._hub.leave(workspace)
            raise
        return stream


def _known(request: Request) -> Place | None:
    text = request.headers.get("last-event-id")
    if not text:
        return None
    found = _PLACE.fullmatch(text)
    if found is None:
        raise Problem(400, HttpCode.INVALID_HEADER, "Last-Event-ID is no id that an event had")
    return Place(int(found[1]), found[2] or "")


class _State(NamedTuple):
    """What is known of a picture that is to be compared with what the client knows."""

    place: Place
    newest: int  # the sequence of the workspace's last outcome

    def unchanged_since(self, known: Place | None) -> bool:
        """Return True if a client that knows so much has seen it all, as it is shown now."""
        if known is None or known.shape != self.place.shape:
            return False
        return self.newest <= known.sequence <= self.place.sequence


class _ViewSource:
    """Rows of a view, told by what has become of them."""

    def __init__(self, context: Context, partition: int, picture: ViewPicture) -> None:
        self._context, self._partition, self._picture = context, partition, picture
        self._watched: Watched | None = None
        self._hashes: dict[bytes, int] = {}

    async def first(self, known: Place | None) -> list[bytes]:
        """Tell all rows: as `state`, or as `reset` if the client knew an older one."""

        def read(reader: PartitionReader) -> list[bytes]:
            self._take(self._picture.all(reader))
            state = _state(reader, self._picture.workspace, self._place(reader))
            if state.unchanged_since(known):
                return []
            return [self._whole("state" if known is None else "reset", reader)]

        return await self._context.read(self._partition, read)

    async def news(self) -> AsyncGenerator[bytes, None]:
        """Tell the rows that are not as they were."""
        told = await self._context.read(self._partition, self._changes)
        if told is not None:
            yield told

    def _take(self, watched: Watched) -> None:
        self._watched = watched
        self._hashes = {key: _hash(row) for key, row in watched.rows.items()}

    def _place(self, reader: PartitionReader) -> Place:
        assert self._watched is not None
        place = _place(reader)
        return place._replace(shape=f"{place.shape}-{self._watched.view.table}")

    def _whole(self, name: str, reader: PartitionReader) -> bytes:
        assert self._watched is not None
        body = picture_json(self._partition, reader)
        told = event(name, self._place(reader), body | {"rows": list(self._watched.rows.values())})
        self._watched.rows.clear()
        return told

    def _changes(self, reader: PartitionReader) -> bytes | None:
        assert self._watched is not None
        known, before, watched = self._hashes, self._watched, self._picture.all(reader)
        self._take(watched)
        if watched.view.table != before.view.table:
            return self._whole("reset", reader)
        put = [row for key, row in watched.rows.items() if known.get(key) != self._hashes[key]]
        gone = [watched.columns(key) for key in known if key not in self._hashes]
        watched.rows.clear()
        if not put and not gone:
            return None
        body = picture_json(self._partition, reader)
        return event("change", self._place(reader), body | {"put": put, "remove": gone})


class _RecordSource:
    """A record, told as it stands."""

    def __init__(self, context: Context, partition: int, picture: RecordPicture) -> None:
        self._context, self._partition, self._picture = context, partition, picture
        self._known = 0

    async def first(self, known: Place | None) -> list[bytes]:
        """Tell the record."""

        def read(reader: PartitionReader) -> list[bytes]:
            state = _state(reader, self._picture.workspace, _place(reader))
            told = self._newest(reader)
            return [] if told is None or state.unchanged_since(known) else [told]

        return await self._context.read(self._partition, read)

    async def news(self) -> AsyncGenerator[bytes, None]:
        """Tell the record if it is not as it was."""
        told = await self._context.read(self._partition, self._newest)
        if told is not None:
            yield told

    def _newest(self, reader: PartitionReader) -> bytes | None:
        try:
            name, body = "record", self._picture.read(reader)
        except Problem as problem:
            if problem.code != HttpCode.UNKNOWN_RECORD:
                raise
            name, body = "absent", self._picture.named
        known, self._known = self._known, _hash(body)
        if known == self._known:
            return None
        picture = picture_json(self._partition, reader)
        return event(name, _place(reader), picture | body)


class _Part(NamedTuple):
    """The next outcomes of a workspace's log: where they stand."""

    numbers: list[int]
    offsets: list[int | None]
    last: int
    sequence: int  # of the picture
    applications: Applications


class _LogSource:
    """A workspace's log, told outcome by outcome, however slow the client is."""

    def __init__(self, context: Context, partition: int, workspace: str, after: int | None) -> None:
        self._context, self._partition, self._workspace = context, partition, workspace
        self._after = after

    async def first(self, known: Place | None) -> list[bytes]:
        """Find where to begin: behind what the client knows, behind `after`, or now."""

        def read(reader: PartitionReader) -> list[bytes]:
            self._check(reader)
            sequence = reader.position().host.sequence
            row = reader.workspace(self._workspace)
            last = row.last if row else 0
            if known is None:
                self._after = last if self._after is None else min(self._after, last)
            elif known.sequence > sequence:
                # It knows more than there is: a log that was restored, or another partition.
                self._after = last
                return [_reset(sequence, last)]
            else:
                self._after = reader.passed(self._workspace, known.sequence)
            return []

        return await self._context.read(self._partition, read)

    async def news(self) -> AsyncGenerator[bytes, None]:
        """Tell the outcomes behind the last one told."""
        more = True
        while more:
            more = False
            async for part in self._some():
                more = True
                yield part

    def _check(self, reader: PartitionReader) -> None:
        application = reader.application or self._context.node.application
        check_workspace(application, reader, self._workspace)

    async def _some(self) -> AsyncGenerator[bytes, None]:
        part = await self._context.read(self._partition, self._next)
        values = await asyncio.gather(
            *(self._context.event(self._partition, offset) for offset in part.offsets)
        )
        for number, value in zip(part.numbers, values, strict=True):
            outcome = read_outcome(value)
            if outcome is None:
                # The log no longer has it: the client is told that it has missed some.
                self._after = part.last
                yield _reset(part.sequence, part.last)
                return
            body = outcome_json(self._partition, outcome, part.applications)
            yield event("outcome", Place(outcome["sequence"]), body)
            self._after = number

    def _next(self, reader: PartitionReader) -> _Part:
        assert self._after is not None
        numbers = reader.sequences(self._workspace, self._after, _AT_ONCE)
        if not numbers:
            # Only now, in this picture: the outcome that made the workspace go is told, too.
            self._check(reader)
        row = reader.workspace(self._workspace)
        return _Part(
            [number for number, _ in numbers],
            [reader.offset_of(sequence) for _, sequence in numbers],
            row.last if row else 0,
            reader.position().host.sequence,
            reader.application_of,
        )


def _place(reader: PartitionReader) -> Place:
    host = reader.position().host
    return Place(host.sequence, str(host.application))


def _state(reader: PartitionReader, workspace: str, place: Place) -> _State:
    return _State(place, reader.last_sequence(workspace))


def _reset(sequence: int, last: int) -> bytes:
    return event("reset", Place(sequence), {"sequence": sequence, "after": last})


def _hash(body: dict[str, Any]) -> int:
    return wire.hash64(orjson.dumps(body))
