"""What an operator does to a node over HTTP: load its folder anew, drain it, let it serve again.

Guarded as every other request is: by the token, or by loopback; a body that isn't declared as JSON
is refused, so that no web page can send one.
"""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from engine import __version__, limits
from engine.errors import EngineError, UnavailableError
from engine.http.context import Context, Json
from engine.http.parameters import body_bytes, check_media_type, json_object, query
from engine.http.problems import HttpCode, Problem


class Operator:
    """Handlers of /v1/node."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def show(self, request: Request) -> Response:
        """Say what this node has loaded, what waits, and whether it drains."""
        query(request)
        return Json(self._state())

    async def reload(self, request: Request) -> Response:
        """Load the folder anew; what is wrong with it is a problem, and changes nothing."""
        force = await _force(request)
        operations = self._context.node.operations
        try:
            await run_in_threadpool(lambda: operations.reload(force=force))
        except UnavailableError:
            raise
        except EngineError as error:
            detail = str(error).partition(" ")[2].partition(". More: ")[0]
            raise Problem(409, error.code, detail) from None
        return Json(self._state())

    async def drain(self, request: Request) -> Response:
        """Begin to let go of every partition; the answer doesn't wait for it."""
        await _nothing(request)
        self._context.node.operations.drain()
        return Json(self._state())

    async def resume(self, request: Request) -> Response:
        """Serve partitions again."""
        await _nothing(request)
        self._context.node.operations.resume()
        return Json(self._state())

    def _state(self) -> dict[str, Any]:
        node = self._context.node
        operations, application = node.operations, node.operations.loaded.application
        return {
            "node": node.name,
            "engine": __version__,
            "format": limits.FORMAT,
            "draining": operations.draining,
            "owned": operations.owned(),
            "application": application.name,
            "loaded": application.version,
            "fingerprint": application.fingerprint.hex(),
            "lacking": list(operations.loaded.lacking),
            "waiting": waiting_json(self._context),
        }


def waiting_json(context: Context) -> dict[str, str]:
    """Return why the loaded application is not in force, by partition."""
    waiting = context.node.operations.waiting()
    return {str(partition): reason for partition, reason in sorted(waiting.items())}


async def _body(request: Request) -> dict[str, Any]:
    query(request)
    check_media_type(request.headers)
    return json_object(await body_bytes(request))


async def _force(request: Request) -> bool:
    body = await _body(request)
    force = body.pop("force", False)
    if body or not isinstance(force, bool):
        raise Problem(
            400, HttpCode.INVALID_BODY, 'the body may hold "force", true or false, and nothing else'
        )
    return force


async def _nothing(request: Request) -> None:
    if await _body(request):
        raise Problem(400, HttpCode.INVALID_BODY, "the body must be an empty object")
