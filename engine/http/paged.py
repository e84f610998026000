"""Answers that are told part by part, so that a page of any size takes little memory.

Owns the pace: a part is made when the client has taken the one before. What is wrong is found out
before the first byte; what breaks behind it ends the connection, so nobody takes it for whole.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, NamedTuple

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engine import limits
from engine.errors import UnavailableError
from engine.http.context import Context, called
from engine.partition.reading import PartitionReader

_MEDIA_TYPE = "application/json"


class Rows(NamedTuple):
    """A page of rows: what is said of it first, the rows one by one with their places, its end."""

    head: dict[str, Any]
    rows: Iterator[tuple[bytes, dict[str, Any]]]
    follow: Callable[[bytes | None], str | None]  # the cursor behind the last row that was told

    def parts(self) -> Iterator[bytes]:
        """Yield the JSON of the page, row by row."""
        yield opening(self.head, "rows")
        place: bytes | None = None
        for following, row in self.rows:
            yield orjson.dumps(row) if place is None else b"," + orjson.dumps(row)
            place = following
        yield closing(self.follow(place))


def opening(head: dict[str, Any], name: str) -> bytes:
    """Return the beginning of an answer, up to its list."""
    return orjson.dumps(head)[:-1] + b',"%s":[' % name.encode()


def closing(follow: str | int | None) -> bytes:
    """Return the end of an answer, from its list on."""
    return b'],"next":' + orjson.dumps(follow) + b"}"


def picture_headers(body: dict[str, Any]) -> dict[str, str]:
    """Return the headers that say which picture was answered."""
    stale = {"Partita-Stale": "true"} if "stale" in body else {}
    return {
        "Partita-Partition": str(body["partition"]),
        "Partita-Sequence": str(body["sequence"]),
        **stale,
    }


async def rows_answer(
    context: Context,
    partition: int,
    read: Callable[[PartitionReader], Rows],
    *,
    stale: bool = False,
    brief: bool = False,
) -> Response:
    """Return the answer that `read` gives of a consistent picture; see `called` for `brief`."""
    try:
        reader = context.node.reader(partition, stale=stale)
    except UnavailableError as error:
        error.where.setdefault("partition", partition)
        raise context.problem(error) from None
    head: dict[str, Any] = {}

    def begin() -> tuple[Iterator[bytes], bytes]:
        found = read(reader)
        head.update(found.head)
        left = found.parts()
        return left, _some(left)

    async def parts() -> AsyncGenerator[bytes, None]:
        try:
            left, part = await called(begin, brief=brief)
            while part:
                yield part
                ended = len(part) < limits.PAGE_PART_BYTES
                part = b"" if ended else await called(lambda: _some(left), brief=brief)
        finally:
            reader.close()

    told = parts()
    return await answer(context, told, head)


async def answer(
    context: Context, parts: AsyncGenerator[bytes, None], head: dict[str, Any]
) -> Response:
    """Return the answer that `parts` are; a short one whole, with its length."""
    first = await anext(parts)
    second = await anext(parts, None)
    headers = picture_headers(head)
    if second is None:
        return Response(first, headers=headers, media_type=_MEDIA_TYPE)
    return Paged(context, headers, [first, second], parts)


def _some(parts: Iterator[bytes]) -> bytes:
    """Return the next parts, together about as large as PAGE_PART_BYTES; less only at the end."""
    taken = bytearray()
    for part in parts:
        taken += part
        if len(taken) >= limits.PAGE_PART_BYTES:
            break
    return bytes(taken)


class Paged(Response):
    """An answer under way."""

    def __init__(
        self,
        context: Context,
        headers: dict[str, str],
        begun: list[bytes],
        parts: AsyncGenerator[bytes, None],
    ) -> None:
        super().__init__(headers=headers, media_type=_MEDIA_TYPE)
        del self.headers["content-length"]
        self._context = context
        self._begun = begun
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, at the client's pace; who stops reading is left."""
        del receive
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                for part in self._begun:
                    await self._put(send, part)
                self._begun = []
                async for part in self._parts:
                    await self._put(send, part)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            raise ClientDisconnect from None
        finally:
            await self._parts.aclose()

    async def _put(self, send: Send, part: bytes) -> None:
        async with asyncio.timeout(self._context.waits.send_ms / 1_000):
            await send({"type": "http.response.body", "body": part, "more_body": True})
