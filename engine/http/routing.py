"""A request of a workspace goes to the node that owns its partition.

Owns forwarding: at most one hop, bounded in connections, time and memory. An owner that can't be
reached, or dies on the way, is a retryable 503, never a statement about the command.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from engine import limits
from engine.errors import UnavailableError
from engine.http.context import Context
from engine.http.hub import Hub
from engine.http.parameters import allows_stale, body_bytes, workspace_of
from engine.http.problems import Problem
from engine.http.streams import Uncounted
from engine.node.api import Where

HOP = "partita-hop"
KEY = "idempotency-key"
Handler = Callable[[Request], Awaitable[Response]]

_CONNECT_S = 2.0
_LOOK_S = 0.25  # so often a request that waits at another node asks whether that still owns
_MARGIN_S = 5.0
# Headers of one connection (RFC 9110 7.6.1), and what the client library sets itself.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Forwarder:
    """Sends requests on to other nodes. Used from one event loop."""

    def __init__(
        self, context: Context, hub: Hub, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._context = context
        self._hub = hub
        self._transport = transport
        self._clients: dict[int, httpx.AsyncClient] = {}  # by how many connections it may have

    def here(self, handler: Handler) -> Handler:
        """Return `handler` for requests of workspaces that are answered here, else forward."""

        async def forward(request: Request, partition: int, url: str) -> Response:
            return await self._forward(request, partition, url, limits.FORWARD_CONNECTIONS_MAX)

        return self._choose(handler, forward)

    def stream(self, handler: Handler) -> Handler:
        """Return the same for a handler of streams, which keep their connections."""

        async def forward(request: Request, partition: int, url: str) -> Response:
            workspace = workspace_of(request)
            self._hub.admit(workspace)
            try:
                answer = await self._forward(request, partition, url, limits.SUBSCRIPTIONS_MAX)
            except BaseException:
                self._hub.leave(workspace)
                raise
            return Uncounted(self._context, self._hub, workspace, answer)

        return self._choose(handler, forward)

    def _choose(
        self, handler: Handler, forward: Callable[[Request, int, str], Awaitable[Response]]
    ) -> Handler:
        async def answer(request: Request) -> Response:
            node = self._context.node
            partition = node.partition_of(workspace_of(request))
            route = node.route(partition)
            if route.where is Where.HERE or (allows_stale(request) and node.stands_by(partition)):
                return await handler(request)
            if route.where is Where.NOBODY or not route.url:
                raise self._nobody(partition, "no node is known to own the partition now")
            if HOP in request.headers:
                raise self._nobody(partition, "the partition has just moved on")
            return await forward(request, partition, route.url)

        return answer

    async def close(self) -> None:
        """Close the connections to other nodes."""
        for client in self._clients.values():
            await client.aclose()

    def _nobody(self, partition: int, why: str, key: str | None = None) -> Problem:
        hint = "Try again, with the same Idempotency-Key"
        # With its progress, where the partition is just being restored here.
        problem = self._context.problem(UnavailableError("E1402", why, hint, partition=partition))
        if key is not None:
            problem.more["idempotency_key"] = key
        return problem

    async def _forward(
        self, request: Request, partition: int, url: str, connections: int
    ) -> Response:
        client = self._connected(connections)
        key: str | None = None
        if request.method == "POST":
            # Chosen here, so that it can be told when the owner's answer gets lost.
            key = request.headers.get(KEY) or self._context.new_id()
        asked = client.build_request(
            request.method,
            url + request.scope["raw_path"].decode("ascii"),
            params=None,
            headers=self._headers(request, key),
            content=await body_bytes(request),
        )
        if request.scope["query_string"]:
            asked.url = asked.url.copy_with(query=request.scope["query_string"])
        try:
            answer = await self._while_there(client.send(asked, stream=True), partition, url, key)
            return await _relay(answer)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as fault:
            why = f"the owner's node can't be reached ({type(fault).__name__})"
            raise self._nobody(partition, why, key) from None

    async def _while_there(
        self,
        sending: Coroutine[Any, Any, httpx.Response],
        partition: int,
        url: str,
        key: str | None,
    ) -> httpx.Response:
        """Wait for an answer no longer than that node owns the partition: it may be stopped."""
        task = asyncio.ensure_future(sending)
        try:
            while not (await asyncio.wait({task}, timeout=_LOOK_S))[0]:
                if self._context.node.route(partition).url != url:
                    raise self._nobody(partition, "the partition has moved on", key)
            return task.result()
        finally:
            task.cancel()

    def _headers(self, request: Request, key: str | None) -> list[tuple[bytes, bytes]]:
        named = {name.strip().lower() for name in request.headers.get("connection", "").split(",")}
        dropped = _HOP_BY_HOP | named
        kept = [
            (name, value)
            for name, value in request.headers.raw
            if name.decode("latin-1") not in dropped
        ]
        if key is not None and KEY not in request.headers:
            kept.append((KEY.encode(), key.encode("latin-1")))
        return [*kept, (HOP.encode(), self._context.node.name.encode("ascii", "replace"))]

    def _connected(self, connections: int) -> httpx.AsyncClient:
        client = self._clients.get(connections)
        if client is None:
            wait_s = self._context.waits.outcome_ms / 1_000 + _MARGIN_S
            client = self._clients[connections] = httpx.AsyncClient(
                transport=self._transport,
                timeout=httpx.Timeout(wait_s, connect=_CONNECT_S, pool=_CONNECT_S),
                limits=httpx.Limits(max_connections=connections),
                follow_redirects=False,
                trust_env=False,
            )
        return client


async def _relay(answer: httpx.Response) -> Response:
    """Return the owner's response; a short one is read to its end before it counts as one."""
    length = answer.headers.get("content-length", "")
    dropped = _HOP_BY_HOP | {"date", "server"}
    headers = {name: value for name, value in answer.headers.items() if name not in dropped}
    if length.isdigit() and int(length) <= limits.FORWARD_BUFFER_BYTES_MAX:
        try:
            content = b"".join([part async for part in answer.aiter_raw()])
        finally:
            await answer.aclose()
        return Response(content, answer.status_code, headers)
    return StreamingResponse(_parts(answer), answer.status_code, headers)


async def _parts(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in answer.aiter_raw():
            yield part
    finally:
        await answer.aclose()
