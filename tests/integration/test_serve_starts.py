"""What `partita serve` says before it serves: a broker that is away, topics that differ."""

import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest
from engine_world import until
from test_redeploy import put

from engine.log.kafka.logs import KafkaLogs
from engine.settings import LogSettings
from loadtest.nodes import free_port


def serve(folder: Path, kafka: str, port: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "engine.cli", "serve", str(folder), "--node", "one"]
    command += ["--bootstrap-servers", kafka, "--data", str(folder.parent / "data")]
    command += ["--http", f"127.0.0.1:{port}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_a_node_without_its_broker_answers_that_it_waits(tmp_path: Path) -> None:
    put("ledger", tmp_path / "ledger", "ledger")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = serve(tmp_path / "ledger", f"127.0.0.1:{free_port()}", port)
    try:

        def reason() -> str:
            try:
                answer = httpx.get(f"{url}/health/ready", timeout=5)
            except httpx.HTTPError:
                return ""
            assert answer.status_code == 503
            assert answer.headers["Retry-After"]
            return answer.json()["reason"]

        until(lambda: "waiting for Kafka" in reason())
        assert "E1401" in reason()
        assert httpx.get(f"{url}/health/live").json() == {"status": "live"}
        answer = httpx.post(f"{url}/v1/workspaces/w/commands/move", json={"amount": 1})
        assert answer.status_code == 503
        assert answer.json()["code"] == "E1402"
        assert "waiting for Kafka" in answer.json()["detail"]
        process.terminate()
        process.wait(30)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.kafka
def test_another_number_of_partitions_than_the_topics_have_is_refused(
    tmp_path: Path, kafka: str
) -> None:
    name = f"ledger-{uuid.uuid4().hex[:8]}"
    put("ledger", tmp_path / "ledger", name)
    KafkaLogs(LogSettings(kind="kafka", bootstrap_servers=kafka), name, 3).close()
    process = serve(tmp_path / "ledger", kafka, 0)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "E1301" in said
    assert "partitions" in said
