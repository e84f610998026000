"""Heartbeats' bytes: of this engine's version, and of any other that runs beside it in an update.

A node puts its schema beside its beats, so that they are read by the schema that wrote them,
whichever of two versions is the newer: what isn't known here is passed over, what isn't there is
as its default says.
"""

from dataclasses import fields
from typing import Any

from fastavro.schema import SchemaParseException, UnknownType

from engine import wire
from engine.model import Held, NodeBeat

SCHEMA_KEY = b"schema/"  # no node's name has a slash
SCHEMAS_MAX = 64

_UNFIT = (ValueError, KeyError, TypeError, AssertionError, AttributeError)
_HELD = tuple(field.name for field in fields(Held))
_BEAT = tuple(field.name for field in fields(NodeBeat))
_TEXT = wire.schema_text("node")


def own_schema() -> tuple[bytes, bytes]:
    """Return key and value of the record that tells others how this node's beats are read."""
    return SCHEMA_KEY + wire.NODE.prefix.hex().encode(), _TEXT.encode()


def encode_beat(beat: NodeBeat) -> bytes:
    """Return a heartbeat's bytes (schemas/node.avsc)."""
    told: dict[str, Any] = {name: getattr(beat, name) for name in _BEAT}
    held = [{name: getattr(one, name) for name in _HELD} for one in beat.partitions]
    return wire.NODE.encode(told | {"partitions": held})


class Schemas:
    """The schemas by which heartbeats are read."""

    def __init__(self) -> None:
        self._codecs = {wire.NODE.prefix: wire.NODE}

    def learn(self, text: bytes) -> None:
        """Take another version's schema; raise WireError if it is none of a heartbeat."""
        try:
            codec = wire.Codec(text.decode())
        except (*_UNFIT, SchemaParseException, UnknownType) as fault:
            raise wire.WireError(f"no schema of a heartbeat: {fault}") from fault
        if codec.prefix not in self._codecs and len(self._codecs) < SCHEMAS_MAX:
            self._codecs[codec.prefix] = codec

    def decode(self, value: bytes) -> NodeBeat:
        """Return a heartbeat; raise WireError if it is none, or of a schema not heard of yet."""
        codec = self._codecs.get(value[: wire.HEADER_BYTES])
        if codec is None:
            raise wire.WireError("of a schema that is not known here")
        told = codec.decode(value)
        try:
            partitions = tuple(Held(**_known(one, _HELD)) for one in told.pop("partitions"))
            return NodeBeat(**_known(told, _BEAT), partitions=partitions)
        except (TypeError, KeyError, AttributeError) as fault:
            raise wire.WireError(f"no heartbeat: {fault}") from fault


def _known(told: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: told[name] for name in names if name in told}
