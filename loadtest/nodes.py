"""Nodes as processes of their own on a real local broker: started, asked, killed, stopped."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from engine.application.folder import load_application
from engine.log.kafka.local import LocalKafka, Seat
from loadtest.network import Network

POLL_S = 0.1
READY_S = 300.0
STOP_S = 20.0


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def partita(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line to its end."""
    command = [sys.executable, "-m", "engine.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Setup:
    """How brokers and nodes are started, where it isn't as usual.

    With a network, every broker (`broker-1` …) and every node is a place in it.
    """

    brokers: int = 1
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    network: Network | None = None
    stock: bool = False


class LocalNodes:
    """Brokers and nodes of one application under one folder; all ended with the block."""

    def __init__(
        self, folder: Path, data: Path, names: tuple[str, ...], setup: Setup | None = None
    ) -> None:
        self.folder, self.data, self.names = folder, data, names
        self.partitions = load_application(folder).partitions
        self.bootstrap = ""
        self.setup = setup or Setup()
        network = self.setup.network
        self.brokers = tuple(f"broker-{at}" for at in range(1, self.setup.brokers + 1))
        seats = [Seat(network.address(b), network.command(b)) for b in self.brokers if network]
        self.kafka = LocalKafka(data / "kafka", stock=self.setup.stock, seats=seats)
        self._ports = {name: free_port() for name in names}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        """Start the broker and all nodes, and wait until every partition has an owner."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.bootstrap = self.kafka.start(len(self.brokers), 0, None).bootstrap_servers
        try:
            for name in self._ports:
                self.start(name)
            self.await_owners()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the nodes, then the broker."""
        self.stop_nodes()
        self.kafka.stop()

    def stop_nodes(self) -> None:
        """Ask every node to hand over and leave."""
        for process in self._processes.values():
            process.send_signal(signal.SIGCONT)  # a paused process can't leave
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def start(self, name: str) -> None:
        """Start a node; its log is NAME.log."""
        network = self.setup.network
        command = [
            *(network.command(name) if network else ()),
            *(sys.executable, "-m", "engine.cli", "serve", str(self.folder)),
            *("--bootstrap-servers", self.bootstrap, "--node", name),
            *("--http", self.address(name), "--data", str(self.data / name)),
            *(("--insecure",) if network else ()),
            *self.setup.options,
        ]
        with (self.data / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stderr=log, stdout=log, env={**os.environ, **self.setup.variables}
            )

    def kill(self, name: str) -> None:
        """Kill -9 a node."""
        self._processes[name].kill()
        self._processes[name].wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a node a signal."""
        self._processes[name].send_signal(number)

    def wait(self, name: str) -> int:
        """Wait until a node has ended; return its exit status. One that hangs is killed."""
        try:
            return self._processes[name].wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill(name)
            return -signal.SIGKILL

    def ended(self) -> dict[str, int]:
        """Return the exit status of each node that ended by itself."""
        polled = {name: process.poll() for name, process in self._processes.items()}
        return {name: status for name, status in polled.items() if status is not None}

    def pid(self, name: str) -> int:
        """Return a node's process id."""
        return self._processes[name].pid

    def address(self, name: str) -> str:
        """Return where a node listens."""
        host = self.setup.network.address(name) if self.setup.network else "127.0.0.1"
        return f"{host}:{self._ports[name]}"

    def url(self, name: str) -> str:
        """Return where a node answers."""
        return f"http://{self.address(name)}"

    def owners(self) -> dict[int, dict[str, Any]]:
        """Return what the owner of each partition says, and its name; without those of none."""
        found: dict[int, dict[str, Any]] = {}
        for name in self._processes:
            try:
                answer = httpx.get(f"{self.url(name)}/v1/partitions", timeout=5).json()
            except (httpx.HTTPError, ValueError):
                continue
            for entry in answer.get("partitions", ()):  # none while it waits for its broker
                if entry["owner"] == "here":
                    newer = entry["statistics"]["epoch"]
                    known = found.get(entry["partition"])
                    if known is None or known["statistics"]["epoch"] < newer:
                        found[entry["partition"]] = {**entry, "node": name}
        return found

    def await_owners(self) -> None:
        """Wait until every partition has an owner."""
        self._await(lambda: len(self.owners()) == self.partitions, "a partition has no owner")

    def await_answers(self, name: str) -> None:
        """Wait until a node that was just started answers over HTTP."""
        self._await(lambda: self._answers(name), f"{name} does not answer")

    def _answers(self, name: str) -> bool:
        try:
            httpx.get(f"{self.url(name)}/v1/partitions", timeout=5)
        except httpx.TransportError:
            return False
        return True

    def _await(self, done: Callable[[], bool], problem: str) -> None:
        deadline = time.monotonic() + READY_S
        while not done():
            if time.monotonic() > deadline:
                raise SystemExit(f"{problem}; see {self.data}/*.log")
            time.sleep(POLL_S)

    def decided(self) -> int:
        """Return how many outcomes the owners have applied."""
        return sum(int(entry["statistics"]["sequence"]) for entry in self.owners().values())
