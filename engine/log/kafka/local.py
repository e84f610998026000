"""A real Apache Kafka on this machine: one or three brokers on 127.0.0.1, for trying and testing.

Owns a folder with the brokers' data, their logs and `cluster.json` (ports, process ids). Ends
only processes that this folder started, and nothing here is meant for production.
"""

import base64
import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from engine.errors import ConfigError, UnavailableError
from engine.log.kafka import jars
from engine.log.kafka.java import find_java
from engine.log.kafka.processes import HOST, command_line, free_ports, listening
from engine.world import SystemClock, SystemRandom

PORT_DEFAULT = 9092
BROKERS = (1, 3)
FORMAT_TIMEOUT_S = 60.0
READY_TIMEOUT_MS = 120_000
STOP_TIMEOUT_MS = 20_000
POLL_MS = 50
# A heap that serves trying and testing in under 300 MB of memory.
JAVA_FLAGS = (
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:MaxMetaspaceSize=160m",
    "-Djava.awt.headless=true",
)
# Small enough that a broker needs under 300 MB.
SMALL = {
    "num.network.threads": "2",
    "num.io.threads": "2",
    "num.recovery.threads.per.data.dir": "1",
    "log.cleaner.dedupe.buffer.size": "2097152",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    "auto.create.topics.enable": "false",
}
# A test's group forms at once, and a group may notice a death sooner than Kafka's default allows.
QUICK = {
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "500",
    "group.consumer.assignment.interval.ms": "0",
    # A killed broker's place is free again after this; it can't come back sooner.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}
LOGGING = """\
status=ERROR
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName={folder}/broker.log
appender.file.filePattern={folder}/broker-%i.log
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d %p %c{{1}}: %m%n
appender.file.policies.type=SizeBasedTriggeringPolicy
appender.file.policies.size=8MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
rootLogger.level=INFO
rootLogger.appenderRef.file.ref=file
"""


@dataclass(slots=True, frozen=True)
class Seat:
    """Where a broker runs: its address, and the command that puts it there (`nsenter …`)."""

    host: str = HOST
    command: tuple[str, ...] = ()


@dataclass(slots=True)
class Broker:
    """One broker process and its two ports; `pid` 0 = stopped."""

    node: int
    port: int
    controller_port: int
    pid: int = 0
    host: str = HOST


@dataclass(slots=True)
class Cluster:
    """What `cluster.json` holds."""

    cluster_id: str
    brokers: list[Broker] = field(default_factory=list[Broker])

    @property
    def bootstrap_servers(self) -> str:
        """Return the brokers' addresses as clients take them."""
        return ",".join(f"{broker.host}:{broker.port}" for broker in self.brokers)


class LocalKafka:
    """The brokers of one folder.

    `stock` leaves Kafka's own time-outs; without it a group forms and notices a death sooner.
    `seats` puts the brokers elsewhere than on 127.0.0.1: into network namespaces, to be cut off.
    """

    def __init__(self, folder: Path, *, stock: bool = False, seats: Sequence[Seat] = ()) -> None:
        self._folder = folder.resolve()
        self._settings = SMALL if stock else SMALL | QUICK
        self._seats = seats
        self._clock = SystemClock()
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(
        self, brokers: int = 1, port: int = PORT_DEFAULT, progress: jars.Progress | None = None
    ) -> Cluster:
        """Start what doesn't run yet and wait until it answers; `port` 0 takes free ones."""
        if brokers not in BROKERS:
            raise ConfigError("E1001", f"brokers is {brokers}", "Use --brokers 1 or 3")
        with self._locked():
            cluster = self._load() or self._new(brokers, port)
            if len(cluster.brokers) != brokers:
                raise ConfigError(
                    "E1001",
                    f"brokers is {brokers}, but {self._folder} holds {len(cluster.brokers)}",
                    "Choose another folder with --data, or remove this one",
                )
            asleep = [broker for broker in cluster.brokers if not self.running(broker)]
            if asleep:
                self._check_ports(asleep)
                java = find_java()
                path = jars.classpath(jars.fetch(progress))
                for broker in asleep:
                    self._configure(cluster, broker)
                    self._format(java, path, cluster, broker)
                for broker in asleep:
                    self._spawn(java, path, broker)
                    self._save(cluster)
            try:
                self._wait_ready(cluster)
            except UnavailableError:
                self._stop(cluster)
                raise
            return cluster

    def stop(self) -> int:
        """Stop all brokers, gently, then firmly; return how many were running."""
        if not self._folder.is_dir():
            return 0
        with self._locked():
            cluster = self._load()
            return self._stop(cluster) if cluster is not None else 0

    def status(self) -> Cluster | None:
        """Return the cluster of this folder, or None if there is none; `pid` 0 = stopped."""
        cluster = self._load()
        if cluster is None:
            return None
        for broker in cluster.brokers:
            if not self.running(broker):
                broker.pid = 0
        return cluster

    def kill(self, node: int = 1, number: int = signal.SIGKILL) -> None:
        """Send one broker a signal: what tests of crashes (KILL) and pauses (STOP) need."""
        cluster = self._load()
        broker = next(b for b in cluster.brokers if b.node == node) if cluster else None
        if broker is None or not self.running(broker):
            raise UnavailableError("E1404", f"broker {node} of {self._folder} is not running")
        os.kill(broker.pid, number)
        if number == signal.SIGKILL:
            self._wait_gone(broker, STOP_TIMEOUT_MS)

    def wait_ended(self, node: int) -> None:
        """Wait, bounded, until a broker that was asked to has ended."""
        cluster = self._load()
        assert cluster is not None, "start() comes first"
        self._wait_gone(next(b for b in cluster.brokers if b.node == node), STOP_TIMEOUT_MS)

    def start_again(self, node: int) -> None:
        """Start one broker that was ended, and don't wait for it."""
        with self._locked():
            cluster = self._load()
            assert cluster is not None, "start() comes first"
            broker = next(b for b in cluster.brokers if b.node == node)
            if not self.running(broker):
                self._spawn(find_java(), jars.classpath(jars.fetch()), broker)
                self._save(cluster)

    def running(self, broker: Broker) -> bool:
        """Return whether the recorded process is alive, and is this very broker."""
        child = self._children.get(broker.pid)
        if child is not None:
            return child.poll() is None
        return bool(broker.pid) and str(self._properties(broker)) in command_line(broker.pid)

    def log_file(self, broker: Broker) -> Path:
        """Return the broker's own log."""
        return self._home(broker) / "broker.log"

    @contextmanager
    def _locked(self) -> Generator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _home(self, broker: Broker) -> Path:
        return self._folder / f"broker-{broker.node}"

    def _properties(self, broker: Broker) -> Path:
        return self._home(broker) / "server.properties"

    def _load(self) -> Cluster | None:
        try:
            raw = json.loads((self._folder / "cluster.json").read_text())
            return Cluster(raw["cluster_id"], [Broker(**broker) for broker in raw["brokers"]])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as fault:
            raise UnavailableError(
                "E1404",
                f"{self._folder / 'cluster.json'} can't be read: {fault}",
                "Remove the folder; what the local broker held is lost then",
            ) from fault

    def _save(self, cluster: Cluster) -> None:
        part = self._folder / "cluster.json.part"
        part.write_text(json.dumps(asdict(cluster), indent=2))
        part.replace(self._folder / "cluster.json")

    def _new(self, brokers: int, port: int) -> Cluster:
        ports = [port + at for at in range(2 * brokers)] if port else free_ports(2 * brokers)
        # 16 random bytes as Kafka writes its ids; never beginning with '-'.
        ident = "p" + base64.urlsafe_b64encode(SystemRandom().bytes(16)).decode()[1:22]
        pairs = zip(ports[::2], ports[1::2], strict=True)
        return Cluster(
            ident, [Broker(at, a, b, 0, self._seat(at).host) for at, (a, b) in enumerate(pairs, 1)]
        )

    def _seat(self, node: int) -> Seat:
        return self._seats[node - 1] if self._seats else Seat()

    def _check_ports(self, brokers: list[Broker]) -> None:
        for broker in brokers:
            for port in (broker.port, broker.controller_port):
                if listening(port):
                    raise UnavailableError(
                        "E1404",
                        f"port {port} is in use by another process",
                        "Stop that process, or choose another --port and --data",
                        broker=broker.node,
                    )

    def _configure(self, cluster: Cluster, broker: Broker) -> None:
        """Write the broker's properties and its log's, for wherever the folder lies now."""
        home = self._home(broker)
        home.mkdir(parents=True, exist_ok=True)
        copies = min(3, len(cluster.brokers))
        insync = str(max(1, copies - 1))
        voters = ",".join(f"{b.node}@{b.host}:{b.controller_port}" for b in cluster.brokers)
        host = broker.host
        listeners = f"PLAINTEXT://{host}:{broker.port},CONTROLLER://{host}:{broker.controller_port}"
        values = self._settings | {
            "process.roles": "broker,controller",
            "node.id": str(broker.node),
            "controller.quorum.voters": voters,
            "listeners": listeners,
            "advertised.listeners": listeners,
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(home / "data"),
            "default.replication.factor": str(copies),
            "min.insync.replicas": insync,
            "offsets.topic.replication.factor": str(copies),
            "transaction.state.log.replication.factor": str(copies),
            "transaction.state.log.min.isr": insync,
            "share.coordinator.state.topic.replication.factor": str(copies),
            "share.coordinator.state.topic.min.isr": insync,
        }
        text = "".join(f"{name}={value}\n" for name, value in values.items())
        self._properties(broker).write_text(text)
        (home / "log4j2.properties").write_text(LOGGING.format(folder=home))

    def _format(self, java: str, path: str, cluster: Cluster, broker: Broker) -> None:
        home = self._home(broker)
        if (home / "data" / "meta.properties").exists():
            return
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster.cluster_id]
        settings = ["-c", str(self._properties(broker))]
        flags = ["-Xmx128m", "-XX:TieredStopAtLevel=1", self._logging(broker)]
        done = subprocess.run(  # noqa: S603 -- Java with checked jars and our own arguments
            [java, *flags, "-cp", path, *tool, *settings],
            capture_output=True,
            text=True,
            timeout=FORMAT_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise UnavailableError(
                "E1404",
                f"the broker's data folder {home / 'data'} can't be made: {' '.join(last)}",
                broker=broker.node,
            )

    def _logging(self, broker: Broker) -> str:
        return f"-Dlog4j2.configurationFile={self._home(broker) / 'log4j2.properties'}"

    def _spawn(self, java: str, path: str, broker: Broker) -> None:
        flags = [*JAVA_FLAGS, self._logging(broker)]
        with (self._home(broker) / "broker.out").open("wb") as out:
            # Its own session: Ctrl-C in the terminal that started it must not end it.
            child = subprocess.Popen(  # noqa: S603 -- Java with checked jars and our own arguments
                [
                    *self._seat(broker.node).command,
                    *(java, *flags, "-cp", path),
                    *("kafka.Kafka", str(self._properties(broker))),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        broker.pid = child.pid
        self._children[child.pid] = child

    def _wait_ready(self, cluster: Cluster) -> None:
        """Wait until all brokers are members of the cluster and it answers."""
        admin = AdminClient(
            {"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0, "log.queue": True}
        )
        deadline_ms = self._clock.monotonic_ms() + READY_TIMEOUT_MS
        while self._clock.monotonic_ms() < deadline_ms:
            for broker in cluster.brokers:
                if not self.running(broker):
                    raise self._not_started(broker, "ended while starting")
            try:
                if len(admin.list_topics(timeout=0.5).brokers) == len(cluster.brokers):
                    return
            except KafkaException:
                pass
            self._clock.sleep_ms(POLL_MS)
        raise self._not_started(cluster.brokers[0], f"didn't answer in {READY_TIMEOUT_MS} ms")

    def _not_started(self, broker: Broker, what: str) -> UnavailableError:
        lines: list[str] = []
        for name in ("broker.out", "broker.log"):
            file = self._home(broker) / name
            if file.exists():
                lines += file.read_text(errors="replace").splitlines()[-200:]
        telling = [
            line for line in lines if "ERROR" in line or "Exception" in line or "FATAL" in line
        ]
        said = f" It says: {telling[0][:300]}" if telling else ""
        return UnavailableError(
            "E1404",
            f"the broker {what}.{said}",
            f"Its log is {self.log_file(broker)}",
            broker=broker.node,
        )

    def _stop(self, cluster: Cluster) -> int:
        alive = [broker for broker in cluster.brokers if self.running(broker)]
        for broker in alive:
            os.kill(broker.pid, signal.SIGCONT)  # a paused process can't end
            os.kill(broker.pid, signal.SIGTERM)
        for broker in alive:
            if not self._wait_gone(broker, STOP_TIMEOUT_MS):
                os.kill(broker.pid, signal.SIGKILL)
                self._wait_gone(broker, STOP_TIMEOUT_MS)
        for broker in cluster.brokers:
            self._children.pop(broker.pid, None)
            broker.pid = 0
        self._save(cluster)
        return len(alive)

    def _wait_gone(self, broker: Broker, timeout_ms: int) -> bool:
        deadline_ms = self._clock.monotonic_ms() + timeout_ms
        while self.running(broker):
            if self._clock.monotonic_ms() >= deadline_ms:
                return False
            self._clock.sleep_ms(POLL_MS)
        return True
