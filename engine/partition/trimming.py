"""How far a partition's event log may be trimmed: below everything that anybody still needs.

    oldest kept snapshot   a node that begins there reads on from it
    archive                nothing goes that is not kept there
    dedup floor            the first outcome of an id that is still remembered is read back
    emitted                emits that a target has not acknowledged are sent again

Owns this rule. Deletes nothing, and reads nothing by itself.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from engine import wire
from engine.model import Bounds, LogRecord
from engine.partition.snapshots import Manifest
from engine.wire import Kind


class Floor(NamedTuple):
    """Records below `offset` may go; `why` names what holds the next one."""

    offset: int
    why: str


class Marked(NamedTuple):
    """What the newest mark says."""

    dedup_floor: int
    emitted_sequence: int


def floor_of(
    bounds: Bounds,
    kept: Sequence[Manifest],
    archived_end: int,
    read: Callable[[int], Iterable[LogRecord]],
) -> Floor:
    """Return how far a log may be trimmed; `read` yields its records from an offset on."""
    highest = ceiling(bounds.begin, kept, archived_end)
    if highest.offset <= bounds.begin:
        return highest
    marked = _marked(bounds, kept, read)
    if marked is None:
        return Floor(bounds.begin, "no mark says which ids are remembered")
    return trim_floor(read(bounds.begin), highest, marked)


def kept_of(bounds: Bounds, found: Iterable[Manifest], present: Collection[str]) -> list[Manifest]:
    """Return the snapshots of this log whose files are all `present`."""
    return [
        manifest
        for manifest in found
        if manifest.topic_id == bounds.topic_id
        and manifest.offset <= bounds.end
        and all(file.object in present for file in manifest.files)
    ]


def _marked(
    bounds: Bounds, kept: Sequence[Manifest], read: Callable[[int], Iterable[LogRecord]]
) -> Marked | None:
    """Return the newest mark behind the newest snapshot that has one behind it."""
    for manifest in sorted(kept, key=lambda one: -one.offset):
        found = newest_mark(read(max(manifest.offset, bounds.begin)), manifest.epoch)
        if found is not None:
            return found
    return None


def newest_mark(records: Iterable[LogRecord], epoch: int) -> Marked | None:
    """Return what the last mark of the owner in force says; `epoch` is in force at the begin."""
    found: Marked | None = None
    for record in records:
        head = wire.head(record.value)
        if head is None or record.value is None:
            continue
        if head.kind is Kind.OWNER:
            epoch = max(epoch, head.epoch)
        elif head.kind is Kind.MARK and head.epoch == epoch:
            fields = wire.decode_event(record.value)[1]
            found = Marked(fields["dedup_floor"], fields["emitted_sequence"])
    return found


def ceiling(begin: int, snapshots: Sequence[Manifest], archived_end: int) -> Floor:
    """Return how far snapshots and archive allow trimming."""
    if not snapshots:
        return Floor(begin, "there is no snapshot of this log")
    oldest = min(one.offset for one in snapshots)
    if archived_end < oldest:
        return Floor(max(archived_end, begin), "not archived yet")
    return Floor(max(oldest, begin), "the oldest kept snapshot")


def trim_floor(records: Iterable[LogRecord], highest: Floor, marked: Marked) -> Floor:
    """Return how far the log may be trimmed; `records` are those from its begin on."""
    for record in records:
        if record.offset >= highest.offset:
            break
        if record.time_ms >= marked.dedup_floor:
            return Floor(record.offset, "its command's id is still remembered")
        head = wire.head(record.value)
        if head is None or head.kind is not Kind.OUTCOME or record.value is None:
            continue
        if head.sequence > marked.emitted_sequence and _emits(record.value):
            return Floor(record.offset, "its emits are not acknowledged")
    return highest


def _emits(value: bytes) -> bool:
    try:
        return bool(wire.decode_outcome(value)["emits"])
    except wire.WireError:
        return False
