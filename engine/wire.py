"""The bytes of the engine's own records: commands, the event log, replies, heartbeats, positions.

Owns `schemas/*.avsc` and the envelope around them: Avro single-object encoding (0xC3 0x01, the
schema's CRC-64-AVRO fingerprint, the body). Knows nothing of applications: arguments and row
bodies are opaque bytes here. Every event record begins with epoch, sequence, previous and
skippable, so `head` can judge it without decoding the rest, even of an unknown kind.
"""

import functools
import json
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, cast

import xxhash
from fastavro.schema import fingerprint, to_parsing_canonical_form

from engine import avro
from engine.avro import SCALARS, Form, Member, WireError, read_boolean, read_long, read_sized
from engine.model import HostState, Position

MAGIC = b"\xc3\x01"
HEADER_BYTES = 10


class Kind(StrEnum):
    """The kinds of records in the event log."""

    OUTCOME = "outcome"
    OWNER = "owner"
    RELEASED = "released"
    MARK = "mark"
    APPLICATION = "application"
    SWITCH = "switch"


class Head(NamedTuple):
    """The first fields of an event record; `kind` None = a kind this engine doesn't know."""

    kind: Kind | None
    epoch: int
    sequence: int
    previous: int
    skippable: bool


class Change(TypedDict):
    """One record's change inside an outcome."""

    type: int
    root: int
    parent: int
    id: int
    op: str
    set: bytes
    before: int
    body: bytes


class Outcome(TypedDict):
    """schemas/outcome.avsc."""

    epoch: int
    sequence: int
    previous: int
    skippable: bool
    workspace: str
    workspace_sequence: int
    command_id: bytes
    input: str
    input_offset: int
    command_time: int
    registered_at: int
    name: str
    application: int
    args_schema: int
    args: bytes
    code: str
    message: str
    field: str | None
    changes: list[Change]
    emits: list[dict[str, Any]]
    timers: list[dict[str, Any]]
    result: bytes | None
    principal: dict[str, str] | None
    source: dict[str, int] | None
    traceparent: str | None


class Command(TypedDict):
    """schemas/command.avsc."""

    command_id: bytes
    name: str
    args_schema: int
    args: bytes
    expected_sequence: int | None
    not_after: int | None
    reply: dict[str, Any] | None
    principal: dict[str, str] | None
    token: str | None
    traceparent: str | None
    source: dict[str, int] | None


def _schema_folder() -> Path:
    packaged = Path(__file__).parent / "_schemas"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "schemas"


def schema_text(name: str) -> str:
    """Return the text of one of the engine's own schemas."""
    return (_schema_folder() / f"{name}.avsc").read_text()


def crc64(schema: Any) -> int:
    """Return the CRC-64-AVRO fingerprint of a schema as the signed number Avro's long holds."""
    digest = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return int.from_bytes(bytes.fromhex(digest), "little", signed=True)


def _form(schema: Any, named: dict[str, Form]) -> Form:
    """Return the form of a schema of the engine's own; what they don't use is not known here."""
    if isinstance(schema, list):
        null, other = cast("list[Any]", schema)
        assert null == "null"
        return avro.nullable(_form(other, named))
    if isinstance(schema, str):
        return SCALARS.get(schema) or named[schema]
    kind = schema["type"]
    if kind == "array":
        return avro.array(_form(schema["items"], named))
    if kind == "map":
        return avro.mapping(_form(schema["values"], named))
    if kind == "fixed":
        form = avro.fixed(schema["size"])
    elif kind == "enum":
        form = avro.enum(schema["symbols"])
    else:
        assert kind == "record"
        form = avro.record(
            [
                Member(
                    field["name"],
                    _form(field["type"], named),
                    "default" in field,
                    field.get("default"),
                )
                for field in schema["fields"]
            ]
        )
    named[schema["name"]] = form
    return form


