"""The event log archived and trimmed under a real engine, and everything that reads on there."""

import functools
import shutil
import time
import uuid

import orjson
import pytest
from engine_world import LEDGER, World, until
from kafka_fixture import delete_records, delete_topics
from test_stores import fill, rows
from typer.testing import CliRunner

from engine import limits
from engine.cli.main import app
from engine.log.embedded import EmbeddedLogs, EmbeddedSettings
from engine.log.kafka.logs import KafkaLogs
from engine.settings import LogSettings
from engine.wire import partition_of
from engine.world import SystemClock, SystemRandom

runner = CliRunner()
WINDOW_MS = 700
SEGMENT_BYTES = 2_000


class Archived(World):
    """An engine that remembers ids for a moment only, so that there is something to trim."""

    def __init__(self, folder, log):
        self.name = f"ledger-{uuid.uuid4().hex[:10]}"
        self.log = log
        self.moved = []
        self.put("ledger", folder / "source")
        self.objects = folder / "snapshots" / self.name
        super().__init__(
            folder / "data",
            folder / "source",
            log=log,
            node="one",
            snapshots={"url": f"file://{folder}/snapshots", "keep": 1, "keep_younger_s": 0},
        )

    def put(self, version, source):
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(LEDGER.with_name(version), source)
        manifest = source / "application.toml"
        manifest.write_text(
            manifest.read_text().replace('name = "ledger"', f'name = "{self.name}"')
        )

    @property
    def stores(self):
        base = self.folder / self.name
        return base / "nodes" / "one" if self.log["kind"] == "kafka" else base / "stores"

    def environment(self):
        return {
            "NO_COLOR": "1",
            "PARTITA__DATA": str(self.folder),
            "PARTITA__SNAPSHOTS__URL": self.settings["snapshots"]["url"],
            "PARTITA__LOG__KIND": self.log["kind"],
            "PARTITA__LOG__BOOTSTRAP_SERVERS": self.log.get("bootstrap_servers", "127.0.0.1:1"),
            "PARTITA__LOG__TOPIC_PREFIX": self.log.get("topic_prefix", ""),
        }

    def run(self, *words):
        given = [*map(str, words), str(self.source)]
        return runner.invoke(app, given, env=self.environment())

    def said(self, *words):
        result = self.run(*words, "--json")
        assert result.exit_code == 0, result.output
        start = min(result.stdout.find(mark) for mark in ("[\n", "{\n") if mark in result.stdout)
        return orjson.loads(result.stdout[start:])

    def begins(self):
        """Return where each partition's own log begins."""
        logs = self.kafka() if self.log["kind"] == "kafka" else self.embedded()
        begins = [logs.event_log(partition).bounds().begin for partition in (0, 1)]
        logs.close()
        return begins

    def embedded(self):
        settings = EmbeddedSettings(self.name, 2, SEGMENT_BYTES, command_retention_ms=None)
        folder = self.folder / self.name / "log"
        return EmbeddedLogs(folder, settings, SystemClock(), SystemRandom())

    def kafka(self):
        return KafkaLogs(LogSettings(**self.log), self.name, 2)

    def copied(self, *words):
        """Copy the log to a new place, where this world is from then on."""
        environment = self.environment()
        where = self._elsewhere()
        given = ["log", "copy", *words, *where, self.source, "--json"]
        result = runner.invoke(app, [str(word) for word in given], env=environment)
        assert result.exit_code == 0, result.output
        return orjson.loads(result.stdout[result.stdout.index("[\n") :])

    def _elsewhere(self):
        """Move this world, and return the flags that say where to."""
        self.folder = self.folder.with_name("elsewhere")
        if self.log["kind"] == "kafka":
            self.moved.append(self.log)
            self.log = {**self.log, "topic_prefix": f"new{len(self.moved)}-"}
            self.settings["log"] = self.log
            return ["--to-topic-prefix", self.log["topic_prefix"]]
        return ["--to-data", self.folder]

    def lose(self):
        """Lose everything of the old place but what lies with the snapshots."""
        if self.log["kind"] == "kafka":
            logs = self.kafka()
            delete_topics(logs)
            logs.close()
        shutil.rmtree(self.folder)

    def owners(self):
        result = self.run("events", "tail", "--all", "-n", 1_000, "-p", 0, "--json")
        lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
        return [one for one in map(orjson.loads, lines) if one["kind"] == "owner"]

    def marked(self):
        """Return once each partition has marked what it has decided last."""
        for workspace in ("east", "west"):
            moved = self.move(1, workspace)
            partition, sequence = moved["partition"], moved["sequence"]
            until(lambda p=partition, s=sequence: self._mark(p) >= s)

    def _mark(self, partition):
        words = ("events", "tail", "--all", "-n", "5", "-p", partition)
        result = self.run(*words, "--json")
        assert result.exit_code == 0, result.output
        lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
        marks = [orjson.loads(line) for line in lines if '"kind":"mark"' in line]
        return max((mark["sequence"] for mark in marks), default=0)

    def trimmed(self):
        """Fill, let time pass, snapshot, archive and trim; return the rows before that."""
        self.start()
        fill(self)
        passed_s = time.monotonic() + 2 * WINDOW_MS / 1_000
        until(lambda: time.monotonic() > passed_s)
        fill(self, 4)
        for partition in (0, 1):
            self.snapshot(partition)
        self.marked()
        expected = rows(self)
        self.stop()
        self.said("log", "archive")
        said = self.said("log", "trim")
        assert all(one["trimmed_to"] > 0 for one in said), said
        return expected


