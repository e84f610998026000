"""Clients ride through the death of an owner: real nodes, real Kafka, kill -9 in the middle."""

import threading
import uuid
from pathlib import Path
from typing import Self

import httpx
import pytest
from engine_world import until
from purse import write_purse

from engine.world import SystemClock
from loadtest.nodes import LocalNodes

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]
WAIT_MS = 90_000
KEYS = 60


class Asking:
    """Posts commands through one node, each with its key until it is answered; reads beside."""

    def __init__(self, url: str) -> None:
        self.done = 0
        self.faults: list[object] = []
        self.stale = 0
        self._url = f"{url}/v1/workspaces/posted"
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(WAIT_MS / 1_000)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with httpx.Client(timeout=60) as client:
            for _ in range(KEYS):
                key = {"Idempotency-Key": str(uuid.uuid4())}
                while not self._answered(client, key):
                    SystemClock().sleep_ms(50)
                self.done += 1
                self._read(client)

    def _answered(self, client: httpx.Client, key: dict[str, str]) -> bool:
        answer = client.post(f"{self._url}/commands/move", json={"amount": 1}, headers=key)
        if answer.status_code == 503 and "retry-after" in answer.headers:
            self._read(client)  # which goes on meanwhile
            return False
        if answer.status_code != 200:
            self.faults.append(answer.text)
        return True

    def _read(self, client: httpx.Client) -> None:
        answer = client.get(f"{self._url}/records/purse/0?stale=ok")
        if answer.status_code != 200:
            self.faults.append(answer.text)
            return
        self.stale += answer.json().get("stale", False)
        assert (answer.headers.get("partita-stale") == "true") == ("stale" in answer.json())


def test_commands_and_reads_go_on_when_their_owner_is_killed(tmp_path: Path) -> None:
    write_purse(tmp_path / "purse")
    with LocalNodes(tmp_path / "purse", tmp_path / "data", ("a", "b")) as nodes:
        owner = nodes.owners()
        victim = "a" if served_by(nodes, "a") else "b"
        other = "b" if victim == "a" else "a"
        assert owner
        until(lambda: phase(nodes, other) == "standby", "nobody stands by")
        post(nodes.url(other))  # the workspace is there, on the standby too
        until(lambda: amount(nodes.url(other), "?stale=ok") == 1)
        with Asking(nodes.url(other)) as asking:
            until(lambda: asking.done > KEYS // 4)
            nodes.kill(victim)
        assert asking.faults == []
        assert asking.done == KEYS
        assert asking.stale > 0
        assert amount(nodes.url(other), "") == KEYS + 1


def served_by(nodes: LocalNodes, name: str) -> bool:
    answer = httpx.get(f"{nodes.url(name)}/v1/partitions", timeout=10).json()
    return answer["partitions"][0]["owner"] == "here"


def phase(nodes: LocalNodes, name: str) -> str:
    answer = httpx.get(f"{nodes.url(name)}/v1/partitions", timeout=10).json()
    return answer["partitions"][0].get("phase", "")


def post(url: str) -> None:
    path = f"{url}/v1/workspaces/posted/commands/move"
    key = {"Idempotency-Key": str(uuid.uuid4())}
    until(lambda: httpx.post(path, json={"amount": 1}, headers=key, timeout=60).status_code == 200)


def amount(url: str, options: str) -> int:
    answer = httpx.get(f"{url}/v1/workspaces/posted/records/purse/0{options}", timeout=60)
    return answer.json()["fields"]["amount"] if answer.status_code == 200 else 0
