"""What an audit found: counts, differences and alarms per partition. Plain data."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from engine.limits import DIFFERENCES_MAX


class Broken(StrEnum):
    """Which promise a difference is against; the names are part of the report's JSON."""

    DOUBLED = "doubled"  # two counting outcomes for one command id
    UNDECIDED = "undecided"  # a command was passed over: no outcome, no reason to have none
    INVENTED = "invented"  # an outcome names a command that the log doesn't have there
    ALTERED = "altered"  # an outcome's id, name, workspace or arguments are not the command's
    ORDER = "order"  # decided in another order than the command log's, or time went back
    WORKSPACE_SEQUENCE = "workspace_sequence"  # a workspace's outcomes are not numbered densely
    PARTITION = "partition"  # accepted in a partition that the workspace doesn't belong to
    APPLICATION = "application"  # decided by another application than the one in force
    DAMAGED = "damaged"  # a counting record can't be decoded
    LOST_TAIL = "lost_tail"  # an owner had read more outcomes than the log has
    DIGEST = "digest"  # a mark's, or a store's, digest is not that of a replay
    STORE = "store"  # a store is ahead of the log, or its own rows and digests differ
    REPLAY = "replay"  # the log can't be folded


class Alarm(StrEnum):
    """What the protocol survives but a sound system doesn't produce."""

    GAP = "gap"  # a sequence above the next one in the current epoch: superseded
    CHAIN = "chain"  # `previous` is not the hash of the last counting outcome: superseded
    AFTER_RELEASE = "after_release"  # an owner appended behind its own `Released`
    FOREIGN = "foreign"  # bytes that are no event record


@dataclass(slots=True, frozen=True)
class Finding:
    """One difference or alarm, and where it is. `offset` is in the events unless `log` says so."""

    partition: int
    kind: str
    offset: int
    what: str
    log: str = "events"


@dataclass(slots=True)
class PartitionReport:
    """What the audit of one partition counted and found."""

    partition: int
    commands: int = 0
    distinct_ids: int = 0
    outcomes: int = 0
    accepted: int = 0
    rejected: dict[str, int] = field(default_factory=dict[str, int])
    duplicates: int = 0
    refused: int = 0
    pending: int = 0
    superseded: int = 0
    owners: int = 0
    epoch: int = 0
    sequence: int = 0
    marks: int = 0
    digests_checked: int = 0
    stores_checked: int = 0
    digests: dict[int, int] = field(default_factory=dict[int, int])
    differences: list[Finding] = field(default_factory=list[Finding])
    alarms: list[Finding] = field(default_factory=list[Finding])
    differences_count: int = 0
    alarms_count: int = 0

    def differ(self, kind: Broken, offset: int, what: str, *, log: str = "events") -> None:
        """Note a broken promise; beyond DIFFERENCES_MAX they are only counted."""
        self.differences_count += 1
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(Finding(self.partition, kind.value, offset, what, log))

    def alarm(self, kind: Alarm, offset: int, what: str) -> None:
        """Note something survived; beyond DIFFERENCES_MAX they are only counted."""
        self.alarms_count += 1
        if len(self.alarms) < DIFFERENCES_MAX:
            self.alarms.append(Finding(self.partition, kind.value, offset, what))

    @property
    def rejections(self) -> int:
        """Return the number of rejected outcomes, whatever their code."""
        return sum(self.rejected.values())


@dataclass(slots=True)
class Report:
    """The audit of an application."""

    partitions: list[PartitionReport] = field(default_factory=list[PartitionReport])

    @property
    def sound(self) -> bool:
        """Return whether every promise holds."""
        return not any(report.differences_count for report in self.partitions)

    @property
    def differences(self) -> list[Finding]:
        """Return all differences that were kept."""
        return [finding for report in self.partitions for finding in report.differences]

    @property
    def alarms(self) -> list[Finding]:
        """Return all alarms that were kept."""
        return [finding for report in self.partitions for finding in report.alarms]

    def rows(self) -> list[dict[str, Any]]:
        """Return a table: a row per partition and one with the sums."""
        rows = [_row(str(report.partition), [report]) for report in self.partitions]
        return [*rows, _row("all", self.partitions)]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON takes it."""
        row = _row("all", self.partitions)
        total = {_JSON.get(name, name): row[name] for name in COLUMNS if name != "partition"}
        return {
            "sound": self.sound,
            "total": total,
            "partitions": [_as_dict(report) for report in self.partitions],
        }


# Columns of the table -> fields of a PartitionReport that they sum up.
COLUMNS = {
    "partition": "partition",
    "commands": "commands",
    "ids": "distinct_ids",
    "outcomes": "outcomes",
    "accepted": "accepted",
    "rejected": "rejections",
    "duplicates": "duplicates",
    "refused": "refused",
    "pending": "pending",
    "superseded": "superseded",
    "owners": "owners",
    "digests": "digests_checked",
    "stores": "stores_checked",
    "alarms": "alarms_count",
    "differences": "differences_count",
}

# In JSON there is room for the fields' own names.
_JSON = {"ids": "distinct_ids", "digests": "digests_checked", "stores": "stores_checked"}


def _row(name: str, reports: Iterable[PartitionReport]) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS, 0)
    row["partition"] = name
    for report in reports:
        for column, counted in COLUMNS.items():
            if column != "partition":
                row[column] += int(getattr(report, counted))
    return row


def _as_dict(report: PartitionReport) -> dict[str, Any]:
    fields = asdict(report)
    fields["digests"] = {str(table): digest for table, digest in sorted(report.digests.items())}
    return fields
