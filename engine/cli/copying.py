"""`partita log copy`: an application's events into logs that are empty, which go on from there.

Records are copied as they are, so offsets, sequences and digests stay. Behind the last one comes a
claim of a new incarnation, and its release: what a node of the old application still writes or
emits can then never be taken for the new one's. Needs nothing of the old cluster but its archive.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from engine.cli import output
from engine.cli.sources import Source
from engine.errors import ConfigError, LogError, StoreError, UnavailableError
from engine.limits import FOLD_RECORDS_MAX, OUTCOME_BYTES_MAX
from engine.load.sources import read
from engine.model import Bounds, Input, LogRecord, Report
from engine.partition.ownership import LogState, head_fields, make_claim
from engine.partition.snapshots import Manifest, Snapshots
from engine.ports import EventLog, Logs, ObjectStore, Random
from engine.wire import Kind, decode_event, encode_event

_WAIT_MS = 100
_WAITS_MAX = 600
_NODE = "partita log copy"


@dataclass(slots=True, frozen=True)
class Copy:
    """From where to where. `content` keeps code; `snapshots` are told the new topic, if any."""

    source: Source
    target: Logs
    content: ObjectStore
    random: Random
    snapshots: ObjectStore | None = None
    until_ms: int | None = None


def copy_partition(copy: Copy, partition: int) -> dict[str, Any]:
    """Copy a partition; return what is told of it."""
    source, log = copy.source, copy.target.event_log(partition)
    there = log.bounds()
    if there.end:
        what = f"partition {partition} holds {there.end - there.begin} events already"
        raise ConfigError("E1001", what, "Copy into topics, or a folder, that are new")
    begin = source.logs.event_log(partition)
    bounds = begin.bounds()
    records = _until(read(source.logs, begin, bounds), copy.until_ms)
    state, count = LogState(), 0
    state.position.offset = bounds.begin
    for batch in _batches(records):
        _append(copy.target, log, batch)
        for record in batch:
            _follow(copy, state, record)
        count += len(batch)
    end = state.position.offset
    if bounds.begin == 0 and log.bounds().end == end and copy.snapshots is not None:
        _move_snapshots(copy.snapshots, partition, bounds, end, there.topic_id)
    commands = 0
    if state.position.epoch:
        commands = _pending(copy, partition, state) if copy.until_ms is None else 0
        _begin_anew(copy, log, partition, state)
    row = {"partition": partition, "events": count, "sequence": state.position.host.sequence}
    return row | {"commands": commands}


def _until(records: Iterator[LogRecord], until_ms: int | None) -> Iterator[LogRecord]:
    for record in records:
        if until_ms is not None and record.time_ms > until_ms:
            return
        yield record


def _batches(records: Iterator[LogRecord]) -> Iterator[list[LogRecord]]:
    batch: list[LogRecord] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.value or b"")
        if len(batch) >= FOLD_RECORDS_MAX or size >= OUTCOME_BYTES_MAX:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _append(target: Logs, log: EventLog, batch: list[LogRecord]) -> None:
    """Append records and wait until the log has them."""
    keys = [record.key or b"" for record in batch]
    ticket = log.append(keys, [record.value or b"" for record in batch])
    _wait(target, log.reports, {ticket})


def _wait(target: Logs, reports: Callable[[], list[Report]], tickets: set[int]) -> None:
    for _ in range(_WAITS_MAX):
        for report in reports():
            if report.last_offset is None:
                raise UnavailableError("E1401", f"a copy was not stored: {report.error}")
            tickets.discard(report.ticket)
        if not tickets:
            return
        target.wait(_WAIT_MS)
    raise UnavailableError("E1401", "a copy was not stored in time")


def _follow(copy: Copy, state: LogState, record: LogRecord) -> None:
    """Judge a record, and bring along the code that it names."""
    judged = state.judge(record.offset, record.value)
    if judged.kind is not Kind.APPLICATION or record.value is None:
        return
    for module in decode_event(record.value)[1]["modules"]:
        name = module["sha256"].hex()
        data = copy.source.content().get(name)
        if data is None:
            what = f"the code of extension {module['name']} ({name[:12]}…) is missing"
            raise LogError("E1306", what, "Archive again while the old application is there")
        copy.content.put(name, data)


def _pending(copy: Copy, partition: int, state: LogState) -> int:
    """Copy the commands that are not decided yet; return how many there are."""
    log = copy.source.plain.command_log(partition)
    bounds = log.bounds()
    begin = state.position.resume.get(Input.COMMANDS, 0)
    if state.position.command_topic_id != bounds.topic_id:
        begin = bounds.begin
    if bounds.begin > begin:
        output.note(
            f"partition {partition}: {bounds.begin - begin} commands have expired undecided"
        )
    count = 0
    within = Bounds(max(begin, bounds.begin), bounds.end, bounds.topic_id)
    for batch in _batches(read(copy.source.plain, log, within)):
        sink = copy.target.commands
        tickets = {sink.publish(partition, one.key or b"", one.value or b"") for one in batch}
        _wait(copy.target, sink.published, tickets)
        count += len(batch)
    return count


def _begin_anew(copy: Copy, log: EventLog, partition: int, state: LogState) -> None:
    """Append a claim of a new incarnation, which names the new commands, and its release."""
    topic_id = copy.target.command_log(partition).bounds().topic_id
    state.position.incarnation = 0
    claim = make_claim(state, _NODE, topic_id, copy.random)
    offset = state.position.offset
    state.judge(offset, claim.value)
    released = encode_event(Kind.RELEASED, {**head_fields(state), "successor": None})
    _append(
        copy.target,
        log,
        [LogRecord(offset, 0, None, claim.value), LogRecord(offset + 1, 0, None, released)],
    )


def _move_snapshots(
    objects: ObjectStore, partition: int, bounds: Bounds, end: int, topic_id: str
) -> None:
    """Let snapshots of the old log be some of the new one, whose records are the same."""
    for manifest in manifests(Snapshots(objects), partition):
        if manifest.offset <= end and bounds.topic_id in {manifest.topic_id, ""}:
            moved = replace(manifest, topic_id=topic_id, moved_from=manifest.topic_id)
            objects.put(manifest.name, moved.encode())


def manifests(snapshots: Snapshots, partition: int) -> Iterator[Manifest]:
    """Yield a partition's snapshots, and say which can't be read."""
    for name in snapshots.names(partition):
        try:
            yield snapshots.load(name)
        except StoreError as fault:
            output.note(f"{name} is passed over: {fault.message}")
