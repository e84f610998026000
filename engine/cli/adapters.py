"""The adapters that words open by themselves; those of a node are put together in assembly.py.

Nothing here joins a group, claims a partition or makes a topic.
"""

import importlib
from pathlib import Path
from typing import Protocol, cast

from engine.ports import Logs
from engine.settings import LogSettings


class Stored(Protocol):
    """Where extensions' code can be read."""

    def get(self, name: str) -> bytes | None:
        """Return code by its sha256, or None."""
        ...


def kafka_logs(settings: LogSettings, application: str, partitions: int) -> Logs:
    """Connect to an application's topics."""
    module = importlib.import_module("engine.log.kafka.logs")
    return cast("Logs", module.KafkaLogs(settings, application, partitions))


def kafka_content(settings: LogSettings, application: str) -> Stored:
    """Return the code in an application's content topic."""
    module = importlib.import_module("engine.log.kafka.content")
    return cast("Stored", module.KafkaObjects(settings, application))


def folder_content(data: Path) -> Stored:
    """Return the code beside the embedded log in a data folder."""
    module = importlib.import_module("engine.log.objects")
    return cast("Stored", module.FolderObjects(data))
