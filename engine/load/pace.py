"""When each command of a replay is due. Pure arithmetic; nobody waits here.

A replay is an open loop: a command is due at its time whether or not earlier ones were answered,
and its latency counts from then. So a target that falls behind shows it (no coordinated omission).
"""

import re
from dataclasses import dataclass

from engine.errors import ConfigError

_FORMS = re.compile(r"(?P<speed>\d+(\.\d+)?)x|(?P<rate>\d+(\.\d+)?)/s|(?P<max>max)")


@dataclass(slots=True, frozen=True)
class Pace:
    """As recorded times `speed`, or `per_s`, or (neither) as fast as it goes."""

    text: str
    speed: float = 0.0
    per_s: float = 0.0

    @property
    def unpaced(self) -> bool:
        """Return whether commands are due at once: their latency then counts from sending."""
        return not self.speed and not self.per_s

    def due_ns(self, index: int, time_ms: int) -> int:
        """Return when a command is due, in ns after the start."""
        if self.speed:
            return int(time_ms * 1_000_000 / self.speed)
        return int(index * 1_000_000_000 / self.per_s) if self.per_s else 0


def parse_pace(text: str) -> Pace:
    """Read `1x`, `10x`, `2000/s` or `max`."""
    match = _FORMS.fullmatch(text.strip())
    speed = float(match["speed"] or 0) if match else 0.0
    per_s = float(match["rate"] or 0) if match else 0.0
    if match is None or (not match["max"] and not speed and not per_s):
        raise ConfigError(
            "E1001",
            f"the rate {text!r} is none",
            "Use 1x (as recorded), 10x, 2000/s or max",
            flag="--rate",
        )
    return Pace(text.strip(), speed, per_s)
