"""Envelopes of commands from the grammar of their schema: right ones, and broken at every node.

Owns an Avro writer of its own, which writes by the schema's text and breaks what it is told to;
the engine's codec is what is tested with it. JSON is put together as text, so that it may be wrong
in ways that no library writes.
"""

import json
import struct
from functools import cache

from hypothesis import strategies as st

from engine import limits, wire

SCHEMA = json.loads(wire.schema_text("command"))
CHANGES = json.loads(wire.schema_text("changes"))
OUTCOME = wire.crc64(json.loads(wire.schema_text("outcome")))
HUGE = (2**63 - 1, -(2**63), -1, 2**31, 2**40, 300_000)


def varint(number, length=0):
    """Return a zigzag number; `length` makes it longer than it need be."""
    bits = (number << 1) ^ (number >> 63)
    out = bytearray()
    while bits > 0x7F or len(out) < length - 1:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    return bytes([*out, bits])


class Writer:
    """Writes a value by a schema's text; `breaks` (path -> bytes to bytes) are put in its way."""

    def __init__(self, schema, breaks):
        self.named = {}
        self.breaks = breaks
        self.schema = schema

    def write(self, value, schema=None, path=""):
        """Return the bytes of one node."""
        schema = self.schema if schema is None else schema
        if isinstance(schema, str):
            schema = self.named.get(schema, schema)
        if isinstance(schema, dict) and "name" in schema:
            self.named[schema["name"]] = schema
        data = self.plain(schema, value, path)
        return self.breaks[path](data) if path in self.breaks else data

    def plain(self, schema, value, path):
        if isinstance(schema, list):
            at = 0 if value is None else 1
            return varint(at) + self.write(value, schema[at], f"{path}|{at}")
        kind = schema if isinstance(schema, str) else schema["type"]
        if kind == "record":
            parts = ((field["name"], field["type"]) for field in schema["fields"])
            return b"".join(self.write(value[name], t, f"{path}.{name}") for name, t in parts)
        if kind == "array":
            items = b"".join(self.write(one, schema["items"], f"{path}[]") for one in value)
            return (varint(len(value)) + items if value else b"") + b"\x00"
        return SCALARS[kind](value, schema)


SCALARS = {
    "null": lambda value, schema: b"",
    "boolean": lambda value, schema: bytes([value]),
    "int": lambda value, schema: varint(value),
    "long": lambda value, schema: varint(value),
    "enum": lambda value, schema: varint(schema["symbols"].index(value)),
    "bytes": lambda value, schema: varint(len(value)) + value,
    "string": lambda value, schema: varint(len(value.encode())) + value.encode(),
    "fixed": lambda value, schema: value,
}


class Reader:
    """Reads by a schema's text as the specification says, and takes nothing else."""

    def __init__(self, data):
        self.data, self.at, self.named = data, 0, {}

    def whole(self, schema):
        """Return the one value that the data are; raise ValueError."""
        value = self.read(schema)
        if self.at != len(self.data):
            raise ValueError("more than one value")
        return value

    def take(self, count):
        if not 0 <= count <= len(self.data) - self.at:
            raise ValueError("cut off")
        self.at += count
        return self.data[self.at - count : self.at]

    def long(self, low=-(2**63)):
        bits = shift = 0
        while True:
            (byte,) = self.take(1)
            bits |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        number = (bits >> 1) ^ -(bits & 1)
        if shift > 70 or not low <= number < -low:
            raise ValueError("too long")
        return number

    def read(self, schema):
        if isinstance(schema, list):
            at = self.long()
            if at not in range(len(schema)):
                raise ValueError("no such branch")
            return self.read(schema[at])
        schema = self.named.get(schema, schema) if isinstance(schema, str) else schema
        kind = schema if isinstance(schema, str) else schema["type"]
        if isinstance(schema, dict):
            self.named[schema["name"]] = schema
        if kind == "record":
            return {field["name"]: self.read(field["type"]) for field in schema["fields"]}
        if kind == "fixed":
            return self.take(schema["size"])
        if kind in {"int", "long"}:
            return self.long(-(2**31) if kind == "int" else -(2**63))
        if kind == "null":
            return None
        data = self.take(self.long())
        return data.decode() if kind == "string" else data


