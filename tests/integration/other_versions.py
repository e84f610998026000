"""Heartbeats as engines of other versions would write them."""

import json
from typing import Any

from engine import wire
from engine.model import Held, NodeBeat

BEAT = NodeBeat(
    node="other",
    process=b"other".ljust(16),
    engine_version="9.9.9",
    format=1,
    application="1.0.0",
    fingerprint=b"\1" * 32,
    http="http://127.0.0.1:8080",
    sent_at=9,
    leaving=False,
    partitions=(Held(0, "owner", 5, 6), Held(3, "standby", 5, 7)),
)


def newer() -> tuple[str, bytes]:
    """Return a schema with more fields, in the middle and at the end, and a beat by it."""
    schema = json.loads(wire.schema_text("node"))
    schema["fields"].insert(2, {"name": "zone", "type": "string"})
    held = _held(schema)
    held["fields"].insert(1, {"name": "bytes", "type": "long"})
    role = next(field for field in held["fields"] if field["name"] == "role")
    role["type"]["symbols"].append("watching")
    return _written(schema, {"zone": "b"}, {"bytes": 1 << 40})


def older() -> tuple[str, bytes]:
    """Return a schema without what came with a default, and a beat by it."""
    schema = json.loads(wire.schema_text("node"))
    for record in (schema, _held(schema)):
        record["fields"] = [one for one in record["fields"] if "default" not in one]
    return _written(schema, {}, {})


def _held(schema: dict[str, Any]) -> dict[str, Any]:
    partitions = next(one for one in schema["fields"] if one["name"] == "partitions")
    return partitions["type"]["items"]


def _written(
    schema: dict[str, Any], more: dict[str, Any], more_held: dict[str, Any]
) -> tuple[str, bytes]:
    def told(record: dict[str, Any], source: object, more: dict[str, Any]) -> dict[str, Any]:
        names = [one["name"] for one in record["fields"] if one["name"] not in more]
        return {name: getattr(source, name) for name in names} | more

    fields = told(schema, BEAT, more)
    fields["partitions"] = [told(_held(schema), one, more_held) for one in BEAT.partitions]
    text = json.dumps(schema)
    return text, wire.Codec(text).encode(fields)
