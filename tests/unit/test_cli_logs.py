"""The words that read logs, on an embedded log that a replica has written."""

import orjson
import pytest
from inline_snapshot import snapshot
from purse import Runner, move, write_purse
from typer.testing import CliRunner

from engine.cli.main import app
from engine.load.recording import open_recording
from engine.log.embedded import EmbeddedLogs, EmbeddedSettings
from engine.simulator.clocks import WorldClock
from engine.simulator.disks import MemoryObjects
from engine.world import SeededRandom

runner = CliRunner()


def run(*words: str):
    return runner.invoke(app, [str(word) for word in words], env={"NO_COLOR": "1"})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder: 7 commands, of which one is rejected, one garbage and one a duplicate."""
    folder = tmp_path_factory.mktemp("cli")
    application = write_purse(folder / "purse")
    clock = WorldClock()
    settings = EmbeddedSettings("purse", 1)
    logs = EmbeddedLogs(folder / "data" / "purse" / "log", settings, clock, SeededRandom(1))
    content = MemoryObjects()
    for number in (2, 3, 0, 1, 2):
        clock.time_ms += 1_000
        value = move(application, number, 1_790_000_000_000)
        logs.commands.publish(0, b"w", value)
    logs.commands.publish(0, b"w", b"garbage")
    logs.commands.publish(0, b"v", move(application, 6, 1_790_000_000_000))
    replica = Runner(application, logs, content, clock)
    replica.settle(7)
    clock.time_ms += 20_000
    replica.settle(7)
    yield folder / "data"
    logs.close()


def lines(result) -> list[dict]:
    assert result.exit_code == 0, result.output
    return [orjson.loads(line) for line in result.stdout.splitlines()]


def test_events_tail(data):
    result = run("events", "tail", "--data", data, "-n", "3")
    assert result.stdout == snapshot("""\
0/4@5  w  move {"amount":-1}  update purse/0
0/5@6  w   {}  REJECTED undecodable not a command: not of this schema
0/6@7  v  move {"amount":4}  create purse/0
""")
    shown = lines(run("events", "tail", "--data", data, "--json"))
    assert [one["sequence"] for one in shown] == [1, 2, 3, 4, 5, 6]
    assert shown[0]["args"] == {"amount": 0}
    assert {one["kind"] for one in shown} == {"outcome"}


def test_events_tail_shows_the_rest_if_asked(data):
    shown = lines(run("events", "tail", "--data", data, "--json", "--all", "-n", "100"))
    assert [one["kind"] for one in shown[:2]] == ["owner", "application"]
    assert "mark" in {one["kind"] for one in shown}


def test_events_show(data):
    by_sequence = orjson.loads(run("events", "show", 0, 3, "--data", data).stdout)
    assert (by_sequence["workspace"], by_sequence["code"]) == ("w", "empty")
    by_offset = orjson.loads(
        run("events", "show", 0, f"@{by_sequence['offset']}", "--data", data).stdout
    )
    assert by_offset == by_sequence


@pytest.mark.parametrize("place", ["99", "@99", "0"])
def test_events_show_says_when_there_is_none(data, place):
    result = run("events", "show", 0, place, "--data", data)
    assert (result.exit_code, result.stdout) == (1, "")
    assert place in result.stderr


def test_wrong_places_and_partitions_are_told(data):
    assert run("events", "show", 0, "x", "--data", data).exit_code == 2
    assert run("events", "tail", "-p", 9, "--data", data).exit_code == 2


def test_rejected_by_code(data):
    shown = orjson.loads(run("events", "rejected", "--data", data, "--json").stdout)
    assert [one["code"] for one in shown] == ["empty", "undecodable"]
    assert (
        run("command", "list-rejected", "--code", "undecodable", "--data", data).stdout.count(
            "undecodable"
        )
        == 1
    )
    counts = orjson.loads(run("events", "rejected", "--summary", "--data", data, "--json").stdout)
    assert counts == [{"code": "empty", "count": 1}, {"code": "undecodable", "count": 1}]


def test_load_record_from_a_folder(data, tmp_path):
    file = tmp_path / "r"
    result = run("load", "record", file, "--data", data, "--from-begin", "--until-end", "--json")
    assert result.exit_code == 0, result.output
    assert orjson.loads(result.stdout)["commands"] == 7
    recording = open_recording(file)
    assert recording.header.application == "purse"
    assert recording.count == 7
    assert not (tmp_path / "r.part").exists()


def test_replay_refuses_garbage(tmp_path):
    file = tmp_path / "r"
    file.write_bytes(b"garbage")
    result = run("load", "replay", file)
    assert result.exit_code == 2
    assert "E1502" in result.stderr
    assert run("load", "replay", file, "--rate", "fast").exit_code == 2


def test_verify_finds_nothing_wrong(data):
    result = run("verify", data.parent / "purse", "--data", data, "--settled")
    assert result.exit_code == 0, result.output
    titles, first, total = (line.split() for line in result.stdout.splitlines())
    assert dict(zip(titles, first, strict=True)) == snapshot(
        {
            "PARTITION": "0",
            "COMMANDS": "7",
            "IDS": "6",
            "OUTCOMES": "6",
            "ACCEPTED": "4",
            "REJECTED": "2",
            "DUPLICATES": "1",
            "REFUSED": "0",
            "PENDING": "0",
            "SUPERSEDED": "0",
            "OWNERS": "1",
            "DIGESTS": "1",
            "STORES": "0",
            "ALARMS": "0",
            "DIFFERENCES": "0",
        }
    )
    assert first[1:] == total[1:]


def test_verify_as_json(data):
    result = run("verify", data.parent / "purse", "--data", data, "--json")
    found = orjson.loads(result.stdout)
    assert found["sound"]
    assert found["total"]["duplicates"] == 1
    assert found["partitions"][0]["rejected"] == {"empty": 1, "undecodable": 1}


def test_verify_without_the_code_says_so(data):
    result = run("verify", "--data", data)
    assert result.exit_code == 1
    assert "E1501" in result.stderr
    assert "purse" in result.stderr
    assert run("verify", "--data", data, "--no-replay").exit_code == 0


def test_verify_of_another_application_is_refused(data, tmp_path):
    write_purse(tmp_path / "other", "other")
    result = run("verify", tmp_path / "other", "--data", data)
    assert result.exit_code == 2
    assert "purse" in result.stderr
