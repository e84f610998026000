"""The bytes of stored rows: the only place that knows how keys and values are laid out.

    key   = table (u16) + workspace + 0x00 + columns, each in an order-preserving encoding
    value = application index (u32) + type (u16) + flags (u8) + Avro body

All numbers are big-endian. A byte representation, once given, never changes (tests/golden).
It lies with the application because hosts, queries and audits share it, and none of them may
know a store.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

import xxhash

from engine.limits import WORKSPACE_BYTES_MAX

TABLE_POSITION = 1
TABLE_PAGES = 2  # first sequence -> dedup ids and offsets, a page per contiguous batch
TABLE_SOURCES = 3
TABLE_APPLICATION = 4
TABLE_WORKSPACE = 5
TABLE_WORKSPACE_LOG = 6
TABLE_UNIQUE = 7
TABLE_TIMERS = 8
TABLE_WAITING = 9  # view -> the table that counts while a newer generation is built

# Position and pages are equal in content on every replica but not in paging: outside the digest.
LOCAL_TABLES = frozenset({TABLE_POSITION, TABLE_PAGES})

INACTIVE = 0x01

_TABLE = struct.Struct(">H")
_LONG = struct.Struct(">Q")
_VALUE = struct.Struct(">IHB")
_PAGE = struct.Struct(">QqI")  # first offset, newest command time, count
_WORKSPACE = struct.Struct(">QQQBH")  # last, accepted, next id, status, bytes of the kind
_SIGN = 1 << 63
_MASK = (1 << 64) - 1

VALUE_HEADER_BYTES = _VALUE.size


def encode_long(number: int) -> bytes:
    """Encode an integer or a time so that bytes sort as numbers do."""
    return _LONG.pack((number + _SIGN) & _MASK)


def decode_long(data: bytes) -> int:
    """Decode `encode_long`."""
    return int(_LONG.unpack(data)[0]) - _SIGN


def encode_double(number: float) -> bytes:
    """Encode a double so that bytes sort as numbers do; -0.0 is 0.0."""
    bits = int(_LONG.unpack(struct.pack(">d", number + 0.0))[0])
    return _LONG.pack(bits ^ _MASK if bits & _SIGN else bits | _SIGN)


def decode_double(data: bytes) -> float:
    """Decode `encode_double`."""
    bits = int(_LONG.unpack(data)[0])
    plain = bits & ~_SIGN if bits & _SIGN else bits ^ _MASK
    return float(struct.unpack(">d", _LONG.pack(plain & _MASK))[0])


def encode_text(data: bytes) -> bytes:
    """Encode bytes of any length: 0x00 becomes 0x00 0xFF, the end is 0x00 0x00."""
    return data.replace(b"\x00", b"\x00\xff") + b"\x00\x00"


def decode_text(data: bytes, start: int = 0) -> tuple[bytes, int]:
    """Decode `encode_text` at `start`; return (bytes, index behind the end)."""
    at = start
    while True:
        at = data.index(b"\x00", at)
        if data[at + 1] == 0:
            return data[start:at].replace(b"\x00\xff", b"\x00"), at + 2
        at += 2


def table_prefix(table: int) -> bytes:
    """Return the first bytes of all keys of a table."""
    return _TABLE.pack(table)


def workspace_prefix(table: int, workspace: str) -> bytes:
    """Return the first bytes of all keys of a workspace in a table."""
    name = workspace.encode()
    assert len(name) <= WORKSPACE_BYTES_MAX
    assert b"\x00" not in name
    return _TABLE.pack(table) + name + b"\x00"


def prefix_end(prefix: bytes) -> bytes:
    """Return the smallest key above all keys that begin with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    assert stripped, "a prefix of 0xFF only has no end"
    return stripped[:-1] + bytes([stripped[-1] + 1])


def table_of(key: bytes) -> int:
    """Return the table that a key lies in."""
    return int(_TABLE.unpack_from(key)[0])


def workspace_of(key: bytes) -> str:
    """Return the workspace of a record's, a view row's or a workspace's key."""
    return key[2 : key.index(b"\x00", 2)].decode()


def record_key(table: int, workspace: str, root: int, record_id: int) -> bytes:
    """Return the key of a record: a document and its nested records are one range."""
    return workspace_prefix(table, workspace) + encode_long(root) + encode_long(record_id)


def encode_column(kind: str, value: object) -> bytes:
    """Encode one key column; `kind` is long, date, time, double, string, bytes or boolean."""
    if kind == "double":
        assert isinstance(value, int | float)
        return encode_double(float(value))
    if kind in {"string", "bytes"}:
        assert isinstance(value, str | bytes)
        return encode_text(value.encode() if isinstance(value, str) else value)
    assert isinstance(value, int)
    return encode_long(int(value))


def view_key(table: int, workspace: str, columns: Iterable[tuple[str, object]]) -> bytes:
    """Return the key of a view row, or a prefix of keys when columns are left out at the end."""
    parts = [encode_column(kind, value) for kind, value in columns]
    return workspace_prefix(table, workspace) + b"".join(parts)


def decode_columns(key: bytes, kinds: Iterable[str]) -> list[object]:
    """Return the columns of a view row's key."""
    at = key.index(b"\x00", 2) + 1
    columns: list[object] = []
    for kind in kinds:
        if kind in {"string", "bytes"}:
            data, at = decode_text(key, at)
            columns.append(data.decode() if kind == "string" else data)
            continue
        data, at = key[at : at + 8], at + 8
        if kind == "double":
            columns.append(decode_double(data))
        elif kind == "boolean":
            columns.append(decode_long(data) != 0)
        else:
            columns.append(decode_long(data))
    return columns


