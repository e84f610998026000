"""What happens to every request before its handler: one layer, in the order it is written.

path -> capacity -> token -> handler; whatever is raised becomes a problem, and every request is
counted. Knows no routes.
"""

import hmac
import time

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine import limits
from engine.errors import EngineError
from engine.http.context import Context
from engine.http.exposure import is_loopback
from engine.http.parameters import routing_path
from engine.http.problems import HttpCode, Problem, from_error

ROUTE = "partita.route"
GONE_STATUS = 499  # as proxies count a client that hung up before its request was whole
# The page holds nothing of the application: it asks for the token, and then for the document.
_OPEN = frozenset({"/health/live", "/health/ready", "/docs"})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_log = structlog.get_logger("http")


class Entrance:
    """Wraps the router. The only place that turns exceptions into responses."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self._app = app
        self._context = context
        token = context.settings.token
        self._token = token.get_secret_value().encode() if token else None
        self._local = self._token is None and is_loopback(context.settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        counters = self._context.metrics
        counters.active += 1
        try:
            self._admit(scope)
            await self._app(scope, receive, noted)
        except ClientDisconnect:
            status = GONE_STATUS  # nobody is there to be answered
        except Exception as fault:
            if status:
                # The answer has begun: ending the connection is all that is left to say.
                raise
            await self._explain(scope, fault)(scope, receive, noted)
        finally:
            counters.active -= 1
            method = scope["method"] if scope["method"] in _METHODS else "other"
            counters.metrics.request(
                scope.get(ROUTE, "none"), method, status, time.perf_counter() - begun
            )

    def _admit(self, scope: Scope) -> None:
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        scope["path"] = path = routing_path(raw_path)
        if path in _OPEN:
            return
        counters = self._context.metrics
        if counters.active > limits.REQUESTS_WAITING_MAX:
            counters.refused += 1
            raise Problem(429, "E1403", "too many requests are being answered", "Try again later")
        headers = Headers(scope=scope)
        if self._token is not None:
            self._check_token(headers)
        elif self._local:
            _check_host(headers)

    def _check_token(self, headers: Headers) -> None:
        assert self._token is not None
        kind, _, given = headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        if kind.lower() != "bearer" or not right:
            raise Problem(
                401,
                HttpCode.UNAUTHORIZED,
                "the request carries no valid token",
                "Send Authorization: Bearer TOKEN, with the token of the settings",
                {"WWW-Authenticate": "Bearer"},
            )

    def _explain(self, scope: Scope, fault: Exception) -> Response:
        if isinstance(fault, Problem):
            return fault.response()
        if isinstance(fault, HTTPException):
            return _routing(scope, fault).response()
        if isinstance(fault, EngineError):
            problem = from_error(fault, self._context.node.progress())
            if problem.status == 500:
                _log.error("request failed", code=fault.code, error=str(fault))
            return problem.response()
        _log.error("request failed", route=scope.get(ROUTE), exc_info=fault)
        return Problem(
            500, "E1405", "a fault inside the engine", "The node's log has the details"
        ).response()


def _check_host(headers: Headers) -> None:
    """Refuse other names for this loopback address: a web page could have made them up."""
    host = headers.get("host", "")
    name = host.partition("]")[0].removeprefix("[") if host[:1] == "[" else host.partition(":")[0]
    if name.lower() not in _LOOPBACK:
        raise Problem(
            421,
            HttpCode.UNKNOWN_HOST,
            "this node answers for localhost only",
            "Use http://127.0.0.1, or set http.token",
        )


def _routing(scope: Scope, fault: HTTPException) -> Problem:
    headers = dict(fault.headers or {})
    if fault.status_code == 404:
        return Problem(
            404, HttpCode.NOT_FOUND, "there is no such path", "GET / lists them", headers
        )
    if fault.status_code == 405:
        allowed = headers.get("Allow", "")
        method = scope["method"]
        return Problem(
            405, HttpCode.METHOD_NOT_ALLOWED, f"{method} is not allowed", f"Use {allowed}", headers
        )
    return Problem(fault.status_code, HttpCode.NOT_FOUND, str(fault.detail), "", headers)


async def raise_on(_request: Request, fault: Exception) -> Response:
    """Let what a handler raised through to the entrance."""
    raise fault
