"""A picture of a store for those who ask the node: damage is told to the store's replica.

Whoever meets it first, the walk or a reader, the partition restores itself; a reader hears that
it is to ask again. Must not know what the rows mean.
"""

from collections.abc import Iterator

from engine.errors import StoreError, UnavailableError
from engine.partition.replica import Replica
from engine.ports import StoreView


class GuardedView:
    """A StoreView of a replica's store as it is now; nothing that it raises is for ever."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._view: StoreView = replica.store.view()

    def get(self, key: bytes) -> bytes | None:
        """Return a row."""
        try:
            return self._view.get(key)
        except StoreError as fault:
            raise self._refusal(fault) from fault

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows with start <= key < end in (reverse) key order."""
        try:
            yield from self._view.scan(start, end, reverse=reverse)
        except StoreError as fault:
            raise self._refusal(fault) from fault

    def close(self) -> None:
        """Let go of the picture."""
        self._view.close()

    def _refusal(self, fault: StoreError) -> UnavailableError:
        self._replica.unreadable(fault)
        return UnavailableError(
            "E1402",
            f"the partition's store can't be read ({fault.code})",
            "Try again shortly: a store that is damaged is restored at once",
            partition=self._replica.identity.partition,
        )
