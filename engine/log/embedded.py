"""Logs in a folder for a single machine: the promises of a broker without one.

    folder/lock            held by the one process that has it open
    folder/meta.json       application, partitions, topic ids
    folder/closed.json     the ends of all logs, only after a clean close
    folder/commands-P/  folder/events-P/   segment files

Owns tickets, positions and sessions; files are segments.py's, the thread that writes is
flusher.py's. Must not look into keys and values.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import LogError, UnavailableError, unwritable
from engine.limits import PUBLISHING_MAX, RECORD_BYTES_MAX
from engine.log.flusher import Append, Flusher, News, Session
from engine.log.folder import FolderLock, LogFolder
from engine.log.segments import SEGMENT_BYTES, Cursor, SegmentLog
from engine.model import Batch, Bounds, LogRecord, Lookup, Reply, Report
from engine.ports import Clock, Random, Statistics

COMMAND_RETENTION_MS = 7 * 24 * 3_600_000
EXPIRE_EVERY_MS = 60_000


@dataclass(slots=True, frozen=True)
class EmbeddedSettings:
    """What a folder of logs is for. `command_retention_ms` None keeps commands for ever."""

    application: str
    partitions: int
    segment_bytes: int = SEGMENT_BYTES
    command_retention_ms: int | None = COMMAND_RETENTION_MS


class EmbeddedLogs:
    """The logs of one application in a folder, held by this process until `close`."""

    def __init__(
        self, folder: Path, settings: EmbeddedSettings, clock: Clock, random: Random
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._lock = FolderLock(folder)
        try:
            self._folder = LogFolder(
                folder, settings.application, settings.partitions, settings.segment_bytes, random
            )
        except OSError as fault:
            self._lock.release()
            raise unwritable(folder, fault) from fault
        except Exception:
            self._lock.release()
            raise
        self._news = News()
        self._flusher = Flusher(clock, self._news)
        self._closed = False
        self._expire_at_ms = 0
        self.commands = _Commands(self._folder.logs["commands"], self._flusher)
        self.replies = _Replies()
        self.expire_commands()

    def command_log(self, partition: int) -> "EmbeddedCommandLog":
        """Return a reader of a partition's commands."""
        return EmbeddedCommandLog(self._folder.logs["commands"][partition], partition)

    def event_log(self, partition: int) -> "EmbeddedEventLog":
        """Return a reader and writer of a partition's events, with a session of its own."""
        return EmbeddedEventLog(self._folder.logs["events"][partition], partition, self._flusher)

    def history(self, partition: int) -> "EmbeddedEventLog":
        """Return a second reader of a partition's events."""
        return self.event_log(partition)

    def expire_commands(self) -> None:
        """Delete commands that are older than the settings keep them, in whole segments."""
        kept_ms = self._settings.command_retention_ms
        self._expire_at_ms = self._clock.monotonic_ms() + EXPIRE_EVERY_MS
        if kept_ms is not None:
            for log in self._folder.logs["commands"]:
                log.expire(self._clock.now_ms() - kept_ms)

    def trim(self, kind: str, partition: int, before: int) -> None:
        """Delete records below `before`, in whole segments; `kind` is commands or events."""
        self._folder.logs[kind][partition].trim(before)

    def wait(self, timeout_ms: int) -> None:
        """Block until something was reported or landed since this thread's last wait.

        Who waits has time: once in a while, old commands are deleted first.
        """
        if self._clock.monotonic_ms() >= self._expire_at_ms:
            self.expire_commands()
        self._news.wait(timeout_ms)

    def wake(self) -> None:
        """End the waits of all threads."""
        self._news.tell()

    def statistics(self) -> Statistics:
        """Return counters of the group commit and of what is beside it."""
        return {
            **self._flusher.statistics(),
            "replies": self.replies.sent,
            "cut_bytes": self._folder.cut_bytes,
        }

    def close(self) -> None:
        """Write what waits, close the files, let go of the folder."""
        if self._closed:
            return
        self._closed = True
        self._flusher.close()
        self._folder.close(clean=not self._flusher.failures)
        self._lock.release()


