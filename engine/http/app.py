"""The HTTP application: every route, read from top to bottom."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from engine.http.admin import Admin
from engine.http.commands import Commands
from engine.http.context import Context, Waits
from engine.http.hub import Hub
from engine.http.metrics import NodeMetrics
from engine.http.middleware import ROUTE, Entrance, raise_on
from engine.http.operator import Operator
from engine.http.problems import Problem
from engine.http.queries import Queries
from engine.http.routing import Forwarder
from engine.http.subscriptions import Subscriptions
from engine.node.api import NodeApi
from engine.settings import HttpSettings
from engine.telemetry.traces import NoTraces, Traces

_WORKSPACE = "/v1/workspaces/{workspace}"
Answer = Callable[[Request], Awaitable[Response]]


def create_app(
    node: NodeApi,
    settings: HttpSettings,
    traces: Traces | NoTraces | None = None,
    waits: Waits | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Starlette:
    """Return the application that serves `node`; it belongs to one event loop.

    `transport` replaces the network between nodes.
    """
    traces = traces or NoTraces()
    metrics = NodeMetrics(node, lambda: {"traces": traces.statistics()})
    context = Context(node, settings, metrics, traces, waits or Waits())
    hub = Hub(context)
    forwarder = Forwarder(context, hub, transport)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None, None]:
        yield
        await forwarder.close()
        metrics.metrics.close()

    app = Starlette(
        routes=_routes(context, forwarder, hub),
        middleware=[Middleware(Entrance, context=context)],
        exception_handlers={HTTPException: raise_on, Problem: raise_on},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.end_streams = hub.end
    return app


def _routes(context: Context, forwarder: Forwarder, hub: Hub) -> list[Route]:
    admin, commands, queries = Admin(context), Commands(context), Queries(context)
    operator = Operator(context)
    changes, here, stream = Subscriptions(context, hub), forwarder.here, forwarder.stream
    decide, publish, found = here(commands.post), commands.publish, here(commands.get)

    async def command(request: Request) -> Response:
        if request.method != "POST":
            return await found(request)
        if _respond_async(request):
            return await publish(request)
        return await decide(request)

    return [
        _get("/", admin.index),
        _get("/health/live", admin.live),
        _get("/health/ready", admin.ready),
        _get("/metrics", admin.metrics),
        _get("/openapi.json", admin.openapi),
        _get("/docs", admin.docs),
        _get("/problems/{code}", admin.problem),
        _get("/v1/partitions", admin.partitions),
        _route("/v1/partitions/{partition}/snapshot", admin.snapshot, "POST"),
        _get("/v1/node", operator.show),
        _route("/v1/node/reload", operator.reload, "POST"),
        _route("/v1/node/drain", operator.drain, "POST"),
        _route("/v1/node/resume", operator.resume, "POST"),
        _route(_WORKSPACE + "/commands/{command}", command, "GET", "POST"),
        _get(_WORKSPACE + "/records/{type}", here(queries.records)),
        _get(_WORKSPACE + "/records/{type}/{id}", here(queries.record)),
        _get(_WORKSPACE + "/records/{type}/{id}/changes", stream(changes.record)),
        _get(_WORKSPACE + "/views/{view}", here(queries.view)),
        _get(_WORKSPACE + "/views/{view}/changes", stream(changes.view)),
        _get(_WORKSPACE + "/events", here(queries.events)),
        _get(_WORKSPACE + "/events/changes", stream(changes.events)),
    ]


def _get(path: str, answer: Answer) -> Route:
    return _route(path, answer, "GET")


def _route(path: str, answer: Answer, *methods: str) -> Route:
    async def endpoint(request: Request) -> Response:
        request.scope[ROUTE] = path
        return await answer(request)

    return Route(path, endpoint, methods=methods)


def _respond_async(request: Request) -> bool:
    wishes = ",".join(request.headers.getlist("prefer")).lower().split(",")
    return any(wish.partition(";")[0].strip() == "respond-async" for wish in wishes)
