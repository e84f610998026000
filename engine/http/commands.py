"""Commands over HTTP: encode, hand to the node, tell what became of them.

Owns the meaning of the request's headers and of its status. Decides nothing: what can't be a
command at all is refused here, all else is an outcome.
"""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from engine import limits, wire
from engine.application.generic import args_from_json
from engine.application.schema import SchemaMismatch, encode
from engine.application.types import CommandType
from engine.errors import Code
from engine.http.context import Context, Json
from engine.http.outcomes import Applications, id_text, outcome_json, read_outcome, reply_json
from engine.http.parameters import (
    body_bytes,
    check_media_type,
    integer,
    json_object,
    query,
    segment,
    workspace_of,
)
from engine.http.problems import STATUS, HttpCode, Problem
from engine.model import Reply
from engine.partition.reading import PartitionReader
from engine.telemetry.traces import Request as Span
from engine.world import derived_id

_UUID = re.compile(r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
KEY_LENGTH_MAX = 255


@dataclass(slots=True, frozen=True)
class Asked:
    """A command as asked for."""

    workspace: str
    partition: int
    type: CommandType
    command_id: bytes
    value: bytes

    @property
    def told(self) -> dict[str, Any]:
        """Return what a problem tells of it: enough to ask again."""
        key = id_text(self.command_id)
        return {"partition": self.partition, "command_id": key, "idempotency_key": key}


class Commands:
    """Handlers of .../commands/..."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def post(self, request: Request) -> Response:
        """Publish a command and wait for its outcome."""
        with self._context.traces.request("command", request.headers.get("traceparent")) as span:
            try:
                asked = await self._asked(request, span)
                begun_ms = self._context.clock.monotonic_ms()
                reply = await self._submit(asked)
                now_ms = self._context.clock.monotonic_ms()
                self._context.slowest.note(asked.workspace, now_ms - begun_ms, now_ms)
                span.note(sequence=reply.sequence, code=reply.code)
                response = self._answer(asked, reply)
            except Problem as problem:
                span.status(problem.status)
                raise
            span.status(response.status_code)
            return response

    async def publish(self, request: Request) -> Response:
        """Publish a command without waiting for its outcome (Prefer: respond-async)."""
        with self._context.traces.request("command", request.headers.get("traceparent")) as span:
            asked = await self._asked(request, span)
            node, context = self._context.node, self._context
            landing = context.ask(
                lambda: node.publish(asked.partition, asked.workspace, asked.value), **asked.told
            )
            await context.wait(landing, context.waits.outcome_ms, **asked.told)
            command_id = id_text(asked.command_id)
            location = request.scope["raw_path"].decode("ascii").rpartition("/")[0]
            body = {"command_id": command_id, "partition": asked.partition}
            headers = {
                "Location": f"{location}/{command_id}",
                "Preference-Applied": "respond-async",
            }
            return Json(body, 202, headers)

    async def get(self, request: Request) -> Response:
        """Return the outcome of a command by its id."""
        query(request)
        workspace, text = workspace_of(request), segment(request, "command")
        if _UUID.fullmatch(text) is None:
            raise Problem(400, HttpCode.INVALID_PATH, "a command id is a UUID", field="id")
        context = self._context
        partition = context.node.partition_of(workspace)
        asking = context.ask(lambda: context.node.find(partition, UUID(text).bytes))
        sequence = await context.wait(asking, context.waits.sequence_ms, partition=partition)
        if not sequence:
            raise _unknown(text)
        await context.reach(partition, sequence)

        def place(reader: PartitionReader) -> tuple[int | None, Applications]:
            return reader.offset_of(sequence), reader.application_of

        offset, applications = await context.read(partition, place)
        outcome = read_outcome(await context.event(partition, offset))
        if outcome is None:
            raise Problem(410, HttpCode.GONE, "the log no longer holds this outcome")
        if outcome["workspace"] != workspace:
            raise _unknown(text)
        return Json(outcome_json(partition, outcome, applications))

    async def _asked(self, request: Request, span: Span) -> Asked:
        query(request)
        workspace, name = workspace_of(request), segment(request, "command")
        command = self._context.node.application.command(name)
        if command is None:
            known = ", ".join(sorted(self._context.node.application.commands))
            raise Problem(
                404, Code.UNKNOWN_COMMAND, f"there is no command {name!r}", f"Commands are: {known}"
            )
        check_media_type(request.headers)
        command_id = self._command_id(request, workspace)
        expected = request.headers.get("expected-sequence")
        fields: dict[str, Any] = {
            "command_id": command_id,
            "name": name,
            "args_schema": command.args.fingerprint,
            "args": self._args(command, json_object(await body_bytes(request))),
            "expected_sequence": None if expected is None else _expected(expected),
            "traceparent": span.traceparent,
        }
        partition = self._context.node.partition_of(workspace)
        span.note(command=name, command_id=id_text(command_id), partition=partition)
        value = wire.encode_command(fields)
        if len(value) > limits.COMMAND_BYTES_MAX:
            raise Problem(413, Code.TOO_LARGE, f"the command is {len(value)} bytes")
        return Asked(workspace, partition, command, command_id, value)

    def _args(self, command: CommandType, value: dict[str, Any]) -> bytes:
        application = self._context.node.application
        try:
            return encode(command.args, args_from_json(application, command, value))
        except SchemaMismatch as mismatch:
            raise Problem(
                400,
                Code.INVALID_ARGUMENTS,
                str(mismatch),
                f"GET /openapi.json has the schema of {command.name}",
                field=mismatch.field,
            ) from None

    def _command_id(self, request: Request, workspace: str) -> bytes:
        key = request.headers.get("idempotency-key")
        if key is None:
            return UUID(self._context.new_id()).bytes
        if not 1 <= len(key) <= KEY_LENGTH_MAX:
            raise Problem(
                400,
                HttpCode.INVALID_HEADER,
                f"Idempotency-Key has 1 to {KEY_LENGTH_MAX} characters",
            )
        if _UUID.fullmatch(key):
            return UUID(key).bytes
        return derived_id(workspace.encode(), key.encode("latin-1"))

    async def _submit(self, asked: Asked) -> Reply:
        context, node = self._context, self._context.node
        waiting = context.ask(
            lambda: node.submit(asked.partition, asked.workspace, asked.command_id, asked.value),
            **asked.told,
        )
        try:
            return await context.wait(waiting, context.waits.outcome_ms, **asked.told)
        finally:
            if not waiting.done() or waiting.cancelled():
                node.forget(asked.partition, asked.command_id, waiting)

    def _answer(self, asked: Asked, reply: Reply) -> Response:
        body = reply_json(asked.partition, reply, asked.type)
        if not reply.code:
            return Json(body)
        detail = reply.message or f"the command was answered {reply.code}"
        more = {name: body[name] for name in body if name != "code"}
        if not reply.sequence:
            more.pop("workspace_sequence")
            more.pop("sequence")
        raise Problem(
            STATUS.get(reply.code, 422), reply.code, detail, "", None, field=reply.field, **more
        )


def _expected(text: str) -> int:
    try:
        return integer("Expected-Sequence", text, 0)
    except Problem as problem:
        raise Problem(400, HttpCode.INVALID_HEADER, problem.detail) from None


def _unknown(text: str) -> Problem:
    return Problem(
        404,
        HttpCode.UNKNOWN_COMMAND_ID,
        f"no outcome of command {text} is known in this workspace",
        "It is not decided yet, or was decided before the ids that are remembered",
    )
