"""The replicas that a node holds, opened and closed on a thread of their own: both may block.

Owns that thread and what is under way there. Ticks nothing, and decides nothing about what to hold.
"""

from collections.abc import Callable, Collection
from concurrent.futures import Executor, Future

import structlog

from engine.errors import EngineError, StoreError
from engine.model import Phase
from engine.partition.replica import Replica

OPEN_RETRY_MS = 1_000

log = structlog.get_logger("partita.node")


def fault_of(partition: int, fault: BaseException) -> EngineError:
    """Return a fault of the code as an error of its partition."""
    return StoreError("E1405", f"{type(fault).__name__}: {fault}", partition=partition)


class Holdings:
    """Replicas by partition. Used by the shell thread; others may read `replicas`."""

    def __init__(
        self,
        open_replica: Callable[[int], Replica],
        heal: Callable[[int, EngineError], object],
        worker: Executor,
    ) -> None:
        self.replicas: dict[int, Replica] = {}
        self.failures: dict[int, str] = {}  # why a partition could not be opened
        self._open_replica = open_replica
        self._heal = heal
        self._opening: dict[int, Future[Replica]] = {}
        self._closing: dict[int, Future[None]] = {}
        self._retry_at_ms: dict[int, int] = {}
        self._worker = worker

    @property
    def busy(self) -> bool:
        """Return True while anything is held, or about to be opened or closed."""
        return bool(self.replicas or self._opening or self._closing)

    def open(self, wanted: Collection[int], now_ms: int) -> bool:
        """Have what is wanted opened; return True if anything has come to be open."""
        for partition in wanted:
            held = partition in self.replicas or partition in self._opening
            if held or partition in self._closing or now_ms < self._retry_at_ms.get(partition, 0):
                continue
            self._opening[partition] = self._worker.submit(self._open, partition)
        opened = False
        for partition, opening in list(self._opening.items()):
            if opening.done():
                del self._opening[partition]
                opened |= self._opened(partition, opening, now_ms)
        return opened

    def _open(self, partition: int) -> Replica:
        replica = self._open_replica(partition)
        try:
            replica.open()
        except BaseException as fault:
            if isinstance(fault, EngineError):
                self._heal(partition, fault)
            replica.close()
            raise
        return replica

    def _opened(self, partition: int, opening: "Future[Replica]", now_ms: int) -> bool:
        error = opening.exception()
        if error is None:
            self.replicas[partition] = opening.result()
            self.failures.pop(partition, None)
            return True
        self._retry_at_ms[partition] = now_ms + OPEN_RETRY_MS
        problem = str(error if isinstance(error, EngineError) else fault_of(partition, error))
        if self.failures.get(partition) != problem:
            log.warning("partition not opened", partition=partition, problem=problem)
        self.failures[partition] = problem
        return False

    def close(self) -> list[int]:
        """Have closed what has ended, and return it."""
        ended = [at for at, replica in self.replicas.items() if replica.phase is Phase.CLOSED]
        for partition in ended:
            replica = self.replicas.pop(partition)
            self._closing[partition] = self._worker.submit(replica.close)
        for partition, closing in list(self._closing.items()):
            if closing.done():
                del self._closing[partition]
        return ended

    def end(self) -> None:
        """Wait for what is being opened or closed; open nothing more."""
        self._worker.shutdown(wait=True, cancel_futures=True)
