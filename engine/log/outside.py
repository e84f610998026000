"""The embedded log's folder read from outside, while another process may hold and write it.

Takes no lock and changes nothing. What it shows at the very end may not be safe on disk yet: the
process that owns the folder shows it to nobody before it is.
"""

import json
import os
import time
from pathlib import Path

from engine.errors import ConfigError, LogError
from engine.log.frames import (
    HEADER_BYTES,
    RECORD_HEADER_BYTES,
    decode_header,
    read_records,
    record_bytes,
    was_safe,
    whole_record,
)
from engine.model import Batch, Bounds

_CHUNK_BYTES = 1024 * 1024
_LEVELS = ("meta.json", "*/meta.json", "*/*/meta.json")


class FolderLogs:
    """The logs in a folder, as `meta.json` describes them."""

    def __init__(self, folder: Path) -> None:
        try:
            meta = json.loads((folder / "meta.json").read_bytes())
            self.application = str(meta["application"])
            self.partitions = int(meta["partitions"])
            self._topic_ids = {kind: str(meta["topic_ids"][kind]) for kind in _KINDS}
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise LogError("E1303", f"meta.json can't be read: {fault}", folder=folder) from fault
        self.folder = folder

    def command_log(self, partition: int) -> "FolderLog":
        """Return a reader of a partition's commands."""
        return self._log("commands", partition)

    def event_log(self, partition: int) -> "FolderLog":
        """Return a reader of a partition's events."""
        return self._log("events", partition)

    def history(self, partition: int) -> "FolderLog":
        """Return a second reader of a partition's events."""
        return self._log("events", partition)

    def _log(self, kind: str, partition: int) -> "FolderLog":
        return FolderLog(self.folder / f"{kind}-{partition}", self._topic_ids[kind])

    def wait(self, timeout_ms: int) -> None:
        """Sleep: files tell nobody that they grew."""
        time.sleep(timeout_ms / 1_000)

    def close(self) -> None:
        """Do nothing: files are open only while they are read."""


_KINDS = ("commands", "events")


class FolderLog:
    """One log's segment files."""

    def __init__(self, folder: Path, topic_id: str) -> None:
        self._folder = folder
        self._topic_id = topic_id
        self._offset = -1  # the next to take
        self._base = -1  # of the segment that `_at` lies in
        self._at = 0

    def bounds(self) -> Bounds:
        """Return what the log holds, by its newest segment's whole records."""
        bases = self._bases()
        if not bases:
            return Bounds(0, 0, self._topic_id)
        end, at, damaged = self._end(bases[-1])
        # The file may have grown while it was read: only what stays unreadable is damage.
        if damaged and self._end(bases[-1]) == (end, at, True):
            self._base, self._offset = bases[-1], end
            raise self._damaged(at, "a record that can't be read")
        return Bounds(bases[0], end, self._topic_id)

    def _end(self, base: int) -> tuple[int, int, bool]:
        """Return where whole records end, and whether what follows was safe on disk once."""
        data, at, end = self._path(base).read_bytes(), HEADER_BYTES, base
        while length := whole_record(data, at, end):
            at += length
            end += 1
        return end, at, at < len(data) and was_safe(data, at, end)

    def seek(self, offset: int) -> None:
        """Take from `offset` on."""
        self._offset, self._base = offset, -1

    def rest(self) -> None:
        """Stop reading: nothing is held between reads."""

    def take(self, count: int) -> Batch:
        """Return the next whole records."""
        batch = Batch()
        while len(batch) < count and self._located():
            before = len(batch)
            self._read(batch, count)
            if len(batch) == before and not self._next_segment():
                break
        return batch

    def _located(self) -> bool:
        """Find the place of the next offset; False = the log holds nothing yet."""
        if self._base >= 0:
            return True
        bases = self._bases()
        if not bases:
            return False
        if self._offset < bases[0]:
            what = f"the records from offset {self._offset} to {bases[0]} are gone"
            raise LogError("E1302", what, folder=self._folder, offset=self._offset)
        self._base = max(base for base in bases if base <= self._offset)
        self._at = self._skip()
        return True

    def _skip(self) -> int:
        """Walk over the records before the next offset."""
        data, at = self._path(self._base).read_bytes(), HEADER_BYTES
        if decode_header(data) is None:
            raise self._damaged(0, "a wrong segment header")
        for _ in range(self._base, self._offset):
            if at + RECORD_HEADER_BYTES > len(data):
                break  # not written yet: `take` goes on from there
            at += record_bytes(data, at)
        return at

    def _read(self, batch: Batch, count: int) -> None:
        """Add whole records of the current segment to the batch."""
        before = len(batch)
        read, _ = read_records(self._chunk(), 0, self._offset, count - before, batch)
        self._offset += len(batch) - before
        self._at += read

    def _chunk(self) -> bytes:
        """Read at least one record, if there is a whole one."""
        try:
            with self._path(self._base).open("rb") as file:
                chunk = os.pread(file.fileno(), _CHUNK_BYTES, self._at)
                if len(chunk) >= RECORD_HEADER_BYTES and record_bytes(chunk, 0) > len(chunk):
                    chunk = os.pread(file.fileno(), record_bytes(chunk, 0), self._at)
                return chunk
        except FileNotFoundError as fault:
            what = f"the segment with offset {self._offset} was deleted while it was read"
            raise LogError("E1302", what, folder=self._folder) from fault

    def _next_segment(self) -> bool:
        """Go on in the next segment; what can't be read in an older one is damage."""
        if self._offset in self._bases()[1:] and self._offset != self._base:
            self._base, self._at = self._offset, HEADER_BYTES
            return True
        if self._bases()[-1:] != [self._base]:
            raise self._damaged(self._at, "a record that can't be read")
        return False

    def _bases(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob("*.log"))

    def _path(self, base: int) -> Path:
        return self._folder / f"{base:020d}.log"

    def _damaged(self, at: int, what: str) -> LogError:
        path = self._path(self._base)
        return LogError("E1303", f"{what} at byte {at}", file=path, offset=self._offset)


def find_logs(data: Path) -> FolderLogs:
    """Return the logs in a data folder, or in a folder of them."""
    for level in _LEVELS:
        found = sorted(path.parent for path in data.glob(level) if _is_logs(path.parent))
        if len(found) == 1:
            return FolderLogs(found[0])
        if found:
            names = ", ".join(str(folder) for folder in found)
            raise ConfigError("E1001", f"there are several logs: {names}", "Name one with --data")
    raise ConfigError(
        "E1001",
        f"there is no embedded log in {data}",
        "Name the data folder of `partita dev` with --data, or a broker with --bootstrap-servers",
    )


def _is_logs(folder: Path) -> bool:
    return (folder / "events-0").is_dir()
