"""A node whose walk hangs for ever while its process, its HTTP and its heart go on; real Kafka."""

import uuid
from pathlib import Path

import httpx
import pytest
from engine_world import until
from hanging import write_hanging
from test_failover import amount, phase, post, served_by

from loadtest.nodes import LocalNodes, Setup

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


def health(nodes: LocalNodes, name: str, path: str) -> tuple[int, str]:
    answer = httpx.get(f"{nodes.url(name)}/health/{path}", timeout=10)
    return answer.status_code, answer.json()["status"]


def test_a_node_that_hangs_says_so_and_another_takes_over(tmp_path: Path) -> None:
    with LocalNodes(write_hanging(tmp_path), tmp_path / "data", ("a", "b")) as nodes:
        victim = "a" if served_by(nodes, "a") else "b"
        other = "b" if victim == "a" else "a"
        until(lambda: phase(nodes, other) == "standby", "nobody stands by")
        post(nodes.url(other))
        assert health(nodes, victim, "ready") == (200, "ready")
        (tmp_path / "hanging").write_text(victim)
        key = {"Idempotency-Key": str(uuid.uuid4())}

        def ask(name: str) -> httpx.Response:
            path = f"{nodes.url(name)}/v1/workspaces/posted/commands/move"
            return httpx.post(path, json={"amount": 1}, headers=key, timeout=60)

        # In vain with the owner that hangs, until another one owns: never a wrong answer.
        refused = ask(victim)
        assert (tmp_path / "hangs").exists()
        assert refused.status_code == 503
        assert refused.headers["Retry-After"]
        until(lambda: served_by(nodes, other))
        decided = until(lambda: (one := ask(other)).status_code == 200 and one)
        assert decided.json()["workspace_sequence"] == 2
        assert amount(nodes.url(other), "") == 2
        assert health(nodes, victim, "live") == (503, "stuck")
        assert health(nodes, victim, "ready") == (503, "stuck")
        assert health(nodes, other, "live") == (200, "live")
        read = httpx.get(f"{nodes.url(victim)}/v1/workspaces/posted/records/purse/0", timeout=60)
        assert read.status_code == 503, "it can't know that it is the owner"
        # It goes on: what it decides doesn't count; it follows, or has what the group gives it.
        (tmp_path / "hanging").unlink()
        until(lambda: phase(nodes, victim) in {"standby", "owning"})
        assert health(nodes, victim, "live") == (200, "live")
        again = until(lambda: (one := ask(victim)).status_code == 200 and one)
        assert again.json() == decided.json()
        post(nodes.url(victim))
        assert amount(nodes.url(victim), "") == 3


def test_without_a_standby_the_group_gives_its_partitions_to_another(tmp_path: Path) -> None:
    setup = Setup(options=("--standbys", "0"))
    with LocalNodes(write_hanging(tmp_path), tmp_path / "data", ("a", "b"), setup) as nodes:
        victim = "a" if served_by(nodes, "a") else "b"
        other = "b" if victim == "a" else "a"
        post(nodes.url(victim))
        assert phase(nodes, other) == "", "it holds nothing of it"
        (tmp_path / "hanging").write_text(victim)
        refused = httpx.post(
            f"{nodes.url(victim)}/v1/workspaces/posted/commands/move",
            json={"amount": 1},
            headers={"Idempotency-Key": str(uuid.uuid4())},
            timeout=60,
        )
        assert refused.status_code == 503
        until(lambda: served_by(nodes, other))
        post(nodes.url(other))
        assert amount(nodes.url(other), "") == 3, "the one that was refused is decided, once"
        assert health(nodes, victim, "live") == (503, "stuck")
        # It goes on, is a member again, and so has what the group gives it.
        (tmp_path / "hanging").unlink()
        until(lambda: health(nodes, victim, "live") == (200, "live"))
        nodes.kill(other)
        until(lambda: served_by(nodes, victim))
        post(nodes.url(victim))
        assert amount(nodes.url(victim), "") == 4
