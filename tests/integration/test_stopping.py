"""A node that is to stop, while its walk hangs in an extension that never returns."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from engine_world import until
from hanging import write_hanging
from typer.testing import CliRunner

from engine.cli.main import app
from engine.errors import UnavailableError

INTERRUPTED = 130


class Served:
    """`partita dev` as a process of its own, and what it says."""

    def __init__(self, base: Path) -> None:
        self.said = base / "said"
        command = [sys.executable, "-m", "engine.cli", "dev", str(base / "purse")]
        command += ["--data", str(base / "data"), "--http", "127.0.0.1:0"]
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                command, stdout=said, stderr=said, env={**os.environ, "NO_COLOR": "1"}
            )
        self.url = str(until(self._listens, "it never listened"))

    def _listens(self) -> str:
        found = re.search(r" on (http://\S+)", self.said.read_text())
        return found[1] if found else ""

    def tell(self, what: str) -> None:
        """Wait until it says so."""
        until(lambda: what in self.said.read_text())

    def post(self, amount: int, wait_s: float = 60) -> httpx.Response:
        path = f"{self.url}/v1/workspaces/w/commands/move"
        key = {"Idempotency-Key": f"00000000-0000-4000-8000-{amount:012}"}
        return httpx.post(path, json={"amount": amount}, headers=key, timeout=wait_s)


@contextmanager
def served(base: Path) -> Iterator[Served]:
    node = Served(base)
    try:
        yield node
    finally:
        node.process.kill()
        node.process.wait()


@dataclass
class Hung:
    """A node that has answered one command and hangs in the next, which somebody waits for."""

    node: Served
    asked: "Future[httpx.Response]"


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[Hung]:
    write_hanging(tmp_path)
    with ThreadPoolExecutor(1) as client, served(tmp_path) as node:
        assert node.post(1).status_code == 200
        (tmp_path / "hanging").write_text("dev")
        asked = client.submit(node.post, 2)
        until((tmp_path / "hangs").exists)
        yield Hung(node, asked)


def goes_on(base: Path) -> None:
    """Start it again: nothing is lost, and nothing is there twice."""
    (base / "hanging").unlink()
    with served(base) as again:
        assert again.post(2).json()["workspace_sequence"] == 2
        assert again.post(1).json()["workspace_sequence"] == 1
        record = httpx.get(f"{again.url}/v1/workspaces/w/records/purse/0").json()
        assert record["fields"]["amount"] == 3
        again.process.send_signal(signal.SIGTERM)
        assert again.process.wait(30) == 0
    report = CliRunner().invoke(
        app, ["verify", str(base / "purse"), "--data", str(base / "data"), "--settled", "--json"]
    )
    assert json.loads(report.stdout)["sound"]


def test_a_second_signal_ends_a_stop_at_once(hung: Hung, tmp_path: Path) -> None:
    process = hung.node.process
    process.send_signal(signal.SIGTERM)
    hung.node.tell("handing 1 partitions over")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == INTERRUPTED  # one that waits ends as the next test shows
    assert isinstance(hung.asked.exception(10), httpx.TransportError)
    goes_on(tmp_path)


def test_a_stop_that_can_t_hand_over_ends_and_says_so(hung: Hung, tmp_path: Path) -> None:
    hung.node.process.send_signal(signal.SIGTERM)
    assert hung.node.process.wait(60) == UnavailableError.exit_status
    assert "E1408 1 partitions were not released in time" in hung.node.said.read_text()
    answer = hung.asked.result(10)
    assert (answer.status_code, answer.json()["code"]) == (503, "E1402")
    assert answer.headers["Retry-After"]
    goes_on(tmp_path)
