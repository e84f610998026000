r"""The bytes of a recording: commands as they came, with their times.

    file    = magic, format (u32), header length (u32), header (JSON), crc32c (u32), records, end
    record  = length (u32), crc32c (u32), body
    body    = time since the first command in ms (u64), key length (i32, -1 = null), key, value
              length (i32, -1 = null), value
    end     = 0xFFFFFFFF, crc32c (u32), number of records (u64), that crc32c is over

All numbers are big-endian. A file without its end was cut off. Tokens never get into a recording.
"""

import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import crc32c
import orjson

from engine.errors import ConfigError
from engine.limits import RECORD_BYTES_MAX, RECORDING_HEADER_BYTES_MAX

MAGIC = b"\x89PARTITA\r\n\x1a\n"
FORMAT = 1

_WORD = struct.Struct(">I")
_TIME = struct.Struct(">Q")
_LENGTH = struct.Struct(">i")
_END = 0xFFFFFFFF
_BODY_BYTES_MAX = 2 * RECORD_BYTES_MAX


@dataclass(slots=True, frozen=True)
class Header:
    """Where a recording is from; `started_at_ms` is the time of its first command."""

    application: str
    partitions: int
    started_at_ms: int


class Recorded(NamedTuple):
    """A command as it was recorded."""

    time_ms: int  # since the first one
    key: bytes | None
    value: bytes | None


def _unreadable(path: Path, what: str) -> ConfigError:
    return ConfigError("E1502", what, "Record again with `partita load record`", file=path)


class RecordingWriter:
    """Writes a recording; `close` writes its end, without which it is not one."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self.count = 0
        self._file = file
        text = orjson.dumps(asdict(header))
        assert len(text) <= RECORDING_HEADER_BYTES_MAX
        head = MAGIC + _WORD.pack(FORMAT) + _WORD.pack(len(text)) + text
        file.write(head + _WORD.pack(crc32c.crc32c(head)))

    def write(self, recorded: Recorded) -> None:
        """Append a command."""
        body = _TIME.pack(recorded.time_ms) + _bytes(recorded.key) + _bytes(recorded.value)
        self._file.write(_WORD.pack(len(body)) + _WORD.pack(crc32c.crc32c(body)) + body)
        self.count += 1

    def close(self) -> None:
        """Write the end; the file itself belongs to the caller."""
        count = _TIME.pack(self.count)
        self._file.write(_WORD.pack(_END) + _WORD.pack(crc32c.crc32c(count)) + count)
        self._file.flush()


def _bytes(data: bytes | None) -> bytes:
    return _LENGTH.pack(-1) if data is None else _LENGTH.pack(len(data)) + data


@dataclass(slots=True, frozen=True)
class Recording:
    """A recording that was read once from end to end, so that using it meets no surprise."""

    path: Path
    header: Header
    count: int
    duration_ms: int

    def commands(self) -> Iterator[Recorded]:
        """Yield the commands in their order."""
        with self.path.open("rb") as file:
            _read_header(self.path, file)
            yield from _read_records(self.path, file)


def open_recording(path: Path) -> Recording:
    """Check a recording from end to end; raise ConfigError E1502 if it is none."""
    try:
        with path.open("rb") as file:
            header = _read_header(path, file)
            count = duration_ms = 0
            for recorded in _read_records(path, file):
                count, duration_ms = count + 1, recorded.time_ms
    except OSError as fault:
        raise _unreadable(path, f"can't be opened: {fault.strerror}") from fault
    return Recording(path, header, count, duration_ms)


def _read_header(path: Path, file: BinaryIO) -> Header:
    head = file.read(len(MAGIC) + 8)
    if head[: len(MAGIC)] != MAGIC or len(head) != len(MAGIC) + 8:
        raise _unreadable(path, "not a recording of commands")
    format_, length = struct.unpack_from(">II", head, len(MAGIC))
    if format_ != FORMAT:
        raise _unreadable(path, f"of format {format_}, this engine reads {FORMAT}")
    if length > RECORDING_HEADER_BYTES_MAX:
        raise _unreadable(path, f"damaged: a header of {length} bytes")
    text, check = file.read(length), file.read(4)
    if check != _WORD.pack(crc32c.crc32c(head + text)):
        raise _unreadable(path, "damaged or cut off in its header")
    try:
        return Header(**orjson.loads(text))
    except (TypeError, ValueError) as fault:
        raise _unreadable(path, f"its header can't be read: {fault}") from fault


def _read_records(path: Path, file: BinaryIO) -> Iterator[Recorded]:
    count = 0
    while True:
        start = file.tell()
        head = file.read(8)
        if len(head) < 8:
            raise _unreadable(path, f"cut off at byte {start}, after {count} commands")
        length, check = struct.unpack(">II", head)
        if length > _BODY_BYTES_MAX and length != _END:
            raise _unreadable(path, f"damaged at byte {start}")
        wanted = _TIME.size if length == _END else length
        body = file.read(wanted)
        if len(body) < wanted:
            raise _unreadable(path, f"cut off at byte {start}, after {count} commands")
        if crc32c.crc32c(body) != check:
            raise _unreadable(path, f"damaged at byte {start}")
        if length == _END:
            if _TIME.unpack(body)[0] != count or file.read(1):
                raise _unreadable(path, f"damaged at its end, after {count} commands")
            return
        recorded = _decode(body)
        if recorded is None:
            raise _unreadable(path, f"damaged at byte {start}")
        yield recorded
        count += 1


def _decode(body: bytes) -> Recorded | None:
    try:
        (time_ms,) = _TIME.unpack_from(body)
        key, at = _take(body, _TIME.size)
        value, at = _take(body, at)
    except struct.error:
        return None
    return Recorded(time_ms, key, value) if at == len(body) else None


def _take(body: bytes, at: int) -> tuple[bytes | None, int]:
    (length,) = _LENGTH.unpack_from(body, at)
    at += _LENGTH.size
    if length < 0:
        return None, at
    return body[at : at + length], at + length