def reads(value):
    """Return the command that a binary envelope is, or None if it is none."""
    try:
        found = Reader(value[wire.HEADER_BYTES :]).whole(SCHEMA)
    except ValueError:
        return None
    return found if len(found["name"]) <= limits.NAME_LENGTH_MAX else None


@cache
def nodes(text):
    """Return path -> kind of every node of a schema, given as text."""
    found, named = {}, {}

    def walk(schema, path):
        if isinstance(schema, list):
            found[path] = "union"
            for at, branch in enumerate(schema):
                walk(branch, f"{path}|{at}")
            return
        schema = named.get(schema, schema) if isinstance(schema, str) else schema
        kind = schema if isinstance(schema, str) else schema["type"]
        found[path] = kind
        if isinstance(schema, dict) and "name" in schema:
            named[schema["name"]] = schema
        if kind == "record":
            for field in schema["fields"]:
                walk(field["type"], f"{path}.{field['name']}")
        elif kind == "array":
            walk(schema["items"], f"{path}[]")

    walk(json.loads(text), "")
    return found


def put(data):
    return lambda _: data


def resized(length):
    """Return a break of what begins with its length or count."""

    def change(data):
        at = next((at for at, byte in enumerate(data) if byte < 0x80), 0) + 1
        return varint(length) + data[at:]

    return change


ANYWHERE = {
    "gone": put(b""),
    "twice": lambda data: data * 2,
    "without its first byte": lambda data: data[1:],
    "without its last byte": lambda data: data[:-1],
    "with a byte more": lambda data: data + b"\x00",
    "all ones": lambda data: b"\xff" * len(data),
    "all zeros": lambda data: bytes(len(data)),
}
NUMBERS = {
    **{f"of {length} bytes": put(varint(1, length)) for length in (9, 10, 11, 12)},
    "of 70 bits": put(b"\xff" * 9 + b"\x7f"),
    "without an end": put(b"\x80" * 30),
    **{str(number): put(varint(number)) for number in HUGE},
}
SIZED = {f"with a length of {number}": resized(number) for number in (*HUGE, 1, 3)}
BY_KIND = {
    "int": NUMBERS,
    "long": NUMBERS,
    "enum": NUMBERS,
    "union": NUMBERS | {f"branch {at}": lambda data, at=at: varint(at) + data[1:] for at in (0, 2)},
    "bytes": SIZED,
    "string": SIZED
    | {
        f"the bytes {text.hex()}": put(varint(len(text)) + text)
        for text in (
            b"\xff\xfe",
            b"\xc0\x80",
            b"\xed\xa0\xbd\xed\xb8\x80",  # a surrogate pair, each half encoded
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"ring\x00",
            b"x" * (limits.NAME_LENGTH_MAX + 1),
            b"",
        )
    },
    "array": SIZED
    | {
        "a block with its size": lambda data: b"\x01\x00" + data[1:],
        "a block of no items": lambda data: b"\x00" + data,
        "a million empty blocks": put(b"\x01\x00" * 100_000 + b"\x00"),
    },
    "fixed": {
        "too short": put(bytes(15)),
        "zero": put(bytes(16)),
        "far in the future": put(b"\x7f" + b"\xff" * 5 + b"\x70\x00\x80" + bytes(7)),
        "long ago": put(bytes(6) + b"\x70\x00\x80" + bytes(7)),
    },
}
HEADERS = {
    "another magic": put(b"\xc3\x02"),
    "the Confluent format": put(b"\x00\x00\x00\x00\x07"),
    "no header": put(b""),
    "a fingerprint nobody knows": put(b"\xc3\x01" + struct.pack("<q", 5)),
    "an outcome's fingerprint": put(b"\xc3\x01" + struct.pack("<q", OUTCOME)),
}  # fmt: skip


def breaks_of(kind):
    return ANYWHERE | BY_KIND.get(kind, {})


def binary(fields, breaks=None, header=None):
    """Return a command in Avro; `breaks` by path, `header` breaks what comes before."""
    whole = {"expected_sequence": None, "not_after": None, "reply": None, "principal": None}
    whole |= {"token": None, "traceparent": None, "source": None} | fields
    head = wire.encode_command(whole | {"source": None})[: wire.HEADER_BYTES]
    body = Writer(SCHEMA, breaks or {}).write(whole)
    return (header(head) if header else head) + body


