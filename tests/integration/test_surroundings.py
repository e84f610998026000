"""Bad surroundings of a node: each a clear error with its exit status, or one partition's trouble.

No broker here; what a broker can do is in test_kafka_*.py and test_broker_away.py.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from engine_world import until
from purse import write_purse
from typer.testing import CliRunner

from engine import wire
from engine.assembly import Engine
from engine.cli.main import app
from engine.cli.progress import RestoreShown
from engine.model import Phase, Progress
from engine.partition.replica import Replica
from engine.settings import load_settings

runner = CliRunner()
PARTITIONS = 3
WAIT_MS = 30_000


def purse(folder: Path, partitions: int = PARTITIONS, name: str = "purse") -> Path:
    write_purse(folder, name)
    manifest = folder / "application.toml"
    manifest.write_text(
        manifest.read_text().replace("partitions = 1", f"partitions = {partitions}")
    )
    return folder


def run(*words: object, **environment: str):
    given = {"NO_COLOR": "1", **environment}
    return runner.invoke(app, [str(word) for word in words], env=given)


def dev(folder: Path, data: Path, *words: object):
    return run("dev", folder, "--data", data, "--http", "127.0.0.1:0", *words)


@contextmanager
def running(folder: Path, data: Path) -> Iterator[Engine]:
    settings = load_settings(None, {"data": data, "http": {"port": 0}})
    engine = Engine(settings, folder)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


def workspaces() -> list[str]:
    """Return one workspace of each partition."""
    found: dict[int, str] = {}
    for number in range(100):
        found.setdefault(wire.partition_of(b"w%d" % number, PARTITIONS), f"w{number}")
    return [found[partition] for partition in range(PARTITIONS)]


def add(engine: Engine, workspace: str, amount: int = 1) -> httpx.Response:
    path = f"{engine.server.url}/v1/workspaces/{workspace}/commands/move"
    return httpx.post(path, json={"amount": amount}, timeout=30)


def amount(engine: Engine, workspace: str) -> int:
    path = f"{engine.server.url}/v1/workspaces/{workspace}/records/purse/0"
    return httpx.get(path, timeout=30).json()["fields"]["amount"]


@pytest.fixture
def used(tmp_path: Path) -> tuple[Path, Path]:
    """Return an application and a data folder in which each partition has decided something."""
    folder, data = purse(tmp_path / "purse"), tmp_path / "data"
    with running(folder, data) as engine:
        until(engine.node.ready)
        for workspace in workspaces():
            for _ in range(3):
                assert add(engine, workspace).status_code == 200
    return folder, data


@pytest.mark.parametrize("words", [("app", "check"), ("dev",)])
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("commands.move", "comands.move", ("E1102", "comands", "did you mean commands?")),
        ('"purse:move"', '"prse:move"', ("E1102", "commands.move.run", "did you mean purse?")),
        ("partitions = 3", "partitions = 3,,", ("E1101", "line 2")),
        ('"move.avsc"', '"moves.avsc"', ("E1103", "moves.avsc")),
        ("purse:Purse", "pruse:Purse", ("E1104", "pruse.py")),
        ("purse:Purse", "purse:Prse", ("E1104", "Prse")),
    ],
)
def test_a_typo_in_the_manifest(tmp_path, words, old, new, said):
    folder = purse(tmp_path / "purse")
    manifest = folder / "application.toml"
    assert old in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(old, new))
    more = () if words[0] == "app" else ("--data", tmp_path / "data", "--http", "127.0.0.1:0")
    result = run(*words, folder, *more)
    assert result.exit_code == 3, result.output
    for part in (*said, "partita explain"):
        assert part in result.output
    assert not (tmp_path / "data").exists(), "nothing is made for an application that is wrong"


def test_a_second_process_on_the_same_data(used):
    folder, data = used
    with running(folder, data):
        result = dev(folder, data)
    assert result.exit_code == 4
    assert f"process {os.getpid()} has it open" in result.stderr
    for part in ("E1201", str(data), "--data"):
        assert part in result.stderr


def test_a_port_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("dev", purse(tmp_path / "p"), "--data", tmp_path, "--http", address)
    assert result.exit_code == 2
    for part in ("E1002", address, "--http"):
        assert part in result.stderr


def test_an_address_that_others_reach_needs_a_token(tmp_path):
    result = run("dev", purse(tmp_path / "p"), "--data", tmp_path / "d", "--http", "0.0.0.0:0")
    assert result.exit_code == 2
    for part in ("E1003", "0.0.0.0", "http.token", "--insecure"):
        assert part in result.stderr


def test_a_data_folder_of_another_partition_count(used, tmp_path):
    _, data = used
    result = dev(purse(tmp_path / "other", PARTITIONS + 1), data)
    assert result.exit_code == 5
    for part in ("E1301", "partitions 3", "says 4", str(data), "never change"):
        assert part in result.stderr


def test_a_data_folder_of_another_application(used, tmp_path):
    """Applications share a data folder; logs that were renamed by hand are found out."""
    _, data = used
    other = purse(tmp_path / "other", name="pouch")
    with running(other, data) as engine:
        until(engine.node.ready)
    shutil.rmtree(data / "pouch")
    shutil.copytree(data / "purse", data / "pouch")
    result = dev(other, data)
    assert result.exit_code == 5
    for part in ("E1301", "application purse", "says pouch"):
        assert part in result.stderr


@pytest.mark.parametrize("data", ["file/data", "/proc/partita"])
def test_a_data_folder_that_can_t_be_written(tmp_path, data):
    (tmp_path / "file").write_text("in the way")
    result = dev(purse(tmp_path / "p"), tmp_path / data)
    assert result.exit_code == 4, result.output
    for part in ("E1207", str(tmp_path / data), "--data"):
        assert part in result.stderr


def test_a_missing_extension_file(tmp_path):
    folder = purse(tmp_path / "p")
    (folder / "purse.py").unlink()
    result = dev(folder, tmp_path / "data")
    assert result.exit_code == 3
    for part in ("E1104", "purse.py"):
        assert part in result.stderr


def damage(folder: Path, kind: str) -> None:
    """Cut off tables, as a torn disk does; a list of tables is overwritten.

    RocksDB takes a shorter list for an older state, which the log then completes.
    """
    files = sorted(folder.glob(kind))
    assert files, f"there is no {kind}"
    for file in files:
        if kind == "*.sst":
            os.truncate(file, file.stat().st_size // 2)
        else:
            file.write_bytes(b"?" * file.stat().st_size)


@pytest.mark.parametrize("kind", ["MANIFEST-*", "*.sst", "CURRENT", "all"])
def test_a_damaged_store_is_set_aside_and_built_again_from_the_log(used, kind):
    folder, data = used
    stores = data / "purse" / "stores"
    store = stores / "1"
    if kind == "CURRENT":
        (store / "CURRENT").unlink()
    elif kind == "all":
        damage(store, "MANIFEST-*")
        damage(store, "*.sst")
    else:
        damage(store, kind)
    first, broken, _ = workspaces()
    with running(folder, data) as engine:
        until(engine.node.ready)
        assert engine.node.problems() == {}
        assert amount(engine, broken) == 3
        assert add(engine, broken).json()["workspace_sequence"] == 4
        assert amount(engine, first) == 3
    assert any(path.name.startswith("1.") for path in stores.iterdir()), list(stores.iterdir())
    audit = run("verify", folder, "--data", data, "--settled", "--json")
    assert audit.exit_code == 0, audit.output


def test_a_store_ahead_of_its_log(used):
    folder, data = used
    shutil.copytree(data / "purse" / "log", data / "older")
    with running(folder, data) as engine:
        until(engine.node.ready)
        for workspace in workspaces():
            add(engine, workspace)
    shutil.rmtree(data / "purse" / "log")
    (data / "older").rename(data / "purse" / "log")
    with running(folder, data) as engine:
        problems = until(
            lambda: len(engine.node.problems()) == PARTITIONS and engine.node.problems()
        )
        for problem in problems.values():
            for part in ("E1203", "applied up to offset", "the log ends at", "rebuild it"):
                assert part in problem
        assert add(engine, workspaces()[0]).status_code == 503
    shutil.rmtree(data / "purse" / "stores")
    with running(folder, data) as engine:
        until(engine.node.ready)
        assert [amount(engine, workspace) for workspace in workspaces()] == [3, 3, 3]


def test_a_fault_while_one_partition_opens_is_not_the_others(used, monkeypatch):
    folder, data = used
    opened = []

    def broken(self):
        opened.append(self.identity.partition)
        if self.identity.partition == 1:
            raise RuntimeError("out of luck")
        return really(self)

    really = Replica.open
    monkeypatch.setattr(Replica, "open", broken)
    with running(folder, data) as engine:
        problems = until(engine.node.problems)
        assert "E1405" in problems[1]
        assert "out of luck" in problems[1]
        first, second, last = workspaces()
        until(lambda: add(engine, first).status_code == 200)
        until(lambda: add(engine, last).status_code == 200)
        monkeypatch.undo()
        until(engine.node.ready)
        assert add(engine, second).status_code == 200


def test_a_fault_of_the_shell_does_not_end_it(used, monkeypatch):
    folder, data = used
    with running(folder, data) as engine:
        until(engine.node.ready)
        failed = threading.Event()

        def broken():
            failed.set()
            raise RuntimeError("out of luck")

        monkeypatch.setattr(engine.node, "_look_around", broken)
        assert failed.wait(WAIT_MS / 1_000)
        monkeypatch.undo()
        until(lambda: add(engine, workspaces()[0]).status_code == 200)


# How far a restore is.


def restore(partition: int, applied: int) -> Progress:
    return Progress(partition, Phase.RECOVERING, applied, 1_000, 100.0, 5.0)


def test_a_restore_is_told_a_line_for_each_tenth(capsys):
    with RestoreShown(bar=False) as shown:
        for applied in (*range(1_000), 1_000, 1_000):
            shown.show([restore(0, applied), restore(1, applied // 2)])
        shown.show([Progress(2, Phase.RECOVERING, 0, 0, 0.0, None)])
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if "partition 0" in line]) == 10
    assert len([line for line in lines if "partition 1" in line]) == 6
    assert lines[0] == "partition 0: 0 of 1000, 100/s, 5 s left"


def test_a_restore_is_one_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with RestoreShown(bar=True) as shown:
        for applied in range(0, 1_000, 100):
            shown.show([restore(0, applied), restore(1, applied)])
    told = capsys.readouterr().err
    assert "restoring" in told
    assert "partition" not in told


# Reloading.


@contextmanager
def watched(folder: Path, data: Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run `partita dev --watch`; yield the process and what it says, line by line."""
    command = [
        *(sys.executable, "-m", "engine.cli", "dev", str(folder), "--data", str(data)),
        *("--http", "127.0.0.1:0", "--watch"),
    ]
    environment = {**os.environ, "NO_COLOR": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    said: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: said.extend(process.stderr or []), daemon=True)
    reader.start()
    try:
        yield process, said
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()
            reader.join(10)
            process.stderr.close()


