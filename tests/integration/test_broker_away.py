"""A node whose broker is not there: before it starts, and for longer than an append may take."""

import functools
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from engine_world import until
from kafka_fixture import own_kafka
from purse import write_purse
from typer.testing import CliRunner

from engine import assembly, limits, wire
from engine.application.schema import encode
from engine.assembly import Engine
from engine.cli.main import app
from engine.http import Waits, create_app
from engine.log.kafka.local import LocalKafka
from engine.model import Phase
from engine.settings import load_settings
from engine.world import SystemClock
from loadtest.nodes import free_port

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
WAIT_MS = 90_000
DEADLINE_MS = 2_000
COMMANDS = 400


@contextmanager
def serving(folder: Path, data: Path, address: str) -> Iterator[tuple[subprocess.Popen, list[str]]]:
    """Run `partita serve`; yield the process and what it says, line by line."""
    command = [
        *(sys.executable, "-m", "engine.cli", "serve", str(folder), "--data", str(data)),
        *("--http", "127.0.0.1:0", "--bootstrap-servers", address),
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    said: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: said.extend(process.stderr or []), daemon=True)
    reader.start()
    try:
        yield process, said
    finally:
        process.kill()
        process.wait()
        reader.join(10)
        process.stderr.close()


def heard(said: list[str], text: str) -> list[str]:
    return [line for line in said if text in line]


def test_a_node_waits_for_its_broker_and_says_so_once(tmp_path):
    write_purse(tmp_path / "purse")
    port = free_port()
    broker = LocalKafka(tmp_path / "kafka")
    with serving(tmp_path / "purse", tmp_path / "data", f"127.0.0.1:{port}") as (process, said):
        until(lambda: heard(said, "waiting for Kafka"), said)
        try:
            broker.start(port=port)
            (line,) = until(lambda: heard(said, " on http://"), said)
            url = line.split()[-1].rstrip('"}')
            path = f"{url}/v1/workspaces/w/commands/move"
            assert httpx.post(path, json={"amount": 1}, timeout=30).status_code == 200
            (waiting,) = heard(said, "waiting for Kafka")
            for part in ("E1401", f"127.0.0.1:{port}"):
                assert part in waiting
            until(lambda: committed(f"127.0.0.1:{port}", "purse") == 1, "no offset for lag tools")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            broker.stop()


def committed(address: str, group: str) -> int:
    """Return the group's offset, as a lag tool asks for it."""
    admin = AdminClient({"bootstrap.servers": address})
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(f"{group}.commands", 0)])
    (found,) = admin.list_consumer_group_offsets([asked]).values()
    return found.result(30).topic_partitions[0].offset


def test_a_node_that_waits_ends_at_the_first_signal(tmp_path):
    write_purse(tmp_path / "purse")
    address = f"127.0.0.1:{free_port()}"
    with serving(tmp_path / "purse", tmp_path / "data", address) as (process, said):
        until(lambda: heard(said, "waiting for Kafka"), said)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        until(lambda: heard(said, "stopped before it had started"), said)


class Posting:
    """Posts commands with ids of their own, again with the same id until each is answered."""

    def __init__(self, url: str) -> None:
        self.statuses: list[int] = []
        self.faults: list[object] = []
        self.accepted = 0
        self._url = f"{url}/v1/workspaces/posted/commands/move"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with httpx.Client(timeout=60) as client:
            while not self._stop.is_set():
                headers = {"Idempotency-Key": str(uuid.uuid4())}
                while not self._answered(
                    client.post(self._url, json={"amount": 1}, headers=headers)
                ):
                    SystemClock().sleep_ms(50)
                self.accepted += 1

    def _answered(self, answer: httpx.Response) -> bool:
        self.statuses.append(answer.status_code)
        if answer.status_code == 503 and "retry-after" in answer.headers:
            return False
        if answer.status_code != 200:
            self.faults.append(answer.text)
        return True

    def end(self) -> None:
        self._stop.set()
        self._thread.join(WAIT_MS / 1_000)
        assert not self._thread.is_alive()


@pytest.mark.parametrize("away", [signal.SIGSTOP, signal.SIGKILL])
def test_a_broker_away_for_longer_than_an_append_may_take(tmp_path, monkeypatch, away):
    monkeypatch.setattr(limits, "APPEND_DEADLINE_MS", DEADLINE_MS)
    impatient = functools.partial(create_app, waits=Waits(outcome_ms=2 * DEADLINE_MS))
    monkeypatch.setattr(assembly, "create_app", impatient)
    application = write_purse(tmp_path / "purse")
    with own_kafka(tmp_path / "kafka") as (broker, address):
        flags = {
            "data": tmp_path / "data",
            "http": {"port": 0},
            "log": {"kind": "kafka", "bootstrap_servers": address},
        }
        engine = Engine(load_settings(None, flags), tmp_path / "purse")
        engine.start()
        until(engine.node.ready)
        posting = Posting(engine.server.url)
        try:
            publish(application, address, lambda: leave(engine, broker, posting, away))
            until(lambda: decided(engine) >= COMMANDS, engine.node.problems())
            until(engine.node.ready)
        finally:
            posting.end()
        assert posting.faults == []
        assert set(posting.statuses) == {200, 503}
        shown = {
            name: httpx.get(
                f"{engine.server.url}/v1/workspaces/{name}/records/purse/0", timeout=30
            ).json()["fields"]["amount"]
            for name in ("published", "posted")
        }
        assert shown == {"published": COMMANDS, "posted": posting.accepted}
        engine.stop()
        words = ("verify", str(tmp_path / "purse"), "--bootstrap-servers", address, "--settled")
        result = CliRunner().invoke(app, [*words, "--json"], env={"NO_COLOR": "1"})
        assert result.exit_code == 0, result.output
        total = json.loads(result.stdout)["total"]
        assert (total["outcomes"], total["rejected"]) == (COMMANDS + posting.accepted, 0)


def publish(application, address: str, half_way) -> None:
    """Publish commands; call `half_way` in the middle, with commands still on their way."""
    args = application.commands["move"].args
    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True})
    for number in range(COMMANDS):
        command = {
            "command_id": uuid.uuid4().bytes,
            "name": "move",
            "args_schema": args.fingerprint,
            "args": encode(args, {"amount": 1}),
        }
        producer.produce(
            f"{application.name}.commands", wire.encode_command(command), b"published", 0
        )
        producer.poll(0)
        if number == COMMANDS // 2:
            half_way()
    assert producer.flush(60) == 0


def leave(engine: Engine, broker: LocalKafka, posting: Posting, away: int) -> None:
    """Take the broker away for longer than appends may take; the node still answers."""
    replica = engine.node._replicas[0]
    until(lambda: posting.statuses and replica.phase is Phase.OWNING)
    broker.kill(number=away)
    clock = SystemClock()
    late_ms = clock.monotonic_ms() + 2 * DEADLINE_MS
    until(lambda: 503 in posting.statuses and clock.monotonic_ms() > late_ms)
    health = httpx.get(f"{engine.server.url}/health/ready", timeout=5)
    assert health.json()["problems"] == {}, "it goes on by itself: nobody need do anything"
    assert httpx.get(f"{engine.server.url}/health/live", timeout=5).status_code == 200
    if away is signal.SIGSTOP:
        broker.kill(number=signal.SIGCONT)
    else:
        broker.start()


def decided(engine: Engine) -> int:
    path = f"{engine.server.url}/v1/workspaces/published/records/purse/0"
    answer = httpx.get(path, timeout=30)
    return answer.json()["fields"]["amount"] if answer.status_code == 200 else 0
