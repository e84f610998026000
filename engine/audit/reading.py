"""The filter for outside readers of the event log: which records count, and which are superseded.

Anybody who reads `<app>.events` with a Kafka client needs it: after a change of owner the log may
hold records of a zombie, which no replica ever applied (ARCHITECTURE R2).
"""

from collections.abc import Iterable, Iterator

from engine.model import LogRecord
from engine.partition.ownership import LogState, Verdict
from engine.wire import Kind, Outcome, decode_outcome


def counting(
    records: Iterable[LogRecord], state: LogState | None = None
) -> Iterator[tuple[Kind, LogRecord]]:
    """Yield the records that count, in order, with their kind.

    `records` begin at the log's begin, or where `state` stands.
    """
    state = state or LogState()
    for record in records:
        judged = state.judge(record.offset, record.value, record.leader_epoch)
        if judged.verdict is Verdict.COUNTS and judged.kind is not None:
            yield judged.kind, record


def outcomes(
    records: Iterable[LogRecord], state: LogState | None = None
) -> Iterator[tuple[LogRecord, Outcome]]:
    """Yield the outcomes that count, decoded."""
    for kind, record in counting(records, state):
        if kind is Kind.OUTCOME and record.value is not None:
            yield record, decode_outcome(record.value)
