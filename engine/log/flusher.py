"""The group commit: whatever waits is written, each file is synced once, then it is reported.

Owns the one thread that writes embedded logs. Readers see a record and its report only after the
sync, never before. Must not know what is written, nor read it back.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import UnavailableError
from engine.log.segments import SegmentLog
from engine.model import Report
from engine.ports import Clock


class News:
    """Counts what happened, so that a thread that looks late misses nothing."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._count = 0
        self._seen = threading.local()

    def tell(self) -> None:
        """End all waits, and the next one of every thread that is not waiting."""
        with self._condition:
            self._count += 1
            self._condition.notify_all()

    def wait(self, timeout_ms: int) -> None:
        """Block until something was told since this thread's last wait."""
        seen: int = getattr(self._seen, "count", -1)
        with self._condition:
            self._condition.wait_for(lambda: self._count != seen, timeout_ms / 1_000)
            self._seen.count = self._count


class Session:
    """R1: after a failed append nothing of the same session lands."""

    def __init__(self) -> None:
        self.over = False


@dataclass(slots=True)
class Append:
    """Records that wait to be written, and who wants to know."""

    log: SegmentLog
    session: Session
    keys: Sequence[bytes]
    values: Sequence[bytes]
    ticket: int
    reports: list[Report]


class Flusher:
    """One thread that writes what waits, syncs each file once, and reports."""

    def __init__(self, clock: Clock, news: News) -> None:
        self._clock = clock
        self._news = news
        self._condition = threading.Condition()
        self._waiting: list[Append] = []
        self._thread: threading.Thread | None = None
        self._closing = False
        self.failures = 0
        self.groups = 0
        self.syncs = 0
        self.records = 0

    def put(self, append: Append) -> None:
        """Let an append be written with the next group."""
        with self._condition:
            if self._closing:
                raise UnavailableError("E1402", "the logs are being closed")
            self._waiting.append(append)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log-flusher", daemon=True)
                self._thread.start()
            self._condition.notify()

    def drain(self, reports: list[Report]) -> list[Report]:
        """Take what is in a list of reports."""
        with self._condition:
            drained = reports[:]
            reports.clear()
            return drained

    def statistics(self) -> dict[str, int]:
        """Return counters."""
        return {
            "groups": self.groups,
            "syncs": self.syncs,
            "records": self.records,
            "failures": self.failures,
            "waiting": len(self._waiting),
        }

    def close(self) -> None:
        """Write what waits, then end the thread."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._closing)
                group, self._waiting = self._waiting, []
            if not group:
                return
            self._commit(group)

    def _commit(self, group: list[Append]) -> None:
        by_log: dict[int, list[Append]] = {}
        for append in group:
            by_log.setdefault(id(append.log), []).append(append)
        written = [(appends, self._write(appends)) for appends in by_log.values()]
        for appends, ends in written:
            self._report(appends, self._sync(appends[0].log, ends))
        self.groups += 1
        self._news.tell()

    def _write(self, appends: list[Append]) -> list[int | str]:
        """Write one log's part of the group; return last offsets, or why there is none."""
        ends: list[int | str] = []
        keys: list[bytes] = []
        values: list[bytes] = []
        log = appends[0].log
        for append in appends:
            if append.session.over:
                ends.append("an earlier append of this session failed")
                continue
            keys.extend(append.keys)
            values.extend(append.values)
            ends.append(len(values))
        if not values:
            return ends
        try:
            last = log.append(keys, values, self._clock.now_ms())
        except OSError as fault:
            return [_why(log, fault)] * len(appends)
        first = last - len(values)
        return [end if isinstance(end, str) else first + end for end in ends]

    def _sync(self, log: SegmentLog, ends: list[int | str]) -> list[int | str]:
        if all(isinstance(end, str) for end in ends):
            return ends
        try:
            self.syncs += 1
            log.sync()
        except OSError as fault:
            return [_why(log, fault)] * len(ends)
        return ends

    def _report(self, appends: list[Append], ends: list[int | str]) -> None:
        with self._condition:
            for append, end in zip(appends, ends, strict=True):
                if isinstance(end, str):
                    self.failures += 1
                    append.session.over = True
                    append.reports.append(Report(append.ticket, None, end))
                else:
                    self.records += len(append.values)
                    append.reports.append(Report(append.ticket, end))


def _why(log: SegmentLog, fault: OSError) -> str:
    return f"{log.folder.name} can't be written: {fault.strerror or fault}"
