"""Partitions' stores on this node: opened or restored, copied on a timer, moved aside when broken.

    a checkpoint   on the same disk, in hard links: of whoever owns a partition or stands by for it,
                   so that no restart, of neither, folds far back or begins at nothing
    a snapshot     the same as objects, if there is a store of objects: the owner's alone, because
                   there is always exactly one, whatever the number of standbys

What a copy costs the walk is a flush that comes anyway: hashing and sending run on the thread of
this module, one partition at a time. Two that both believe to own a partition write two snapshots
under two names, and both are sound.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import structlog

from engine import limits, wire
from engine.errors import EngineError, StoreError, UnavailableError
from engine.model import Lookup, Phase, Progress
from engine.partition import restoring
from engine.partition.ledger import position_of
from engine.partition.progress import RestoreProgress
from engine.partition.replica import Replica
from engine.partition.restoring import Restore, open_store
from engine.partition.snapshots import Files, Manifest, Retention, Snapshots, Taken, manifest_of
from engine.ports import Clock, EventLog, ObjectStore, PartitionStore, Random, StoreView

log = structlog.get_logger("partita.stores")

AVOIDED_MAX = 16
LOOKUP_WAIT_MS = 30_000
LOOKUP_PAUSE_S = 0.01
SET_ASIDE = frozenset({"E1202", "E1205"})
FULL = "E1207"
HEALED = SET_ASIDE | {"E1302"}


class Folder(restoring.Folder, Protocol):
    """A partition's folders on this node (`store.checkpoints.PartitionFolder`)."""

    def try_room(self) -> None:
        """Raise StoreError E1207 unless a store could go on here."""
        ...

    def writer(self, random: Random) -> str:
        """Return the name of this disk's copy."""
        ...

    def checkpoint(self, store: PartitionStore) -> Files:
        """Copy the store into hard links."""
        ...

    def look(self) -> StoreView:
        """Open the newest copy to read it."""
        ...

    def keep(self, manifest: bytes) -> None:
        """Let the newest copy take the older one's place."""
        ...


@dataclass(slots=True, frozen=True)
class Cadence:
    """How often copies are made, and how long they stay."""

    interval_ms: int
    retention: Retention


@dataclass(slots=True, frozen=True)
class Places:
    """Where stores and their copies lie; `objects` is None where there are no snapshots."""

    application: str
    folder: Callable[[int], Folder]
    objects: Callable[[], ObjectStore] | None
    cadence: Cadence


@dataclass(slots=True, frozen=True)
class _Wish:
    """What a copy is to be: a snapshot, too, if it is `shared`; `anyway`: though nothing moved."""

    shared: bool
    anyway: bool = False


