"""What operators, probes and scrapers ask: health, metrics, who owns what, what there is."""

from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from engine import __version__
from engine.application import Application
from engine.http.context import Context, Json
from engine.http.openapi import openapi
from engine.http.operator import waiting_json
from engine.http.parameters import query, segment
from engine.http.problems import (
    RETRY_AFTER_S,
    HttpCode,
    Problem,
    build_json,
    explain,
    progress_json,
)
from engine.limits import REQUEST_WAIT_MS
from engine.model import NodeBeat, Phase
from engine.node.api import Where
from engine.telemetry import SLOWEST_MAX

_DOCS = Path(__file__).with_name("docs.html").read_bytes()
_POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Admin:
    """Handlers that belong to no workspace."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._document: tuple[Application, dict[str, Any]] | None = None

    async def index(self, request: Request) -> Response:
        """Say what runs here, and where to look next."""
        query(request)
        application = self._context.node.application
        workspace = "/v1/workspaces/{workspace}"
        return Json(
            {
                "application": application.name,
                "version": application.version,
                "node": self._context.node.name,
                "engine": __version__,
                "commands": [f"{workspace}/commands/{name}" for name in application.commands],
                "records": [
                    f"{workspace}/records/{name}/{{id}}"
                    for name, record in application.records.items()
                    if record.kind != "operation"
                ],
                "views": [f"{workspace}/views/{name}" for name in application.views],
                "events": f"{workspace}/events",
                "more": ["/docs", "/openapi.json", "/v1/partitions", "/health/ready", "/metrics"],
            }
        )

    async def live(self, request: Request) -> Response:
        """Answer: the process is there, and does something; 503 once it has hung for long."""
        query(request)
        if self._context.node.stuck:
            return Json({"status": "stuck"}, 503)
        return Json({"status": "live"})

    async def ready(self, request: Request) -> Response:
        """Answer 200 once all that this node is to serve is served, else 503 with progress."""
        query(request)
        node = self._context.node
        progress = sorted(node.progress(), key=lambda entry: entry.partition)
        stopped = {str(partition): why for partition, why in sorted(node.problems().items())}
        stuck = node.stuck
        ready = node.ready() and not stopped and not stuck
        body = {
            "status": "stuck" if stuck else "ready" if ready else "not ready",
            "owned": sum(entry.phase is Phase.OWNING for entry in progress),
            "partitions": [progress_json(entry) for entry in progress],
            "problems": stopped,
            "draining": node.operations.draining,
            "loaded": node.operations.loaded.application.version,
            "waiting": waiting_json(self._context),
            "builds": [
                {"partition": partition} | build_json(build)
                for partition, builds in sorted(node.builds().items())
                for build in builds
            ],
        }
        headers = {} if ready else {"Retry-After": str(RETRY_AFTER_S)}
        return Json(body, 200 if ready else 503, headers)

    async def metrics(self, request: Request) -> Response:
        """Return the Prometheus page."""
        query(request)
        page = await run_in_threadpool(self._context.metrics.metrics.exposition)
        return Response(page, media_type=None, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def openapi(self, request: Request) -> Response:
        """Return the application's OpenAPI document."""
        query(request)
        application = self._context.node.application
        # The fingerprint alone doesn't say which generation of a view counts.
        if self._document is None or self._document[0] is not application:
            self._document = (application, openapi(application))
        return Json(self._document[1])

    async def docs(self, request: Request) -> Response:
        """Return the page to read and try the OpenAPI document; it loads nothing from elsewhere."""
        query(request)
        return Response(_DOCS, media_type="text/html", headers={"Content-Security-Policy": _POLICY})

    async def partitions(self, request: Request) -> Response:
        """Return who owns what, how far it is, and which workspaces are slow."""
        query(request)
        context, node = self._context, self._context.node
        progress = {entry.partition: progress_json(entry) for entry in node.progress()}
        stopped, builds, waiting = node.problems(), node.builds(), node.operations.waiting()
        statistics = context.metrics.statistics()
        partitions: list[dict[str, Any]] = []
        for partition in range(node.application.partitions):
            route = node.route(partition)
            entry: dict[str, Any] = {"partition": partition, "owner": route.where.value}
            if route.where is Where.THERE:
                entry["url"] = route.url
            if partition in progress:
                entry |= progress[partition]
                entry["statistics"] = statistics.get(f"partition {partition}", {})
                entry["application"] = node.serving(partition).version
            if partition in builds:
                entry["builds"] = [build_json(build) for build in builds[partition]]
            if partition in waiting:
                entry["waiting"] = waiting[partition]
            if partition in stopped:
                entry["problem"] = stopped[partition]
            partitions.append(entry)
        nodes = [_peer_json(beat) for beat in node.peers()]
        body = {"node": node.name, "partitions": partitions, "nodes": nodes}
        return Json(body | {"slowest_workspaces": self._slowest(statistics)})

    def _slowest(self, statistics: dict[str, dict[str, int | float]]) -> list[dict[str, Any]]:
        """Return the slowest workspaces as seen here, joined with what the core has seen."""
        seen: dict[str, int | float] = dict(
            self._context.slowest.top(self._context.clock.monotonic_ms())
        )
        for workspace, duration_ms in statistics.get("slowest_workspaces", {}).items():
            seen[workspace] = max(duration_ms, seen.get(workspace, 0))
        longest = sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:SLOWEST_MAX]
        return [{"workspace": name, "duration_ms": duration} for name, duration in longest]

    async def snapshot(self, request: Request) -> Response:
        """Take a snapshot of a partition that this node owns, now."""
        query(request)
        text, node = segment(request, "partition"), self._context.node
        if not (text.isdecimal() and int(text) < node.application.partitions):
            raise Problem(404, HttpCode.NOT_FOUND, f"there is no partition {text!r}")
        asked = self._context.ask(lambda: node.snapshot(int(text)))
        manifest = await self._context.wait(asked, REQUEST_WAIT_MS)
        fields = ("partition", "sequence", "epoch", "offset", "size_bytes")
        body = {"snapshot": manifest.name, **{name: getattr(manifest, name) for name in fields}}
        return Json(body)

    async def problem(self, request: Request) -> Response:
        """Explain a code: what a problem's `type` points at."""
        query(request)
        code = segment(request, "code")
        page = explain(code)
        if page is None:
            raise Problem(
                404,
                HttpCode.NOT_FOUND,
                f"{code!r} is not a code of the engine",
                "An application's own codes are explained by its author",
            )
        return Json(page)


def _peer_json(beat: NodeBeat) -> dict[str, Any]:
    return {
        "node": beat.node,
        "url": beat.http,
        "application": beat.application,
        "fingerprint": beat.fingerprint.hex(),
        "engine": beat.engine_version,
        "format": beat.format,
        "draining": beat.draining,
        "owned": sum(held.role == "owner" for held in beat.partitions),
    }
