"""Plays a recording into a command log and watches the event log for the outcomes.

Latency is what a client of the log sees: from the moment a command was due until its outcome can
be read. One thread, which sends what is due, reads what is there, and only then waits.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine import wire
from engine.errors import UnavailableError
from engine.limits import REPLAY_WAITING_MAX, WORKSPACE_BYTES_MAX
from engine.load.pace import Pace
from engine.load.recording import Recorded
from engine.load.result import Result
from engine.load.rewrite import Rewriter, Sendable
from engine.ports import Logs

_TAKE = 2_000
_BURST = 500
_WAIT_MS = 5

Progress = Callable[[Result], None]


@dataclass(slots=True, frozen=True)
class Plan:
    """What a replay sends, when, and how long it waits for the last outcomes."""

    pace: Pace
    rewriter: Rewriter
    drain_ms: int = 30_000


class LogReplay:
    """One run against the logs of an application."""

    def __init__(self, logs: Logs, partitions: int, plan: Plan, result: Result) -> None:
        self._logs = logs
        self._partitions = partitions
        self._plan = plan
        self._result = result
        self._events = [logs.event_log(partition) for partition in range(partitions)]
        self._epochs = [0] * partitions
        self._due_ns: dict[bytes, int] = {}  # of what was sent and is not answered
        self._tickets: dict[int, bytes] = {}
        self._sent: set[bytes] = set()
        self._last_ns = 0

    def run(self, commands: Iterator[Recorded], progress: Progress = lambda _: None) -> Result:
        """Play all commands; return when the last outcome was read or waited for in vain."""
        for reader in self._events:
            reader.seek(reader.bounds().end)
        start_ns = self._last_ns = time.perf_counter_ns()
        queue = enumerate(commands)
        upcoming = self._next(queue, start_ns)
        drain_from_ns = 0
        while upcoming is not None or self._due_ns or self._tickets:
            upcoming = self._send_due(upcoming, queue, start_ns)
            moved = self._read_outcomes()
            self._read_tickets()
            progress(self._result)
            now_ns = time.perf_counter_ns()
            if upcoming is None:
                drain_from_ns = drain_from_ns or now_ns
                if now_ns - drain_from_ns > self._plan.drain_ms * 1_000_000:
                    break
            if not moved and (upcoming is None or upcoming[0] > now_ns):
                self._logs.wait(_WAIT_MS)
        self._result.missing = len(self._due_ns)
        self._result.duration_ms = (self._last_ns - start_ns) / 1_000_000
        return self._result

    def _next(
        self, queue: "enumerate[Recorded]", start_ns: int
    ) -> tuple[int, bytes | None, Sendable] | None:
        """Return the next command and when it is due."""
        entry = next(queue, None)
        if entry is None:
            return None
        index, recorded = entry
        due_ns = start_ns + self._plan.pace.due_ns(index, recorded.time_ms)
        return due_ns, recorded.key, self._plan.rewriter.rewrite(recorded)

    def _send_due(
        self,
        upcoming: tuple[int, bytes | None, Sendable] | None,
        queue: "enumerate[Recorded]",
        start_ns: int,
    ) -> tuple[int, bytes | None, Sendable] | None:
        """Send what is due, a burst at most; what the log has no room for stays due."""
        for _ in range(_BURST):
            now_ns = time.perf_counter_ns()
            if upcoming is None or upcoming[0] > now_ns:
                break
            if len(self._due_ns) >= REPLAY_WAITING_MAX:
                break
            due_ns, key, sendable = upcoming
            if not self._send(now_ns if self._plan.pace.unpaced else due_ns, key, sendable):
                break
            upcoming = self._next(queue, start_ns)
        return upcoming

    def _send(self, due_ns: int, key: bytes | None, sendable: Sendable) -> bool:
        if key is None or sendable.value is None or len(key) > WORKSPACE_BYTES_MAX:
            self._result.failed += 1  # a CommandSink takes whole commands only
            return True
        partition = wire.partition_of(key, self._partitions)
        try:
            ticket = self._logs.commands.publish(partition, key, sendable.value)
        except UnavailableError:
            return False
        self._tickets[ticket] = sendable.command_id
        self._result.sent += 1
        if not sendable.command_id:
            self._result.blind += 1
        elif sendable.command_id in self._sent:
            self._result.repeated += 1
        else:
            self._sent.add(sendable.command_id)
            self._due_ns[sendable.command_id] = due_ns
        return True

    def _read_outcomes(self) -> bool:
        """Match outcomes with what waits for them; superseded ones are of an older epoch."""
        moved = False
        for partition, reader in enumerate(self._events):
            batch = reader.take(_TAKE)
            now_ns = time.perf_counter_ns()
            for value in batch.values:
                self._read_event(partition, value, now_ns)
            moved = moved or bool(batch)
        return moved

    def _read_event(self, partition: int, value: bytes | None, now_ns: int) -> None:
        head = wire.head(value)
        if head is None or value is None or head.epoch < self._epochs[partition]:
            return
        if head.kind is wire.Kind.OWNER:
            self._epochs[partition] = head.epoch
        if head.kind is not wire.Kind.OUTCOME:
            return
        outcome = wire.decode_outcome(value)
        due_ns = self._due_ns.pop(outcome["command_id"], None)
        if due_ns is not None:
            self._result.answer(outcome["code"], now_ns - due_ns)
            self._last_ns = now_ns

    def _read_tickets(self) -> None:
        """Count what the log didn't take; nobody waits for its outcome."""
        for report in self._logs.commands.published():
            command_id = self._tickets.pop(report.ticket, b"")
            if report.last_offset is None and (
                not command_id or self._due_ns.pop(command_id, None) is not None
            ):
                self._result.failed += 1
