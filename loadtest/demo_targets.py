"""What the demo loads into: an engine in this process, or two nodes on a real local broker."""

import signal
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol, Self

from confluent_kafka import Producer
from rich.console import Console

from engine.assembly import Engine
from engine.errors import UnavailableError
from engine.settings import load_settings
from engine.telemetry.logs import configure_logs
from loadtest.nodes import LocalNodes, Setup, partita

POLL_S = 0.05
READY_S = 60.0
IN_FLIGHT_MAX = 1_500
KILL_AT = 0.5


class Target(Protocol):
    """Somewhere to publish commands to."""

    url: str

    def publish(self, workspace: str, value: bytes) -> None: ...
    def flush(self) -> None: ...
    def decided(self) -> int: ...
    def wait(self) -> None: ...
    def act(self, part: float, console: Console) -> None: ...
    def audit(self, console: Console) -> None: ...
    def stay(self) -> None: ...


class EmbeddedTarget:
    """An engine in this process on the embedded log."""

    def __init__(self, folder: Path, data: Path, host: str | None = None) -> None:
        configure_logs("console", "warning")
        self._data = data
        flags = {"data": data, "host": host, "http": {"port": 0}}
        self._engine = Engine(load_settings(None, flags), folder)
        self._waiting: deque[Future[None]] = deque()
        self.url = self._engine.server.url

    def __enter__(self) -> Self:
        """Start the engine and wait until it serves everything."""
        self._engine.start()
        deadline = time.monotonic() + READY_S
        while not self._engine.node.ready():
            if time.monotonic() > deadline:
                raise SystemExit(f"not ready after {READY_S} s: {self._engine.node.problems()}")
            time.sleep(POLL_S)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the engine."""
        self._engine.stop()

    def publish(self, workspace: str, value: bytes) -> None:
        """Publish a command, waiting when too many are on their way to the log."""
        node = self._engine.node
        if len(self._waiting) >= IN_FLIGHT_MAX:
            self._await(IN_FLIGHT_MAX // 2)
        while True:
            try:
                future = node.publish(node.partition_of(workspace), workspace, value)
            except UnavailableError:
                time.sleep(POLL_S)
                continue
            self._waiting.append(future)
            return

    def flush(self) -> None:
        """Wait until the log has everything."""
        self._await(0)

    def _await(self, left: int) -> None:
        """Wait until the log has all but the newest; once, as each wake-up is one of the walk's."""
        while len(self._waiting) > left:
            self._waiting[-left - 1].result(READY_S)
            while self._waiting and self._waiting[0].done():
                self._waiting.popleft().result()

    def decided(self) -> int:
        """Return how many outcomes are applied."""
        return sum(held.sequence for beat in self._engine.node.peers() for held in beat.partitions)

    def wait(self) -> None:
        """Wait a moment."""
        time.sleep(POLL_S)

    def act(self, part: float, console: Console) -> None:
        """Nothing is killed here."""

    def audit(self, console: Console) -> None:
        """Leave the audit to a stopped engine."""
        console.print(
            f"audit it: partita verify topology/flights --data {self._data}", soft_wrap=True
        )

    def stay(self) -> None:
        """Stay up until Ctrl-C."""
        _pause()


class KafkaTarget:
    """A real local broker and two nodes; the second is killed half-way and started again."""

    def __init__(self, folder: Path, data: Path, host: str | None = None) -> None:
        self._folder = folder
        setup = Setup(variables={"PARTITA__HOST": host} if host else {})
        self._nodes = LocalNodes(folder, data, ("first", "second"), setup=setup)
        self._killed = False
        self.url = self._nodes.url("first")

    def __enter__(self) -> Self:
        """Start the broker and both nodes, and wait until all partitions have an owner."""
        self._nodes.__enter__()
        self._producer = Producer(
            {
                "bootstrap.servers": self._nodes.bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
            }
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the nodes and the broker; the producer first, or it complains of the broker."""
        del self._producer
        self._nodes.__exit__()

    def publish(self, workspace: str, value: bytes) -> None:
        """Publish a command as any Kafka client does that partitions by murmur2."""
        while True:
            try:
                self._producer.produce("flights.commands", value, workspace)
            except BufferError:
                self._producer.poll(POLL_S)
                continue
            self._producer.poll(0)
            return

    def flush(self) -> None:
        """Wait until the broker has everything."""
        self._producer.flush(READY_S)

    def decided(self) -> int:
        """Return how many outcomes are applied by the owners."""
        return self._nodes.decided()

    def wait(self) -> None:
        """Wait a moment."""
        time.sleep(POLL_S * 4)

    def act(self, part: float, console: Console) -> None:
        """Kill the second node half-way, and start it again."""
        if part < KILL_AT or self._killed:
            return
        self._killed = True
        self._nodes.kill("second")
        console.print("[bold]kill -9[/bold] of the second node; the first one takes its partitions")
        self._nodes.start("second")

    def audit(self, console: Console) -> None:
        """Audit the topics: exactly one outcome per command, nothing lost, digests equal."""
        servers = self._nodes.bootstrap
        found = partita("verify", str(self._folder), "--bootstrap-servers", servers)
        console.print("\n[bold]partita verify[/bold]")
        print(found.stdout)
        if found.returncode:
            raise SystemExit(found.stderr)

    def stay(self) -> None:
        """Stay up until Ctrl-C."""
        _pause()


def _pause() -> None:
    try:
        signal.pause()
    except KeyboardInterrupt:
        return
