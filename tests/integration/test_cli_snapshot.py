"""`partita snapshot` against a real engine, its files and its buckets."""

import shutil

import orjson
import pytest
from engine_world import LEDGER, World
from test_stores import fill
from typer.testing import CliRunner

from engine.application.folder import load_application
from engine.cli.main import app
from engine.partition.reading import PartitionReader
from engine.store.outside import StoreFiles

runner = CliRunner()


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path / "data", snapshots={"url": f"file://{tmp_path}/snapshots"})
    made.start()
    yield made
    made.stop()


def run(world, *words):
    environment = {
        "NO_COLOR": "1",
        "PARTITA_URL": world.engine.server.url if world.engine else "",
        "PARTITA__DATA": str(world.folder),
        "PARTITA__SNAPSHOTS__URL": world.settings["snapshots"]["url"],
    }
    return runner.invoke(app, [str(word) for word in words], env=environment)


def done(world, *words):
    result = run(world, *words)
    assert result.exit_code == 0, result.output
    return result


def rows_of(world, *words):
    """Return what a word says as JSON; the engine in this process logs to stdout, too."""
    stdout = done(world, *words, "--json").stdout
    return orjson.loads(stdout[stdout.index("[\n") :])


def balance(folder, partition, workspace):
    """Return the balance in a restored store, by the row's own bytes."""
    reader = PartitionReader(StoreFiles(folder / str(partition)), {1: load_application(LEDGER)})
    record = reader.record("account", workspace, 0)
    reader.close()
    return record["fields"]["balance"]


def test_snapshots_are_taken_listed_and_checked(world, tmp_path):
    fill(world, 12)
    (taken,) = rows_of(world, "snapshot", "create", "-p", 1)
    assert (taken["partition"], taken["sequence"]) == (1, 6)
    fill(world, 4)
    assert len(rows_of(world, "snapshot", "create")) == 2
    listed = rows_of(world, "snapshot", "list")
    assert [(one["partition"], one["sequence"]) for one in listed] == [(0, 8), (1, 8), (1, 6)]
    assert "3 snapshots are sound, 0 are damaged" in done(world, "snapshot", "verify").output
    manifest = next((tmp_path / "snapshots").rglob("*.json"))
    manifest.write_text("{")
    broken = run(world, "snapshot", "verify", LEDGER)
    assert broken.exit_code == 4
    assert "E1208" in broken.output


def test_a_partition_is_restored_to_any_sequence(world, tmp_path):
    seen = {}
    for number in range(1, 31):
        answer = world.move(number, "west")
        record = world.ask("GET", "/v1/workspaces/west/records/account/0").json()
        seen[answer["sequence"]] = record["fields"]["balance"]
        if number in {10, 20}:
            world.snapshot(1)
    for sequence in (5, 10, 17, 20, 30):
        for given in ([], ["--snapshots", f"file://{tmp_path}/none"]):
            to = tmp_path / f"restored-{sequence}-{len(given)}"
            words = ("snapshot", "restore", "-p", 1, "--sequence", sequence, "--to", to, *given)
            assert f"sequence {sequence} in" in done(world, *words).output
            assert balance(to, 1, "west") == seen[sequence]
    beyond = run(world, "snapshot", "restore", "-p", 1, "--sequence", 99, "--to", tmp_path / "x")
    assert beyond.exit_code == 2
    assert "no outcome 99" in beyond.output
    world.stop()
    assert done(world, "verify", "--settled", "--store", to).exit_code == 0


def test_all_partitions_are_restored_as_they_are_now(world, tmp_path):
    fill(world, 12)
    done(world, "snapshot", "create")
    fill(world, 8)
    done(world, "snapshot", "restore", "--to", tmp_path / "now")
    world.stop()
    assert "every promise holds" in done(world, "verify", "--store", tmp_path / "now").output
    shutil.rmtree(world.stores)
    shutil.copytree(tmp_path / "now", world.stores)
    world.start()
    assert world.count("snapshots", "restores") == 0


def test_without_a_store_of_snapshots_the_words_say_so(world):
    world.settings["snapshots"]["url"] = ""
    result = run(world, "snapshot", "list")
    assert result.exit_code == 2
    assert "snapshots.url" in result.output
