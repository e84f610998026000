"""The words that read and write a broker's topics, on a real Apache Kafka."""

import os

import orjson
import pytest
from confluent_kafka.admin import AdminClient
from purse import Runner, move, write_purse
from typer.testing import CliRunner

from engine.cli.main import app
from engine.load.pace import parse_pace
from engine.load.recording import open_recording
from engine.load.replay_log import LogReplay, Plan
from engine.load.result import Result
from engine.load.rewrite import Rewriter
from engine.log.kafka.logs import KafkaLogs
from engine.settings import load_settings
from engine.simulator.disks import MemoryObjects
from engine.world import SystemClock

# One process runs them all: they share what the first of them has made.
pytestmark = [pytest.mark.kafka, pytest.mark.xdist_group("cli-kafka")]
runner = CliRunner()
COMMANDS = 50


class World:
    """An application on the broker, and one replica of it that has decided some commands."""

    def __init__(self, folder, kafka: str) -> None:
        self.folder = folder / "purse"
        name = f"purse-cli-{os.getpid()}"
        self.application = write_purse(self.folder, name)
        log = {"kind": "kafka", "bootstrap_servers": kafka}
        self.kafka = kafka
        self.logs = KafkaLogs(load_settings(None, {"log": log}).log, name, 1)
        self.runner = Runner(self.application, self.logs, MemoryObjects(), SystemClock())
        now_ms = SystemClock().now_ms()
        for number in range(COMMANDS):
            value = move(self.application, number, now_ms)
            self.logs.commands.publish(0, f"w{number % 5}".encode(), value)
        self.runner.settle(COMMANDS)

    def run(self, *words: object):
        given = [*map(str, words), "--bootstrap-servers", self.kafka]
        return runner.invoke(app, given, env={"NO_COLOR": "1"})

    def json(self, *words: object):
        result = self.run(*words)
        assert result.exit_code == 0, result.output
        return orjson.loads(result.stdout)


@pytest.fixture(scope="module")
def world(tmp_path_factory, kafka):
    made = World(tmp_path_factory.mktemp("kafka-cli"), kafka)
    yield made
    made.runner.replica.close()
    made.logs.close()


def test_events_are_read_from_the_broker(world):
    result = world.run("events", "tail", world.folder, "--json", "-n", 3)
    shown = [orjson.loads(line) for line in result.stdout.splitlines()]
    newest = shown[-1]["sequence"]
    assert newest >= COMMANDS, "other tests send more"
    assert [one["sequence"] for one in shown] == [newest - 2, newest - 1, newest]
    outcome = world.json("events", "show", 0, 1, world.folder)
    assert outcome["command"] == "move"


def test_the_audit_of_the_topics_is_clean(world):
    found = world.json("verify", world.folder, "--json")
    assert found["sound"]
    assert found["total"]["distinct_ids"] == found["total"]["outcomes"] >= COMMANDS


def test_a_broker_needs_the_folder(world):
    assert world.run("verify").exit_code == 2


def test_recorded_and_replayed_through_the_broker(world, tmp_path):
    file = tmp_path / "recording"
    recorded = world.json(
        "load", "record", file, world.folder, "--from-begin", "--until-end", "--json"
    )
    assert recorded["commands"] >= COMMANDS
    recording = open_recording(file)
    plan = Plan(parse_pace("max"), Rewriter(b"run", SystemClock().now_ms(), 0))
    result = Result("run", "file", world.kafka, "max", 0)
    # The replica is ticked here, by this thread: it decides whenever the replay waits.
    ticking = _Ticking(world)
    LogReplay(ticking, 1, plan, result).run(recording.commands())
    assert (result.sent, result.answered) == (recording.count, recording.count)
    assert (result.missing, result.failed) == (0, 0)


class _Ticking:
    """The logs of a client, in which each wait also lets the replica go on."""

    def __init__(self, world: World) -> None:
        self._world = world
        settings = world.logs.connection.settings
        self._own = KafkaLogs(settings, world.application.name, 1)
        self.commands = self._own.commands

    def event_log(self, partition: int):
        return self._own.event_log(partition)

    def wait(self, timeout_ms: int) -> None:
        self._world.runner.replica.tick()
        self._world.logs.wait(timeout_ms)
        self._own.wait(timeout_ms)


def test_readers_make_no_topics(world, tmp_path):
    write_purse(tmp_path / "purse", "purse-nobody-made")
    for words in (("verify",), ("events", "tail"), ("command", "list-rejected")):
        result = world.run(*words, tmp_path / "purse")
        assert result.exit_code == 5, result.output
        assert "E1301" in result.stderr
        assert "purse-nobody-made.commands" in result.stderr
        assert world.kafka in result.stderr
    known = AdminClient({"bootstrap.servers": world.kafka}).list_topics(timeout=30).topics
    assert [name for name in known if "nobody-made" in name] == []
