"""The composition root: the only file that names adapters."""

import functools
import gc
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from engine import limits
from engine.application import Application
from engine.application.folder import load_application
from engine.errors import ConfigError
from engine.http.app import create_app
from engine.http.server import Server
from engine.http.starting import Front
from engine.log.alone import StaticDirectory, StaticMembership
from engine.log.archived import ArchivedLogs
from engine.log.embedded import EmbeddedLogs, EmbeddedSettings
from engine.log.objects import FolderObjects, open_objects
from engine.model import Decided, Stage
from engine.node.gate import Gate
from engine.node.node import Node
from engine.node.parts import Parts
from engine.node.stores import Cadence, Places, Stores
from engine.partition.building import BuildPorts
from engine.partition.processor import Ports
from engine.partition.replica import Identity, Replica
from engine.partition.snapshots import Retention
from engine.ports import (
    Clock,
    Directory,
    Logs,
    Membership,
    ObjectStore,
    Observer,
    PartitionStore,
    Random,
    ReplySink,
    StateHost,
)
from engine.sandbox import hosts, wasm_binding
from engine.sandbox.guests import load_guests
from engine.sandbox.host_ranges import StoreReader
from engine.sandbox.python import PythonHost
from engine.settings import Settings
from engine.store.checkpoints import PartitionFolder
from engine.store.rocks import RocksStore, StoreMemory
from engine.telemetry.traces import make_traces
from engine.world import SystemClock, SystemRandom

log = structlog.get_logger("partita.node")

BUILD_SHARE = 8  # of a partition's rows in memory, one part in so many is for builds of views
SWITCH_S = 0.0005  # after which a thread asks another one to let it run


class NoObserver:
    """Listens to nothing."""

    def batch(self, stage: Stage, partition: int, decided: Decided) -> None:
        """Do nothing."""


def python_host(
    store: PartitionStore | None = None, cache_bytes_max: int = limits.ROW_CACHE_BYTES_MAX
) -> StateHost:
    """Return a plain Python state host; with a store, it reads missing rows by itself."""
    reader = StoreReader(store) if store else None
    return PythonHost(load_guests, reader, cache_bytes_max=cache_bytes_max)


def wasm_host(
    store: PartitionStore | None = None, cache_bytes_max: int = limits.ROW_CACHE_BYTES_MAX
) -> StateHost:
    """Return a state host in WASM, for an application whose extensions are; or what stands in."""
    return hosts.wasm_host(load_guests, StoreReader(store) if store else None, cache_bytes_max)


def make_host(settings: Settings, application: Application, store: PartitionStore) -> StateHost:
    """Return the state host that the settings name; extensions in Python need the Python host."""
    kinds = {extension.kind for extension in application.extensions.values()}
    share = _host_bytes(settings, application) - _build_bytes(settings, application)
    if settings.host == "wasm" and kinds == {"wasm"}:
        return wasm_host(store, share)
    return python_host(store, share)


def build_replica(  # noqa: PLR0913 - the composition root names every part once
    identity: Identity,
    logs: Logs,
    store: PartitionStore,
    content: ObjectStore,
    *,
    replies: ReplySink,
    host: StateHost,
    clock: Clock,
    random: Random,
    observer: Observer,
    build_records_min: int = limits.BUILD_RECORDS_MIN,
    build_cache_bytes_max: int = limits.ROW_CACHE_BYTES_MAX,
) -> Replica:
    """Return a replica of one partition; `open` it next."""
    ports = Ports(
        commands=logs.command_log(identity.partition),
        events=logs.event_log(identity.partition),
        host=host,
        replies=replies,
        clock=clock,
        observer=observer,
        builds=BuildPorts(
            logs.history(identity.partition),
            functools.partial(python_host, store, build_cache_bytes_max),
            clock,
            build_records_min,
        ),
    )
    return Replica(identity, ports, store, content, random)


@dataclass(slots=True)
class Connections:
    """What a node is connected to: one application's logs, and who else is there."""

    logs: Logs
    content: ObjectStore
    membership: Membership
    directory: Directory


def embedded(application: Application, folder: Path) -> Connections:
    """Open the embedded log in a folder, and hold it."""
    settings = EmbeddedSettings(application.name, application.partitions)
    return Connections(
        EmbeddedLogs(folder / "log", settings, SystemClock(), SystemRandom()),
        FolderObjects(folder / "content"),
        StaticMembership(application.partitions),
        StaticDirectory(),
    )


def kafka(
    application: Application, settings: Settings, node: str, waiting: Callable[[str], None]
) -> Connections:
    """Connect to Kafka; topics are made or checked. Waits for a broker that isn't there yet."""
    from engine.log.kafka.connect import connect  # noqa: PLC0415 - only where Kafka is the log

    clock, random = SystemClock(), SystemRandom()
    return Connections(*connect(application, settings.log, node, clock, random, waiting=waiting))


