"""Worlds: one way per implementation to open a port, open it again, and reach behind it.

A contract test says what a port promises and gets a world by its fixture. A new implementation
is another entry in the dictionary of worlds, never a condition in a test.
"""

import random
import time
import uuid

import pytest
from kafka_fixture import delete_records, delete_topics

from engine.log.alone import StaticDirectory, StaticMembership
from engine.log.archived import ArchivedLogs
from engine.log.embedded import EmbeddedLogs, EmbeddedSettings
from engine.log.kafka.content import KafkaObjects
from engine.log.kafka.directory import KafkaDirectory
from engine.log.kafka.logs import KafkaLogs
from engine.log.kafka.membership import KafkaMembership
from engine.log.objects import FolderObjects
from engine.log.objects_s3 import S3Objects
from engine.log.simulated import SimulatedBroker, SimulatedLogs
from engine.settings import LogSettings
from engine.store.memory import MemoryStore
from engine.store.rocks import RocksStore, StoreMemory

SETTLE_S = 60


class SeededRandom:
    """The port of randomness on a seed."""

    def __init__(self, seed):
        self._random = random.Random(seed)

    def bytes(self, count):
        return self._random.randbytes(count)

    def below(self, bound):
        return self._random.randrange(bound)


class TestClock:
    """A clock that moves one millisecond with every look."""

    __test__ = False

    def __init__(self, now_ms=1_700_000_000_000):
        self.time_ms = now_ms

    def now_ms(self):
        self.time_ms += 1
        return self.time_ms

    def monotonic_ms(self):
        return self.now_ms()


class LogWorld:
    """Logs under test. `logs` is the open connection; everything is empty at the start."""

    partitions = 4
    logs = None
    fixtures = ()  # of pytest, that the constructor takes beside the folder

    def restart(self):
        """Close the logs and open them as the next process does."""
        raise NotImplementedError

    def trim_events(self, partition, before):
        """Delete some events below `before`, at least one."""
        raise NotImplementedError

    def trim_commands(self, partition, before):
        """Delete some commands below `before`, at least one."""
        raise NotImplementedError

    def close(self):
        """Close the logs and everything behind them."""
        self.logs.close()

    def settle(self, condition):
        """Wait until `condition()` is true (or returns something), and return what it said."""
        deadline = time.monotonic() + SETTLE_S
        while not (said := condition()):
            assert time.monotonic() < deadline, "it didn't come true"
            self.logs.wait(50)
        return said


class EmbeddedWorld(LogWorld):
    settings = EmbeddedSettings("contract", LogWorld.partitions, segment_bytes=2_000)

    def __init__(self, folder):
        self.folder = folder / "log"
        self.logs = self.open()

    def open(self):
        return EmbeddedLogs(self.folder, self.settings, TestClock(), SeededRandom(7))

    def restart(self):
        self.logs.close()
        self.logs = self.open()
        return self.logs

    def trim_events(self, partition, before):
        self.logs.trim("events", partition, before)

    def trim_commands(self, partition, before):
        self.logs.trim("commands", partition, before)


class ArchivedWorld(EmbeddedWorld):
    """The same with an archive beside it, in which nothing lies."""

    def open(self):
        logs = super().open()
        self.trimmed = logs
        return ArchivedLogs(logs, lambda: FolderObjects(self.folder / "archive"))

    def trim_events(self, partition, before):
        self.trimmed.trim("events", partition, before)

    def trim_commands(self, partition, before):
        self.trimmed.trim("commands", partition, before)


class SimulatedWorld(LogWorld):
    def __init__(self, _folder):
        self.broker = SimulatedBroker(SeededRandom(7), TestClock(), self.partitions)
        self.logs = SimulatedLogs(self.broker)

    def restart(self):
        self.logs.close()
        self.logs = SimulatedLogs(self.broker)
        return self.logs

    def trim_events(self, partition, before):
        self.broker.trim(partition, before)

    def trim_commands(self, partition, before):
        self.broker.expire(partition, before)


class KafkaWorld(LogWorld):
    """A new application on the session's real broker, with topics of its own."""

    fixtures = ("kafka",)

    def __init__(self, _folder, address):
        self.application = f"contract-{uuid.uuid4().hex[:12]}"
        self.settings = LogSettings(kind="kafka", bootstrap_servers=address)
        self.logs = KafkaLogs(self.settings, self.application, self.partitions)

    def restart(self):
        self.logs.close()
        self.logs = KafkaLogs(self.settings, self.application, self.partitions)
        return self.logs

    def trim_events(self, partition, before):
        delete_records(self.logs, "events", partition, before)

    def trim_commands(self, partition, before):
        delete_records(self.logs, "commands", partition, before)

    def close(self):
        self.logs.close()
        delete_topics(self.logs)


