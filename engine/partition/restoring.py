"""Where a partition's store comes from when a node opens it: the nearest to the log's end.

    the local store   unless it is damaged, or so far behind that a snapshot is quicker
    a checkpoint      on the same disk, when the store is damaged or gone
    a snapshot        the newest that belongs to this log; one that is damaged is passed over
    nothing           the log is folded from its begin

What belongs to another log, or is ahead of it, is never used: the fold's own check (R3) then says
so of the local store, and a person decides. Runs where blocking is allowed.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from engine import limits, wire
from engine.application import rows
from engine.errors import EngineError, StoreError, UnavailableError
from engine.model import Bounds, Position
from engine.partition.ledger import position_of
from engine.partition.snapshots import (
    File,
    Files,
    Manifest,
    Snapshots,
    check_file,
    damaged,
    decode_manifest,
    sequence_of,
)
from engine.ports import PartitionStore

DAMAGED = "E1202"


class Folder(Protocol):
    """A partition's folders on this node (`store.checkpoints.PartitionFolder`)."""

    def open(self) -> PartitionStore:
        """Open the store, a new one if there is none."""
        ...

    def set_aside(self) -> object:
        """Move a damaged store away; return where to."""
        ...

    def kept(self) -> tuple[bytes, Files] | None:
        """Return the checkpoint's manifest and files, if there is one."""
        ...

    def restoring(self) -> Files:
        """Return an empty folder for a store in the making."""
        ...

    def use_restored(self) -> None:
        """Let the store in the making take the store's place."""
        ...


@dataclass(slots=True, frozen=True)
class Restore:
    """What a restore knows of its log, and whom it tells how it goes.

    `tail_hash` returns the hash of the record at an offset, None where there is none. `progress`
    takes an offset: while a snapshot is fetched, that part of its own. `avoid` are
    copies that a store was made of which then turned out to be damaged; `damaged` hears of a store
    that is, before another copy is chosen.
    """

    application: str
    partition: int
    bounds: Bounds
    tail_hash: Callable[[int], int | None]
    say: Callable[[str], None]
    progress: Callable[[int], None]
    avoid: Collection[str] = ()
    damaged: Callable[[], None] = lambda: None


class Opened(NamedTuple):
    """An open store, and the copy it was made of: "" if it was there."""

    store: PartitionStore
    source: str = ""


@dataclass(slots=True)
class _Candidate:
    """Something a store can be made of."""

    name: str
    sequence: int
    load: Callable[[], Manifest]
    write: Callable[[Manifest, Files], None]


def open_store(folder: Folder, snapshots: Snapshots | None, restore: Restore) -> Opened:
    """Open the local store, or one made of the newest sound copy that is nearer to the log's end.

    Raises StoreError where only a person can say what is right.
    """
    store, position = _open(folder, restore)
    local = position.host.sequence if position else 0
    refused = position is not None and not _may_replace(position, restore.bounds)
    if refused:
        assert store is not None
        return Opened(store)
    below = position is None or position.offset < restore.bounds.begin
    away: list[str] = []
    for candidate in _candidates(folder, snapshots, restore, away):
        ahead = candidate.sequence - local
        if ahead <= 0 or (not below and ahead < limits.RESTORE_AHEAD_MIN):
            break
        try:
            manifest = candidate.load()
            _check(manifest, restore)
            candidate.write(manifest, folder.restoring())
        except (StoreError, UnavailableError) as fault:
            if fault.code == "E1207":
                raise
            restore.say(f"{candidate.name} is passed over: {fault}")
            if isinstance(fault, UnavailableError):
                away.append(str(fault))
            continue
        _close(store)
        store, local, below = None, 0, True
        folder.use_restored()
        made, _ = _open(folder, restore)
        if made is None:
            continue  # what was copied was damaged already
        restore.say(f"restored from {candidate.name}, sequence {manifest.sequence}")
        return Opened(_moved(made, manifest), candidate.name)
    if below and restore.bounds.begin and away:
        _close(store)
        what = f"the log begins at offset {restore.bounds.begin}, and no copy can be had: {away[0]}"
        raise UnavailableError("E1407", what, partition=restore.partition)
    return Opened(folder.open() if store is None else store)


