"""One log on disk: segment files (frames.py has their bytes), written in groups, read anywhere.

Owns the files' life: rolling, trimming, and what a crash leaves. A torn tail is cut off at the
last whole record; any other damage is told (E1303) and never repaired by guessing. Must not know
who reads or writes, nor start threads.
"""

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.errors import LogError
from engine.limits import BATCH_BYTES_MAX
from engine.log.frames import (
    FORMAT,
    HEADER_BYTES,
    RECORD_HEADER_BYTES,
    Frames,
    Header,
    decode_header,
    encode_header,
    encode_record,
    read_records,
    record_bytes,
    record_head,
    was_safe,
    whole_record,
)
from engine.model import Batch

SEGMENT_BYTES = 64 * 1024 * 1024

_INDEX_BYTES = 4_096
_READ_BYTES = 256 * 1024
_OPEN_FILES_MAX = 8
_NAMES = "[0-9]" * 20

# Takes the records that some bytes begin with, and moves the reader's cursor behind them; returns
# as `read_records` does.
Gather = Callable[[bytes], tuple[int, bool]]


def sync_folder(folder: Path) -> None:
    """Make the names of a folder's files survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Segment:
    """One file: what is safe in it, and where each 4 KiB of records begins."""

    def __init__(self, path: Path, base: int, base_time_ms: int, size: int) -> None:
        self.path = path
        self.base = base
        self.base_time_ms = base_time_ms
        self.size = size  # bytes that are safe on disk
        self.offsets = [base]
        self.positions = [HEADER_BYTES]
        self.indexed = False

    def index(self, offset: int, position: int) -> None:
        if position - self.positions[-1] >= _INDEX_BYTES:
            self.offsets.append(offset)
            self.positions.append(position)

    def unindex(self) -> None:
        """Forget what lies behind the safe bytes."""
        while len(self.positions) > 1 and self.positions[-1] >= self.size:
            self.positions.pop()
            self.offsets.pop()

    def nearest(self, offset: int) -> tuple[int, int]:
        """Return (offset, position) of an indexed record at or before `offset`."""
        at = bisect_right(self.offsets, offset) - 1
        return self.offsets[at], self.positions[at]

    def damaged(self, offset: int, position: int, what: str) -> LogError:
        hint = "Restore the file from a backup"
        return LogError("E1303", f"{what} at byte {position}", hint, file=self.path, offset=offset)


class Cursor:
    """Where a reader stands; `SegmentLog.read` moves it."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.base = -1  # of the segment that `position` lies in; -1 = not located yet
        self.position = 0


