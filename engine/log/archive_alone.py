"""An archive read as if it were the log, where the log itself is gone.

Owns finding out what the archive holds. Reads whole runs at once and may block, so it is for words
of the command line, not for nodes.
"""

from engine.errors import ConfigError
from engine.log.archive import Archive
from engine.model import Batch, Bounds
from engine.ports import ObjectStore


class ArchiveLogs:
    """The events of one application's partitions, and no commands."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def command_log(self, partition: int) -> "ArchiveLog":
        """Return an empty log: commands that were not decided are gone with their topic."""
        return ArchiveLog(None, partition)

    def event_log(self, partition: int) -> "ArchiveLog":
        """Return a reader of a partition's archived events."""
        return ArchiveLog(self._archive(partition), partition)

    def history(self, partition: int) -> "ArchiveLog":
        """Return a second reader of a partition's archived events."""
        return self.event_log(partition)

    def _archive(self, partition: int) -> Archive | None:
        prefix = f"archive/{partition}/"
        topics = {name.split("/")[2] for name in self._objects.names(prefix)}
        if len(topics) > 1:
            raise ConfigError(
                "E1001",
                f"the archive holds {len(topics)} topics of partition {partition}",
                "Move those away that are not meant",
            )
        return Archive(self._objects, partition, topic=topics.pop()) if topics else None

    def wait(self, timeout_ms: int) -> None:
        """Return at once: nothing comes by waiting."""

    def close(self) -> None:
        """There is nothing to close."""


class ArchiveLog:
    """One partition's archived events."""

    def __init__(self, archive: Archive | None, partition: int) -> None:
        self._archive = archive
        self._partition = partition
        self._pieces = archive.pieces() if archive else []
        self._offset = 0
        self._read = Batch()

    def bounds(self) -> Bounds:
        """Return what the archive holds; which topic it was, it doesn't know."""
        if not self._pieces:
            return Bounds(0, 0, "")
        return Bounds(self._pieces[0].first, self._pieces[-1].end, "")

    def seek(self, offset: int) -> None:
        """Read from `offset` on."""
        self._offset, self._read = offset, Batch()

    def take(self, count: int) -> Batch:
        """Return the next records."""
        if not self._read and self._archive is not None:
            for piece in self._pieces:
                if piece.first <= self._offset < piece.end:
                    whole = self._archive.read(piece)
                    behind = sum(offset < self._offset for offset in whole.offsets)
                    self._read, self._offset = whole.rest(behind), piece.end
                    break
        batch, self._read = self._read.first(count), self._read.rest(count)
        return batch

    def rest(self) -> None:
        """Forget what was read ahead."""
        self._read = Batch()
