"""The adapters that words open by themselves; those of a node are put together in assembly.py.

Nothing here joins a group, claims a partition or takes a lock.
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.partition.snapshots import Files
from engine.ports import Logs, ObjectStore, PartitionStore, StateHost
from engine.settings import LogSettings, Settings

if TYPE_CHECKING:
    from engine.log.archived import ReadableLogs
    from engine.log.embedded import EmbeddedLogs
    from engine.log.kafka.logs import KafkaLogs


class Stored(Protocol):
    """Where extensions' code can be read."""

    def get(self, name: str) -> bytes | None:
        """Return code by its sha256, or None."""
        ...


def python_host() -> StateHost:
    """Return a host that can fold any application's events."""
    from engine.sandbox.guests import load_guests  # noqa: PLC0415 - wasmtime loads slowly
    from engine.sandbox.python import PythonHost  # noqa: PLC0415

    return PythonHost(load_guests)


def kafka_logs(settings: LogSettings, application: str, partitions: int) -> "KafkaLogs":
    """Connect to an application's topics, all of which must be there."""
    from engine.log.kafka.logs import KafkaLogs  # noqa: PLC0415 - the broker's client loads slowly

    return KafkaLogs(settings, application, partitions, make=False)


def kafka_content(logs: "KafkaLogs") -> Stored:
    """Return the code in an application's content topic."""
    from engine.log.kafka.content import KafkaObjects  # noqa: PLC0415 - see above

    return KafkaObjects(logs)


def folder_content(data: Path) -> Stored:
    """Return the code beside the embedded log in a data folder."""
    from engine.log.objects import FolderObjects  # noqa: PLC0415 - only where it is needed

    return FolderObjects(data) if data.is_dir() else Nothing()


def objects(url: str, name: str) -> ObjectStore:
    """Return the store of an application's snapshots and archive."""
    from engine.log.objects import open_objects  # noqa: PLC0415 - only where it is needed

    return open_objects(url, name)


def archived(logs: "ReadableLogs", url: str, name: str) -> "ReadableLogs":
    """Return logs that go on reading in the archive where they were trimmed."""
    from engine.log.archived import ArchivedReading  # noqa: PLC0415 - see above

    return ArchivedReading(logs, partial(objects, url, name))


def kafka_trim(settings: LogSettings, application: str) -> Callable[[int, int], None]:
    """Return what deletes a partition's events below an offset."""
    from engine.log.kafka.connection import Connection  # noqa: PLC0415 - see above
    from engine.log.kafka.trimming import delete_records  # noqa: PLC0415

    return partial(delete_records, Connection(settings, application), "events")


def embedded_logs(folder: str, application: str, partitions: int) -> "EmbeddedLogs":
    """Open an embedded log as its only process; E1201 while a node has it open."""
    from engine.log.embedded import EmbeddedLogs, EmbeddedSettings  # noqa: PLC0415 - see above
    from engine.world import SystemClock, SystemRandom  # noqa: PLC0415

    settings = EmbeddedSettings(application, partitions, command_retention_ms=None)
    return EmbeddedLogs(Path(folder), settings, SystemClock(), SystemRandom())


def archive_logs(found: ObjectStore) -> "ReadableLogs":
    """Return an archive as the logs it is of."""
    from engine.log.archive_alone import ArchiveLogs  # noqa: PLC0415 - see above

    return ArchiveLogs(found)


class Prefixed:
    """What lies below a name in a store of objects."""

    def __init__(self, found: ObjectStore, prefix: str) -> None:
        self._objects = found
        self._prefix = prefix

    def get(self, name: str) -> bytes | None:
        """Return an object."""
        return self._objects.get(f"{self._prefix}/{name}")


def target(settings: Settings, application: str, partitions: int) -> tuple[Logs, ObjectStore]:
    """Open logs to copy into, made if need be, and where their code is kept."""
    if settings.log.kind == "kafka":
        from engine.log.kafka.content import KafkaObjects  # noqa: PLC0415 - see above
        from engine.log.kafka.logs import KafkaLogs  # noqa: PLC0415

        logs = KafkaLogs(settings.log, application, partitions)
        return logs, KafkaObjects(logs)
    from engine.log.objects import FolderObjects  # noqa: PLC0415 - see above

    folder = settings.data / application
    made = embedded_logs(str(folder / "log"), application, partitions)
    return made, FolderObjects(folder / "content")


def store(folder: Path) -> PartitionStore:
    """Open a store to write to."""
    from engine.store.rocks import RocksStore, StoreMemory  # noqa: PLC0415 - see above

    return RocksStore(folder, StoreMemory())


def new_files(folder: Path) -> Files:
    """Return an empty folder for a store in the making."""
    from engine.store.checkpoints import FolderFiles  # noqa: PLC0415 - see above

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return FolderFiles(folder)


class Nothing:
    """Holds no code."""

    def get(self, name: str) -> bytes | None:
        """Return nothing."""
        del name
