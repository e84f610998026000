"""A command as it comes from its log: bytes that anybody may have written, made a `Request`.

Nothing here raises for what it is given. What is wrong becomes the request's `fault`, which the
host turns into a rejected outcome. Knows no rows and no dedup.
"""

import base64
import binascii
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson

from engine import wire
from engine.application import Application, generic, schema
from engine.application.types import CommandType, Field
from engine.errors import Code
from engine.limits import COMMAND_BYTES_MAX, NAME_LENGTH_MAX, WORKSPACE_BYTES_MAX
from engine.model import ReplyTo
from engine.wire import Command
from engine.world import derived_id

_LONG = range(-(1 << 63), 1 << 63)
_INT = range(-(1 << 31), 1 << 31)
_JSON_FIELDS = frozenset(Command.__annotations__)
_ZEROS: Mapping[str, Callable[[], Any]] = {
    "boolean": bool,
    "int": int,
    "long": int,
    "float": float,
    "double": float,
    "string": str,
    "bytes": bytes,
    "array": list,
}


@dataclass(slots=True, frozen=True)
class Source:
    """Where a record lies in its log, and whose partition that is."""

    partition: int
    offset: int
    time_ms: int  # the log's append time
    key: bytes | None


@dataclass(slots=True)
class Fault:
    """Why a command is rejected before any extension sees it."""

    code: Code
    message: str
    field: str | None = None


@dataclass(slots=True)
class Request:
    """A command, or what could be made of it."""

    source: Source
    workspace: str
    here: bool  # the workspace is valid and of this partition
    fault: Fault | None
    command_id: bytes = b""
    name: str = ""
    args_schema: int = 0
    args: bytes = b""
    values: dict[str, Any] | None = None  # arguments by the current schema, where `args` aren't
    masked: bool = False  # `args` are what is logged, without secrets; `values` have them
    expected_sequence: int | None = None
    not_after: int | None = None
    principal: dict[str, str] | None = None
    traceparent: str | None = None
    reply_to: ReplyTo | None = None


def decode_request(
    source: Source, value: bytes | None, application: Application, older: list[Application]
) -> Request:
    """Return what a record of the command log asks for."""
    workspace, fault = _workspace(source, application.partitions)
    request = Request(source, workspace, fault is None, fault)
    if value is not None and len(value) > COMMAND_BYTES_MAX:
        what = f"the value has {len(value)} bytes, at most {COMMAND_BYTES_MAX} are taken"
        request.fault = request.fault or Fault(Code.TOO_LARGE, what)
        return _derive(request)
    try:
        command = _command(value)
        _check(command)
    except wire.WireError as why:
        request.fault = request.fault or Fault(Code.UNDECODABLE, f"not a command: {why}")
        return _derive(request)
    _take(request, command)
    if command["source"] is not None:
        request.fault = request.fault or Fault(
            Code.SOURCE_FORBIDDEN, "a client's command may not name a source", "source"
        )
    if not isinstance(cast("Any", command["args"]), bytes):
        _encode_args(request, cast("Any", command["args"]), application)
    for each in (application, *older):  # a command that was taken away had its secrets too
        known = each.command(request.name)
        if known is not None:
            if known.secret:
                _mask(request, known, each, older)
            break
    return request


def decode_args(
    request: Request, application: Application, older: list[Application]
) -> dict[str, Any] | Fault:
    """Return a known command's arguments by its current schema, or why that can't be."""
    if request.values is not None:
        return request.values
    found = find_args(request.name, request.args_schema, application, older)
    if found is None:
        what = f"no schema {request.args_schema} of {request.name} is known"
        return Fault(Code.UNKNOWN_SCHEMA, what, "args_schema")
    reader, writer = found
    try:
        return schema.decode(reader, request.args, writer)
    except wire.WireError as why:
        return Fault(Code.INVALID_ARGUMENTS, f"the arguments are not of their schema: {why}")


def find_args(
    name: str, fingerprint: int, application: Application, older: list[Application]
) -> tuple[schema.RecordSchema, schema.RecordSchema] | None:
    """Return (reader, writer) for a command's arguments, or None: no such writer is known."""
    current = application.command(name)
    assert current is not None
    reader = current.args
    if reader.fingerprint == fingerprint:
        return reader, reader
    names = (current.name, current.renamed_from)
    for past in older:
        for known in names:
            command = past.commands.get(known)
            if command is not None and command.args.fingerprint == fingerprint:
                return reader, command.args
    return None


def readable(
    found: tuple[schema.RecordSchema, schema.RecordSchema] | None, args: bytes
) -> dict[str, Any] | None:
    """Return arguments by their schemas, or None where they are not of them."""
    if found is None:
        return None
    try:
        return schema.decode(found[0], args, found[1])
    except wire.WireError:
        return None


def _mask(
    request: Request, command: CommandType, application: Application, older: list[Application]
) -> None:
    """Put zeros where secrets are in what is logged and compared; the command is run with them.

    What can't be read is not logged at all, as nobody knows where in it a secret lies.
    """
    found = find_args(request.name, request.args_schema, application, older)
    values = readable(found, request.args)
    if found is None or values is None:
        request.args = b""
        if found is not None or request.args_schema == 0:
            field = request.fault.field if request.fault else None
            fault = Fault(Code.INVALID_ARGUMENTS, "the arguments are not of their schema", field)
            if request.fault is None or request.fault.code == fault.code:
                request.fault = fault
        return
    writer = found[1]
    names = {name for field in command.secret for name in (field.name, *field.aliases)}
    written = schema.decode(writer, request.args)
    for field in writer.fields:
        if field.name in names:
            written[field.name] = _zero(field)
    request.values, request.masked = values, True
    request.args = schema.encode(writer, written)


