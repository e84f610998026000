"""A stream of server-sent events: writing it at its client's pace, and noticing that it is over.

Nothing is queued for a slow client: news are read from the newest picture once it has taken the
last ones, so what changed twice in between is told once. Knows no queries.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engine.errors import EngineError
from engine.http.context import Context
from engine.http.hub import Hub, Subscription
from engine.http.problems import Problem

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
_RETRY = b"retry: 1000\n\n"
_HEARTBEAT = b": still here\n\n"


class Place(NamedTuple):
    """What a client knows: all up to a sequence, in the shape it was told in.

    An application that comes into force, or a view's new generation that counts, gives what is told
    another shape at the same sequence.
    """

    sequence: int
    shape: str = ""

    @property
    def text(self) -> str:
        """Return the id of an event, which `Last-Event-ID` resumes from."""
        return f"{self.sequence}-{self.shape}" if self.shape else str(self.sequence)


def event(name: str, place: Place, data: dict[str, Any]) -> bytes:
    """Return one event."""
    head = f"id: {place.text}\nevent: {name}\ndata: ".encode()
    return head + orjson.dumps(data) + b"\n\n"


class Source(Protocol):
    """What a stream tells of."""

    async def first(self, known: Place | None) -> list[bytes]:
        """Return what is told at once; `known`: the place of the last event that was taken."""
        ...

    def news(self) -> AsyncGenerator[bytes, None]:
        """Tell what is new since the last call; nothing if there is nothing."""
        ...


class EventStream(Response):
    """Tells what a source has, until its client or its partition is gone."""

    media_type = None

    def __init__(
        self, context: Context, hub: Hub, partition: int, subscription: Subscription, source: Source
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._context = context
        self._hub = hub
        self._partition = partition
        self._subscription = subscription
        self._source = source
        self.told: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; returns when the stream is over."""
        subscription, counters = self._subscription, self._context.metrics
        leaving = asyncio.create_task(_left(receive))
        leaving.add_done_callback(lambda _: subscription.wake(ended=True))
        # A stream is no request that is being answered: others bound how many there are.
        counters.active -= 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            stuck = scope["method"] != "HEAD" and await self._tell(send)
        finally:
            counters.active += 1
            self._hub.close(self._partition, subscription)
            self._hub.leave(subscription.workspace)
        if stuck:
            # Its place is free again; the connection ends with its socket's time-out.
            await asyncio.wait([leaving], timeout=self._context.waits.send_ms / 1_000)
        elif not leaving.done():
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        leaving.cancel()

    async def _tell(self, send: Send) -> bool:
        """Tell until it is over; return True if the client has stopped reading."""
        waits, subscription = self._context.waits, self._subscription
        try:
            for part in (_RETRY, *self.told):
                await self._put(send, part)
            self.told = []
            await self._tell_news(send)
            while not subscription.ended:
                if not await subscription.news(waits.heartbeat_ms):
                    await self._put(send, _HEARTBEAT)
                elif not subscription.ended:
                    await self._tell_news(send)
        except TimeoutError:
            return True
        return False

    async def _tell_news(self, send: Send) -> None:
        try:
            async with aclosing(self._source.news()) as news:
                async for part in news:
                    await self._put(send, part)
                    if self._subscription.ended:
                        break
        except (Problem, EngineError) as fault:
            problem = fault if isinstance(fault, Problem) else self._context.problem(fault)
            body = bytes(problem.response().body)
            await self._put(send, b"event: problem\ndata: %s\n\n" % body)
            self._subscription.wake(ended=True)

    async def _put(self, send: Send, part: bytes) -> None:
        async with asyncio.timeout(self._context.waits.send_ms / 1_000):
            await send({"type": "http.response.body", "body": part, "more_body": True})


async def _left(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Uncounted(Response):
    """A stream that another node tells: bounded as one of our own."""

    def __init__(self, context: Context, hub: Hub, workspace: str, inner: Response) -> None:
        super().__init__()
        self._context, self._hub, self._workspace = context, hub, workspace
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay."""
        self._context.metrics.active -= 1
        try:
            await self._inner(scope, receive, send)
        finally:
            self._context.metrics.active += 1
            self._hub.leave(self._workspace)
