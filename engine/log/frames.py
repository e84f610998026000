"""The bytes of a segment file: its header, its records, and what damage looks like.

    segment  magic 8, format u32, base offset i64, base time i64, topic id 16, crc32c u32; records
    record   length u32, crc32c u32 of what follows:
             offset i64, time i64, synced u32, key length i32 (-1 = none), key, value

All big-endian. `synced` says how many bytes of the segment were safe on disk when the record was
written. So a record that can't be read is a torn write only if no later record says that it had
been safe. Owns these bytes; must not touch files.
"""

import struct
from array import array
from typing import NamedTuple

from crc32c import crc32c

from engine.limits import RECORD_BYTES_MAX
from engine.model import Batch, Column, Pieces

FORMAT = 1

_MAGIC = b"PARTITA\n"
_HEADER = struct.Struct(">8sIqq16s")
_CRC = struct.Struct(">I")
_FRAME = struct.Struct(">II")
_FIELDS = struct.Struct(">qqIi")
_START = struct.Struct(">IIqqIi")
_PLACE = struct.Struct(">IIq12xi")  # of it, what says where a record lies

HEADER_BYTES = _HEADER.size + _CRC.size
RECORD_HEADER_BYTES = _START.size
_FRAME_BYTES = _FRAME.size
_LENGTH_MAX = _FIELDS.size + 2 * RECORD_BYTES_MAX  # a key and a value


class Header(NamedTuple):
    """A segment's first bytes."""

    format: int
    base: int
    base_time_ms: int
    topic_id: str


def encode_header(header: Header) -> bytes:
    """Return the first bytes of a segment."""
    topic_id = bytes.fromhex(header.topic_id)
    data = _HEADER.pack(_MAGIC, header.format, header.base, header.base_time_ms, topic_id)
    return data + _CRC.pack(crc32c(data))


def decode_header(data: bytes) -> Header | None:
    """Decode `encode_header`; None = damaged, or no segment at all."""
    if len(data) < HEADER_BYTES:
        return None
    magic, format_, base, base_time_ms, topic_id = _HEADER.unpack_from(data)
    if magic != _MAGIC or crc32c(data[: _HEADER.size]) != _CRC.unpack_from(data, _HEADER.size)[0]:
        return None
    return Header(format_, base, base_time_ms, topic_id.hex())


def encode_record(offset: int, time_ms: int, synced: int, key: bytes, value: bytes) -> bytes:
    """Return a record; the key b"" is none."""
    body = _FIELDS.pack(offset, time_ms, synced, len(key) or -1) + key + value
    return _FRAME.pack(len(body), crc32c(body)) + body


def record_bytes(data: bytes, at: int) -> int:
    """Return how long the record at `at` says it is."""
    return _FRAME.size + int(_FRAME.unpack_from(data, at)[0])


def record_head(data: bytes, at: int) -> tuple[int, int, int]:
    """Return (length, offset, time) as the record at `at` says, its checksum unchecked."""
    length, _, offset, time_ms, *_ = _START.unpack_from(data, at)
    return _FRAME.size + length, offset, time_ms


def read_records(data: bytes, at: int, offset: int, count: int, batch: Batch) -> tuple[int, bool]:
    """Add the records at `at`, at most `count`, whole ones only.

    The first of them has this offset, the next ones follow. Return where they end, and whether the
    next one is sound as far as it is there: not of another offset, its checksum right.
    """
    view, size, last = memoryview(data), len(data), len(data) - _START.size
    times_ms, keys, values = batch.times_ms, batch.keys, batch.values
    assert isinstance(times_ms, list)
    assert isinstance(keys, list)
    assert isinstance(values, list)
    unpack, next_offset = _START.unpack_from, offset
    behind, sound = offset + count, True
    # Every record that is replayed comes through here, so this is written for few steps.
    while next_offset < behind and at <= last:
        length, checksum, named, time_ms, _, key_length = unpack(data, at)
        start = at + _FRAME_BYTES
        end = start + length
        if end > size:
            break
        if named != next_offset or crc32c(view[start:end]) != checksum:
            sound = False
            break
        body = at + RECORD_HEADER_BYTES
        times_ms.append(time_ms)
        if key_length >= 0:
            value = body + key_length
            keys.append(data[body:value])
            values.append(data[value:end])
        else:
            keys.append(None)
            values.append(data[body:end])
        next_offset += 1
        at = end
    batch.offsets.extend(range(offset, next_offset))
    return at, sound


class Frames:
    """Records of adjacent offsets as they lie in a file; a batch of them cuts nothing out."""

    def __init__(self, offset: int) -> None:
        self._offset = offset  # of the first
        self._parts: list[bytes] = []
        self._size = 0
        self._starts = array("I")  # of values; each ends where the next frame begins
        self._ends = array("I")

    def __len__(self) -> int:
        """Return how many records were added."""
        return len(self._ends)

    def read(self, data: bytes, count: int) -> tuple[int, bool]:
        """Add the records that `data` begins with, at most `count`; return as `read_records`."""
        view, size, last = memoryview(data), len(data), len(data) - RECORD_HEADER_BYTES
        started, ended, unpack = self._starts.append, self._ends.append, _PLACE.unpack_from
        offset = self._offset + len(self)
        at, behind, before, sound = 0, offset + count, self._size, True
        while offset < behind and at <= last:
            length, checksum, named, key_length = unpack(data, at)
            start = at + _FRAME_BYTES
            end = start + length
            if end > size:
                break
            if named != offset or crc32c(view[start:end]) != checksum:
                sound = False
                break
            value = at + RECORD_HEADER_BYTES
            started(before + value + key_length if key_length > 0 else before + value)
            ended(before + end)
            offset += 1
            at = end
        self._parts.append(data[:at])
        self._size += at
        return at, sound

    def batch(self) -> Batch:
        """Return what was added."""
        data, starts, ends = b"".join(self._parts), self._starts, self._ends

        def head(at: int) -> int:
            return ends[at - 1] if at else 0

        def time_ms(at: int) -> int:
            return int(_FIELDS.unpack_from(data, head(at) + _FRAME_BYTES)[1])

        def key(at: int) -> bytes | None:
            return data[head(at) + RECORD_HEADER_BYTES : starts[at]] or None

        count = len(self)
        offsets = list(range(self._offset, self._offset + count))
        keys, values = Column(count, key), Pieces(data, starts, ends)
        return Batch(offsets, Column(count, time_ms), keys, values)


def whole_record(data: bytes, at: int, offset: int) -> int:
    """Return the length of the sound record of this offset at `at`, or 0 if there is none."""
    if at + _START.size > len(data):
        return 0
    length, checksum, named, *_ = _START.unpack_from(data, at)
    end = at + _FRAME.size + length
    if named != offset or not _FIELDS.size <= length <= _LENGTH_MAX or end > len(data):
        return 0
    return end - at if crc32c(memoryview(data)[at + _FRAME.size : end]) == checksum else 0


def was_safe(data: bytes, damage: int, offset: int) -> bool:
    """Say whether a later record proves that the byte at `damage` had been safe on disk.

    `offset` is that of the record at `damage`. What follows is searched for the first bytes
    of offsets that may come next, as the damaged length can't lead there.
    """
    for first in {number.to_bytes(8)[:5] for number in (offset, offset + (1 << 24))}:
        at = data.find(first, damage + _FRAME.size)
        while 0 <= at <= len(data) - _FIELDS.size:
            named, _, synced, _ = _FIELDS.unpack_from(data, at)
            if named > offset and synced > damage and whole_record(data, at - _FRAME.size, named):
                return True
            at = data.find(first, at + 1)
    return False
