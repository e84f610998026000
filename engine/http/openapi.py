"""The OpenAPI 3.1 document of an application, generated from its manifest and schemas."""

from typing import Any

from engine.application import Application
from engine.application.types import CommandType, KeyColumn, RecordType, ViewType
from engine.http import openapi_parts as parts
from engine.http.openapi_node import node_paths
from engine.http.openapi_parts import (
    OF_QUERIES,
    OF_STREAMS,
    OF_WORKSPACES,
    PICTURE_HEADERS,
    answer,
    parameter,
    ref,
    responses,
)
from engine.http.openapi_schemas import (
    COUNT,
    ID,
    IDS,
    PICTURE,
    STANDING,
    Schema,
    args_schema,
    changes_schema,
    obj,
    outcome,
    problem,
    record_schema,
    row_schema,
    stored_schema,
)
from engine.http.pictures import record_known, view_known
from engine.http.problems import HttpCode

_BASE = "/v1/workspaces/{workspace}"
_ID = KeyColumn("id", "long")
_ROOT = KeyColumn("root", "long")


def openapi(application: Application) -> dict[str, Any]:
    """Return the document."""
    document = _Document(application)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": application.name,
            "version": application.version,
            "description": "Generated from the application's manifest and schemas. "
            "What is unknown or mistyped in a request is an error, never ignored.",
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "commands", "description": "Requests to change a workspace."},
            {"name": "records", "description": "What a workspace holds."},
            {"name": "views", "description": "What projectors make of it."},
            {"name": "events", "description": "What has become of every command."},
            {"name": "node", "description": "The node itself."},
        ],
        "paths": document.paths(),
        "components": {
            "schemas": document.schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


class _Document:
    """Collects components while it makes paths."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self.schemas: dict[str, Schema] = {"Problem": problem(), "Outcome": outcome()}
        for command in application.commands.values():
            name = f"{command.name}.args"
            if command.generic:
                self.schemas[name] = changes_schema(application, command.generic)
            else:
                self.schemas[name] = args_schema(command.args)
            if command.result is not None:
                self.schemas[f"{command.name}.result"] = record_schema(command.result)
        for record in application.records.values():
            self.schemas[f"{record.name}.record"] = record_schema(record.schema)
            self.schemas[f"{record.name}.stored"] = stored_schema(record)
        for view in application.views.values():
            self.schemas[f"{view.name}.row"] = row_schema(view.schema, view.key)

    def paths(self) -> dict[str, Any]:
        """Return all paths."""
        found: dict[str, Any] = {}
        for command in self._application.commands.values():
            found[f"{_BASE}/commands/{command.name}"] = {"post": self._command(command)}
        found[f"{_BASE}/commands/{{command_id}}"] = {"get": self._command_get()}
        for record in self._application.records.values():
            if record.kind == "operation":
                continue
            path = f"{_BASE}/records/{record.name}"
            found[path] = {"get": self._records(record)}
            found[f"{path}/{{id}}"] = {"get": self._record(record)}
            found[f"{path}/{{id}}/changes"] = {"get": self._record_changes(record)}
        for view in self._application.views.values():
            path = f"{_BASE}/views/{view.name}"
            found[path] = {"get": self._view(view)}
            found[f"{path}/changes"] = {"get": self._view_changes(view)}
        found[f"{_BASE}/events"] = {"get": self._events()}
        found[f"{_BASE}/events/changes"] = {"get": self._event_changes()}
        return found | node_paths(self.schemas)

    def _answer(self, schema: Schema, text: str) -> dict[str, Any]:
        return answer(schema, text, self.schemas) | {"headers": PICTURE_HEADERS}

    def _command(self, command: CommandType) -> dict[str, Any]:
        accepted: dict[str, Schema] = {
            "command_id": ID,
            **PICTURE,
            "workspace_sequence": COUNT,
            "code": {"const": ""},
            "duplicate": {"type": "boolean"},
        }
        if command.generic:
            accepted["ids"] = IDS
        elif command.result is not None:
            accepted["result"] = ref(f"{command.name}.result")
        later = obj({"command_id": ID, "partition": COUNT})
        published = answer(later, "Published; Location will have the outcome.", self.schemas)
        location = {"schema": {"type": "string"}, "description": "Where the outcome will be."}
        body = ref(f"{command.name}.args")
        example = parts.sample(body, self.schemas)
        done = obj(accepted, optional=("ids", "result"))
        return {
            "operationId": f"command.{command.name}",
            "summary": f"Publish {command.name} and wait for its outcome",
            "description": _of_command(command),
            "tags": ["commands"],
            "parameters": [parts.WORKSPACE, *_COMMAND_HEADERS],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": body, "example": example}},
            },
            "responses": responses(
                {
                    "200": answer(done, "Accepted.", self.schemas),
                    "202": published | {"headers": {"Location": location}},
                },
                parts.of_commands(command.errors),
            ),
        }

    def _command_get(self) -> dict[str, Any]:
        unknown: dict[int, parts.Codes] = {
            404: {HttpCode.UNKNOWN_COMMAND_ID: "no outcome of this command is known"},
            410: {HttpCode.GONE: "the log no longer holds this outcome"},
        }
        decided = answer(ref("Outcome"), "Decided.", self.schemas)
        return {
            "operationId": "command-outcome",
            "summary": "The outcome of a command, accepted or rejected",
            "tags": ["commands"],
            "parameters": [
                parts.WORKSPACE,
                parameter("command_id", "path", ID, "The command's id."),
            ],
            "responses": responses({"200": decided}, unknown),
        }

    def _record(self, record: RecordType) -> dict[str, Any]:
        stored = self.schemas[f"{record.name}.stored"]["properties"]
        body = obj(
            {**STANDING, "type": {"const": record.name}, **stored}, optional=["children", "stale"]
        )
        return {
            "operationId": f"record.{record.name}",
            "summary": f"One {record.name} as it stands, with what is nested in it",
            "tags": ["records"],
            "parameters": [*_one_record(record), parts.MIN_SEQUENCE, parts.STALE],
            "responses": responses(
                {"200": self._answer(body, "The record.")}, OF_QUERIES, _no_record(record)
            ),
        }

    def _records(self, record: RecordType) -> dict[str, Any]:
        key = (_ROOT, _ID) if record.parent else (_ID,)
        ids = (*key, KeyColumn("parent", "long")) if record.parent else key
        known = record_known(self._application, record, ids)
        body = {"type": {"const": record.name}, **_page(ref(f"{record.name}.stored"))}
        return {
            "operationId": f"records.{record.name}",
            "summary": f"Every {record.name} of a workspace: filtered, then ordered, then paged",
            "tags": ["records"],
            "parameters": [
                parts.WORKSPACE,
                *parts.columns(key),
                parts.where(known.paths()),
                parts.order(known.fields),
                parts.keys(record.schema.by_name),
                parts.INACTIVE,
                parts.LIMIT,
                parts.AFTER,
                parts.MIN_SEQUENCE,
                parts.STALE,
            ],
            "responses": responses(
                {"200": self._answer(obj({**STANDING, **body}, optional=["stale"]), "A page.")},
                OF_QUERIES,
            ),
        }

    def _view(self, view: ViewType) -> dict[str, Any]:
        known = view_known(view)
        body = obj({**STANDING, **_page(ref(f"{view.name}.row"))}, optional=["stale"])
        return {
            "operationId": f"view.{view.name}",
            "summary": f"Rows of {view.name}: filtered, then ordered, then paged",
            "tags": ["views"],
            "parameters": [
                parts.WORKSPACE,
                *parts.columns(view.key),
                parts.where(known.paths()),
                parts.order(known.fields),
                parts.keys(known.fields),
                parts.LIMIT,
                parts.AFTER,
                parts.MIN_SEQUENCE,
                parts.STALE,
            ],
            "responses": responses({"200": self._answer(body, "A page of rows.")}, OF_QUERIES),
        }

    def _events(self) -> dict[str, Any]:
        behind = parameter("after", "query", COUNT, "A workspace sequence; outcomes behind it.")
        listed: dict[str, Schema] = {
            "events": {"type": "array", "items": ref("Outcome")},
            "next": {"type": ["integer", "null"]},
        }
        gone: dict[int, parts.Codes] = {
            410: {HttpCode.GONE: "the log no longer holds these outcomes"}
        }
        body = obj({**PICTURE, **listed})
        return {
            "operationId": "events",
            "summary": "The workspace's outcomes, in order",
            "tags": ["events"],
            "parameters": [parts.WORKSPACE, behind, parts.LIMIT, parts.MIN_SEQUENCE],
            "responses": responses(
                {"200": self._answer(body, "A page of outcomes.")}, OF_WORKSPACES, gone
            ),
        }

    def _view_changes(self, view: ViewType) -> dict[str, Any]:
        known = view_known(view)
        rows: Schema = {"type": "array", "items": ref(f"{view.name}.row")}
        told = {
            "state": obj({**PICTURE, "rows": rows}),
            "reset": obj({**PICTURE, "rows": rows}),
            "change": obj({**PICTURE, "put": rows, "remove": rows}),
        }
        return self._stream(
            f"view.{view.name}.changes",
            f"Changes of {view.name}: its rows, then what becomes of them",
            "views",
            [*parts.columns(view.key), parts.where(known.paths()), parts.keys(known.fields)],
            told,
        )

    def _record_changes(self, record: RecordType) -> dict[str, Any]:
        stored = self.schemas[f"{record.name}.stored"]["properties"]
        named: dict[str, Schema] = {**PICTURE, "type": {"const": record.name}}
        told = {
            "record": obj({**named, **stored}, optional=["children"]),
            "absent": obj({**named, "id": COUNT}),
        }
        return self._stream(
            f"record.{record.name}.changes",
            f"One {record.name} whenever it is another",
            "records",
            _one_record(record)[1:],
            told,
        )

    def _event_changes(self) -> dict[str, Any]:
        behind = parameter("after", "query", COUNT, "Begin behind it; without it, now.")
        told = {"outcome": ref("Outcome"), "reset": obj({"sequence": COUNT, "after": COUNT})}
        return self._stream(
            "events.changes", "Every outcome of the workspace as it comes", "events", [behind], told
        )

    def _stream(
        self,
        operation: str,
        summary: str,
        tag: str,
        options: list[dict[str, Any]],
        told: dict[str, Schema],
    ) -> dict[str, Any]:
        """Return an operation of server-sent events; each has a schema of its own."""
        told = {**told, "problem": ref("Problem")}
        lines = [
            f"id: 1\nevent: {name}\ndata: {parts.compact(parts.sample(data, self.schemas))}\n\n"
            for name, data in told.items()
        ]
        streamed = {
            "description": "Server-sent events; the id of each says what is known with it. A "
            "comment breaks the silence every 15 s. A stream ends when the node no longer serves "
            "the partition: connect again with Last-Event-ID.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": "".join(lines),
                    "x-events": told,
                }
            },
        }
        return {
            "operationId": operation,
            "summary": summary,
            "tags": [tag],
            "parameters": [parts.WORKSPACE, *options, parts.LAST_EVENT_ID],
            "responses": responses({"200": streamed}, OF_QUERIES, OF_STREAMS),
        }


_COMMAND_HEADERS = [
    parameter(
        "Idempotency-Key",
        "header",
        {"type": "string", "minLength": 1, "maxLength": 255},
        "The command's id: a UUID as it is, other text hashed. The same key, once decided, "
        "gets the first outcome again.",
    ),
    parameter(
        "Prefer",
        "header",
        {"type": "string", "examples": ["respond-async"]},
        "respond-async: answer 202 once the log has the command.",
    ),
    parameter(
        "Expected-Sequence",
        "header",
        COUNT,
        "Reject unless it is the workspace's last accepted sequence.",
    ),
    parameter("traceparent", "header", {"type": "string"}, "W3C trace context."),
]


def _of_command(command: CommandType) -> str:
    said: list[str] = []
    if command.creates:
        said.append(f"Makes a workspace of the kind {command.creates}, where there is none.")
    if command.deactivates:
        said.append("Afterwards the workspace is gone.")
    if command.generic:
        said.append(f"Changes records of: {', '.join(command.generic)}.")
    if command.secret:
        said.append(f"Not kept: {', '.join(field.name for field in command.secret)}.")
    return " ".join(said)


def _one_record(record: RecordType) -> list[dict[str, Any]]:
    found = [
        parts.WORKSPACE,
        parameter("id", "path", COUNT, "The record's id; 0 for a singleton."),
    ]
    if record.parent:
        text = f"The id of the {record.root} that it is nested in."
        found.append(parameter("root", "query", COUNT, text, required=True))
    return [*found, parts.keys([*record.schema.by_name, *record.children]), parts.INACTIVE]


def _no_record(record: RecordType) -> dict[int, parts.Codes]:
    return {404: {HttpCode.UNKNOWN_RECORD: f"there is no {record.name} 1 in this workspace"}}


def _page(entry: Schema) -> dict[str, Schema]:
    return {"rows": {"type": "array", "items": entry}, "next": {"type": ["string", "null"]}}
