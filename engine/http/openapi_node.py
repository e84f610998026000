"""The part of the OpenAPI document that is the same for every application: the node's own pages."""

from collections.abc import Mapping
from typing import Any

from engine.http.openapi_operator import WAITING, operator_paths
from engine.http.openapi_parts import Codes, answer, parameter, responses
from engine.http.openapi_schemas import COUNT, TEXT, Schema, obj
from engine.http.problems import HttpCode

_LIST: Schema = {"type": "array", "items": TEXT}
_NUMBER: Schema = {"type": ["number", "null"]}
_PROGRESS = obj(
    {
        "partition": COUNT,
        "phase": TEXT,
        "applied_offset": COUNT,
        "target_offset": COUNT,
        "records_per_s": {"type": "number"},
        "eta_s": _NUMBER,
    }
)
# A view's new generation that doesn't count yet; `problem` says why it failed.
_BUILT: dict[str, Schema] = {
    "view": TEXT,
    "generation": COUNT,
    "applied_offset": COUNT,
    "target_offset": COUNT,
    "records_per_s": {"type": "number"},
    "eta_s": {"type": ["number", "null"]},
    "problem": {"type": ["string", "null"]},
}
_BUILD = obj(_BUILT)
_READY = obj(
    {
        "status": {"enum": ["ready", "not ready", "stuck"]},
        "owned": COUNT,
        "partitions": {"type": "array", "items": _PROGRESS},
        "builds": {"type": "array", "items": obj({"partition": COUNT, **_BUILT})},
        "problems": {"type": "object", "additionalProperties": TEXT},
        "draining": {"type": "boolean"},
        "loaded": TEXT,
        "waiting": WAITING,
    }
)
_INDEX = obj(
    {
        "application": TEXT,
        "version": TEXT,
        "node": TEXT,
        "engine": TEXT,
        "commands": _LIST,
        "records": _LIST,
        "views": _LIST,
        "events": TEXT,
        "more": _LIST,
    }
)
_PARTITION = obj(
    {
        "partition": COUNT,
        "owner": {"enum": ["here", "there", "nobody"]},
        "url": TEXT,
        "statistics": {"type": "object"},
        "builds": {"type": "array", "items": _BUILD},
        "problem": TEXT,
        "application": TEXT,
        "waiting": TEXT,
    },
    optional=("url", "statistics", "builds", "problem", "application", "waiting"),
)
_PEER = obj(
    {
        "node": TEXT,
        "url": TEXT,
        "application": TEXT,
        "fingerprint": TEXT,
        "engine": TEXT,
        "format": COUNT,
        "draining": {"type": "boolean"},
        "owned": COUNT,
    }
)
_PARTITIONS = obj(
    {
        "node": TEXT,
        "partitions": {"type": "array", "items": _PARTITION},
        "nodes": {"type": "array", "items": _PEER},
        "slowest_workspaces": {
            "type": "array",
            "items": obj({"workspace": TEXT, "duration_ms": {"type": "number"}}),
        },
    }
)
_PAGES: dict[str, tuple[str, str, Schema]] = {
    "/": ("index", "What runs here", _INDEX),
    "/health/live": ("live", "The process is there and turns", obj({"status": {"const": "live"}})),
    "/health/ready": (
        "ready",
        "All that this node is to serve is served; else 503 with its progress",
        _READY,
    ),
    "/v1/partitions": ("partitions", "Who owns what, and how far it is", _PARTITIONS),
    "/openapi.json": ("openapi", "This document", obj({"openapi": TEXT, "paths": {}})),
}
_SNAPSHOT = obj(
    {
        "snapshot": TEXT,
        **dict.fromkeys(("partition", "sequence", "epoch", "offset", "size_bytes"), COUNT),
    }
)
_EXPLAINED = obj(
    {
        "code": TEXT,
        "title": TEXT,
        "status": {"type": ["integer", "null"]},
        "why": TEXT,
        "what_to_do": TEXT,
    },
    optional=("status", "why", "what_to_do"),
)


def node_paths(components: Mapping[str, Schema]) -> dict[str, Any]:
    """Return the paths that belong to no workspace."""
    paths: dict[str, Any] = {
        path: _page(name, text, {"200": answer(schema, text, components)})
        for path, (name, text, schema) in _PAGES.items()
    }
    # A probe wants the progress, not a problem.
    not_ready = answer(_READY, "Not yet: progress by partition.", components)
    paths["/health/ready"]["get"]["responses"]["503"] = not_ready
    stuck = answer(obj({"status": {"const": "stuck"}}), "It hangs: restart it.", components)
    paths["/health/live"]["get"]["responses"]["503"] = stuck
    paths["/metrics"] = _page("metrics", "The Prometheus page", {"200": _text("text/plain")})
    paths["/docs"] = _page("docs", "A page to read and try this", {"200": _text("text/html")})
    code = parameter("code", "path", {"type": "string", "examples": ["E1402"]}, "A problem's code.")
    explained = answer(_EXPLAINED, "The explanation.", components)
    unknown: dict[int, Codes] = {404: {HttpCode.NOT_FOUND: "'x' is not a code of the engine"}}
    paths["/problems/{code}"] = {
        "get": {
            "operationId": "problem",
            "summary": "What a problem's code means",
            "tags": ["node"],
            "parameters": [code],
            "responses": responses({"200": explained}, unknown),
        }
    }
    paths["/v1/partitions/{partition}/snapshot"] = _snapshot(components)
    return paths | operator_paths(components)


def _snapshot(components: Mapping[str, Schema]) -> dict[str, Any]:
    about = "A partition that the node owns."
    partition = parameter("partition", "path", {"type": "integer", "examples": [0]}, about)
    taken = answer(_SNAPSHOT, "What was stored.", components)
    unknown: dict[int, Codes] = {404: {HttpCode.NOT_FOUND: "there is no partition '9'"}}
    return {
        "post": {
            "operationId": "snapshot",
            "summary": "Take a snapshot of a partition now",
            "tags": ["node"],
            "parameters": [partition],
            "responses": responses({"200": taken}, unknown),
        }
    }


def _page(name: str, text: str, success: dict[str, Any]) -> dict[str, Any]:
    return {
        "get": {
            "operationId": name,
            "summary": text,
            "tags": ["node"],
            "responses": responses(success),
        }
    }


def _text(media: str) -> dict[str, Any]:
    return {"description": "The page.", "content": {media: {"schema": {"type": "string"}}}}
