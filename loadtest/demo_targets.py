"""What the demo loads into: an engine in this process, or two nodes on a real local broker."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol, Self

import httpx
from confluent_kafka import Producer
from rich.console import Console

from engine import wire
from engine.assembly import Engine
from engine.errors import UnavailableError
from engine.log.kafka.local import LocalKafka
from engine.settings import load_settings
from engine.telemetry.logs import configure_logs

POLL_S = 0.05
READY_S = 60.0
IN_FLIGHT_MAX = 1_500
KILL_AT = 0.5
PARTITIONS = 4


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

    def __init__(self, folder: Path, data: Path) -> None:
        configure_logs("console", "warning")
        flags = {"data": data, "http": {"port": 0}}
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
            self._waiting.popleft().result(READY_S)
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
        while self._waiting:
            self._waiting.popleft().result(READY_S)

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
        console.print("audit it once it is stopped: partita verify topology/flights --data DATA")

    def stay(self) -> None:
        """Stay up until Ctrl-C."""
        try:
            signal.pause()
        except KeyboardInterrupt:
            return


class KafkaTarget:
    """A real local broker and two nodes; the second is killed half-way and started again."""

    def __init__(self, folder: Path, data: Path) -> None:
        self._folder, self._data = folder, data
        self._kafka = LocalKafka(data / "kafka")
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = {"first": free_port(), "second": free_port()}
        self._killed = False
        self._bootstrap = ""
        self.url = f"http://127.0.0.1:{self._ports['first']}"

    def __enter__(self) -> Self:
        """Start the broker and both nodes, and wait until all partitions have an owner."""
        self._bootstrap = self._kafka.start(1, 0, None).bootstrap_servers
        for name in self._ports:
            self._start(name)
        self._producer = Producer(
            {"bootstrap.servers": self._bootstrap, "acks": "all", "enable.idempotence": True}
        )
        self._await_owners()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the nodes and the broker."""
        for process in self._nodes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._nodes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        self._kafka.stop()

    def _start(self, name: str) -> None:
        self._data.mkdir(parents=True, exist_ok=True)
        log = (self._data / f"{name}.log").open("ab")
        self._nodes[name] = subprocess.Popen(
            [
                *(sys.executable, "-m", "engine.cli", "serve", str(self._folder)),
                *("--bootstrap-servers", self._bootstrap, "--node", name),
                *("--http", f"127.0.0.1:{self._ports[name]}", "--data", str(self._data / name)),
            ],
            stderr=log,
            stdout=log,
            env=dict(os.environ),
        )

    def _await_owners(self) -> None:
        deadline = time.monotonic() + READY_S
        while self._owned() < PARTITIONS:
            if time.monotonic() > deadline:
                raise SystemExit(f"no owner for every partition; see {self._data}/*.log")
            time.sleep(POLL_S)

    def _states(self) -> list[dict[str, object]]:
        states: list[dict[str, object]] = []
        for port in self._ports.values():
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/v1/partitions", timeout=5)
                states += answer.json()["partitions"]
            except (httpx.HTTPError, ValueError):
                continue
        return states

    def _owned(self) -> int:
        return len({s["partition"] for s in self._states() if s["owner"] == "here"})

    def publish(self, workspace: str, value: bytes) -> None:
        """Publish a command as any Kafka client does."""
        partition = wire.partition_of(workspace.encode(), PARTITIONS)
        while True:
            try:
                self._producer.produce("flights.commands", value, workspace, partition)
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
        newest: dict[object, int] = {}
        for state in self._states():
            statistics = state.get("statistics") or {}
            if state["owner"] == "here" and isinstance(statistics, dict):
                newest[state["partition"]] = int(statistics.get("sequence", 0))
        return sum(newest.values())

    def wait(self) -> None:
        """Wait a moment."""
        time.sleep(POLL_S * 4)

    def act(self, part: float, console: Console) -> None:
        """Kill the second node half-way, and start it again."""
        if part < KILL_AT or self._killed:
            return
        self._killed = True
        self._nodes["second"].kill()
        self._nodes["second"].wait()
        console.print(
            "[bold]kill -9[/bold] of the second node; the group gives its partitions away"
        )
        self._start("second")

    def audit(self, console: Console) -> None:
        """Audit the topics: exactly one outcome per command, nothing lost, digests equal."""
        command = ("verify", str(self._folder), "--bootstrap-servers", self._bootstrap)
        found = subprocess.run(
            [sys.executable, "-m", "engine.cli", *command], capture_output=True, check=False
        )
        console.print("\n[bold]partita verify[/bold]", found.stdout.decode(), highlight=False)
        if found.returncode:
            raise SystemExit(found.stderr.decode())

    def stay(self) -> None:
        """Stay up until Ctrl-C."""
        try:
            signal.pause()
        except KeyboardInterrupt:
            return


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
