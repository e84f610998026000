"""The command line against a running node: real HTTP, a real embedded log held by the node."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import orjson
import pytest
from http_world import http_settings, start_node, wait_ready
from typer.testing import CliRunner

from engine.cli.main import app
from engine.http import create_app
from engine.http.server import Server

runner = CliRunner()


class Running:
    """A node, its address and its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node = start_node(folder)
        self.server = Server(http_settings(port=0))
        self.server.start(create_app(self.node, http_settings(port=0)))
        wait_ready(self.node)

    def run(self, *words: object):
        environment = {"NO_COLOR": "1", "PARTITA_URL": self.server.url}
        return runner.invoke(app, [str(word) for word in words], env=environment)

    def json(self, *words: object):
        result = self.run(*words)
        assert result.exit_code == 0, result.output
        return orjson.loads(result.stdout)

    def stop(self) -> None:
        self.server.stop()
        self.node.stop()


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("cli-node"))
    yield running
    running.stop()


def put(node: Running, workspace: str, count: int, *more: object):
    arguments = orjson.dumps({"count": count, "name": "x", "day": "2013-01-01"}).decode()
    return node.json("command", "send", "put", "-w", workspace, "--json", arguments, *more)


def test_a_command_is_sent_and_read_back(node):
    command_id = uuid4()
    answer = put(node, "sent", 5, "--id", command_id)
    assert (answer["code"], answer["workspace_sequence"]) == ("", 1)
    again = put(node, "sent", 5, "--id", command_id)
    assert (again["duplicate"], again["sequence"]) == (True, answer["sequence"])
    outcome = node.json("command", "get", command_id, "-w", "sent")
    assert outcome["args"]["count"] == 5
    shown = node.json(
        "record",
        "get",
        "item",
        answer["result"]["id"],
        "-w",
        "sent",
        "--json",
        "--min-sequence",
        answer["sequence"],
    )
    assert shown["fields"]["count"] == 5


def test_no_wait_answers_at_once(node):
    answer = put(node, "later", 1, "--no-wait")
    assert set(answer) == {"command_id", "partition"}


def test_a_rejected_command_ends_with_1_and_its_outcome(node):
    result = node.run("command", "send", "refuse", "-w", "r", "--json", '{"code": "too_late"}')
    assert result.exit_code == 1
    assert orjson.loads(result.stdout)["code"] == "too_late"


def test_what_is_no_command_ends_with_a_problem(node):
    for words in (("nope",), ("put", "--json", "{"), ("put", "--json", '{"count": "x"}')):
        result = node.run("command", "send", words[0], "-w", "r", *words[1:])
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr


def test_views(node):
    for count in (1, 2, 3):
        put(node, "viewed", count)
    rows = node.json("view", "get", "by_day", "-w", "viewed", "--json", "-k", "day=2013-01-01")
    assert [row["count"] for row in rows["rows"]] == [1, 2, 3]
    listed = node.json("view", "list", "--json")
    assert {row["view"]: row["key"] for row in listed}["by_day"] == "day, name, entry"
    assert {row["view"] for row in listed} == {"by_day", "one", "kinds"}
    assert all(row["building"] == [] for row in listed)
    page = node.run("view", "get", "by_day", "-w", "viewed", "--limit", 1)
    assert len(page.stdout.splitlines()) == 2
    assert "--after" in page.stderr
    assert node.run("view", "get", "nope", "-w", "viewed").exit_code == 1


def test_partitions(node):
    shown = node.json("partition", "list", "--json")
    assert [entry["owner"] for entry in shown["partitions"]] == ["here", "here"]
    assert "PARTITION" in node.run("partition", "list").stdout


def test_a_drain_that_takes_longer_than_asked_says_so_and_goes_on(tmp_path):
    alone = Running(tmp_path)
    try:
        result = alone.run("node", "drain", "--timeout", 0)
        assert result.exit_code != 0
        assert "E1408" in result.output
        assert alone.run("node", "drain").exit_code == 0
        assert alone.node.operations.owned() == 0
    finally:
        alone.stop()


def test_openapi_of_the_node_is_that_of_the_folder(node):
    assert node.json("openapi") == node.json("openapi", node.folder / "application")


def test_load_is_recorded_replayed_and_reported_and_the_audit_is_clean(node, tmp_path):
    for count in range(20):
        put(node, f"w{count % 5}", count)
    node.run("command", "send", "refuse", "-w", "w1", "--json", '{"code": "no"}')
    file, results = tmp_path / "recording", tmp_path / "results"
    recorded = node.json(
        "load", "record", file, "--data", node.folder, "--from-begin", "--until-end", "--json"
    )
    assert recorded["commands"] >= 21
    result = node.json(
        "load",
        "replay",
        file,
        "-a",
        node.folder / "application",
        "--rate",
        "max",
        "--results",
        results,
        "--json",
    )
    assert result["sent"] == recorded["commands"]
    assert result["sent"] == result["accepted"] + result["rejected"] + result["refused"]
    assert (result["missing"], result["failed"]) == (0, 0)
    assert result["p50_ms"] <= result["p99_ms"] <= result["max_ms"]
    (row,) = node.json("load", "report", "--results", results, "--json")
    assert row["sent"] == result["sent"]
    audited = node.json(
        "verify", node.folder / "application", "--data", node.folder, "--no-replay", "--json"
    )
    assert audited["sound"]
    assert audited["total"]["distinct_ids"] >= 2 * recorded["commands"] - 2


def test_avro_over_http_needs_the_folder(node, tmp_path):
    put(node, "w", 1)
    file = tmp_path / "recording"
    node.run("load", "record", file, "--data", node.folder, "--from-begin", "--until-end")
    result = node.run("load", "replay", file, "--rate", "max", "--results", tmp_path)
    assert result.exit_code == 2
    assert "--application" in result.stderr
