"""Taps an application's commands into a recording, while it runs or afterwards. Reads only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from engine.load.recording import Header, Recorded, RecordingWriter
from engine.load.rewrite import without_token
from engine.log.archived import ReadableLog, ReadableLogs
from engine.model import LogRecord

_TAKE = 1_000
_WAIT_MS = 100


@dataclass(slots=True, frozen=True)
class Until:
    """When a tap ends: after so many commands, at the log's present end, or when it is told."""

    count: int = 0  # 0 = no bound
    end_of_log: bool = False
    stopped: Callable[[], bool] = lambda: False


class Tap:
    """Copies the commands of all partitions into a file, in the order of their append times.

    Within a partition, and so within a workspace, that is the order of the log. Between
    partitions it is exact as far as one look at the logs goes.
    """

    def __init__(self, logs: ReadableLogs, application: str, partitions: int) -> None:
        self._logs = logs
        self._application = application
        self._readers = [logs.command_log(partition) for partition in range(partitions)]
        self._ends = [0] * partitions
        self._writer: RecordingWriter | None = None
        self._first_ms = 0
        self._last_ms = 0

    def run(self, file: BinaryIO, until: Until, *, from_begin: bool = False) -> int:
        """Record into `file`, which then is a whole recording; return how many commands."""
        for partition, reader in enumerate(self._readers):
            bounds = reader.bounds()
            self._ends[partition] = bounds.end
            reader.seek(bounds.begin if from_begin else bounds.end)
        try:
            self._copy(file, until)
        finally:
            # Also behind Ctrl-C: what was recorded so far is a whole recording.
            self._opened(file, 0).close()
        return self._opened(file, 0).count

    def _copy(self, file: BinaryIO, until: Until) -> None:
        waiting = {p for p, reader in enumerate(self._readers) if not self._at_end(p, reader)}
        while not until.stopped() and not (until.end_of_log and not waiting):
            records: list[LogRecord] = []
            for partition, reader in enumerate(self._readers):
                taken = list(reader.take(_TAKE).records())
                if until.end_of_log:
                    taken = [one for one in taken if one.offset < self._ends[partition]]
                if taken and taken[-1].offset + 1 >= self._ends[partition]:
                    waiting.discard(partition)
                records.extend(taken)
            records.sort(key=lambda record: record.time_ms)
            for record in records:
                writer = self._opened(file, record.time_ms)
                writer.write(self._recorded(record))
                if writer.count == until.count:
                    return
            if not records:
                self._logs.wait(_WAIT_MS)

    def _at_end(self, partition: int, reader: ReadableLog) -> bool:
        return reader.bounds().begin >= self._ends[partition]

    def _recorded(self, record: LogRecord) -> Recorded:
        """Return it without its token; times never go back, though brokers' clocks may differ."""
        self._last_ms = max(self._last_ms, record.time_ms)
        return Recorded(self._last_ms - self._first_ms, record.key, without_token(record.value))

    def _opened(self, file: BinaryIO, time_ms: int) -> RecordingWriter:
        """Return the writer; its header holds the time of the first command."""
        if self._writer is None:
            self._first_ms = self._last_ms = time_ms
            header = Header(self._application, len(self._readers), time_ms)
            self._writer = RecordingWriter(file, header)
        return self._writer
