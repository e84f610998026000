"""The world's time, and what a node believes it is."""


class WorldClock:
    """The simulated time of the broker."""

    def __init__(self, start_ms: int = 1_790_000_000_000) -> None:
        self.time_ms = start_ms

    def now_ms(self) -> int:
        """Return milliseconds since 1970."""
        return self.time_ms

    def monotonic_ms(self) -> int:
        """Return milliseconds that never go back."""
        return self.time_ms


class NodeClock:
    """A node's clock: the world's, some way off."""

    def __init__(self, world: WorldClock) -> None:
        self._world = world
        self.skew_ms = 0
        self.asleep_ms = 0  # of the time that the monotonic clock doesn't count

    def now_ms(self) -> int:
        """Return milliseconds since 1970 as this node believes them."""
        return self._world.time_ms + self.skew_ms

    def monotonic_ms(self) -> int:
        """Return milliseconds that never go back."""
        return self._world.time_ms - self.asleep_ms