def unique_key(workspace: str, number: int, columns: Iterable[tuple[str, object]]) -> bytes:
    """Return the key of a unique index's row; its value is `encode_id` of the record."""
    return view_key(TABLE_UNIQUE, workspace, [("long", number), *columns])


def encode_id(record_id: int) -> bytes:
    """Return an id as the value of a unique index's row."""
    return _LONG.pack(record_id)


def decode_id(value: bytes) -> int:
    """Decode `encode_id`."""
    return int(_LONG.unpack(value)[0])


def join_nested(parent: int, body: bytes) -> bytes:
    """Return the body of a nested record's row: its parent's id, then its Avro body."""
    return _LONG.pack(parent) + body


def split_nested(body: bytes) -> tuple[int, bytes]:
    """Decode `join_nested`."""
    return int(_LONG.unpack_from(body)[0]), body[_LONG.size :]


class RowValue(NamedTuple):
    """A stored row: which application's schema wrote it, of which type, and its Avro body."""

    application: int
    type: int
    flags: int
    body: bytes


def encode_value(application: int, type_: int, flags: int, body: bytes) -> bytes:
    """Return the stored value of a record or a view row (`type_` is its table number)."""
    return _VALUE.pack(application, type_, flags) + body


def decode_value(value: bytes) -> RowValue:
    """Decode `encode_value`."""
    application, type_, flags = _VALUE.unpack_from(value)
    return RowValue(application, type_, flags, value[_VALUE.size :])


def row_hash(key: bytes, value: bytes) -> int:
    """Return a row's share in its table's digest: xxh64 over key length, key and value."""
    data = len(key).to_bytes(4) + key + value
    unsigned = xxhash.xxh64_intdigest(data)
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


POSITION_KEY = _TABLE.pack(TABLE_POSITION)
BUILD_KEY = _TABLE.pack(TABLE_POSITION) + b"\x01"  # how far new generations of views are


def application_key(index: int) -> bytes:
    """Return the key of an Application record's row; its value is the record as logged."""
    return _TABLE.pack(TABLE_APPLICATION) + encode_long(index)


def waiting_key(view: str) -> bytes:
    """Return the key of the row of a view whose newest generation doesn't count yet."""
    return _TABLE.pack(TABLE_WAITING) + view.encode()


def encode_waiting(table: int) -> bytes:
    """Return that row's value: the table that counts meanwhile, 0 = none."""
    return _TABLE.pack(table)


def decode_waiting(key: bytes, value: bytes) -> tuple[str, int]:
    """Decode `waiting_key` and `encode_waiting`."""
    return key[_TABLE.size :].decode(), int(_TABLE.unpack(value)[0])


def page_key(first_sequence: int) -> bytes:
    """Return the key of a dedup page."""
    return _TABLE.pack(TABLE_PAGES) + _LONG.pack(first_sequence)


class Page(NamedTuple):
    """Outcomes `first_sequence`.. at offsets `first_offset`.., one each; `ids` empty = expired."""

    first_sequence: int
    first_offset: int
    length: int
    newest_command_time: int
    ids: list[bytes]


def encode_page(page: Page) -> bytes:
    """Return a page's value."""
    return _PAGE.pack(page.first_offset, page.newest_command_time, page.length) + b"".join(page.ids)


def decode_page(key: bytes, value: bytes) -> Page:
    """Decode `encode_page`."""
    first_offset, newest, count = _PAGE.unpack_from(value)
    ids = [value[at : at + 16] for at in range(_PAGE.size, len(value), 16)]
    return Page(int(_LONG.unpack_from(key, 2)[0]), first_offset, count, newest, ids)


ACTIVE, GONE = range(2)


class Workspace(NamedTuple):
    """A workspace's row; it begins with the workspace's first accepted outcome.

    `recent` are the partition sequences of its last outcomes, oldest first: those behind the last
    full page of WORKSPACE_PAGE.
    """

    last: int  # workspace_sequence of its last outcome
    accepted: int  # of its last accepted outcome
    next_id: int
    recent: list[int]
    kind: str = ""  # "" = the application declares no kinds, or didn't when this one began
    status: int = ACTIVE


def workspace_key(workspace: str) -> bytes:
    """Return the key of a workspace's row."""
    return workspace_prefix(TABLE_WORKSPACE, workspace)


def encode_workspace(row: Workspace) -> bytes:
    """Return a workspace row's value."""
    kind = row.kind.encode()
    head = _WORKSPACE.pack(row.last, row.accepted, row.next_id, row.status, len(kind))
    return head + kind + struct.pack(f">{len(row.recent)}Q", *row.recent)


def decode_workspace(value: bytes) -> Workspace:
    """Decode `encode_workspace`."""
    last, accepted, next_id, status, length = _WORKSPACE.unpack_from(value)
    start = _WORKSPACE.size + length
    recent = list(struct.unpack_from(f">{(len(value) - start) // 8}Q", value, start))
    kind = value[_WORKSPACE.size : start].decode() if length else ""
    return Workspace(last, accepted, next_id, recent, kind, status)


def workspace_log_key(workspace: str, page: int) -> bytes:
    """Return the key of a page of a workspace's log: sequences page * 32 + 1 and up."""
    return workspace_prefix(TABLE_WORKSPACE_LOG, workspace) + encode_long(page)


def encode_sequences(sequences: list[int]) -> bytes:
    """Return the value of a full page of a workspace's log."""
    return struct.pack(f">{len(sequences)}Q", *sequences)


def decode_sequences(value: bytes) -> list[int]:
    """Decode `encode_sequences`."""
    return list(struct.unpack(f">{len(value) // 8}Q", value))
