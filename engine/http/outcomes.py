"""Outcomes and replies as JSON: arguments and changes decoded by their writers' schemas."""

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from engine import wire
from engine.application import Application
from engine.application.generic import args_to_json, result_to_json
from engine.application.schema import SchemaMismatch, decode, to_json
from engine.application.types import CommandType, RecordSchema
from engine.model import Reply
from engine.wire import Change, Outcome, WireError

Applications = Callable[[int], Application | None]


def id_text(command_id: bytes) -> str:
    """Return a command id as a UUID's text."""
    return str(UUID(bytes=command_id))


def time_text(time_ms: int) -> str:
    """Return a time as RFC 3339 in UTC with milliseconds."""
    try:
        moment = datetime.fromtimestamp(time_ms // 1_000, UTC).replace(tzinfo=None)
    except (ValueError, OverflowError, OSError):
        return str(time_ms)
    return f"{moment.isoformat()}.{time_ms % 1_000:03d}Z"


def decoded(schema: RecordSchema | None, data: bytes) -> Any:
    """Return a record as JSON; bytes that no known schema fits as {"base64": …}."""
    if schema is not None:
        try:
            return to_json(schema, decode(schema, data))
        except (WireError, SchemaMismatch):
            pass
    return {"base64": base64.b64encode(data).decode()}


def _result(command: CommandType | None, data: bytes) -> dict[str, Any]:
    """Return a result as an answer has it: a generic command's are the `ids` it gave."""
    if command is None:
        return {"result": decoded(None, data)}
    try:
        result = result_to_json(command, data)
    except (WireError, SchemaMismatch):
        return {"result": decoded(None, data)}
    return result if command.generic else {"result": result}


def _args(
    application: Application | None, command: CommandType | None, outcome: Outcome
) -> dict[str, Any]:
    """Return the arguments; those that no known schema fits as {"base64": …}."""
    data = outcome["args"]
    if application and command and command.args.fingerprint == outcome["args_schema"]:
        try:
            return args_to_json(application, command, decode(command.args, data))
        except (WireError, SchemaMismatch):
            pass
    return decoded(None, data) if data else {}


def reply_json(partition: int, reply: Reply, command: CommandType) -> dict[str, Any]:
    """Return what a command's caller is told."""
    body: dict[str, Any] = {
        "command_id": id_text(reply.command_id),
        "partition": partition,
        "sequence": reply.sequence,
        "workspace_sequence": reply.workspace_sequence,
        "code": reply.code,
        "duplicate": reply.duplicate,
    }
    if reply.result is not None:
        body |= _result(command, reply.result)
    return body


def outcome_json(partition: int, outcome: Outcome, applications: Applications) -> dict[str, Any]:
    """Return an outcome as JSON."""
    application = applications(outcome["application"])
    command = application.command(outcome["name"]) if application else None
    body: dict[str, Any] = {
        "command_id": id_text(outcome["command_id"]),
        "workspace": outcome["workspace"],
        "partition": partition,
        "sequence": outcome["sequence"],
        "workspace_sequence": outcome["workspace_sequence"],
        "epoch": outcome["epoch"],
        "input": outcome["input"],
        "input_offset": outcome["input_offset"],
        "command_time": time_text(outcome["command_time"]),
        "registered_at": time_text(outcome["registered_at"]),
        "application": application.version if application else outcome["application"],
        "command": outcome["name"],
        "args": _args(application, command, outcome),
        "code": outcome["code"],
        "changes": [_change(change, application) for change in outcome["changes"]],
    }
    for name in ("message", "field", "principal", "traceparent"):
        value = _optional(outcome, name)
        if value:
            body[name] = value
    if outcome["result"] is not None:
        body |= _result(command, outcome["result"])
    return body


def _optional(outcome: Outcome, name: str) -> Any:
    fields: Mapping[str, Any] = outcome
    return fields[name]


def _change(change: Change, application: Application | None) -> dict[str, Any]:
    type_ = application.record_tables.get(change["type"]) if application else None
    schema = type_.schema if type_ else None
    return {
        "type": type_.name if type_ else change["type"],
        "id": change["id"],
        "root": change["root"],
        "parent": change["parent"],
        "op": change["op"],
        "set": _set_fields(change["set"], schema),
        "fields": decoded(schema, change["body"]),
    }


def _set_fields(bitmap: bytes, schema: RecordSchema | None) -> list[str]:
    """Return the names of the fields that the command itself set."""
    if schema is None:
        return []
    return [
        field.name
        for field in schema.fields
        if field.ordinal // 8 < len(bitmap) and bitmap[field.ordinal // 8] >> field.ordinal % 8 & 1
    ]


def read_outcome(value: bytes | None) -> Outcome | None:
    """Return the outcome in a record of the event log, or None if it is none."""
    try:
        return None if value is None else wire.decode_outcome(value)
    except WireError:
        return None
