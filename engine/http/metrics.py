"""What /metrics and /v1/partitions show of a node: its statistics, joined with its progress."""

from collections.abc import Callable, Mapping

from engine.model import Phase
from engine.node.api import NodeApi
from engine.telemetry.metrics import Metrics

Counters = dict[str, int | float]
More = Callable[[], Mapping[str, Mapping[str, int | float]]]


class NodeMetrics:
    """The metrics of a node and of its HTTP server."""

    def __init__(self, node: NodeApi, more: More) -> None:
        self._node = node
        self._more = more
        self.active = 0
        self.refused = 0
        self.subscriptions = 0
        self.metrics = Metrics(node.name, self.statistics)

    def statistics(self) -> dict[str, Counters]:
        """Return counters by component, partitions with their progress."""
        joined: dict[str, Counters] = {
            name: dict(counters) for name, counters in self._node.statistics().items()
        }
        stopped = self._node.problems()
        for entry in self._node.progress():
            partition = joined.setdefault(f"partition {entry.partition}", {})
            partition["owned"] = int(entry.phase is Phase.OWNING)
            partition["stopped"] = int(entry.partition in stopped)
            partition["applied_offset"] = entry.applied_offset
            partition["target_offset"] = entry.target_offset
            partition["records_per_s"] = entry.records_per_s
        joined["http"] = {
            "active": self.active,
            "refused": self.refused,
            "subscriptions": self.subscriptions,
        }
        return joined | {name: dict(counters) for name, counters in self._more().items()}
