"""What was trimmed from an event log, kept as objects (archived.py reads on in them).

    archive/<partition>/<topic>/<first offset>-<end offset>-<sha256>

An object is a run of records as they lay in the log: their offsets, times, keys and values, each
with its checksum, compressed. Its name says its place and the checksum of the whole, so a listing
is all there is to know. Owns these objects; must not look into keys and values, and never decides
what is trimmed.
"""

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from engine.errors import LogError
from engine.limits import ARCHIVE_PIECE_BYTES
from engine.log.frames import RECORD_HEADER_BYTES, encode_record, read_records, record_head
from engine.model import Batch, LogRecord
from engine.ports import ObjectStore

_DIGITS = 20
_TOPIC_DIGITS = 32


class Piece(NamedTuple):
    """A run of records, [first, end)."""

    first: int
    end: int
    sha256: str
    name: str


class Archive:
    """One partition's archived events, of one topic. Everything here may block."""

    def __init__(
        self, objects: ObjectStore, partition: int, topic_id: str = "", *, topic: str = ""
    ) -> None:
        self._objects = objects
        # A broker's topic ids hold characters that can't name an object.
        topic = topic or hashlib.sha256(topic_id.encode()).hexdigest()[:_TOPIC_DIGITS]
        self._prefix = f"archive/{partition}/{topic}/"

    def pieces(self) -> list[Piece]:
        """Return the runs that lead on from the archive's begin without a hole."""
        found = sorted(filter(None, map(_piece, self._objects.names(self._prefix))))
        chain: list[Piece] = []
        for piece in found:
            if chain and piece.first > chain[-1].end:
                break
            if not chain or piece.end > chain[-1].end:
                chain.append(piece)
        return chain

    def write(self, records: Sequence[LogRecord], end: int) -> Piece:
        """Store a run of records; `end` is the offset behind it."""
        parts = (
            encode_record(one.offset, one.time_ms, 0, one.key or b"", one.value or b"")
            for one in records
        )
        data = zlib.compress(b"".join(parts), 1)
        sha256 = hashlib.sha256(data).hexdigest()
        first = records[0].offset
        name = f"{self._prefix}{first:0{_DIGITS}}-{end:0{_DIGITS}}-{sha256}"
        self._objects.put(name, data)
        return Piece(first, end, sha256, name)

    def read(self, piece: Piece) -> Batch:
        """Return a run's records; raise LogError E1303 if they are not what was stored."""
        data = self._objects.get(piece.name)
        if data is None:
            raise _damaged(piece, "it is missing")
        if hashlib.sha256(data).hexdigest() != piece.sha256:
            raise _damaged(piece, "it has another checksum than when it was written")
        try:
            whole = zlib.decompress(data)
        except zlib.error as fault:
            raise _damaged(piece, str(fault)) from fault
        batch, at = Batch(), 0
        while at < len(whole):
            if at + RECORD_HEADER_BYTES > len(whole):
                raise _damaged(piece, f"a cut off record at byte {at}")
            begin, offset = at, record_head(whole, at)[1]
            at, _ = read_records(whole, begin, offset, 1, batch)
            if at == begin:
                raise _damaged(piece, "a record that can't be read")
        return batch


def _piece(name: str) -> Piece | None:
    parts = name.rpartition("/")[2].split("-")
    if len(parts) != 3 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return None
    return Piece(int(parts[0]), int(parts[1]), parts[2], name)


def _damaged(piece: Piece, what: str) -> LogError:
    return LogError("E1303", what, "Restore the object from a backup", archive=piece.name)


def archived(records: Iterable[LogRecord], archive: Archive, end: int) -> int:
    """Archive records in runs; `end` is behind the last. Return how many there were."""
    run: list[LogRecord] = []
    size = count = 0
    for record in records:
        if size >= ARCHIVE_PIECE_BYTES:
            archive.write(run, record.offset)
            run, size = [], 0
        run.append(record)
        size += len(record.key or b"") + len(record.value or b"") + RECORD_HEADER_BYTES
        count += 1
    if run:
        archive.write(run, end)
    return count
