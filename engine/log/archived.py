"""Logs that go on reading in the archive what was trimmed from them.

Owns how a reader goes from the archive to the log and back, what is known of an archive, and the
few runs of it that are held in memory. A thread beside the shell's fetches them. Writes nothing.
"""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

from engine.errors import LogError, UnavailableError
from engine.limits import ARCHIVE_PIECES_HELD
from engine.log.archive import Archive, Piece
from engine.model import Batch, Bounds, LogRecord, Lookup, Report
from engine.ports import EventLog, EventReader, Logs, ObjectStore, Statistics


class ReadableLog(EventReader, Protocol):
    """What reading needs of a log; `ports.CommandLog` and `ports.EventLog` are such logs."""

    def bounds(self) -> Bounds:
        """Return what the log holds."""
        ...


class ReadableLogs(Protocol):
    """The logs of one application, for who only reads them."""

    def command_log(self, partition: int) -> ReadableLog:
        """Return a reader of a partition's commands."""
        ...

    def event_log(self, partition: int) -> ReadableLog:
        """Return a reader of a partition's events."""
        ...

    def history(self, partition: int) -> EventReader:
        """Return a second reader of a partition's events."""
        ...

    def wait(self, timeout_ms: int) -> None:
        """Block until a log may have something new."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class Shelf:
    """A few runs of one partition in memory, fetched by a thread beside the shell's."""

    def __init__(
        self, partition: int, objects: Callable[[], ObjectStore], worker: Executor
    ) -> None:
        self._partition = partition
        self._open = objects
        self._objects: ObjectStore | None = None
        self._worker = worker
        self._lock = threading.Lock()
        self._archive: Archive | None = None
        self._topic_id = ""
        self._pieces: list[Piece] = []
        self._held: OrderedDict[Piece, Batch] = OrderedDict()
        self._coming: dict[Piece, Future[Batch]] = {}
        self.begin = 0  # of the log itself, as last heard
        self.listed = 0  # where the log began when the archive was listed: what is below is known

    def extended(self, bounds: Bounds) -> Bounds:
        """Return bounds that begin where the archive does, if it leads up to the log. Blocks."""
        with self._lock:
            self.begin = bounds.begin
            if bounds.begin == 0:
                return bounds
            # What was heard before still holds: nothing leaves an archive.
            with suppress(UnavailableError):
                self._list(bounds)
            if self._pieces and self._pieces[-1].end >= bounds.begin:
                first = min(self._pieces[0].first, bounds.begin)
                return Bounds(first, bounds.end, bounds.topic_id)
            return bounds

    def lists(self, bounds: Bounds, offset: int) -> bool:
        """Return whether an offset that left the log is in the archive; raise if it doesn't answer.

        Blocks. Whoever is told False gives up for good, so a guess won't do.
        """
        with self._lock:
            self.begin = bounds.begin
            self._list(bounds)
        return self.holds(offset)

    def listing(self, bounds: Callable[[], Bounds], offset: int) -> Future[int]:
        """Have the archive listed anew, beside the shell, for an offset that comes back then."""

        def listed() -> int:
            self.lists(bounds(), offset)
            return offset

        return self._worker.submit(listed)

    def _list(self, bounds: Bounds) -> None:
        if self._objects is None:
            self._objects = self._open()
        self._archive = Archive(self._objects, self._partition, bounds.topic_id)
        self._pieces = self._archive.pieces()
        self.listed = bounds.begin

    def holds(self, offset: int) -> bool:
        """Return whether an offset lies below the log's begin and in the archive."""
        return offset < self.begin and self._find(offset) is not None

    def take(self, offset: int, count: int) -> Batch | None:
        """Return records from `offset` on, None while they are fetched."""
        batch = self._fetched(offset)
        if batch is None:
            return None
        at = bisect_right(batch.offsets, offset - 1)
        return batch.rest(at).first(count)

    def next(self, offset: int) -> int:
        """Return the offset behind the run in which `offset` lies."""
        piece = self._find(offset)
        return piece.end if piece else offset

    def _find(self, offset: int) -> Piece | None:
        at = bisect_right(self._pieces, offset, key=lambda piece: piece.first) - 1
        found = self._pieces[at] if at >= 0 else None
        return found if found is not None and offset < found.end else None

    def _fetched(self, offset: int) -> Batch | None:
        with self._lock:
            piece = self._find(offset)
            assert piece is not None
            found = self._held.get(piece)
            if found is not None:
                self._held.move_to_end(piece)
                self._fetch(self._find(piece.end))
                return found
            coming = self._fetch(piece)
            if coming is None or not coming.done():
                return None
            del self._coming[piece]
            self._held[piece] = coming.result()
            while len(self._held) > ARCHIVE_PIECES_HELD:
                self._held.popitem(last=False)
            return self._held[piece]

    def _fetch(self, piece: Piece | None) -> "Future[Batch] | None":
        """Have a run fetched unless it is held already; at most a few are on their way."""
        if piece is None or self._archive is None or piece in self._held:
            return None
        if piece not in self._coming:
            # What was fetched ahead for a reader that went elsewhere makes room.
            for other in [one for one, coming in self._coming.items() if coming.done()]:
                if len(self._coming) >= ARCHIVE_PIECES_HELD:
                    del self._coming[other]
            if len(self._coming) < ARCHIVE_PIECES_HELD:
                self._coming[piece] = self._worker.submit(self._archive.read, piece)
        return self._coming.get(piece)


