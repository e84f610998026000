"""A node's HTTP from its first moment on: until the node is there, it says that and why not.

So a probe is answered while the node waits for its broker, and no request waits in a queue.
"""

from starlette.datastructures import State
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.http.context import Json
from engine.http.problems import RETRY_AFTER_S, Problem

STARTING = "the node is starting"


class Front:
    """Answers by itself until `open`, and through the node's application from then on."""

    def __init__(self) -> None:
        self.reason = STARTING  # why it is not there yet
        self.state = State()
        self.state.end_streams = self._end_streams
        self._app: ASGIApp | None = None

    def open(self, app: ASGIApp) -> None:
        """Answer through `app`, an application of this server's event loop."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live as long as the server does."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)
        else:
            await self._not_yet(scope["path"])(scope, receive, send)

    def _not_yet(self, path: str) -> Response:
        if path == "/health/live":
            return Json({"status": "live"})
        if path == "/health/ready":
            body = {"status": "not ready", "reason": self.reason}
            return Json(body, 503, {"Retry-After": str(RETRY_AFTER_S)})
        return Problem(503, "E1402", self.reason, "Try again shortly").response()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._app is not None:
            await self._close(self._app)
        await send({"type": "lifespan.shutdown.complete"})

    async def _close(self, app: ASGIApp) -> None:
        """Let the application end what it holds, as its own lifespan says."""
        told = iter(({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}))

        async def receive() -> dict[str, str]:
            return next(told)

        async def send(_message: object) -> None:
            pass

        await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)

    def _end_streams(self) -> None:
        state = getattr(self._app, "state", None)
        if state is not None:
            state.end_streams()
