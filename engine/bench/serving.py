"""Nodes as their users run them: `partita serve`, killed, paused, stopped and asked over HTTP.

Owns processes and nothing of what they do; every one it has started is ended with the block.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from engine.log.kafka.processes import HOST, free_ports

STOP_S = 30.0
ASK_S = 2.0
SNAPSHOT_S = 120.0


class Served:
    """The nodes of one application on one broker."""

    def __init__(
        self,
        folder: Path,
        data: Path,
        bootstrap: str,
        names: Sequence[str],
        flags: Sequence[str],
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._command = [
            *(sys.executable, "-m", "engine.cli", "serve", str(folder)),
            *("--bootstrap-servers", bootstrap, *flags),
        ]
        self._data = data
        self._variables = {**os.environ, **(variables or {})}
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._http = httpx.Client(timeout=ASK_S)

    def __enter__(self) -> Self:
        """Start all nodes."""
        self._data.mkdir(parents=True, exist_ok=True)
        for name in self._ports:
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        """Let all nodes hand over and leave; kill what hangs."""
        for name in self._processes:
            self.signal(name, signal.SIGCONT)
            self.signal(name, signal.SIGTERM)
        for name in self._processes:
            self.ended(name)
        self._http.close()

    @property
    def names(self) -> list[str]:
        """Return the nodes' names."""
        return list(self._ports)

    def url(self, name: str) -> str:
        """Return where a node answers."""
        return f"http://{HOST}:{self._ports[name]}"

    def start(self, name: str) -> None:
        """Start a node; what it says goes to NAME.log."""
        place = ("--http", f"{HOST}:{self._ports[name]}", "--data", str(self._data / name))
        with (self._data / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(  # noqa: S603 - our own command line
                [*self._command, "--node", name, *place],
                stdout=log,
                stderr=log,
                env=self._variables,
            )

    def wipe(self, name: str) -> None:
        """Take the disk of a node that doesn't run."""
        shutil.rmtree(self._data / name)

    def snapshot(self, partition: int, name: str) -> None:
        """Have a partition's owner take a snapshot of it."""
        place = f"{self.url(name)}/v1/partitions/{partition}/snapshot"
        self._http.post(place, timeout=SNAPSHOT_S).raise_for_status()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a node a signal."""
        self._processes[name].send_signal(number)

    def ended(self, name: str) -> None:
        """Wait until a node has ended; kill it if that takes too long."""
        try:
            self._processes[name].wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._processes[name].kill()
            self._processes[name].wait()

    def held(self, name: str) -> dict[int, dict[str, Any]]:
        """Return what a node says of each partition; nothing if it doesn't answer."""
        try:
            told = self._http.get(f"{self.url(name)}/v1/partitions").json()
        except (httpx.HTTPError, ValueError):
            return {}
        return {entry["partition"]: entry for entry in told.get("partitions", ())}

    def owners(self) -> dict[int, str]:
        """Return who owns each partition, by the nodes' own words."""
        found: dict[int, tuple[int, str]] = {}
        for name in self.names:
            for partition, entry in self.held(name).items():
                if entry["owner"] == "here":
                    epoch = entry["statistics"]["epoch"]
                    found[partition] = max(found.get(partition, (0, "")), (epoch, name))
        return {partition: name for partition, (_, name) in found.items()}

    def sequences(self) -> dict[int, int]:
        """Return how many outcomes each partition's owner has applied."""
        found: dict[int, int] = {}
        for name in self.names:
            for partition, entry in self.held(name).items():
                if entry["owner"] == "here":
                    sequence = entry["statistics"]["sequence"]
                    found[partition] = max(found.get(partition, 0), sequence)
        return found
