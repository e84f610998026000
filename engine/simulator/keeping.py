"""What an operator does about a simulated cluster's event logs: archive them, and trim them.

How far a log may be trimmed is the shipped rule (`partition.trimming`), on what `partita log trim`
would find.
"""

from collections import Counter
from collections.abc import Iterator

from engine.errors import StoreError, UnavailableError
from engine.log.archive import Archive, archived
from engine.log.simulated_broker import SimulatedBroker
from engine.model import Bounds, LogRecord
from engine.partition import trimming
from engine.partition.snapshots import Manifest, Snapshots
from engine.simulator.disks import MemoryObjects


class Keeper:
    """Archives and trims; what the store of objects doesn't answer is done some other time."""

    def __init__(self, broker: SimulatedBroker, objects: MemoryObjects) -> None:
        self.counts: Counter[str] = Counter()
        self._broker = broker
        self._objects = objects

    def archive(self, partition: int) -> None:
        """Archive what is not archived yet."""
        bounds = self._bounds(partition)
        try:
            there, end = self._archived(partition, bounds)
            begin = end or bounds.begin
            count = archived(self._records(partition, begin), there, bounds.end)
        except UnavailableError:
            return
        self.counts["archived"] += count > 0

    def trim(self, partition: int) -> None:
        """Delete what nobody needs any more."""
        bounds = self._bounds(partition)
        try:
            present = set(self._objects.names(f"sst/{partition}/"))
            kept = trimming.kept_of(bounds, self._manifests(partition), present)
            _, end = self._archived(partition, bounds)
        except UnavailableError:
            return
        floor = trimming.floor_of(
            bounds, kept, end, lambda begin: self._records(partition, begin)
        ).offset
        if floor > bounds.begin:
            self._broker.trim(partition, floor)
            self.counts["trimmed"] += 1

    def _bounds(self, partition: int) -> Bounds:
        log = self._broker.event_logs[partition]
        return Bounds(log.begin, log.end, log.topic_id)

    def _archived(self, partition: int, bounds: Bounds) -> tuple[Archive, int]:
        """Return a partition's archive, and where it ends; 0 = there is nothing in it."""
        archive = Archive(self._objects, partition, bounds.topic_id)
        pieces = archive.pieces()
        return archive, pieces[-1].end if pieces else 0

    def _manifests(self, partition: int) -> Iterator[Manifest]:
        snapshots = Snapshots(self._objects)
        for name in snapshots.names(partition):
            try:
                yield snapshots.load(name)
            except StoreError:
                continue  # damaged

    def _records(self, partition: int, begin: int) -> Iterator[LogRecord]:
        log = self._broker.event_logs[partition]
        return (log.record(offset) for offset in range(begin, log.end))
