"""What partitions and their surroundings count, joined for metrics and /v1/partitions."""

from collections.abc import Mapping
from typing import Protocol

Counters = Mapping[str, int | float]


class Counted(Protocol):
    """A replica, as far as this goes."""

    def statistics(self) -> Counters:
        """Return its counters."""
        ...

    def slowest(self) -> Mapping[str, int]:
        """Return the workspaces whose commands waited longest lately, in ms."""
        ...


def joined(replicas: Mapping[int, Counted], shared: Mapping[str, Counters]) -> dict[str, Counters]:
    """Return counters by component."""
    held = list(replicas.items())
    slowest: Counters = {
        workspace: waited_ms
        for _, replica in held
        for workspace, waited_ms in replica.slowest().items()
    }
    parts = {f"partition {partition}": replica.statistics() for partition, replica in held}
    return {**parts, "slowest_workspaces": slowest, **shared}