def places(settings: Settings, application: str, base: Path, memory: StoreMemory) -> Places:
    """Return where a node's stores lie and where their snapshots go."""
    snapshots = settings.snapshots
    return Places(
        application,
        lambda partition: PartitionFolder(base, partition, lambda at: RocksStore(at, memory)),
        functools.partial(open_objects, snapshots.url, application) if snapshots.url else None,
        Cadence(
            snapshots.interval_s * 1_000,
            Retention(snapshots.keep, snapshots.keep_younger_s * 1_000),
        ),
    )


def _half_of_caches(settings: Settings) -> int:
    """Return what the state hosts may have for rows; the stores have as much."""
    return settings.cache_mb * 1024 * 1024 // 2


def _host_bytes(settings: Settings, application: Application) -> int:
    """Return what one partition may have in its state hosts."""
    return _half_of_caches(settings) // application.partitions


def _build_bytes(settings: Settings, application: Application) -> int:
    """Return what of that is kept for views that are built anew."""
    return _host_bytes(settings, application) // BUILD_SHARE


def _memory(settings: Settings, application: Application) -> StoreMemory:
    half_bytes = _half_of_caches(settings)
    return StoreMemory(half_bytes, half_bytes // 2, application.partitions)


class Engine:
    """A node with its HTTP server, from `start` to `stop`."""

    def __init__(
        self, settings: Settings, folder: Path, *, accept_lost_commands: bool = False
    ) -> None:
        self.application = _loaded(folder)
        self.server, self._front = Server(settings.http), Front()
        self.server.start(self._front)
        try:
            self._connect(settings, folder, accept_lost_commands=accept_lost_commands)
        except BaseException:
            self.server.stop()
            raise

    def _connect(self, settings: Settings, folder: Path, *, accept_lost_commands: bool) -> None:
        """Put the node together; waits for a broker that isn't there yet."""
        if settings.host == "wasm" and wasm_binding.fallback():
            log.warning("state host slower than it could be", why=wasm_binding.fallback())
        name = settings.node or f"{socket.gethostname()}-{self.server.port}"
        data = settings.data / self.application.name
        is_kafka = settings.log.kind == "kafka"
        base = data / "nodes" / name if is_kafka else data / "stores"
        if is_kafka:
            connections = kafka(self.application, settings, name, self._waits)
        else:
            connections = embedded(self.application, data)
        if settings.snapshots.url:
            objects = functools.partial(open_objects, settings.snapshots.url, self.application.name)
            connections.logs = ArchivedLogs(connections.logs, objects)
        clock, random, memory = SystemClock(), SystemRandom(), _memory(settings, self.application)
        traces = make_traces(settings.otel.endpoint, settings.otel.sample_ratio, name, clock.now_ms)
        stores = Stores(places(settings, self.application.name, base, memory), clock, random)
        gate = Gate(connections.logs.commands, connections.logs.replies)

        def load() -> Application:
            application = _loaded(folder)
            for extension in application.extensions.values():
                connections.content.put(extension.sha256.hex(), extension.content)
            return application

        def open_replica(partition: int) -> Replica:
            identity = Identity(name, partition, self.application, accept_lost_commands)
            store = stores.open(partition, connections.logs.event_log(partition))
            return build_replica(
                identity,
                connections.logs,
                store,
                connections.content,
                replies=gate,
                host=make_host(settings, self.application, store),
                clock=clock,
                random=random,
                observer=traces,
                build_cache_bytes_max=_build_bytes(settings, self.application),
            )

        parts = Parts(
            name=name,
            application=self.application,
            logs=connections.logs,
            membership=connections.membership,
            directory=connections.directory,
            gate=gate,
            open_replica=open_replica,
            stores=stores,
            clock=clock,
            random=random,
            standbys=settings.standbys if settings.standbys is not None else int(is_kafka),
            load=load,
            force_deploy=settings.force_deploy,
            shared=memory.statistics,
            http_url=self.server.url,
        )
        self.node = Node(parts)
        self._traces = traces
        self._app = create_app(self.node, settings.http, traces)

    def _waits(self, reason: str) -> None:
        self._front.reason = reason

    def start(self) -> None:
        """Start the node and answer HTTP."""
        self.node.start()
        self._front.open(self._app)

    def stop(self) -> None:
        """Answer what is being asked, hand every partition over, close everything."""
        self.node.stop()
        self.server.stop()
        self._traces.close()


def _loaded(folder: Path) -> Application:
    application = load_application(folder)
    load_guests(application).close()  # an extension that can't be loaded is told now
    return application


def settle_process() -> None:
    """Set the interpreter up for a node: its walk must not stand still, nor its readers wait.

    What is loaded stays, so a full collection need not look at all of it, which took 50 to 100 ms.
    A thread that answers HTTP asks for the interpreter several times; by default it waits up to
    5 ms each time while commands are decided.
    """
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()


def parse_address(text: str | None) -> dict[str, Any]:
    """Return `HOST:PORT` as settings of HTTP."""
    if text is None:
        return {}
    host, _, port = text.rpartition(":")
    if not port.isdigit():
        raise ConfigError("E1001", f"--http takes HOST:PORT, not {text!r}")
    return {"host": host.strip("[]") or "127.0.0.1", "port": int(port)}
