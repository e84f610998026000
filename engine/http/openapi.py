"""The OpenAPI 3.1 document of an application, generated from its manifest and schemas."""

from typing import Any

from engine.application import Application
from engine.application.types import KeyColumn
from engine.http.openapi_schemas import (
    COLUMNS,
    COUNT,
    ID,
    PICTURE,
    Schema,
    outcome,
    problem,
    record_schema,
    row_schema,
)
from engine.http.problems import MEDIA_TYPE
from engine.limits import (
    QUERY_LIMIT_DEFAULT,
    QUERY_LIMIT_MAX,
    WORKSPACE_BYTES_MAX,
)


def openapi(application: Application) -> dict[str, Any]:
    """Return the document."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Schema] = {"Problem": problem(), "Outcome": outcome()}
    base = "/v1/workspaces/{workspace}"
    for command in application.commands.values():
        schemas[f"{command.name}.args"] = record_schema(command.args)
        if command.result is not None:
            schemas[f"{command.name}.result"] = record_schema(command.result)
        result = _ref(f"{command.name}.result") if command.result is not None else None
        paths[f"{base}/commands/{command.name}"] = {"post": _command(command.name, result)}
    paths[f"{base}/commands/{{command_id}}"] = {"get": _command_get()}
    for record in application.records.values():
        schemas[f"{record.name}.record"] = record_schema(record.schema)
        paths[f"{base}/records/{record.name}/{{id}}"] = {"get": _record(record.name)}
    for view in application.views.values():
        schemas[f"{view.name}.row"] = row_schema(view.schema, view.key)
        paths[f"{base}/views/{view.name}"] = {"get": _view(view.name, view.key)}
    paths[f"{base}/events"] = {"get": _events()}
    paths |= _admin()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": application.name,
            "version": application.version,
            "description": "Generated from the application's manifest and schemas.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _parameter(
    name: str, where: str, schema: Schema, text: str, *, required: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": required or where == "path",
        "schema": schema,
        "description": text,
    }


_WORKSPACE = _parameter(
    "workspace",
    "path",
    {"type": "string", "minLength": 1, "maxLength": WORKSPACE_BYTES_MAX},
    "The client's key: 1 to 256 bytes of UTF-8, percent-encoded.",
)
_MIN_SEQUENCE = _parameter(
    "min_sequence",
    "query",
    COUNT,
    "Answer from this sequence of the partition on: read your own writes.",
)
_LIMIT = _parameter(
    "limit",
    "query",
    {
        "type": "integer",
        "minimum": 1,
        "maximum": QUERY_LIMIT_MAX,
        "default": QUERY_LIMIT_DEFAULT,
    },
    "At most so many entries.",
)


def _json(schema: Schema, text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


_TEXTS = {
    "400": "The request is wrong; `code` and `field` say where.",
    "401": "The token is missing or wrong.",
    "404": "There is no such thing; `code` says which.",
    "405": "The method is not allowed.",
    "409": "`sequence_mismatch`, or `id_conflict`: the id was used for another command.",
    "410": "It may have been decided long ago, but is no longer in the log.",
    "413": "Too large.",
    "415": "The body is not application/json.",
    "421": "Without a token, a node on loopback answers for localhost only.",
    "422": "The command was rejected; `code` says why, `sequence` where it is recorded.",
    "429": "Too much is waiting; try again after Retry-After.",
    "500": "A fault inside the engine.",
    "503": "Not now; the same request may be tried again after Retry-After.",
}


def _responses(success: dict[str, Any], *statuses: int) -> dict[str, Any]:
    """Return the responses of an operation: those that all have, and its own."""
    answers = dict(success)
    for status in sorted({*statuses, 400, 401, 421, 429, 500, 503}):
        answer: dict[str, Any] = {
            "description": _TEXTS[str(status)],
            "content": {MEDIA_TYPE: {"schema": _ref("Problem")}},
        }
        if status in {429, 503}:
            answer["headers"] = {
                "Retry-After": {"schema": {"type": "integer"}, "description": "In seconds."}
            }
        answers[str(status)] = answer
    return answers


def _command(name: str, result: Schema | None) -> dict[str, Any]:
    answer: Schema = {
        "type": "object",
        "properties": {
            "command_id": ID,
            **PICTURE,
            "workspace_sequence": COUNT,
            "code": {"const": ""},
            "duplicate": {"type": "boolean"},
            **({"result": result} if result else {}),
        },
        "required": [
            "command_id",
            "partition",
            "sequence",
            "workspace_sequence",
            "code",
            "duplicate",
        ],
    }
    later: Schema = {
        "type": "object",
        "properties": {"command_id": ID, "partition": COUNT},
        "required": ["command_id", "partition"],
    }
    headers = [
        _parameter(
            "Idempotency-Key",
            "header",
            {"type": "string", "minLength": 1, "maxLength": 255},
            "The command's id: a UUID as it is, other text hashed. The same key, once decided, "
            "gets the first outcome again.",
        ),
        _parameter(
            "Prefer",
            "header",
            {"type": "string"},
            "respond-async: answer 202 once the log has the command.",
        ),
        _parameter(
            "Expected-Sequence",
            "header",
            COUNT,
            "Reject unless it is the workspace's last accepted sequence.",
        ),
        _parameter("traceparent", "header", {"type": "string"}, "W3C trace context."),
    ]
    return {
        "operationId": f"command.{name}",
        "summary": f"Publish {name} and wait for its outcome",
        "tags": ["commands"],
        "parameters": [_WORKSPACE, *headers],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref(f"{name}.args")}},
        },
        "responses": _responses(
            {
                "200": _json(answer, "Accepted."),
                "202": _json(later, "Published; Location will have the outcome."),
            },
            *(404, 409, 410, 413, 415, 422),
        ),
    }


def _command_get() -> dict[str, Any]:
    return {
        "operationId": "command-outcome",
        "summary": "The outcome of a command, accepted or rejected",
        "tags": ["commands"],
        "parameters": [_WORKSPACE, _parameter("command_id", "path", ID, "The command's id.")],
        "responses": _responses({"200": _json(_ref("Outcome"), "Decided.")}, 404, 410),
    }


def _record(name: str) -> dict[str, Any]:
    body: Schema = {
        "type": "object",
        "properties": {
            **PICTURE,
            "type": {"const": name},
            "id": COUNT,
            "active": {"type": "boolean"},
            "fields": _ref(f"{name}.record"),
        },
        "required": ["partition", "sequence", "type", "id", "active", "fields"],
    }
    return {
        "operationId": f"record.{name}",
        "summary": f"One {name} as it stands",
        "tags": ["records"],
        "parameters": [
            _WORKSPACE,
            _parameter("id", "path", COUNT, "The record's id; 0 for a singleton."),
            _MIN_SEQUENCE,
        ],
        "responses": _responses({"200": _json(body, "The record.")}, 404),
    }


def _view(name: str, key: tuple[KeyColumn, ...]) -> dict[str, Any]:
    columns = [
        _parameter(
            column.name,
            "query",
            COLUMNS[column.kind],
            "Rows with this key column; needs the columns before it."
            if at
            else "Rows with this key column.",
        )
        for at, column in enumerate(key)
    ]
    after = _parameter("after", "query", {"type": "string"}, "An earlier page's `next`.")
    body: Schema = {
        "type": "object",
        "properties": {
            **PICTURE,
            "rows": {"type": "array", "items": _ref(f"{name}.row")},
            "next": {"type": ["string", "null"]},
        },
        "required": ["partition", "sequence", "rows", "next"],
    }
    return {
        "operationId": f"view.{name}",
        "summary": f"Rows of {name}, in key order",
        "tags": ["views"],
        "parameters": [_WORKSPACE, *columns, _LIMIT, after, _MIN_SEQUENCE],
        "responses": _responses({"200": _json(body, "A page of rows.")}, 404),
    }


def _events() -> dict[str, Any]:
    after = _parameter("after", "query", COUNT, "A workspace sequence; outcomes behind it.")
    body: Schema = {
        "type": "object",
        "properties": {
            **PICTURE,
            "events": {"type": "array", "items": _ref("Outcome")},
            "next": {"type": ["integer", "null"]},
        },
        "required": ["partition", "sequence", "events", "next"],
    }
    return {
        "operationId": "events",
        "summary": "The workspace's outcomes, in order",
        "tags": ["events"],
        "parameters": [_WORKSPACE, after, _LIMIT, _MIN_SEQUENCE],
        "responses": _responses({"200": _json(body, "A page of outcomes.")}, 410),
    }


def _admin() -> dict[str, Any]:
    anything: Schema = {"type": "object"}
    pages = {
        "/": ("index", "What runs here"),
        "/health/live": ("live", "The process is there"),
        "/health/ready": ("ready", "All that this node is to serve is served; else 503"),
        "/v1/partitions": ("partitions", "Who owns what, and how far it is"),
        "/openapi.json": ("openapi", "This document"),
    }
    paths: dict[str, Any] = {
        path: {
            "get": {
                "operationId": name,
                "summary": text,
                "tags": ["node"],
                "responses": _responses({"200": _json(anything, text)}),
            }
        }
        for path, (name, text) in pages.items()
    }
    # A probe wants the progress, not a problem.
    not_ready = _json(anything, "Not yet: progress by partition.")
    paths["/health/ready"]["get"]["responses"]["503"] = not_ready
    metrics = {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    paths["/metrics"] = {
        "get": {
            "operationId": "metrics",
            "summary": "The Prometheus page",
            "tags": ["node"],
            "responses": _responses({"200": metrics}),
        }
    }
    code = _parameter("code", "path", {"type": "string"}, "A problem's code.")
    paths["/problems/{code}"] = {
        "get": {
            "operationId": "problem",
            "summary": "What a problem's code means",
            "tags": ["node"],
            "parameters": [code],
            "responses": _responses({"200": _json(anything, "The explanation.")}, 404),
        }
    }
    return paths
