"""What one partition's command log says against its events: whether each command got its answer.

A command without an outcome of its own is a duplicate, was refused, still waits, or was lost.
Refusals leave no record, so the reasons for one are derived from the rules (FORMATS 4).
"""

import uuid
from bisect import bisect_right
from typing import NamedTuple

import orjson

from engine.audit.events import Decision, EventAudit
from engine.audit.report import Broken, PartitionReport
from engine.limits import DEDUP_IDS_MAX, DEDUP_WINDOW_MS, ID_AHEAD_MS_MAX
from engine.model import LogRecord
from engine.wire import WireError, decode_command, hash64
from engine.world import derived_id, uuid7_time_ms


class Asked(NamedTuple):
    """What is read of a command; JSON arguments are not compared: `args_hash` is None."""

    command_id: bytes
    name: str
    args_schema: int
    args_hash: int | None


class CommandAudit:
    """Reads the commands of one partition, after all of its events."""

    def __init__(self, report: PartitionReport, events: EventAudit) -> None:
        self.report = report
        self._events = events
        self._ids: set[bytes] = set()
        self._first = -1
        self._last = -1
        self._refusable = 0  # of those that wait

    def read(self, record: LogRecord) -> None:
        """Audit the next command."""
        if self._first < 0:
            self._first = record.offset
        self._last = record.offset
        self.report.commands += 1
        asked = read_command(record.value)
        derived = undecodable_id(self.report.partition, record.offset)
        self._ids.add(asked.command_id if asked else derived)
        decision = self._events.by_command_offset.pop(record.offset, None)
        if decision is not None:
            self._compare(record, asked, decision, derived)
        elif asked is not None and (first := self._events.by_id.get(asked.command_id)):
            same = _same(record, asked, first)
            self.report.duplicates += same
            self.report.refused += not same
        elif record.offset >= self._events.resume:
            self.report.pending += 1
            self._refusable += asked is not None and self._may_be_refused(asked.command_id, record)
        elif asked is not None and self._may_be_refused(asked.command_id, record):
            self.report.refused += 1
        else:
            what = f"command {(asked.command_id if asked else derived).hex()} has no outcome"
            self.report.differ(Broken.UNDECIDED, record.offset, what, log="commands")

    def finish(self, *, settled: bool) -> None:
        """Say which outcomes no command explains; `settled`: nothing may be left waiting."""
        report = self.report
        report.distinct_ids = len(self._ids)
        if settled:  # what leaves no record was refused, then
            report.pending -= self._refusable
            report.refused += self._refusable
        for offset, decision in sorted(self._events.by_command_offset.items()):
            inside = self._first <= offset <= self._last
            if self._first >= 0 and (inside or (settled and offset > self._last)):
                what = f"names the command at offset {offset}, which is not there"
                report.differ(Broken.INVENTED, decision.offset, what)
        if settled and report.pending:
            what = f"{report.pending} commands wait for an outcome"
            report.differ(Broken.UNDECIDED, self._events.resume, what, log="commands")

    def _compare(
        self, record: LogRecord, asked: Asked | None, decision: Decision, derived: bytes
    ) -> None:
        fault = ""
        if decision.command_id == derived and not decision.accepted:
            return
        if asked is None or decision.command_id != asked.command_id:
            fault = "another command id"
        elif not _same(record, asked, decision):
            fault = "another name, workspace or arguments"
        if decision.command_time < record.time_ms:
            fault = f"command_time {decision.command_time} before the log's {record.time_ms}"
        if fault:
            what = f"of the command at offset {record.offset}: {fault}"
            self.report.differ(Broken.ALTERED, decision.offset, what)

    def _may_be_refused(self, command_id: bytes, record: LogRecord) -> bool:
        if self.report.outcomes >= DEDUP_IDS_MAX:
            return True  # `dedup_full` depends on how many ids were remembered at that moment
        time_ms = uuid7_time_ms(command_id)
        if time_ms is None:
            return False
        events = self._events
        at = bisect_right(events.floor_offsets, record.offset)
        floor = max(events.floors[at - 1] if at else 0, record.time_ms - DEDUP_WINDOW_MS)
        return time_ms <= floor or time_ms > record.time_ms + ID_AHEAD_MS_MAX


def undecodable_id(partition: int, offset: int) -> bytes:
    """Return the command id of the outcome of an input that has none of its own."""
    return derived_id(b"undecodable", partition.to_bytes(8), offset.to_bytes(8))


def read_command(value: bytes | None) -> Asked | None:
    """Return what a command asks, or None if it can't be read."""
    if value is None:
        return None
    if value[:1] == b"{":
        return _read_json(value)
    try:
        command = decode_command(value)
    except WireError:
        return None
    return Asked(
        command["command_id"], command["name"], command["args_schema"], hash64(command["args"])
    )


def _read_json(value: bytes) -> Asked | None:
    try:
        fields = orjson.loads(value)
        command_id, name = uuid.UUID(fields["command_id"]).bytes, fields["name"]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return Asked(command_id, name, 0, None) if isinstance(name, str) else None


def _same(record: LogRecord, asked: Asked, decision: Decision) -> bool:
    if asked.name != decision.name:
        return False
    if record.key is not None and decision.workspace.encode() not in {record.key, b""}:
        return False
    comparable = asked.args_hash is not None and asked.args_schema == decision.args_schema
    return not comparable or asked.args_hash == decision.args_hash