@pytest.fixture(
    params=[
        "embedded",
        pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.xdist_group("archive")]),
    ]
)
def world(request, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MARK_INTERVAL_MS", 100)
    for module in ("engine.sandbox.host_dedup", "engine.audit.events", "engine.audit.commands"):
        monkeypatch.setattr(f"{module}.DEDUP_WINDOW_MS", WINDOW_MS)
    small = functools.partial(EmbeddedSettings, segment_bytes=SEGMENT_BYTES)
    monkeypatch.setattr("engine.assembly.EmbeddedSettings", small)
    monkeypatch.setattr("engine.log.embedded.EmbeddedSettings", small)
    log = {"kind": "embedded"}
    if request.param == "kafka":
        log = {"kind": "kafka", "bootstrap_servers": request.getfixturevalue("kafka")}
    made = Archived(tmp_path, log)
    yield made
    made.stop()
    if request.param == "kafka":
        logs = made.kafka()
        delete_topics(logs)
        logs.close()


def test_behind_a_trim_everything_is_as_it_was(world):
    expected = world.trimmed()
    assert all(begin > 0 for begin in world.begins())
    assert world.said("verify", "--settled")["sound"]
    # A fresh disk begins at a snapshot.
    shutil.rmtree(world.stores)
    world.start()
    assert rows(world) == expected
    assert world.count("snapshots", "restores") == 2
    events = world.ask("GET", "/v1/workspaces/east/events").json()
    assert [one["workspace_sequence"] for one in events["events"]][:3] == [1, 2, 3]
    world.stop()
    # Without snapshots it folds archive and log.
    shutil.rmtree(world.stores)
    shutil.rmtree(world.objects / "manifest")
    world.start()
    assert rows(world) == expected
    assert world.count("snapshots", "restores") == 0


def test_a_view_is_built_anew_from_the_archive(world):
    expected = world.trimmed()
    world.put("ledger_next", world.source)
    world.start()
    until(lambda: not world.node.builds())
    for workspace, (before, _) in expected.items():
        now = world.ask("GET", f"/v1/workspaces/{workspace}/views/entry").json()["rows"]
        assert {(one["number"], one["balance"]) for one in before} <= {
            (one["number"], one["balance"]) for one in now
        }
    world.stop()
    assert world.said("verify")["sound"]


def test_a_second_trim_goes_on_where_the_first_ended(world):
    world.trimmed()
    first = world.begins()
    world.trimmed()
    assert all(now > before for now, before in zip(world.begins(), first, strict=True))
    assert world.said("verify", "--settled")["sound"]


def test_without_snapshot_or_archive_nothing_goes_and_why_is_said(world):
    world.start()
    fill(world, 8)
    world.stop()
    assert {one["held_by"] for one in world.said("log", "trim")} == {
        "there is no snapshot of this log"
    }
    world.start()
    for partition in (0, 1):
        world.snapshot(partition)
    world.stop()
    assert {one["held_by"] for one in world.said("log", "trim")} == {"not archived yet"}
    world.said("log", "archive")
    assert {one["trimmed_to"] for one in world.said("log", "trim")} == {0}
    assert world.begins() == [0, 0]


def test_below_a_trimmed_log_without_archive_or_snapshot_a_partition_says_so(world):
    world.trimmed()
    shutil.rmtree(world.stores)
    shutil.rmtree(world.objects)
    world.begin()
    until(lambda: len(world.node.problems()) == 2)
    assert all("E1302" in problem for problem in world.node.problems().values())
    assert world.ask("GET", "/health/ready").status_code == 503


def test_a_damaged_archive_is_told_and_never_read(world):
    world.trimmed()
    for path in (world.objects / "archive").rglob("*-*-*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    shutil.rmtree(world.stores)
    shutil.rmtree(world.objects / "manifest")
    world.begin()
    until(lambda: len(world.node.problems()) == 2)
    assert all("E1303" in problem for problem in world.node.problems().values())


def test_a_lost_application_goes_on_in_a_new_place(world):
    """The drill of engine/docs/operators.md: snapshots and the archive are all that is left."""
    expected = world.trimmed()
    old = {one["incarnation"] for one in world.owners()}
    world.lose()
    said = world.copied("--from-archive", "--take-snapshots")
    assert all(one["commands"] == 0 for one in said)
    world.start()
    assert rows(world) == expected
    assert world.count("snapshots", "restores") == 2
    fill(world, 8)
    world.stop()
    assert world.said("verify", "--settled")["sound"]
    new = {one["incarnation"] for one in world.owners()}
    assert len(new - old) == 1


def test_a_copy_takes_commands_along_that_nobody_has_decided(world):
    world.start()
    fill(world, 8)
    expected = rows(world)
    world.stop()
    value = orjson.dumps(
        {"command_id": str(uuid.uuid4()), "name": "move", "args": {"amount": 1_000}}
    )
    logs = world.kafka() if world.log["kind"] == "kafka" else world.embedded()
    partition = partition_of(b"east", 2)
    ticket = logs.commands.publish(partition, b"east", value)
    until(lambda: logs.wait(20) or any(one.ticket == ticket for one in logs.commands.published()))
    logs.close()
    said = world.copied()
    assert sum(one["commands"] for one in said) == 1
    world.start()
    balance = expected["east"][1]["balance"] + 1_000
    until(lambda: rows(world)["east"][1]["balance"] == balance)
    world.stop()
    assert world.said("verify", "--settled")["sound"]


def test_a_copy_never_goes_into_logs_that_hold_something(world):
    world.start()
    fill(world, 4)
    world.stop()
    environment = world.environment()
    world.copied()
    kafka = world.log["kind"] == "kafka"
    there = ["--to-topic-prefix", "new1-"] if kafka else ["--to-data", str(world.folder)]
    refused = runner.invoke(app, ["log", "copy", *there, str(world.source)], env=environment)
    assert refused.exit_code == 2
    assert "E1001" in refused.output


def test_topics_that_were_deleted_and_made_again_are_found_out(world):
    world.start()
    fill(world, 8)
    world.snapshot(0)
    world.stop()
    if world.log["kind"] == "kafka":
        logs = world.kafka()
        delete_topics(logs, "events")
        logs.close()
    else:
        shutil.rmtree(world.folder / world.name / "log")
    world.begin()
    until(lambda: len(world.node.problems()) == 2)
    # The stores are ahead of an empty log, or of another topic: never folded on, never replaced.
    codes = {problem.split()[0] for problem in world.node.problems().values()}
    assert codes <= {"E1203", "E1204"}
    assert not list(world.stores.glob("*.broken-*"))


def test_commands_that_expired_undecided_are_counted_and_stop_the_partition(world):
    world.start()
    fill(world, 8)
    world.stop()
    logs = world.kafka() if world.log["kind"] == "kafka" else world.embedded()
    partition = partition_of(b"east", 2)
    for _ in range(40):
        value = {"command_id": str(uuid.uuid4()), "name": "move", "args": {"amount": 1}}
        ticket = logs.commands.publish(partition, b"east", orjson.dumps(value))
    seen = []
    until(lambda: logs.wait(20) or seen.extend(logs.commands.published()) or len(seen) == 40)
    assert ticket in {one.ticket for one in seen}
    end = logs.command_log(partition).bounds().end
    if world.log["kind"] == "kafka":
        delete_records(logs, "commands", partition, end - 2)
    else:
        logs.trim("commands", partition, end - 2)
    begin = logs.command_log(partition).bounds().begin
    logs.close()
    world.begin()
    (problem,) = until(lambda: world.node.problems().values())
    assert problem.startswith("E1305")
    assert f"begins at offset {begin}" in problem