class Stores:
    """What the node asks of partitions' stores. `tick` and `heal` are the shell's."""

    def __init__(
        self,
        places: Places,
        clock: Clock,
        random: Random,
        worker: Executor | None = None,
        pause: "Callable[[], None]" = lambda: time.sleep(LOOKUP_PAUSE_S),
    ) -> None:
        self._places = places
        self._clock = clock
        self._random = random
        self._folders: dict[int, Folder] = {}
        self._snapshots: Snapshots | None = None
        self._restores: dict[int, Progress] = {}
        self._sources: dict[int, str] = {}  # the copy that a store was made of
        self._avoid: dict[int, deque[str]] = {}
        self._broken: set[int] = set()
        self._heals: dict[int, deque[int]] = {}
        self._due_at_ms: dict[int, int] = {}
        self._copied: dict[int, tuple[int, bool]] = {}  # the newest copy's offset; is it shared
        self._failing: dict[int, str] = {}
        self._taken_at_ms: dict[int, int] = {}
        self._held: Collection[int] = ()
        self._running: set[int] = set()
        self._room_at_ms: dict[int, int] = {}
        self._trials: dict[int, Future[bool]] = {}  # whether a full disk has room again
        self._counters = dict.fromkeys(("taken", "failures", "restores", "heals"), 0)
        self._worker = worker or ThreadPoolExecutor(1, thread_name_prefix="partita-snapshot")
        self._pause = pause
        self._stopping = threading.Event()

    def open(self, partition: int, events: EventLog) -> PartitionStore:
        """Open a partition's store, restored if need be. Blocks; raises EngineError."""
        folder = self._folder(partition)
        if partition in self._broken:
            moved = folder.set_aside()
            self._broken.discard(partition)
            self._say(partition, f"the store is moved to {moved}")
        bounds = events.bounds()
        progress = RestoreProgress(partition, self._clock)
        progress.start(0, bounds.end)

        def at(offset: int) -> None:
            if self._stopping.is_set():
                raise UnavailableError("E1402", "the node is stopping", partition=partition)
            self._restores[partition] = progress.report(Phase.RECOVERING, offset)

        restore = Restore(
            self._places.application,
            partition,
            bounds,
            lambda offset: _tail_hash(events, offset, self._clock, self._pause),
            lambda text: self._say(partition, text),
            at,
            self._avoid.setdefault(partition, deque(maxlen=AVOIDED_MAX)),
            lambda: self._avoid_source(partition),
        )
        try:
            opened = open_store(folder, self._objects(partition), restore)
        finally:
            self._restores.pop(partition, None)
        self._sources[partition] = opened.source
        self._counters["restores"] += bool(opened.source)
        return opened.store

    def stopped(self, partition: int, replica: Replica, fault: EngineError) -> None:
        """Stop a replica; one that a restore mends is closed, to be opened anew."""
        replica.stop(fault)
        if self.heal(partition, fault):
            self._say(partition, f"it is restored: {fault}")
            replica.release()

    def heal(self, partition: int, fault: EngineError) -> bool:
        """Return whether opening a stopped partition again restores it; not for ever."""
        if fault.code not in HEALED or (fault.code == "E1302" and self._places.objects is None):
            return False
        now_ms = self._clock.monotonic_ms()
        times = self._heals.setdefault(partition, deque(maxlen=limits.HEALS_MAX))
        if len(times) == limits.HEALS_MAX and now_ms - times[0] < limits.HEALED_MS:
            return False
        times.append(now_ms)
        self._counters["heals"] += 1
        if fault.code in SET_ASIDE:
            self._broken.add(partition)
            self._avoid_source(partition)
        return True

    def _avoid_source(self, partition: int) -> None:
        source = self._sources.pop(partition, "")
        if source:
            self._avoid.setdefault(partition, deque(maxlen=AVOIDED_MAX)).append(source)

    def tick(self, replicas: Mapping[int, Replica]) -> None:
        """Begin a copy of each partition that is held here and due."""
        now_ms, self._held = self._clock.monotonic_ms(), replicas.keys()
        for partition, replica in replicas.items():
            if replica.problem is not None and replica.problem.code == FULL:
                self._await_room(partition, replica, now_ms)
            owned = replica.phase is Phase.OWNING
            stands_by = replica.phase is Phase.STANDBY and replica.held().epoch > 0
            if not owned and not stands_by:
                continue
            due_at_ms = self._due_at_ms.setdefault(partition, self._first(partition, now_ms))
            if now_ms >= due_at_ms and partition not in self._running:
                self._due_at_ms[partition] = now_ms + self._places.cadence.interval_ms
                self._begin(partition, replica.store, _Wish(shared=owned))

    def _await_room(self, partition: int, replica: Replica, now_ms: int) -> None:
        """Have a partition that a full disk has stopped opened anew once there is room."""
        trial = self._trials.get(partition)
        if trial is None:
            if now_ms >= self._room_at_ms.setdefault(partition, now_ms + limits.ROOM_RETRY_MS):
                del self._room_at_ms[partition]
                self._trials[partition] = self._worker.submit(self._has_room, partition)
        elif trial.done():
            del self._trials[partition]
            if trial.result():
                self._say(partition, "the disk can be written again")
                replica.release()

    def _has_room(self, partition: int) -> bool:
        try:
            self._folder(partition).try_room()
        except StoreError:
            return False
        return True

    def snapshot(self, partition: int, replica: Replica) -> "Future[Manifest]":
        """Take a snapshot now; any thread may ask."""
        if self._places.objects is None:
            raise UnavailableError(
                "E1407", "there is no store of snapshots", "Set `snapshots.url`, and start again"
            )
        if partition in self._running:
            what = "a snapshot of it is being taken"
            raise UnavailableError("E1403", what, "Try again shortly", partition=partition)
        return self._begin(partition, replica.store, _Wish(shared=True, anyway=True))

    def progress(self) -> Mapping[int, Progress]:
        """Return how far the copies are that are being fetched."""
        return dict(self._restores)

    def statistics(self) -> Mapping[str, int | float]:
        """Return counters, and how old the oldest of the newest snapshots is."""
        now_ms = self._clock.monotonic_ms()
        taken, held = list(self._taken_at_ms.items()), self._held
        oldest = max((now_ms - at for partition, at in taken if partition in held), default=0)
        return {**self._counters, "failing": len(self._failing), "age_ms": oldest}

    def close(self) -> None:
        """End what is running with its next file."""
        self._stopping.set()
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _first(self, partition: int, now_ms: int) -> int:
        """Return when a partition's first copy is due: they are spread over the interval."""
        interval_ms = self._places.cadence.interval_ms
        return now_ms + interval_ms // 4 + (partition * 7_919 * 1_000) % max(interval_ms // 2, 1)

    def _folder(self, partition: int) -> Folder:
        if partition not in self._folders:
            self._folders[partition] = self._places.folder(partition)
        return self._folders[partition]

    def _objects(self, partition: int) -> Snapshots | None:
        if self._snapshots is None and self._places.objects is not None:
            try:
                self._snapshots = Snapshots(self._places.objects())
            except EngineError as fault:
                self._say(partition, f"no snapshots: {fault}")
        return self._snapshots

    def _begin(self, partition: int, store: PartitionStore, wish: "_Wish") -> "Future[Manifest]":
        self._running.add(partition)
        copy = self._worker.submit(self._run, partition, store, wish)
        copy.add_done_callback(lambda _: self._running.discard(partition))
        return copy

    def _run(self, partition: int, store: PartitionStore, wish: "_Wish") -> Manifest:
        try:
            manifest = self._copy(partition, store, wish)
        except Exception as fault:
            # Whatever it is, the walk goes on; it is tried again, and told when it is new.
            self._counters["failures"] += 1
            said = str(fault)
            if self._failing.get(partition) != said:
                log.warning("snapshot failed", partition=partition, problem=said)
            self._failing[partition] = said
            self._due_at_ms[partition] = self._clock.monotonic_ms() + limits.SNAPSHOT_RETRY_MS
            raise
        self._failing.pop(partition, None)
        self._taken_at_ms[partition] = self._clock.monotonic_ms()
        return manifest

    def _copy(self, partition: int, store: PartitionStore, wish: "_Wish") -> Manifest:
        """Make a checkpoint, and a snapshot of it if it is to be shared."""
        folder = self._folder(partition)
        files = folder.checkpoint(store)
        view = folder.look()
        try:
            position = position_of(view)
        finally:
            view.close()
        if position is None:
            raise UnavailableError("E1402", "the store is empty", partition=partition)
        now_ms, shared = self._clock.now_ms(), wish.shared and self._places.objects is not None
        writer = folder.writer(self._random) if shared else ""
        taken = Taken(self._places.application, partition, position, writer, now_ms)
        enough = {(position.offset, shared), (position.offset, True)}
        if not wish.anyway and self._copied.get(partition) in enough:
            return manifest_of(taken, ())
        snapshots = self._objects(partition) if shared else None
        if snapshots is None and shared:
            raise UnavailableError("E1407", "the store of snapshots can't be opened")
        if snapshots is None:
            listed = (restoring.file_of(files, name) for name in files.names())
            manifest = manifest_of(taken, listed)
        else:
            manifest = snapshots.save(taken, _Ending(files, self._stopping))
        folder.keep(manifest.encode())
        self._copied[partition] = position.offset, shared
        self._counters["taken"] += 1
        what = "snapshot" if shared else "checkpoint"
        log.info(what, partition=partition, sequence=manifest.sequence)
        if snapshots is not None:
            snapshots.collect(manifest, writer, self._places.cadence.retention, now_ms)
        return manifest

    def _say(self, partition: int, text: str) -> None:
        log.warning("store", partition=partition, what=text)


class _Ending:
    """Files of which no more are read once the node stops."""

    def __init__(self, files: Files, stopping: threading.Event) -> None:
        self._files = files
        self._stopping = stopping

    def names(self) -> list[str]:
        return self._files.names()

    def digest(self, name: str) -> tuple[int, str]:
        if self._stopping.is_set():
            raise UnavailableError("E1402", "the node is stopping")
        return self._files.digest(name)

    def read(self, name: str) -> bytes:
        return self._files.read(name)

    def write(self, name: str, data: bytes) -> None:
        raise StoreError("E1405", f"a checkpoint is not written to ({name}, {len(data)} bytes)")


def _tail_hash(
    events: EventLog, offset: int, clock: Clock, pause: Callable[[], None]
) -> int | None:
    """Return the hash of a record of the log, waiting for it; None where there is none."""
    deadline_ms = clock.monotonic_ms() + LOOKUP_WAIT_MS
    while True:
        found = events.lookup(offset)
        if found is Lookup.GONE:
            return None
        if not isinstance(found, Lookup):
            return wire.hash64(found.value or b"")
        if clock.monotonic_ms() > deadline_ms:
            raise UnavailableError("E1401", "the log doesn't answer", offset=offset)
        pause()
