"""The audit of an application: what `partita verify`, the simulator and the tests ask.

Works on plain records, so it doesn't care whether they come from a broker, from files or from a
simulated log. Read the commands' end before the events' end: then no outcome can be missing only
because it came later.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from engine.audit.commands import CommandAudit
from engine.audit.events import EventAudit
from engine.audit.replay import Parts, Replay
from engine.audit.report import PartitionReport, Report
from engine.audit.rules import Ruling
from engine.model import LogRecord


@dataclass(slots=True)
class Evidence:
    """One partition's logs, from their begin; `replay` = also fold them and compare digests."""

    partition: int
    commands: Iterable[LogRecord]
    events: Iterable[LogRecord]
    replay: Parts | None = None


def audit(evidence: Iterable[Evidence], partitions: int, *, settled: bool = False) -> Report:
    """Audit the partitions given, of an application with `partitions` in all.

    `settled`: nothing runs any more and nothing may be left waiting.
    """
    reports = [audit_partition(one, partitions, settled=settled) for one in evidence]
    return Report(reports)


def audit_partition(
    evidence: Evidence, partitions: int, *, settled: bool = False
) -> PartitionReport:
    """Audit one partition."""
    report = PartitionReport(evidence.partition)
    events = EventAudit(report, partitions)
    replay = Replay(report, evidence.replay) if evidence.replay else None
    for record in evidence.events:
        ruling = events.read(record)
        if ruling in {Ruling.LOST_TAIL, Ruling.UNKNOWN}:
            break  # behind it, nobody can say what counts
        if replay is not None:
            replay.read(record)
    if replay is not None:
        replay.finish()
    commands = CommandAudit(report, events)
    for record in evidence.commands:
        commands.read(record)
    commands.finish(settled=settled)
    return report