def _zero(field: Field) -> Any:
    if field.nullable:
        return None
    if field.kind == "fixed":
        return bytes(field.size)
    if field.kind == "enum":
        return field.symbols[0]
    return _ZEROS[field.kind]()


def _workspace(source: Source, partitions: int) -> tuple[str, Fault | None]:
    key = source.key
    if not key:
        return "", Fault(Code.NO_WORKSPACE, "the key is the workspace; there is none")
    if len(key) > WORKSPACE_BYTES_MAX or b"\x00" in key:
        what = f"a workspace is 1 to {WORKSPACE_BYTES_MAX} bytes without NUL"
        return "", Fault(Code.NO_WORKSPACE, what)
    try:
        workspace = key.decode()
    except UnicodeDecodeError:
        return "", Fault(Code.NO_WORKSPACE, "a workspace is text in UTF-8")
    right = wire.partition_of(key, partitions)
    if right != source.partition:
        what = f"this is partition {source.partition}, the workspace belongs to {right}: "
        return workspace, Fault(Code.WRONG_PARTITION, what + "partition by murmur2 of the key")
    return workspace, None


def _derive(request: Request) -> Request:
    """Give an id to what has none: the same whenever the same record is read."""
    source = request.source
    place = (source.partition.to_bytes(8), source.offset.to_bytes(8))
    request.command_id = derived_id(b"undecodable", *place)
    return request


def _take(request: Request, command: Command) -> None:
    request.command_id = command["command_id"]
    request.name = command["name"]
    request.args_schema = command["args_schema"]
    request.args = command["args"]
    request.expected_sequence = command["expected_sequence"]
    request.not_after = command["not_after"]
    request.principal = command["principal"]
    request.traceparent = command["traceparent"]
    reply = command["reply"]
    if reply is not None:
        request.reply_to = ReplyTo(reply["partition"], reply["correlation"])


def _encode_args(request: Request, args: dict[str, Any], application: Application) -> None:
    """Encode JSON arguments by the current schema; what doesn't fit is kept as JSON."""
    command = application.command(request.name)
    if command is not None:
        try:
            if command.run is None:
                request.values = generic.changes_from_json(application, args)
            else:
                request.values = schema.from_json(command.args, args)
            request.args = schema.encode(command.args, request.values)
            request.args_schema = command.args.fingerprint
        except schema.SchemaMismatch as why:
            field = why.field or None
            request.fault = request.fault or Fault(Code.INVALID_ARGUMENTS, str(why), field)
        else:
            return
    request.args_schema = 0
    try:
        request.args = orjson.dumps(args, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # nested deeper than it writes, if not than it reads
        request.args = b""


def _command(value: bytes | None) -> Command:
    if not value:
        raise wire.WireError("the value is empty")
    if value[0] == 0:
        raise wire.WireError("the Confluent wire format (0x00) is reserved")
    return _from_json(value) if value[:1] == b"{" else wire.decode_command(value)


def _from_json(value: bytes) -> Command:
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError as why:
        raise wire.WireError(f"not JSON: {why}") from why
    assert isinstance(found, dict)
    fields = cast("dict[str, Any]", found)
    unknown = sorted(fields.keys() - _JSON_FIELDS)
    if unknown:
        raise wire.WireError(f"{unknown[0]:.60} is not a field of a command")
    command: dict[str, Any] = dict.fromkeys(_JSON_FIELDS)
    command.update(fields)
    try:
        command["command_id"] = uuid.UUID(command["command_id"]).bytes
    except (ValueError, AttributeError, TypeError) as why:
        raise wire.WireError("command_id must be a UUID as text") from why
    if command["args"] is None:
        command["args"] = {}
    command["args_schema"] = 0
    if isinstance(command["reply"], dict):
        command["reply"] = _json_reply(cast("dict[str, Any]", command["reply"]))
    return cast("Command", command)


def _json_reply(reply: dict[str, Any]) -> dict[str, Any]:
    try:
        correlation = base64.b64decode(reply["correlation"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as why:
        raise wire.WireError("reply.correlation must be base64") from why
    return {**reply, "correlation": correlation}


def _check(command: Command) -> None:
    """Check what JSON or a careless Avro writer can get wrong; raise WireError."""
    fields = cast("dict[str, Any]", command)
    wanted = {"name": str, "args": (bytes, dict), "token": str, "traceparent": str, "source": dict}
    for name, type_ in wanted.items():
        nullable = name not in {"name", "args"}
        if not isinstance(fields[name], type_) and not (nullable and fields[name] is None):
            raise wire.WireError(f"{name} has a wrong type")
    if len(fields["name"]) > NAME_LENGTH_MAX:
        raise wire.WireError(f"name is over {NAME_LENGTH_MAX} characters")
    for name in ("args_schema", "expected_sequence", "not_after"):
        if fields[name] is not None and not _is_in(_LONG, fields[name]):
            raise wire.WireError(f"{name} must be a 64-bit integer")
    reply, principal = fields["reply"], fields["principal"]
    if reply is not None and not (
        isinstance(reply, dict)
        and reply.keys() == {"partition", "correlation"}
        and _is_in(_INT, reply["partition"])
    ):
        raise wire.WireError("reply must be {partition, correlation}")
    if principal is not None and not (
        isinstance(principal, dict)
        and principal.keys() == {"subject", "kind"}
        and all(isinstance(text, str) for text in principal.values())
    ):
        raise wire.WireError("principal must be {subject, kind}")


def _is_in(bounds: range, value: Any) -> bool:
    return type(value) is int and value in bounds
