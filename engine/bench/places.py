"""Where a bench runs: a real local broker of its own, or log files in a folder of its own.

Both take commands before any node is up, as a backlog that waits for it.
"""

import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from engine import limits
from engine.application import Application
from engine.bench.bank import Sendable
from engine.errors import UnavailableError
from engine.log.embedded import EmbeddedLogs, EmbeddedSettings
from engine.log.kafka.local import LocalKafka
from engine.log.kafka.logs import KafkaLogs
from engine.settings import LogSettings
from engine.world import SystemClock, SystemRandom

_POLL_S = 0.05
_FLUSH_S = 120.0
_WAIT_MS = 50


class Place(Protocol):
    """A log of one application, and the folder of its nodes."""

    folder: Path
    kind: str

    def settings(self) -> dict[str, Any]:
        """Return the settings of a node here, as a tree of flags."""
        ...

    def load(self, commands: Iterable[Sendable]) -> int:
        """Put commands into the log while no node runs; return how many."""
        ...


class KafkaPlace:
    """A broker that nobody else uses."""

    kind = "kafka"

    def __init__(self, folder: Path, bootstrap: str, application: Application) -> None:
        self.folder = folder
        self.bootstrap = bootstrap
        self._application = application

    def settings(self) -> dict[str, Any]:
        """Return the settings of a node here."""
        log = {"kind": "kafka", "bootstrap_servers": self.bootstrap}
        return {"data": str(self.folder / "data"), "log": log, "http": {"port": 0}}

    def make(self) -> None:
        """Make the application's topics, as its first node would."""
        settings = LogSettings.model_validate(self.settings()["log"])
        name, partitions = self._application.name, self._application.partitions
        KafkaLogs(settings, name, partitions, "bench").close()

    def topics(self, *names: str, partitions: int) -> None:
        """Make topics beside the application's."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        wanted = [NewTopic(name, partitions, 1) for name in names]
        for future in admin.create_topics(wanted).values():
            future.result(_FLUSH_S)

    def load(self, commands: Iterable[Sendable]) -> int:
        """Publish commands as fast as the broker takes them."""
        self.make()
        return publish(self.producer(), f"{self._application.name}.commands", commands)

    def producer(self, **more: Any) -> Producer:
        """Return a client's producer."""
        own = {
            "bootstrap.servers": self.bootstrap,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 200_000,
            "log_level": 3,
        }
        return Producer({**own, **more})

    def consumer(self, group: str) -> Consumer:
        """Return a client's consumer, which is told its partitions."""
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
            }
        )


def publish(producer: Producer, topic: str, commands: Iterable[Sendable]) -> int:
    """Publish commands and wait until the broker has them; return how many."""
    count = 0
    for partition, key, value in commands:
        count += 1
        while True:
            try:
                producer.produce(topic, value, key, partition)
                break
            except BufferError:
                producer.poll(_POLL_S)
    if producer.flush(_FLUSH_S):
        raise UnavailableError("E1401", f"the broker didn't take all of {topic} in {_FLUSH_S} s")
    return count


class EmbeddedPlace:
    """Log files in a folder."""

    kind = "embedded"

    def __init__(self, folder: Path, application: Application) -> None:
        self.folder = folder
        self._application = application

    def settings(self) -> dict[str, Any]:
        """Return the settings of a node here."""
        return {"data": str(self.folder / "data"), "http": {"port": 0}}

    def load(self, commands: Iterable[Sendable]) -> int:
        """Write commands into the log's files."""
        name, partitions = self._application.name, self._application.partitions
        settings = EmbeddedSettings(name, partitions)
        folder = self.folder / "data" / name / "log"
        logs = EmbeddedLogs(folder, settings, SystemClock(), SystemRandom())
        count = waiting = 0
        try:
            for command in commands:
                count += 1
                logs.commands.publish(*command)
                waiting += 1
                while waiting >= limits.PUBLISHING_MAX:
                    logs.wait(_WAIT_MS)
                    waiting -= len(logs.commands.published())
        finally:
            logs.close()
        return count


@contextmanager
def place(kind: str, application: Application) -> Generator[Place]:
    """Yield a place that is gone with the block."""
    with tempfile.TemporaryDirectory(prefix="partita-bench-") as name:
        folder = Path(name)
        if kind == "embedded":
            yield EmbeddedPlace(folder, application)
            return
        kafka = LocalKafka(folder / "kafka")
        try:
            cluster = kafka.start(port=0)
            yield KafkaPlace(folder, cluster.bootstrap_servers, application)
        finally:
            kafka.stop()