def _close(store: PartitionStore | None) -> None:
    if store is not None:
        store.close()


def _moved(store: PartitionStore, manifest: Manifest) -> PartitionStore:
    """Let a store whose log was copied stand in the copy."""
    position = position_of(store)
    if position is not None and position.topic_id == manifest.moved_from:
        position.topic_id = manifest.topic_id
        store.write([(rows.POSITION_KEY, wire.encode_position(position, limits.FORMAT))])
    return store


def _open(folder: Folder, restore: Restore) -> tuple[PartitionStore | None, Position | None]:
    """Open what is there; a damaged store is moved aside, and then there is nothing."""
    store: PartitionStore | None = None
    try:
        store = folder.open()
        return store, position_of(store)
    except StoreError as fault:
        _close(store)
        if fault.code != DAMAGED:
            raise
        restore.damaged()
        restore.say(f"the store is damaged and moved to {folder.set_aside()}: {fault}")
        return None, None


def _may_replace(position: Position, bounds: Bounds) -> bool:
    """Return False for a store of another log, or ahead of it: that is no matter of restoring."""
    same = position.topic_id in {"", bounds.topic_id}
    return same and position.offset <= bounds.end


def file_of(files: Files, name: str) -> File:
    """Return a file of a checkpoint that is in no store of objects."""
    size, sha256 = files.digest(name)
    return File(name, size, sha256, "")


def _candidates(
    folder: Folder, snapshots: Snapshots | None, restore: Restore, away: list[str]
) -> Iterator[_Candidate]:
    """Yield what a store can be made of, the newest first; note in `away` what doesn't answer."""
    found = list(_checkpoint(folder))
    if snapshots is not None:
        try:
            names = snapshots.names(restore.partition)
            found.extend(_snapshot(snapshots, name, restore) for name in names)
        except EngineError as fault:
            restore.say(f"snapshots can't be listed: {fault}")
            away.append(str(fault))
    found = [one for one in found if one.name not in restore.avoid]
    yield from sorted(found, key=lambda one: -one.sequence)


def _checkpoint(folder: Folder) -> Iterator[_Candidate]:
    kept = folder.kept()
    if kept is None:
        return
    data, copied = kept
    name = "the local checkpoint"
    try:
        manifest = decode_manifest(name, data)
    except StoreError:
        manifest = None

    def load() -> Manifest:
        return manifest or decode_manifest(name, data)

    def write(manifest: Manifest, files: Files) -> None:
        for file in manifest.files:
            try:
                read = copied.read(file.name)
            except OSError as fault:
                raise damaged(name, f"{file.name}: {fault.strerror or fault}") from fault
            files.write(file.name, check_file(name, file, read))

    yield _Candidate(name, manifest.sequence if manifest else 0, load, write)


def _snapshot(snapshots: Snapshots, name: str, restore: Restore) -> _Candidate:
    def write(manifest: Manifest, files: Files) -> None:
        def told(done: int, total: int) -> None:
            restore.progress(manifest.offset * done // max(total, 1))

        snapshots.restore(manifest, files, told)

    return _Candidate(f"snapshot {name}", sequence_of(name), lambda: snapshots.load(name), write)


def _check(manifest: Manifest, restore: Restore) -> None:
    """Refuse a snapshot that doesn't lie within this very log."""
    name, bounds = manifest.name, restore.bounds
    if (manifest.application, manifest.partition) != (restore.application, restore.partition):
        raise damaged(name, f"of {manifest.application}, partition {manifest.partition}")
    if manifest.topic_id != bounds.topic_id:
        raise damaged(name, f"of topic id {manifest.topic_id}, the log's is {bounds.topic_id}")
    if manifest.offset > bounds.end:
        raise damaged(name, f"at offset {manifest.offset}, but the log ends at {bounds.end}")
    if manifest.offset < bounds.begin:
        raise damaged(name, f"at offset {manifest.offset}, but the log begins at {bounds.begin}")
    if manifest.offset > bounds.begin:
        found = restore.tail_hash(manifest.offset - 1)
        if found != manifest.tail_hash:
            what = f"the log's record at offset {manifest.offset - 1} is not the one it has applied"
            raise damaged(name, what)
