"""A node is heard while its shell works, and is silent once the shell is stuck."""

import threading
from collections.abc import Iterator

import pytest

from engine.limits import SHELL_STUCK_MS
from engine.node.heart import Heart

PATIENCE_S = 60


class Beats:
    """A clock moved by hand that counts how often it was looked at, and what was announced."""

    def __init__(self) -> None:
        self.time_ms = 0
        self.announced = 0
        self.left = 0
        self._looks = 0
        self._changed = threading.Condition()

    def now_ms(self) -> int:
        return self.time_ms

    def monotonic_ms(self) -> int:
        with self._changed:
            self._looks += 1
            self._changed.notify_all()
        return self.time_ms

    def announce(self) -> None:
        self.announced += 1

    def leave(self) -> None:
        self.left += 1

    def looked_at(self, heart: Heart) -> None:
        """Return once the heart has begun a turn, and ended one, since the call."""
        for _ in range(2):
            with self._changed:
                looks = self._looks
                heart.beat()
                assert self._changed.wait_for(lambda seen=looks: self._looks > seen, PATIENCE_S)


@pytest.fixture
def beats() -> Beats:
    return Beats()


@pytest.fixture
def heart(beats: Beats) -> Iterator[Heart]:
    heart = Heart(beats.announce, beats.leave, beats)
    heart.start()
    yield heart
    heart.stop()


def test_a_long_batch_costs_no_heartbeat(beats: Beats, heart: Heart) -> None:
    beats.time_ms += SHELL_STUCK_MS
    beats.looked_at(heart)
    announced = beats.announced
    beats.looked_at(heart)
    assert beats.announced > announced


def test_a_node_that_is_stuck_does_not_seem_alive(beats: Beats, heart: Heart) -> None:
    beats.time_ms += SHELL_STUCK_MS + 1
    beats.looked_at(heart)
    announced = beats.announced
    beats.looked_at(heart)
    assert beats.announced == announced
    heart.turned()
    beats.looked_at(heart)
    assert beats.announced > announced


def test_a_node_that_stays_stuck_leaves_the_group(beats: Beats) -> None:
    heart = Heart(beats.announce, beats.leave, beats)
    heart.pulse()
    beats.time_ms += SHELL_STUCK_MS + 1
    heart.pulse()
    assert beats.left == 0, "a process that was stopped as a whole may go on within a moment"
    heart.pulse()
    assert beats.left == 1
    heart.turned()
    heart.pulse()
    assert beats.left == 1