class Codec:
    """One schema with the prefix its records carry."""

    def __init__(self, text: str) -> None:
        raw = json.loads(text)
        self.fingerprint = crc64(raw)
        self.prefix = MAGIC + self.fingerprint.to_bytes(8, "little", signed=True)
        self._form = _form(raw, {})

    def encode(self, fields: Any) -> bytes:
        """Return a record's bytes."""
        out = bytearray(self.prefix)
        self._form.write(fields, out)
        return bytes(out)

    def decode(self, value: bytes) -> dict[str, Any]:
        """Return a record's fields; raise WireError."""
        if value[:HEADER_BYTES] != self.prefix:
            raise WireError("not of this schema")
        try:
            return avro.decode(self._form, value, HEADER_BYTES)
        except WireError as fault:
            raise WireError(f"cut off or damaged: {fault}") from fault


_EVENTS = {kind: Codec(schema_text(kind.value)) for kind in Kind}
_KIND_OF = {codec.prefix: kind for kind, codec in _EVENTS.items()}
_COMMAND = Codec(schema_text("command"))
_REPLY = Codec(schema_text("reply"))
NODE = Codec(schema_text("node"))
_POSITION = Codec(schema_text("position"))
_BUILD = Codec(schema_text("build"))
_CHANGES = Codec(schema_text("changes"))
_CHANGED = Codec(schema_text("changed"))


def hash64(value: bytes) -> int:
    """Return xxh64 with seed 0 as a signed number: the hash of the chain and of rows."""
    unsigned = xxhash.xxh64_intdigest(value)
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


def signed64(number: int) -> int:
    """Wrap a sum of hashes to the signed 64-bit number it is modulo 2**64."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


@functools.lru_cache(maxsize=65_536)
def partition_of(workspace: bytes, partitions: int) -> int:
    """Return the partition of a key as Kafka's default partitioner does (murmur2).

    Source: org.apache.kafka.common.utils.Utils.murmur2, the Java clients' default; in librdkafka
    it is `partitioner=murmur2_random`.
    """
    factor, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(workspace)
    state = (0x9747B28C ^ length) & mask
    whole = length & ~3
    for at in range(0, whole, 4):
        word = (int.from_bytes(workspace[at : at + 4], "little") * factor) & mask
        word = ((word ^ (word >> 24)) * factor) & mask
        state = ((state * factor) & mask) ^ word
    if length > whole:
        state ^= int.from_bytes(workspace[whole:], "little")
        state = (state * factor) & mask
    state = ((state ^ (state >> 13)) * factor) & mask
    state ^= state >> 15
    return (state & 0x7FFFFFFF) % partitions


def encode_event(kind: Kind, fields: Any) -> bytes:
    """Encode a record of the event log."""
    return _EVENTS[kind].encode(fields)


def decode_event(value: bytes) -> tuple[Kind, dict[str, Any]]:
    """Decode a record of the event log; raise WireError if it is none of a known kind."""
    kind = _KIND_OF.get(value[:HEADER_BYTES])
    if kind is None:
        raise WireError("no known kind of event record")
    return kind, _EVENTS[kind].decode(value)


def decode_outcome(value: bytes) -> Outcome:
    """Decode an Outcome; raise WireError if it is not one."""
    return cast("Outcome", _EVENTS[Kind.OUTCOME].decode(value))


def head(value: bytes | None) -> Head | None:
    """Return an event record's first fields, or None for bytes that are no event record."""
    if value is None or value[:2] != MAGIC:
        return None
    try:
        epoch, at = read_long(value, HEADER_BYTES)
        sequence, at = read_long(value, at)
        previous, at = read_long(value, at)
        skippable, _ = read_boolean(value, at)
    except (IndexError, WireError):
        return None
    kind = _KIND_OF.get(value[:HEADER_BYTES])
    return Head(kind, epoch, sequence, previous, skippable)


_INPUTS = ("commands", "emits", "timer")


def outcome_input(value: bytes) -> tuple[str, int]:
    """Return an outcome's input and input offset without decoding the rest of it.

    Raises WireError or IndexError for bytes that are no outcome.
    """
    at = HEADER_BYTES
    for _ in range(3):
        _, at = read_long(value, at)
    _, at = read_boolean(value, at)
    _, at = read_sized(value, at)
    _, at = read_long(value, at)
    source, at = read_long(value, at + 16)
    offset, at = read_long(value, at)
    if not 0 <= source < len(_INPUTS):
        raise WireError(f"an input of {source}")
    return _INPUTS[source], offset