class ArchivedReader:
    """An EventReader that begins in the archive and goes on in the log."""

    def __init__(self, inner: EventReader, bounds: Callable[[], Bounds], shelf: Shelf) -> None:
        self._inner = inner
        self._bounds = bounds
        self._shelf = shelf
        self._offset = -1  # the next to take from the archive; -1 = the log itself is read

    def bounds(self) -> Bounds:
        """Return what log and archive hold together."""
        return self._shelf.extended(self._bounds())

    def seek(self, offset: int) -> None:
        """Read from `offset` on."""
        if self._shelf.holds(offset):
            self._offset = offset
            self._inner.rest()
        else:
            self._offset = -1
            self._inner.seek(offset)

    def take(self, count: int) -> Batch:
        """Return the next records that are there."""
        if self._offset < 0:
            try:
                return self._inner.take(count)
            except LogError as fault:
                if fault.code != "E1302" or not self._trimmed(fault):
                    raise
                return Batch()
        found = self._shelf.take(self._offset, count)
        if found is None:
            return Batch()
        self._offset = found.offsets[-1] + 1 if found else self._shelf.next(self._offset)
        if self._offset >= self._shelf.begin or not self._shelf.holds(self._offset):
            self._inner.seek(self._offset)
            self._offset = -1
        return found

    def rest(self) -> None:
        """Stop reading."""
        self._offset = -1
        self._inner.rest()

    def _trimmed(self, fault: LogError) -> bool:
        """Go on in the archive where the log was trimmed under the reader, if it holds that."""
        offset = fault.where.get("offset")
        if not isinstance(offset, int):
            return False
        if not self._shelf.lists(self._bounds(), offset):
            return False
        self.seek(offset)
        return True


class ArchivedEventLog(ArchivedReader):
    """An EventLog whose begin is the archive's."""

    def __init__(self, inner: EventLog, shelf: Shelf) -> None:
        super().__init__(inner, inner.bounds, shelf)
        self._log = inner
        self._listing: Future[int] | None = None
        self._asked = -1  # the last offset for which the archive was listed

    def append(self, keys: Sequence[bytes], values: Sequence[bytes]) -> int:
        """Append to the log."""
        return self._log.append(keys, values)

    def reports(self) -> list[Report]:
        """Return what became of appends."""
        return self._log.reports()

    def lookup(self, offset: int) -> LogRecord | Lookup:
        """Return a record of the log or of the archive."""
        if self._listing is not None:
            if not self._listing.done():
                return Lookup.PENDING
            listing, self._listing = self._listing, None
            self._asked = listing.result()
        if not self._shelf.holds(offset):
            return self._in_log(offset)
        found = self._shelf.take(offset, 1)
        if found is None:
            return Lookup.PENDING
        record = next(found.records(), None)
        return record if record is not None and record.offset == offset else Lookup.GONE

    def _in_log(self, offset: int) -> LogRecord | Lookup:
        """Look in the log; what is gone there may be in the archive since that was listed."""
        found = self._log.lookup(offset)
        if found is not Lookup.GONE or offset < self._shelf.listed or offset == self._asked:
            return found
        self._listing = self._shelf.listing(self._bounds, offset)
        return Lookup.PENDING

    def statistics(self) -> Statistics:
        """Return the log's counters."""
        return self._log.statistics()


class ArchivedReading:
    """Logs that are only read; what was trimmed from the events is read from the archive."""

    def __init__(
        self,
        logs: ReadableLogs,
        objects: Callable[[], ObjectStore],
        worker: Executor | None = None,
    ) -> None:
        self._reading = logs
        self._objects = objects
        self._shelves: dict[int, Shelf] = {}
        self._worker = worker or ThreadPoolExecutor(1, thread_name_prefix="partita-archive")

    def command_log(self, partition: int) -> ReadableLog:
        """Return a reader of a partition's commands."""
        return self._reading.command_log(partition)

    def event_log(self, partition: int) -> ReadableLog:
        """Return a reader of a partition's events."""
        log = self._reading.event_log(partition)
        return ArchivedReader(log, log.bounds, self.shelf(partition))

    def history(self, partition: int) -> EventReader:
        """Return a second reader of a partition's events."""
        log = self._reading.event_log(partition)
        return ArchivedReader(self._reading.history(partition), log.bounds, self.shelf(partition))

    def shelf(self, partition: int) -> Shelf:
        """Return what all readers of a partition's archive share."""
        if partition not in self._shelves:
            self._shelves[partition] = Shelf(partition, self._objects, self._worker)
        return self._shelves[partition]

    def wait(self, timeout_ms: int) -> None:
        """Block until a log may have something new."""
        self._reading.wait(timeout_ms)

    def close(self) -> None:
        """Close the logs."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._reading.close()


class ArchivedLogs:
    """A node's logs; what was trimmed from the events is read from the archive."""

    def __init__(
        self,
        logs: Logs,
        objects: Callable[[], ObjectStore],
        worker: Executor | None = None,
    ) -> None:
        self._logs = logs
        self._reading = ArchivedReading(logs, objects, worker)
        self.commands = logs.commands
        self.replies = logs.replies
        self.command_log = logs.command_log
        self.history = self._reading.history
        self.wait = logs.wait
        self.wake = logs.wake
        self.statistics = logs.statistics
        self.close = self._reading.close

    def event_log(self, partition: int) -> EventLog:
        """Return a reader and writer of a partition's events."""
        return ArchivedEventLog(self._logs.event_log(partition), self._reading.shelf(partition))
