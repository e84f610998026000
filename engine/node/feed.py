"""The feed: tells callers of this node that a partition has moved, without their asking.

Callbacks are called by the shell thread: they must neither block nor raise, and say nothing of
what has changed; who wants to know reads a picture.
"""

import threading
from collections.abc import Callable

from engine.errors import UnavailableError

Callback = Callable[[bool], None]  # True: has applied something; False: is no longer held here


class Feed:
    """Who listens to which partition."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listening: dict[int, tuple[Callback, ...]] = {}

    def subscribe(
        self, partition: int, callback: Callback, check: Callable[[], object]
    ) -> Callable[[], None]:
        """Call `callback` from now on; return what ends it.

        `check` raises if the partition is not held: only now is it sure that its loss is told.
        """
        with self._lock:
            self._listening[partition] = (*self._listening.get(partition, ()), callback)

        def end() -> None:
            with self._lock:
                others = self._listening.get(partition, ())
                kept = tuple(other for other in others if other is not callback)
                if kept:
                    self._listening[partition] = kept
                else:
                    self._listening.pop(partition, None)

        try:
            check()
        except UnavailableError:
            end()
            raise
        return end

    def moved(self, partition: int) -> None:
        """Say that a partition may have applied something."""
        for callback in self._listening.get(partition, ()):
            callback(True)

    def lost(self, partition: int) -> None:
        """Say that a partition is no longer served here; nobody listens to it any more."""
        with self._lock:
            listening = self._listening.pop(partition, ())
        for callback in listening:
            callback(False)
