"""The thread that announces this node four times a second, however long a batch takes.

It stops when the shell has been stuck for long: a node that does nothing must not seem alive. And
it leaves the group: who has no standby is taken over by nobody else.
"""

import threading
from collections.abc import Callable

import structlog

from engine import limits
from engine.ports import Clock

log = structlog.get_logger("partita.node")


class Heart:
    """Beats until stopped; at once when asked to, as after a change of owner."""

    def __init__(
        self, announce: Callable[[], None], leave: Callable[[], None], clock: Clock
    ) -> None:
        self._announce = announce
        self._leave = leave  # the group; the shell joins it again once it turns
        self._clock = clock
        self._asked = threading.Event()
        self._stopping = False
        self._was_stuck = False
        self._turned_ms = clock.monotonic_ms()
        self._thread = threading.Thread(target=self._run, name="partita-heart", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def turned(self) -> None:
        """Hear that the shell is not stuck."""
        self._turned_ms = self._clock.monotonic_ms()

    def beat(self) -> None:
        """Beat now, not only when it is time to."""
        self._asked.set()

    def stop(self) -> None:
        """Beat no more."""
        self._stopping = True
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def stuck(self) -> bool:
        """Return True once the shell has not turned for so long that nobody should wait for it."""
        return self._clock.monotonic_ms() - self._turned_ms > limits.SHELL_STUCK_MS

    def pulse(self) -> None:
        """Announce the node, unless its shell is stuck."""
        stuck = self.stuck
        if not stuck:
            self._announce()
        elif self._was_stuck:
            self._leave()  # not at once: where the whole process stood still, the shell turns now
        if stuck != self._was_stuck:
            self._was_stuck = stuck
            log.error("the shell is stuck" if stuck else "the shell goes on")

    def _run(self) -> None:
        while not self._stopping:
            self.pulse()
            self._asked.wait(limits.HEARTBEAT_MS / 1_000)
            self._asked.clear()