def encode_command(command: Any) -> bytes:
    """Encode a command; missing optional fields are null."""
    return _COMMAND.encode(command)


def decode_command(value: bytes) -> Command:
    """Decode a command in Avro; raise WireError if it is not one."""
    return cast("Command", _COMMAND.decode(value))


def encode_reply(fields: Any) -> bytes:
    """Encode a reply for <app>.replies."""
    return _REPLY.encode(fields)


def decode_reply(value: bytes) -> dict[str, Any]:
    """Decode a reply; raise WireError if it is not one."""
    return _REPLY.decode(value)


def encode_changes(changes: list[dict[str, Any]]) -> bytes:
    """Encode the arguments of a generic command; like all arguments, without a prefix."""
    return _CHANGES.encode({"changes": changes})[HEADER_BYTES:]


def decode_changes(args: bytes) -> list[dict[str, Any]]:
    """Decode the arguments of a generic command; raise WireError."""
    return cast("list[dict[str, Any]]", _CHANGES.decode(_CHANGES.prefix + args)["changes"])


def encode_changed(ids: dict[int, int]) -> bytes:
    """Encode a generic command's result: which temporary id became which."""
    named = {str(temporary): number for temporary, number in ids.items()}
    return _CHANGED.encode({"ids": named})[HEADER_BYTES:]


def decode_changed(result: bytes) -> dict[int, int]:
    """Decode a generic command's result; raise WireError."""
    named = _CHANGED.decode(_CHANGED.prefix + result)["ids"]
    try:
        return {int(temporary): number for temporary, number in named.items()}
    except ValueError as fault:
        raise WireError(f"a temporary id is a number: {fault}") from fault


def encode_position(position: Position, format_: int) -> bytes:
    """Encode a store's position row."""
    host = position.host
    return _POSITION.encode(
        {
            "format": format_,
            "topic_id": position.topic_id,
            "offset": position.offset,
            "leader_epoch": position.leader_epoch,
            "tail_hash": position.tail_hash,
            "epoch": position.epoch,
            "sequence": host.sequence,
            "previous": host.previous,
            "incarnation": position.incarnation,
            "command_topic_id": position.command_topic_id,
            "released": position.released,
            "resume": position.resume,
            "emitted_sequence": host.emitted_sequence,
            "registered_at": host.registered_at,
            "newest_command_time": host.newest_command_time,
            "dedup_floor": host.dedup_floor,
            "application": host.application,
            "digests": [
                {"table": table, "digest": digest}
                for table, digest in sorted(position.digests.items())
            ],
        }
    )


def decode_position(value: bytes) -> tuple[int, Position]:
    """Decode a position row; return (format, position). Raise WireError if it is none."""
    row = _POSITION.decode(value)
    host = HostState(
        sequence=row["sequence"],
        previous=row["previous"],
        registered_at=row["registered_at"],
        newest_command_time=row["newest_command_time"],
        dedup_floor=row["dedup_floor"],
        emitted_sequence=row["emitted_sequence"],
        application=row["application"],
    )
    position = Position(
        topic_id=row["topic_id"],
        offset=row["offset"],
        leader_epoch=row["leader_epoch"],
        tail_hash=row["tail_hash"],
        epoch=row["epoch"],
        incarnation=row["incarnation"],
        command_topic_id=row["command_topic_id"],
        released=row["released"],
        resume=dict(row["resume"]),
        host=host,
        digests={entry["table"]: entry["digest"] for entry in row["digests"]},
    )
    return row["format"], position


def encode_build(fields: Any) -> bytes:
    """Encode how far the builds of views are."""
    return _BUILD.encode(fields)


def decode_build(value: bytes) -> dict[str, Any]:
    """Decode `encode_build`; raise WireError if it is not one."""
    return _BUILD.decode(value)
