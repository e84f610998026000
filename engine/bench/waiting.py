"""How a bench waits for nodes that it can only ask: again and again, and not for ever."""

import time
from collections.abc import Callable

from engine.errors import UnavailableError

POLL_S = 0.05


def await_(done: Callable[[], bool], what: str, most_s: float) -> None:
    """Wait until something is so; E1402 if it isn't in time."""
    deadline_s = time.monotonic() + most_s
    while not done():
        if time.monotonic() > deadline_s:
            raise UnavailableError("E1402", f"not so after {most_s:.0f} s: {what}")
        time.sleep(POLL_S)
