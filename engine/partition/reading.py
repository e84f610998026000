"""Reads of one partition: records, views, a workspace's log, from one consistent picture."""

from collections.abc import Mapping

from engine.application import Application
from engine.ports import StoreView


class PartitionReader:
    """Decodes rows of a store view by the applications that wrote them."""

    def __init__(self, view: StoreView, applications: Mapping[int, Application]) -> None:
        self._view = view
        self._applications = applications

    def close(self) -> None:
        """Let go of the picture."""
        self._view.close()
