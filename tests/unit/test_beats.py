"""Heartbeats: of this version, of older and newer ones, and of none."""

from dataclasses import replace

import pytest
from other_versions import BEAT, newer, older

from engine import wire
from engine.log.kafka.beats import SCHEMAS_MAX, Schemas, encode_beat, own_schema
from engine.model import Held
from engine.wire import WireError


def test_a_beat_comes_back_as_it_was() -> None:
    beat = replace(BEAT, leaving=True, draining=True, partitions=(Held(1, "owner", 2, 3, 4, 5),))
    assert Schemas().decode(encode_beat(beat)) == beat


@pytest.mark.parametrize("version", [newer, older], ids=lambda version: version.__name__)
def test_a_beat_of_another_version_is_read_by_the_schema_that_wrote_it(version) -> None:
    (text, value), schemas = version(), Schemas()
    with pytest.raises(WireError, match="not known here"):
        schemas.decode(value)
    schemas.learn(text.encode())
    assert schemas.decode(value) == BEAT
    assert schemas.decode(encode_beat(BEAT)) == BEAT
    with pytest.raises(WireError):
        schemas.decode(value[:-1])


def test_what_is_announced_is_what_others_need() -> None:
    key, text = own_schema()
    assert key == b"schema/" + encode_beat(BEAT)[: wire.HEADER_BYTES].hex().encode()
    assert wire.Codec(text.decode()).decode(encode_beat(BEAT))["node"] == "other"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"[]",
        b"3",
        b'{"type": "record"}',
        b'{"type": "record", "name": "a", "fields": [{"name": "b", "type": "nothing"}]}',
        b'{"type": "record", "name": "a", "fields": [{"name": "b", "type": ["int", "long"]}]}',
    ],
)
def test_what_is_no_schema_is_said_to_be_none(text: bytes) -> None:
    with pytest.raises(WireError, match="no schema"):
        Schemas().learn(text)


def test_a_schema_of_something_else_reads_no_beat() -> None:
    text = '{"type": "record", "name": "a", "fields": [{"name": "node", "type": "string"}]}'
    schemas = Schemas()
    schemas.learn(text.encode())
    with pytest.raises(WireError, match="no heartbeat"):
        schemas.decode(wire.Codec(text).encode({"node": "n"}))


def test_schemas_are_bounded() -> None:
    schemas = Schemas()
    for at in range(2 * SCHEMAS_MAX):
        name = f'{{"type": "record", "name": "a{at}", "fields": []}}'
        schemas.learn(name.encode())
    assert len(schemas._codecs) == SCHEMAS_MAX
    assert schemas.decode(encode_beat(BEAT)) == BEAT