class SegmentLog:
    """A log in a folder. One thread appends and syncs; any thread reads what is safe."""

    def __init__(
        self,
        folder: Path,
        topic_id: str,
        segment_bytes: int = SEGMENT_BYTES,
        closed_at: tuple[int, int] | None = None,
    ) -> None:
        """Open a log; `closed_at` = its (end, size) when it was closed in peace, if it was."""
        self.folder = folder
        self.topic_id = topic_id
        self.cut_bytes = 0  # what the last crash had torn
        self.time_ms = 0  # of the newest record
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._segments: list[_Segment] = []
        self._bases: list[int] = []
        self._files: OrderedDict[int, int] = OrderedDict()
        self._torn = False  # a write failed: what it left must go before the next one
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob(f"{_NAMES}.log")):
            self._add(self._read_header(path))
        if not self._segments:
            self._add(self._create(0, 0))
        newest = self._segments[-1]
        self.end = newest.base
        self._descriptor = os.open(newest.path, os.O_RDWR)
        try:
            self._recover(newest, closed_at)
        except LogError:
            os.close(self._descriptor)
            raise
        self._end, self._size = self.end, newest.size

    @property
    def begin(self) -> int:
        """The offset of the oldest record that is kept."""
        return self._bases[0]

    @property
    def size(self) -> int:
        """How many bytes of the newest segment are safe."""
        return self._segments[-1].size

    def append(self, keys: Sequence[bytes], values: Sequence[bytes], now_ms: int) -> int:
        """Write records behind the last one; nobody sees them before `sync`.

        Return the offset of the last one. An OSError means: not known, but nothing that is
        appended later lands behind what was lost.
        """
        try:
            if self._torn:
                self._cut_torn()
            self._append(keys, values, now_ms)
        except OSError:
            self._torn = True
            raise
        return self._end - 1

    def sync(self) -> None:
        """Make what was appended safe, then let readers see it."""
        try:
            self._make_safe()
        except OSError:
            self._torn = True
            raise

    def read(self, cursor: Cursor, count: int, *, framed: bool = False) -> Batch:
        """Return records from the cursor on, at most `count` and a batch's bytes, and move it.

        `framed`: as they lie in the file (frames.Frames), for who takes most of them as they are.
        """
        batch, frames, size = Batch(), Frames(cursor.offset), 0
        begin, behind = cursor.offset, cursor.offset + count

        def gather(chunk: bytes) -> tuple[int, bool]:
            first = cursor.offset
            if framed:
                found = frames.read(chunk, behind - first)
            else:
                found = read_records(chunk, 0, first, behind - first, batch)
            cursor.offset = begin + len(frames if framed else batch)
            return found

        with self._lock:
            if cursor.offset < self._bases[0]:
                return batch  # trimmed a moment ago; the caller meets it with its next check
            while cursor.offset < min(behind, self.end) and size < BATCH_BYTES_MAX:
                segment = self._locate(cursor)
                read = self._parse(segment, cursor, gather)
                cursor.position += read
                size += read
        return frames.batch() if framed else batch

    def trim(self, before: int) -> None:
        """Delete the oldest segments that hold nothing from `before` on; never the newest."""
        with self._lock:
            while len(self._segments) > 1 and self._bases[1] <= before:
                segment = self._segments.pop(0)
                self._bases.pop(0)
                if segment.base in self._files:
                    os.close(self._files.pop(segment.base))
                segment.path.unlink()

    def expire(self, before_ms: int) -> None:
        """Delete the oldest segments in which every record is older than `before_ms`."""
        with self._lock:
            ends = zip(self._segments[1:], self._bases[1:], strict=True)
            old = [base for segment, base in ends if segment.base_time_ms < before_ms]
        if old:
            self.trim(old[-1])

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            os.close(self._descriptor)
            while self._files:
                os.close(self._files.popitem()[1])

    def _append(self, keys: Sequence[bytes], values: Sequence[bytes], now_ms: int) -> None:
        self.time_ms = max(self.time_ms, now_ms)
        segment, buffer = self._segments[-1], bytearray()
        for key, value in zip(keys, values, strict=True):
            size = self._size + len(buffer)
            if size >= self._segment_bytes and size > HEADER_BYTES:
                self._write(buffer)
                self._make_safe()
                segment, buffer, size = self._roll(), bytearray(), HEADER_BYTES
            segment.index(self._end, size)
            buffer += encode_record(self._end, self.time_ms, segment.size, key, value)
            self._end += 1
        self._write(buffer)

    def _write(self, buffer: bytearray) -> None:
        with memoryview(buffer) as left:
            done = 0
            while done < len(left):
                done += os.pwrite(self._descriptor, left[done:], self._size + done)
        self._size += len(buffer)

    def _make_safe(self) -> None:
        os.fdatasync(self._descriptor)
        with self._lock:
            self._segments[-1].size = self._size
            self.end = self._end

    def _cut_torn(self) -> None:
        """Remove what a failed write left, so that none of it lands behind what comes next."""
        segment = self._segments[-1]
        os.ftruncate(self._descriptor, segment.size)
        os.fdatasync(self._descriptor)
        with self._lock:
            segment.unindex()
        self._end, self._size = self.end, segment.size
        self._torn = False

    def _add(self, segment: _Segment) -> None:
        self._segments.append(segment)
        self._bases.append(segment.base)

    def _create(self, base: int, base_time_ms: int) -> _Segment:
        """Make a segment whole under another name first: a crash leaves no half header."""
        path = self.folder / f"{base:020d}.log"
        made = path.with_suffix(".new")
        with made.open("wb") as file:
            file.write(encode_header(Header(FORMAT, base, base_time_ms, self.topic_id)))
            file.flush()
            os.fsync(file.fileno())
        made.rename(path)
        sync_folder(self.folder)
        segment = _Segment(path, base, base_time_ms, HEADER_BYTES)
        segment.indexed = True
        return segment

    def _roll(self) -> _Segment:
        segment = self._create(self._end, self.time_ms)
        descriptor = os.open(segment.path, os.O_RDWR)
        with self._lock:
            self._add(segment)
        os.close(self._descriptor)
        self._descriptor, self._size = descriptor, HEADER_BYTES
        return segment

    def _read_header(self, path: Path) -> _Segment:
        with path.open("rb") as file:
            header = decode_header(file.read(HEADER_BYTES))
            size = os.fstat(file.fileno()).st_size
        base = int(path.stem)
        if header is None or (header.base, header.topic_id) != (base, self.topic_id):
            raise _Segment(path, base, 0, size).damaged(base, 0, "a wrong segment header")
        if header.format != FORMAT:
            what = f"segments of format {header.format}, this engine reads {FORMAT}"
            raise LogError("E1304", what, file=path)
        return _Segment(path, base, header.base_time_ms, size)

    def _recover(self, segment: _Segment, closed_at: tuple[int, int] | None) -> None:
        """Check the newest segment record by record; cut off what the last crash tore."""
        data = os.pread(self._descriptor, segment.size, 0)
        at, self.time_ms = HEADER_BYTES, segment.base_time_ms
        while length := whole_record(data, at, self.end):
            segment.index(self.end, at)
            self.time_ms = record_head(data, at)[2]
            self.end += 1
            at += length
        segment.indexed = True
        if closed_at is not None and closed_at != (self.end, segment.size):
            what = f"closed with offset {closed_at[0]} as its end, but it ends"
            raise segment.damaged(self.end, at, what)
        if at < segment.size:
            if closed_at is not None or was_safe(data, at, self.end):
                raise segment.damaged(self.end, at, "a record that can't be read")
            self.cut_bytes = segment.size - at
            os.ftruncate(self._descriptor, at)
            segment.size = at
        # A killed process leaves whole records that it never synced: safe first, then seen.
        os.fsync(self._descriptor)

    def _locate(self, cursor: Cursor) -> _Segment:
        at = bisect_right(self._bases, cursor.offset) - 1
        segment = self._segments[at]
        if cursor.base == segment.base:
            return segment
        if cursor.offset == segment.base:  # where nearly all reading goes on: no index is needed
            cursor.base, cursor.position = segment.base, HEADER_BYTES
            return segment
        if not segment.indexed:
            self._index(segment, self._bases[at + 1])
        offset, position = segment.nearest(cursor.offset)
        file = self._file(segment)
        start, chunk = position, os.pread(file, 2 * _INDEX_BYTES, position)
        while offset < cursor.offset:
            if position - start + RECORD_HEADER_BYTES > len(chunk):
                start, chunk = position, os.pread(file, 2 * _INDEX_BYTES, position)
            if len(chunk) < RECORD_HEADER_BYTES:
                raise segment.damaged(offset, position, "the end of the file")
            length, named, _ = record_head(chunk, position - start)
            if named != offset:
                raise segment.damaged(offset, position, f"a record that says offset {named}")
            position += length
            offset += 1
        cursor.base, cursor.position = segment.base, position
        return segment

    def _index(self, segment: _Segment, end: int) -> None:
        """Walk over an older segment's records; their checksums are checked when they are read."""
        data = os.pread(self._file(segment), segment.size, 0)
        at, offset = HEADER_BYTES, segment.base
        while at + RECORD_HEADER_BYTES <= len(data) and offset < end:
            length, named, _ = record_head(data, at)
            if named != offset:
                raise segment.damaged(offset, at, f"a record that says offset {named}")
            segment.index(offset, at)
            at += length
            offset += 1
        if at != segment.size or offset != end:
            raise segment.damaged(offset, at, "not the end of the file that was expected")
        segment.indexed = True

    def _parse(self, segment: _Segment, cursor: Cursor, gather: Gather) -> int:
        """Gather records from the cursor on; return how many bytes they took."""
        read, sound = gather(self._chunk(segment, cursor))
        if not sound:
            position = cursor.position + read
            raise segment.damaged(cursor.offset, position, "a record with a wrong checksum")
        return read

    def _chunk(self, segment: _Segment, cursor: Cursor) -> bytes:
        """Read at least one whole record from the cursor on."""
        file, there = self._file(segment), segment.size - cursor.position
        chunk = os.pread(file, min(_READ_BYTES, there), cursor.position)
        if len(chunk) < RECORD_HEADER_BYTES:
            raise segment.damaged(cursor.offset, cursor.position, "the end of the file")
        wanted = record_bytes(chunk, 0)
        if len(chunk) < wanted <= there:
            chunk = os.pread(file, wanted, cursor.position)
        if len(chunk) < wanted:
            raise segment.damaged(cursor.offset, cursor.position, "a record that can't be read")
        return chunk

    def _file(self, segment: _Segment) -> int:
        descriptor = self._files.get(segment.base)
        if descriptor is None:
            if len(self._files) >= _OPEN_FILES_MAX:
                os.close(self._files.popitem(last=False)[1])
            descriptor = os.open(segment.path, os.O_RDONLY)
            self._files[segment.base] = descriptor
        self._files.move_to_end(segment.base)
        return descriptor
