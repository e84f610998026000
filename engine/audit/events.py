"""What one partition's event log says by itself: who owned it, what was decided, in which order.

Owns the checks that need no command log and no replay, and keeps of each outcome what the audit
of the command log will ask for. Reads records once, in order.
"""

from typing import Any, NamedTuple

from engine.audit.report import Broken, PartitionReport
from engine.audit.rules import Rule, Ruling
from engine.limits import DEDUP_IDS_MAX, DEDUP_WINDOW_MIN_MS, DEDUP_WINDOW_MS
from engine.model import Input, LogRecord
from engine.wire import (
    Kind,
    Outcome,
    WireError,
    decode_event,
    decode_outcome,
    hash64,
    partition_of,
)
from engine.world import uuid7_time_ms


class Decision(NamedTuple):
    """What is kept of an outcome."""

    command_id: bytes
    offset: int  # in the events
    sequence: int
    command_time: int
    workspace: str
    name: str
    args_schema: int
    args_hash: int
    accepted: bool


class EventAudit:
    """Reads the events of one partition from the log's begin."""

    def __init__(self, report: PartitionReport, partitions: int) -> None:
        self.report = report
        self.rule = Rule()
        self.by_id: dict[bytes, Decision] = {}
        self.by_command_offset: dict[int, Decision] = {}
        self.resume = 0  # all commands below are handled
        self._partitions = partitions
        self._command_topic_id = ""
        self._workspaces: dict[str, int] = {}
        self._input_offsets: dict[str, int] = {}
        self._application = 0
        self._registered_at = 0
        self._command_time = 0
        # Parallel and ascending: from this command offset on, ids up to this time are expired.
        self.floor_offsets: list[int] = []
        self.floors: list[int] = []

    def read(self, record: LogRecord) -> Ruling:
        """Audit the next record."""
        ruling, head, alarm = self.rule.read(record.value)
        if alarm is not None:
            self.report.alarm(alarm, record.offset, _what(head))
        if ruling is Ruling.SUPERSEDED or head is None or record.value is None:
            self.report.superseded += 1
            return ruling
        if ruling is Ruling.UNKNOWN:
            self.report.differ(Broken.REPLAY, record.offset, "needs a newer engine to be read")
        elif ruling is Ruling.LOST_TAIL:
            self.report.differ(
                Broken.LOST_TAIL,
                record.offset,
                f"an owner had read sequence {head.sequence}, the log has {self.rule.sequence}",
            )
        elif head.kind is Kind.OUTCOME:
            self._outcome(record.offset, record.value)
        else:
            self._other(decode_event(record.value), record.offset)
        self.report.epoch, self.report.sequence = self.rule.epoch, self.rule.sequence
        return ruling

    def _other(self, event: tuple[Kind, dict[str, Any]], offset: int) -> None:
        kind, fields = event
        if kind is Kind.OWNER:
            self.report.owners += 1
            self._change_command_topic(fields["command_topic_id"])
        elif kind is Kind.APPLICATION:
            if fields["index"] != self._application + 1:
                what = f"application {fields['index']} follows {self._application}"
                self.report.differ(Broken.APPLICATION, offset, what)
            self._application = fields["index"]
        elif kind is Kind.MARK:
            self._mark(fields, offset)

    def _change_command_topic(self, topic_id: str) -> None:
        """Offsets begin anew in another command topic; what was decided stays decided."""
        if self._command_topic_id and topic_id != self._command_topic_id:
            self.by_command_offset.clear()
            self._input_offsets.pop(Input.COMMANDS, None)
            self.floor_offsets, self.floors = [], []
            self.resume = 0
        self._command_topic_id = topic_id

    def _mark(self, fields: dict[str, Any], offset: int) -> None:
        self.report.marks += 1
        for entry in fields["inputs"]:
            if entry["input"] == Input.COMMANDS:
                self.resume = max(self.resume, entry["offset"])
        self._registered(fields["registered_at"], offset)
        self._raise_floor(self.resume, fields["dedup_floor"])

    def _outcome(self, offset: int, value: bytes) -> None:
        report = self.report
        report.outcomes += 1
        try:
            outcome = decode_outcome(value)
        except WireError as fault:
            report.differ(Broken.DAMAGED, offset, f"a counting outcome: {fault}")
            return
        accepted = not outcome["code"]
        if accepted:
            report.accepted += 1
        else:
            report.rejected[outcome["code"]] = report.rejected.get(outcome["code"], 0) + 1
        if outcome["application"] != self._application:
            what = f"decided by application {outcome['application']}, not {self._application}"
            report.differ(Broken.APPLICATION, offset, what)
        self._times(outcome, offset)
        self._number(outcome, offset)
        self._remember(outcome, offset)

    def _times(self, outcome: Outcome, offset: int) -> None:
        if outcome["command_time"] < self._command_time:
            self.report.differ(Broken.ORDER, offset, "command_time went back")
        self._command_time = max(self._command_time, outcome["command_time"])
        self._registered(outcome["registered_at"], offset)

    def _registered(self, registered_at: int, offset: int) -> None:
        if registered_at < self._registered_at:
            self.report.differ(Broken.ORDER, offset, "registered_at went back")
        self._registered_at = max(self._registered_at, registered_at)

    def _number(self, outcome: Outcome, offset: int) -> None:
        """Check the workspace's own numbering, which begins with its first accepted outcome."""
        workspace, accepted = outcome["workspace"], not outcome["code"]
        at_home = partition_of(workspace.encode(), self._partitions) == self.report.partition
        if accepted and not at_home:
            self.report.differ(Broken.PARTITION, offset, f"accepted for workspace {workspace!r}")
        last = self._workspaces.get(workspace, 0)
        expected = last + 1 if at_home and (last or accepted) else 0
        found = outcome["workspace_sequence"]
        if found != expected:
            what = f"workspace {workspace!r} has sequence {found} where {expected} is due"
            self.report.differ(Broken.WORKSPACE_SEQUENCE, offset, what)
        if found:
            self._workspaces[workspace] = found

    def _remember(self, outcome: Outcome, offset: int) -> None:
        decision = Decision(
            outcome["command_id"],
            offset,
            outcome["sequence"],
            outcome["command_time"],
            outcome["workspace"],
            outcome["name"],
            outcome["args_schema"],
            hash64(outcome["args"]),
            not outcome["code"],
        )
        first = self.by_id.setdefault(decision.command_id, decision)
        if first is not decision:
            if not _forgotten(first, decision):
                what = f"command {decision.command_id.hex()} has an outcome at {first.offset} too"
                self.report.differ(Broken.DOUBLED, offset, what)
            self.by_id[decision.command_id] = decision
        source, input_offset = outcome["input"], outcome["input_offset"]
        if input_offset <= self._input_offsets.get(source, -1):
            what = f"decides {source} {input_offset} after {self._input_offsets[source]}"
            self.report.differ(Broken.ORDER, offset, what)
        self._input_offsets[source] = max(input_offset, self._input_offsets.get(source, -1))
        if source == Input.COMMANDS:
            self.by_command_offset[input_offset] = decision
            self.resume = max(self.resume, input_offset + 1)
            self._raise_floor(input_offset + 1, self._command_time - DEDUP_WINDOW_MS)

    def _raise_floor(self, offset: int, floor: int) -> None:
        if not self.floors or floor > self.floors[-1]:
            self.floor_offsets.append(offset)
            self.floors.append(floor)


def _forgotten(first: Decision, second: Decision) -> bool:
    """Return whether an id had left the dedup window; a version 7 id never does."""
    if uuid7_time_ms(second.command_id) is not None:
        return False
    apart_ms = second.command_time - first.command_time
    if second.sequence - first.sequence > DEDUP_IDS_MAX:
        return apart_ms > DEDUP_WINDOW_MIN_MS
    return apart_ms >= DEDUP_WINDOW_MS


def _what(head: Any) -> str:
    if head is None:
        return "no event record"
    kind = head.kind.value if head.kind else "unknown record"
    return f"{kind} with epoch {head.epoch}, sequence {head.sequence}"
