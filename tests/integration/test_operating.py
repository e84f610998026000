"""An operator at running nodes: a version loaded on all of them, a node drained and resumed."""

import json
import subprocess
import sys
import urllib.error
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_redeploy import EMBEDDED, ask, move, put, wait

from engine.assembly import Engine
from engine.settings import load_settings

Start = Callable[..., Engine]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start nodes that are stopped in the end."""
    engines: list[Engine] = []

    def begin(folder: Path, log: dict[str, str], node: str, **more: Any) -> Engine:
        flags = {"data": tmp_path / "data", "log": log, "http": {"port": 0}, "node": node, **more}
        engines.append(Engine(load_settings(None, flags), folder))
        engines[-1].start()
        return engines[-1]

    yield begin
    for engine in engines:
        engine.stop()


def version(folder: Path, number: str) -> None:
    manifest = folder / "application.toml"
    manifest.write_text(manifest.read_text().replace("1.0.0", number))


def partita(engine: Engine, *words: str, status: int = 0) -> Any:
    line = [sys.executable, "-m", "engine.cli", *words, "--json", "--url", engine.server.url]
    result = subprocess.run(line, check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == status, result.stderr
    return json.loads(result.stdout) if status == 0 else result.stderr


def in_force(*engines: Engine) -> list[str]:
    """Return the version of each partition, as its owner says."""
    return [
        entry["application"]
        for engine in engines
        for entry in ask(engine, "/v1/partitions")["partitions"]
        if entry["owner"] == "here"
    ]


def test_a_folder_is_loaded_anew_or_what_is_wrong_with_it_is_told(
    tmp_path: Path, start: Start
) -> None:
    folder = tmp_path / "ledger"
    put("ledger", folder, "ledger")
    engine = start(folder, EMBEDDED, "one")
    wait(engine.node.ready)
    move(engine, "a", 1)
    manifest = (folder / "application.toml").read_text()
    for text, code in (
        (manifest.replace("records.", "record."), "E1102"),
        (manifest.replace("ledger:Ledger", "ledger:Nobody"), "E1104"),
        (manifest.replace("max = 9", "max = 8"), "E1105"),
    ):
        (folder / "application.toml").write_text(text)
        assert code in partita(engine, "node", "reload", status=1)
        assert partita(engine, "node", "show")["loaded"] == "1.0.0"
        move(engine, "a", 1)
    (folder / "application.toml").write_text(manifest.replace("1.0.0", "1.1.0"))
    assert partita(engine, "node", "reload")["loaded"] == "1.1.0"
    wait(lambda: in_force(engine) == ["1.1.0", "1.1.0"])
    assert partita(engine, "node", "show")["waiting"] == {}
    move(engine, "a", 1)
    for body in ({"force": 1}, {"other": True}, []):
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(engine, "/v1/node/reload", body)
        assert refused.value.code == 400


def test_a_drained_node_serves_nothing_until_it_is_resumed(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "ledger"
    put("ledger", folder, "ledger")
    engine = start(folder, EMBEDDED, "one")
    wait(engine.node.ready)
    move(engine, "a", 1)
    drained = partita(engine, "node", "drain")
    assert (drained["draining"], drained["owned"]) == (True, 0)
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(engine, "/health/ready")
    assert refused.value.code == 503
    assert json.load(refused.value)["draining"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        move(engine, "a", 1)
    assert refused.value.code == 503
    assert refused.value.headers["Retry-After"]
    assert not partita(engine, "node", "resume")["draining"]
    wait(engine.node.ready)
    move(engine, "a", 1)


@pytest.mark.kafka
@pytest.mark.xdist_group("operating")
def test_two_nodes_deploy_together_and_one_drains(tmp_path: Path, start: Start, kafka: str) -> None:
    log = {"kind": "kafka", "bootstrap_servers": kafka}
    name = f"ledger-{uuid.uuid4().hex[:8]}"
    folders = {node: tmp_path / node for node in ("one", "two")}
    engines: dict[str, Engine] = {}
    for node, folder in folders.items():
        put("ledger", folder, name)
        engines[node] = start(folder, log, node)
    one, two = engines["one"], engines["two"]
    wait(lambda: in_force(one, two) == ["1.0.0"] * 2)
    for node in engines.values():
        wait(node.node.ready)
        move(node, "a", 1)

    version(folders["one"], "1.1.0")
    partita(one, "node", "reload")
    owner = one if in_force(one) else two
    version(folders["two"], "1.0.5")  # neither older nor what the other one has
    if owner is one:
        wait(lambda: "two" in str(partita(one, "node", "show")["waiting"]))
        assert "two" in str(ask(one, "/health/ready")["waiting"])
    assert in_force(one, two) == ["1.0.0"] * 2
    version_two = (folders["two"] / "application.toml").read_text().replace("1.0.5", "1.1.0")
    (folders["two"] / "application.toml").write_text(version_two)
    partita(two, "node", "reload")
    wait(lambda: in_force(one, two) == ["1.1.0"] * 2)

    assert partita(one, "node", "drain")["owned"] == 0
    wait(lambda: in_force(two) == ["1.1.0"] * 2)
    nodes = {row["node"]: row for row in partita(two, "node", "list")}
    assert (nodes["one"]["draining"], nodes["two"]["draining"]) == (True, False)
    move(one, "a", 1)  # forwarded
    move(two, "b", 1)
    assert in_force(one) == []
    partita(one, "node", "resume")
    wait(one.node.ready)
    assert partita(two, "node", "drain")["owned"] == 0
    wait(lambda: in_force(one) == ["1.1.0"] * 2)
    move(two, "a", 1)
