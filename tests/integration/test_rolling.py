"""A rolling update on a real broker: nodes restarted one by one, commands all the while.

Two nodes of this engine and of one that calls itself newer, under a client that knows nothing of
ours; then a higher version of the application, likewise.
"""

import json
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from engine_world import until
from test_redeploy import put

from loadtest.nodes import free_port
from loadtest.plain_client import Client

NEWER = "import engine; engine.__version__ = '99.0.0'; from engine.cli.main import main; main()"
ARGS = {"type": "record", "name": "Move", "fields": [{"name": "amount", "type": "long"}]}
STOP_S = 30
EVERY_S = 0.01


class Process:
    """A node as a process of its own."""

    def __init__(self, folder: Path, data: Path, name: str, kafka: str) -> None:
        self._folder, self._data, self._name, self._kafka = folder, data, name, kafka
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, newer: bool = False) -> None:
        how = ("-c", NEWER) if newer else ("-m", "engine.cli")
        command = [sys.executable, *how, "serve", str(self._folder), "--node", self._name]
        command += ["--bootstrap-servers", self._kafka, "--data", str(self._data)]
        command += ["--http", f"127.0.0.1:{self._port}"]
        with (self._data / f"{self._name}.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def versions(self) -> dict[int, str]:
        partitions = httpx.get(f"{self.url}/v1/partitions", timeout=5).json()["partitions"]
        return {
            each["partition"]: each["application"] for each in partitions if each["owner"] == "here"
        }

    def hang_up(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


class Sending:
    """Commands at a steady pace, until it is stopped."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            command = self._client.command("move", ARGS, {"amount": 1})
            self._client.publish(f"w{self.sent // 5}", command)
            self.sent += 1

    def stop(self) -> int:
        self._stopping.set()
        self._thread.join()
        self._client.flush()
        return self.sent


@pytest.fixture
def nodes(tmp_path: Path, kafka: str) -> Iterator[list[Process]]:
    name = f"ledger-{uuid.uuid4().hex[:8]}"
    put("ledger", tmp_path / "ledger", name)
    found = [Process(tmp_path / "ledger", tmp_path, node, kafka) for node in ("one", "two")]
    yield found
    for node in found:
        node.stop()


@pytest.mark.kafka
@pytest.mark.xdist_group("rolling")
def test_every_command_has_one_outcome_while_nodes_are_updated(
    tmp_path: Path, nodes: list[Process], kafka: str
) -> None:
    folder = tmp_path / "ledger"
    manifest = folder / "application.toml"
    name = manifest.read_text().split('name = "')[1].split('"')[0]
    for node in nodes:
        node.start()
    until(lambda: all(node.ready() for node in nodes))
    sending = Sending(Client(kafka, name))

    def versions() -> list[str]:
        found = {partition: at for node in nodes for partition, at in node.versions().items()}
        return [found[partition] for partition in sorted(found)]

    manifest.write_text(manifest.read_text().replace("1.0.0", "1.1.0"))
    for node, newer in zip(nodes, (True, False), strict=True):
        assert node.stop() == 0
        node.start(newer=newer)
        until(node.ready)
    until(lambda: versions() == ["1.1.0"] * 2)
    engines = {
        each["engine"] for each in httpx.get(f"{nodes[0].url}/v1/partitions").json()["nodes"]
    }
    assert "99.0.0" in engines
    assert len(engines) == 2
    manifest.write_text(manifest.read_text().replace("1.1.0", "1.2.0"))
    for node in nodes:
        node.hang_up()
    until(lambda: versions() == ["1.2.0"] * 2)

    sent = sending.stop()
    assert sent > 0
    until(lambda: handled(nodes) >= sent)
    for node in nodes:
        assert node.stop() == 0
    line = [sys.executable, "-m", "engine.cli", "verify", str(folder), "--json"]
    line += ["--bootstrap-servers", kafka]
    result = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
    report = json.loads(result.stdout)
    assert report["sound"], report
    assert sum(each["outcomes"] for each in report["partitions"]) == sent


def handled(nodes: list[Process]) -> int:
    """Return how many outcomes the owners have applied."""
    found: dict[int, int] = {}
    for node in nodes:
        for each in httpx.get(f"{node.url}/v1/partitions", timeout=5).json()["partitions"]:
            if each["owner"] == "here":
                found[each["partition"]] = int(each["statistics"]["sequence"])
    return sum(found.values())
