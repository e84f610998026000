"""How far a restore or a build is, and how fast: measured by the offsets it passes."""

from engine.model import Phase, Progress
from engine.ports import Clock


class RestoreProgress:
    """How far a restore is and how fast: one object behind the CLI bar, HTTP, metrics and logs."""

    def __init__(self, partition: int, clock: Clock) -> None:
        self._partition = partition
        self._clock = clock
        self.target_offset = 0
        self._start_offset = 0
        self._start_ms = clock.monotonic_ms()

    def start(self, offset: int, target_offset: int) -> None:
        """Measure from here on."""
        self._start_offset = offset
        self._start_ms = self._clock.monotonic_ms()
        self.target_offset = target_offset

    def report(self, phase: Phase, offset: int) -> Progress:
        """Return the progress at `offset`."""
        elapsed_s = max(self._clock.monotonic_ms() - self._start_ms, 1) / 1_000
        rate = (offset - self._start_offset) / elapsed_s
        target = max(self.target_offset, offset)
        left = target - offset
        eta_s = left / rate if rate > 0 else None
        return Progress(self._partition, phase, offset, target, rate, eta_s)