LOG_WORLDS = {
    "embedded": EmbeddedWorld,
    "archived": ArchivedWorld,
    "simulated": SimulatedWorld,
    "kafka": KafkaWorld,
}
MARKS = {"kafka": pytest.mark.kafka}


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in LOG_WORLDS])
def world(request, tmp_path):
    """Logs of every implementation in turn."""
    kind = LOG_WORLDS[request.param]
    made = kind(tmp_path, *map(request.getfixturevalue, kind.fixtures))
    yield made
    made.close()


class MemoryStoreWorld:
    def __init__(self, _folder):
        self.store = MemoryStore()

    def restart(self):
        self.store.close()
        self.store = self.store.reopen()
        return self.store

    def opened(self, folder):
        """Open a checkpoint."""
        return MemoryStore.opened(folder)

    def close(self):
        self.store.close()


class RocksStoreWorld:
    def __init__(self, folder):
        self.folder = folder / "store"
        self.memory = StoreMemory(8 << 20, 4 << 20)
        self.store = RocksStore(self.folder, self.memory)

    def restart(self):
        self.store.close()
        self.store = RocksStore(self.folder, self.memory)
        return self.store

    def opened(self, folder):
        """Open a checkpoint."""
        return RocksStore(folder, self.memory)

    def close(self):
        self.store.close()


STORE_WORLDS = {"rocks": RocksStoreWorld, "memory": MemoryStoreWorld}


@pytest.fixture(params=STORE_WORLDS)
def store_world(request, tmp_path):
    """A store of every implementation in turn."""
    made = STORE_WORLDS[request.param](tmp_path)
    yield made
    made.close()


class FolderObjectsWorld:
    fixtures = ()

    def __init__(self, folder):
        self.objects = FolderObjects(folder / "objects")

    def close(self):
        pass


class KafkaObjectsWorld(KafkaWorld):
    def __init__(self, folder, address):
        super().__init__(folder, address)
        self.objects = KafkaObjects(self.logs)


class S3ObjectsWorld:
    """A prefix of its own in the bucket of a real server."""

    fixtures = ("s3",)

    def __init__(self, _folder, address):
        self.objects = S3Objects(address, f"contract-{uuid.uuid4().hex[:12]}")

    def close(self):
        for name in self.objects.names():
            self.objects.delete(name)


OBJECT_STORES = {
    "folder": FolderObjectsWorld,
    "kafka": KafkaObjectsWorld,
    "s3": S3ObjectsWorld,
}


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in OBJECT_STORES])
def objects(request, tmp_path):
    """An object store of every implementation in turn."""
    kind = OBJECT_STORES[request.param]
    made = kind(tmp_path, *map(request.getfixturevalue, kind.fixtures))
    yield made.objects
    made.close()


class AloneWorld:
    """A node without peers."""

    partitions = 4
    fixtures = ()

    def __init__(self):
        self.membership = StaticMembership(self.partitions)
        self.directory = StaticDirectory()

    def settle(self, condition):
        """Nothing has to travel here."""
        said = condition()
        assert said
        return said

    def close(self):
        """Close all."""
        self.membership.close()
        self.directory.close()


class KafkaPeersWorld:
    """A node of a group on a broker, alone in it so far."""

    partitions = 4
    fixtures = ("kafka",)

    def __init__(self, address):
        settings = LogSettings(kind="kafka", bootstrap_servers=address)
        self._logs = KafkaLogs(settings, f"peers-{uuid.uuid4().hex[:12]}", self.partitions)
        self.membership = KafkaMembership(self._logs.connection)
        self.directory = KafkaDirectory(self._logs)

    def settle(self, condition):
        """Wait until `condition()` is true, and return what it said."""
        deadline = time.monotonic() + SETTLE_S
        while not (said := condition()):
            assert time.monotonic() < deadline, "it didn't come true"
            self._logs.wait(50)
        return said

    def close(self):
        """Close all, and forget the topics."""
        self.membership.close()
        self.directory.close()
        delete_topics(self._logs)
        self._logs.close()


PEERS_WORLDS = {"alone": AloneWorld, "kafka": KafkaPeersWorld}


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in PEERS_WORLDS])
def peers(request):
    """Membership and directory of every implementation in turn."""
    kind = PEERS_WORLDS[request.param]
    made = kind(*map(request.getfixturevalue, kind.fixtures))
    yield made
    made.close()