class _Reader:
    """A position in a log."""

    def __init__(self, log: SegmentLog, partition: int) -> None:
        self._log = log
        self._partition = partition
        self._cursor: Cursor | None = None
        self._taken = 0

    def bounds(self) -> Bounds:
        """Return what the log holds."""
        return Bounds(self._log.begin, self._log.end, self._log.topic_id)

    def seek(self, offset: int) -> None:
        """Take from `offset` on."""
        self._cursor = Cursor(offset)

    def rest(self) -> None:
        """Stop reading."""
        self._cursor = None

    def _take(self, count: int, trimmed: str, *, framed: bool = False) -> Batch:
        cursor = self._cursor
        if cursor is None:
            return Batch()
        if cursor.offset < self._log.begin:
            gone = self._log.begin - cursor.offset
            raise LogError(
                trimmed,
                f"{gone} records from offset {cursor.offset} on are gone",
                partition=self._partition,
                offset=cursor.offset,
            )
        batch = self._log.read(cursor, count, framed=framed)
        self._taken += len(batch)
        return batch


class EmbeddedCommandLog(_Reader):
    """The commands of one partition."""

    def take(self, count: int) -> Batch:
        """Return the next commands."""
        return self._take(count, "E1305")

    def statistics(self) -> Statistics:
        """Return counters."""
        offset = self._log.begin if self._cursor is None else self._cursor.offset
        return {"taken": self._taken, "lag": max(self._log.end - offset, 0)}


class EmbeddedEventLog(_Reader):
    """The events of one partition, and what its owner appends to them."""

    def __init__(self, log: SegmentLog, partition: int, flusher: Flusher) -> None:
        super().__init__(log, partition)
        self._flusher = flusher
        self._session = Session()
        self._reports: list[Report] = []
        self._ticket = 0
        self._sessions = 1

    def append(self, keys: Sequence[bytes], values: Sequence[bytes]) -> int:
        """Let records be written with the next group."""
        assert len(keys) == len(values) > 0
        assert all(len(value) <= RECORD_BYTES_MAX for value in values)
        if self._session.over:
            self._session = Session()
            self._sessions += 1
        self._ticket += 1
        self._flusher.put(
            Append(self._log, self._session, keys, values, self._ticket, self._reports)
        )
        return self._ticket

    def reports(self) -> list[Report]:
        """Return what became of appends."""
        return self._flusher.drain(self._reports)

    def take(self, count: int) -> Batch:
        """Return the next events."""
        return self._take(count, "E1302", framed=True)

    def lookup(self, offset: int) -> LogRecord | Lookup:
        """Return a record of the log."""
        if not self._log.begin <= offset < self._log.end:
            return Lookup.GONE
        found = self._log.read(Cursor(offset), 1)
        return next(found.records(), Lookup.GONE)

    def statistics(self) -> Statistics:
        """Return counters."""
        return {"taken": self._taken, "tickets": self._ticket, "sessions": self._sessions}


class _Commands:
    """Publishes commands; each is a session of its own, for one failure says nothing of others."""

    def __init__(self, logs: list[SegmentLog], flusher: Flusher) -> None:
        self._logs = logs
        self._flusher = flusher
        self._lock = threading.Lock()
        self._reports: list[Report] = []
        self._ticket = 0
        self._told = 0

    def publish(self, partition: int, workspace: bytes, value: bytes) -> int:
        """Let a command be written with the next group; any thread may."""
        if len(value) > RECORD_BYTES_MAX:
            raise UnavailableError("E1403", f"a command of {len(value)} bytes fits into no log")
        with self._lock:
            if self._ticket - self._told >= PUBLISHING_MAX:
                raise UnavailableError("E1403", "too many commands are being published")
            self._ticket += 1
            log = self._logs[partition]
            self._flusher.put(
                Append(log, Session(), [workspace], [value], self._ticket, self._reports)
            )
            return self._ticket

    def published(self) -> list[Report]:
        """Return what became of commands."""
        reports = self._flusher.drain(self._reports)
        with self._lock:
            self._told += len(reports)
        return reports


class _Replies:
    """No topic, so no readers: clients ask over HTTP, and the node answers those itself."""

    def __init__(self) -> None:
        self.sent = 0

    def waiting(self, partition: int, ids: Sequence[bytes]) -> Sequence[int]:
        """Return nobody: there is no topic to wait at."""
        del partition, ids
        return ()

    def send(self, partition: int, reply: Reply) -> None:
        """Count the reply."""
        assert partition >= 0
        assert reply.command_id
        self.sent += 1