def test_watch_reloads_a_higher_version_and_says_why_not_of_an_equal_one(tmp_path):
    folder, data = purse(tmp_path / "purse"), tmp_path / "data"
    manifest = folder / "application.toml"
    with watched(folder, data) as (process, said):

        def heard(text: str, count: int = 1):
            return [line for line in said if text in line][count - 1 : count]

        (line,) = until(lambda: heard(" on http://"), said)
        url = line.split()[-1]

        def index() -> dict[str, object]:
            try:
                return httpx.get(url, timeout=5).json()
            except httpx.HTTPError:
                return {}

        path = f"{url}/v1/workspaces/w/commands"
        assert httpx.post(f"{path}/move", json={"amount": 1}, timeout=30).status_code == 200, said
        text = manifest.read_text()
        more = 'commands.shift = { args = "move.avsc", run = "purse:move" }\n'
        manifest.write_text(text.replace("commands.move", f"{more}commands.move"))
        until(lambda: heard("not reloaded"), said)
        until(lambda: heard("version"), said)
        assert httpx.post(f"{path}/shift", json={"amount": 1}, timeout=30).status_code == 404
        assert httpx.post(f"{path}/move", json={"amount": 1}, timeout=30).status_code == 200
        manifest.write_text(text.replace("records.purse", "record.purse"))
        until(lambda: heard("E1102"), said)
        manifest.write_text(text.replace("purse:Purse", "purse:Nobody").replace("1.0.0", "1.0.1"))
        until(lambda: heard("E1104"), said)
        assert httpx.post(f"{path}/move", json={"amount": 1}, timeout=30).status_code == 200
        edited = text.replace("commands.move", f"{more}commands.move")
        manifest.write_text(edited.replace("1.0.0", "1.1.0"))
        until(lambda: heard("reloading: version 1.1.0"), said)
        until(lambda: index().get("version") == "1.1.0")
        answer = httpx.post(f"{path}/shift", json={"amount": 1}, timeout=30)
        assert answer.json()["workspace_sequence"] == 4, answer.text
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert json.loads(run("verify", folder, "--data", data, "--json").stdout)["sound"]
