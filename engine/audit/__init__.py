"""Audits: do the promises hold between the topics and the stores? Reads only."""

from engine.audit.audit import Evidence, audit, audit_partition
from engine.audit.reading import counting, outcomes
from engine.audit.replay import Parts, Witness, witness_of
from engine.audit.report import Alarm, Broken, Finding, PartitionReport, Report

__all__ = [
    "Alarm",
    "Broken",
    "Evidence",
    "Finding",
    "PartitionReport",
    "Parts",
    "Report",
    "Witness",
    "audit",
    "audit_partition",
    "counting",
    "outcomes",
    "witness_of",
]