def full(fields):
    """Return a command's fields with none of them null."""
    return {
        "expected_sequence": 0,
        "not_after": 2**62,
        "reply": {"partition": 0, "correlation": b"me"},
        "principal": {"subject": "Ann", "kind": "person"},
        "token": "secret",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "source": {
            "incarnation": 1, "partition": 0, "number": 1, "hops": 1, "application": 1
        },
    } | fields  # fmt: skip


def each_break(text):
    """Yield (path, name, break) of each way to break each node of a schema once."""
    for path, kind in nodes(text).items():
        for name, change in breaks_of(kind).items():
            yield path, name, change


def any_break(text):
    """Draw a path and how it is broken."""
    paths = sorted(nodes(text).items())
    return st.sampled_from(paths).flatmap(
        lambda node: st.tuples(
            st.just(node[0]),
            st.one_of(
                st.sampled_from(list(breaks_of(node[1]).values())),
                st.binary(max_size=12).map(put),
            ),
        )
    )


# JSON, as text.


VALUES = (
    "null", "true", "0", "-0", "1", "1.5", "1e400", "-1E-400", "NaN", "Infinity", "-Infinity",
    "9223372036854775808", "-9223372036854775809", "1" * 400, '""', '"x"', '"\\ud83d\\ude00"',
    '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\x"', '"é', "[]", "{}", "[1]", '{"":0}',
    *('{"a":' * deep + "1" + "}" * deep for deep in (200, 253, 254, 500, 1_000, 2_000)),
    "[" * 2_000 + "]" * 2_000, "[" * 100_000, "01", "+1", ".5",
    "/**/1", "'x'", "undefined", '"0190f3a1-0000-7000-8000-00000000000"', '"{}"', '{"a":1,"a":2}',
    '{"partition":1}', '{"partition":2147483648,"correlation":""}',
    '{"partition":0,"correlation":"***"}', '{"partition":0,"correlation":"AA==","x":1}',
    '{"subject":1,"kind":[]}', '{"subject":"\\ud800","kind":"x"}', '{"changes":[{"op":{}}]}',
    '{"changes":[{"op":"create","type":[],"id":1}]}', '{"changes":[{"type":"dish"}]}',
    '{"changes":[{"op":"create","type":"dish","id":1,"fields":{"name":1}}]}',
    '{"changes":[{"op":"create","type":"dish","id":1.5,"fields":{"name":"a"}}]}',
    '{"incarnation":1,"partition":0,"number":1,"hops":1,"application":1}',
)  # fmt: skip
MEMBERS = (*(field["name"] for field in SCHEMA["fields"]), "more", "", "\\u006eame")


def text_of(members, around=("", "")):
    """Return a JSON object from (name, text of the value) pairs, which may repeat."""
    inner = ",".join(f'"{name}":{value}' for name, value in members)
    return around[0].encode() + b"{" + inner.encode() + b"}" + around[1].encode()


def each_json(members):
    """Yield (name, value) with each member replaced by, or given twice with, each odd value."""
    for name in MEMBERS:
        others = [pair for pair in members if pair[0] != name]
        for odd in VALUES:
            yield f"{name} is {odd[:40]}", text_of([*others, (name, odd)])
        yield f"{name} is left out", text_of(others)
        yield f"{name} is there twice", text_of([*members, (name, '"x"'), (name, "5")])
    for around in (("\ufeff", ""), (" ", ""), ("", " \n"), ("", "x"), ("", "{}"), ("", "\x00")):
        yield f"around it is {around}", text_of(members, around)
    whole = text_of(members)
    yield from ((f"cut off at {at}", whole[:at]) for at in range(1, len(whole)))
    yield "not UTF-8", whole.replace(b"ring", b"r\xffng")
    yield "surrogates in UTF-8", whole.replace(b"ring", b"\xed\xa0\xbd\xed\xb8\x80")


def any_json(members):
    """Draw a JSON command of odd members."""
    odd = st.tuples(st.sampled_from(MEMBERS), st.sampled_from(VALUES))
    return st.tuples(st.lists(st.sampled_from(members), max_size=8), st.lists(odd, max_size=2)).map(
        lambda drawn: text_of([*drawn[0], *drawn[1]])
    )
