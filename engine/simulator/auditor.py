"""Judges a finished simulation: replies against the log, the log against a plain model."""

from collections.abc import Callable, Iterator

from engine.application import Application
from engine.audit import Evidence, Parts, audit, outcomes, witness_of
from engine.limits import CLOCK_AHEAD_MS_MAX
from engine.log.simulated_broker import SimulatedBroker
from engine.model import LogRecord
from engine.partition.replica import Replica
from engine.simulator.workload import Clients
from engine.wire import Outcome

ENTRIES_MAX = 9
# How far behind its record's append an outcome may say that it was decided: what a claim bears,
# what an owner bears from then on, and what leaders of the log are off each other.
AHEAD_MS_MAX = 2 * CLOCK_AHEAD_MS_MAX + 5_000


def faults(
    broker: SimulatedBroker,
    clients: Clients,
    application: Application,
    replay_parts: Callable[[int], Parts],
) -> Iterator[str]:
    """Yield every broken promise, in words."""
    yield from clients.faults
    evidence = [
        Evidence(
            partition, broker.commands(partition), broker.events(partition), replay_parts(partition)
        )
        for partition in range(broker.partitions)
    ]
    report = audit(evidence, application.partitions, settled=True)
    for finding in report.differences:
        yield f"partition {finding.partition} {finding.kind} at {finding.offset}: {finding.what}"
    for partition in range(broker.partitions):
        counted = list(outcomes(broker.events(partition)))
        yield from _against_replies(counted, partition, clients)
        yield from _against_model(counted)
        yield from _against_clock(counted)


def half_seen(replica: Replica) -> Iterator[str]:
    """Hold what a reader sees now to promise 5: rows and digests are of one position."""
    view = replica.store.view()
    try:
        witness = witness_of(replica.identity.node, view)
    finally:
        view.close()
    if witness.recounted != witness.position.digests:
        yield (
            f"{witness.name} shows rows that its position {witness.position.offset} of "
            f"partition {replica.identity.partition} doesn't know"
        )


def _against_replies(
    counted: "list[tuple[LogRecord, Outcome]]", partition: int, clients: Clients
) -> Iterator[str]:
    """Every answer a client got is in the log, with the same content (promise 2)."""
    by_id = {outcome["command_id"]: outcome for _, outcome in counted}
    for sent in clients.sent.values():
        if sent.partition != partition or sent.reply is None:
            continue
        outcome = by_id.get(sent.command_id)
        if outcome is None:
            yield f"the answer to {sent.command_id.hex()} has no outcome in the log"
        elif (outcome["sequence"], outcome["code"]) != (sent.reply.sequence, sent.reply.code):
            yield (
                f"{sent.command_id.hex()} was answered {sent.reply.code!r} at "
                f"{sent.reply.sequence}, the log says {outcome['code']!r} at {outcome['sequence']}"
            )


def _against_model(counted: "list[tuple[LogRecord, Outcome]]") -> Iterator[str]:
    """Each command was decided on all earlier ones of its workspace, and on nothing else."""
    balances: dict[str, tuple[int, int]] = {}
    for _, outcome in counted:
        if outcome["name"] != "move" or outcome["code"] not in {"", "overdrawn", "check_failed"}:
            continue
        balance, entries = balances.get(outcome["workspace"], (0, 0))
        after = balance + _zigzag(outcome["args"])
        number = (entries + 1) % 11
        if after < 0:
            expected = "overdrawn"
        elif number > ENTRIES_MAX:
            expected = "check_failed"
        else:
            expected = ""
            balances[outcome["workspace"]] = (after, number)
        if outcome["code"] != expected:
            yield (
                f"sequence {outcome['sequence']} is {outcome['code']!r}, the model says "
                f"{expected!r} at balance {balance}"
            )


def _against_clock(counted: "list[tuple[LogRecord, Outcome]]") -> Iterator[str]:
    """Nothing was decided by a clock that is far ahead of the log's."""
    newest_ms = 0
    for record, outcome in counted:
        newest_ms = max(newest_ms, record.time_ms)
        ahead_ms = outcome["registered_at"] - newest_ms
        if ahead_ms > AHEAD_MS_MAX:
            yield f"sequence {outcome['sequence']} was decided {ahead_ms} ms ahead of the log"


def _zigzag(data: bytes) -> int:
    """Decode the one long that a move's arguments are."""
    number = 0
    for shift, byte in enumerate(data):
        number |= (byte & 0x7F) << (7 * shift)
    return (number >> 1) ^ -(number & 1)
