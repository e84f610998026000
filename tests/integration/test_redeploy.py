"""A changed projector on a running node, with RocksDB and over HTTP."""

import json
import re
import shutil
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.assembly import Engine
from engine.cli.main import app
from engine.sandbox.sdk.build import build_all
from engine.settings import load_settings
from engine.simulator import run as simulator

LEDGERS = Path(simulator.__file__).parent
RESTAURANT = Path(__file__).parents[2] / "topology" / "restaurant"
RUN_INLINE = r'\1run = "restaurant:\2", revision = %d }'
WAIT_S = 60
EMBEDDED = {"kind": "embedded"}


@pytest.fixture(
    params=[
        "embedded",
        pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.xdist_group("redeploy")]),
    ]
)
def log(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "embedded":
        return EMBEDDED
    return {"kind": "kafka", "bootstrap_servers": request.getfixturevalue("kafka")}


def put(source: str, folder: Path, name: str) -> None:
    """Let a folder be a version of the ledger, under a name of its own on a shared broker."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(LEDGERS / source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    manifest = folder / "application.toml"
    manifest.write_text(manifest.read_text().replace('name = "ledger"', f'name = "{name}"'))


def started(folder: Path, data: Path, log: dict[str, str]) -> Engine:
    flags = {"data": data, "log": log, "http": {"port": 0}, "node": "one"}
    engine = Engine(load_settings(None, flags), folder)
    engine.start()
    wait(engine.node.ready)
    return engine


def wait(done: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def ask(engine: Engine, path: str, body: Any = None) -> Any:
    """Ask as clients do: again where the answer says so, as while a partition changes hands."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
    request = urllib.request.Request(engine.server.url + path, data, headers)
    deadline_s = time.monotonic() + WAIT_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            if refused.code != 503 or time.monotonic() > deadline_s:
                raise
            time.sleep(float(refused.headers["Retry-After"]))


def move(engine: Engine, workspace: str, amount: int) -> None:
    ask(engine, f"/v1/workspaces/{workspace}/commands/move", {"amount": amount})


def rows(engine: Engine, workspace: str, query: str = "") -> list[Any]:
    return ask(engine, f"/v1/workspaces/{workspace}/views/entry{query}")["rows"]


def built(engine: Engine) -> bool:
    """Return whether what was loaded is in force everywhere, and all its views are built."""
    version = engine.application.version
    partitions = ask(engine, "/v1/partitions")["partitions"]
    return all(one.get("application") == version and "builds" not in one for one in partitions)


def test_an_edited_projector_is_deployed_by_a_restart(tmp_path: Path, log: dict[str, str]) -> None:
    folder, data = tmp_path / "ledger", tmp_path / "data"
    name = f"ledger-{uuid.uuid4().hex[:8]}"
    put("ledger", folder, name)
    engine = started(folder, data, log)
    for number in range(5):
        for workspace in ("a", "b", "c"):
            move(engine, workspace, number + 1)
    assert rows(engine, "a", "?number=2") == [{"number": 2, "balance": 3}]
    engine.stop()

    put("ledger_next", folder, name)
    engine = started(folder, data, log)
    move(engine, "a", 100)
    wait(lambda: built(engine))
    found = rows(engine, "a")
    assert [(row["balance"], row["number"], row["times"]) for row in found] == [
        (1, 1, 1),
        (3, 2, 1),
        (6, 3, 1),
        (10, 4, 1),
        (15, 5, 1),
        (115, 6, 1),
    ]
    assert [row["number"] for row in rows(engine, "b", "?balance=6")] == [3]
    engine.stop()

    stores = data / name / ("nodes" if log["kind"] == "kafka" else "stores")
    assert stores.is_dir()
    shutil.rmtree(stores)  # so that all of it is built anew, from the log
    engine = started(folder, data, log)
    assert rows(engine, "a") == found
    engine.stop()


def first_event(engine: Engine, workspace: str, known: str = "") -> tuple[str, str]:
    """Return name and id of the first event of a view's stream."""
    path = f"{engine.server.url}/v1/workspaces/{workspace}/views/entry/changes"
    request = urllib.request.Request(path, headers={"Last-Event-ID": known} if known else {})
    with urllib.request.urlopen(request, timeout=WAIT_S) as stream:
        fields: dict[str, str] = {}
        for line in stream:
            name, _, value = line.decode().rstrip().partition(": ")
            fields[name] = value
            if name == "data":
                return fields["event"], fields["id"]
            if name == "":
                assert not value, "the silence was broken: nothing is told at once"
    raise AssertionError("the stream ended")


def test_a_stream_is_reset_where_a_view_was_built_anew_and_nothing_else_happened(
    tmp_path: Path,
) -> None:
    folder, data = tmp_path / "ledger", tmp_path / "data"
    put("ledger", folder, "ledger")
    engine = started(folder, data, EMBEDDED)
    move(engine, "a", 7)
    name, known = first_event(engine, "a")
    assert name == "state"
    engine.stop()
    put("ledger_next", folder, "ledger")
    engine = started(folder, data, EMBEDDED)
    wait(lambda: built(engine))
    name, now = first_event(engine, "a", known)
    assert (name, now.partition("-")[0]) == ("reset", known.partition("-")[0])
    engine.stop()


def test_a_projector_that_fails_leaves_the_node_ready_and_says_why(tmp_path: Path) -> None:
    folder, data = tmp_path / "ledger", tmp_path / "data"
    put("ledger", folder, "ledger")
    engine = started(folder, data, EMBEDDED)
    move(engine, "a", 7)
    engine.stop()
    manifest = folder / "application.toml"
    text = manifest.read_text().replace("1.0.0", "1.1.0").replace("revision = 1", "revision = 2")
    manifest.write_text(text)
    code = folder / "ledger.py"
    code.write_text(code.read_text().replace('row = ctx.put("entry"', 'row = ctx.put("entries"'))
    engine = started(folder, data, EMBEDDED)

    def problems() -> list[str]:
        partitions = ask(engine, "/v1/partitions")["partitions"]
        builds = [build for one in partitions for build in one.get("builds", [])]
        return [build["problem"] for build in builds if build["problem"]]

    wait(lambda: bool(problems()))
    assert "KeyError" in problems()[0]
    ready = ask(engine, "/health/ready")
    assert ready["status"] == "ready"
    assert ("entry", 2) in {(build["view"], build["generation"]) for build in ready["builds"]}
    listed = CliRunner().invoke(app, ["view", "list", "--url", engine.server.url])
    assert "generation 2 failed: " in listed.output
    move(engine, "a", 3)
    assert [row["balance"] for row in rows(engine, "a")] == [7, 10]
    with urllib.request.urlopen(f"{engine.server.url}/metrics", timeout=WAIT_S) as page:
        assert b'partita_view_builds_failed{partition="' in page.read()
    engine.stop()


def restaurant(folder: Path, version: str, revision: int) -> None:
    """Put the restaurant into a folder, each of its projectors with a revision."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(RESTAURANT, folder)
    manifest = folder / "application.toml"
    text = manifest.read_text().replace("1.0.0", version)
    text = re.sub(r'( ?)run = "restaurant:(\w+)" }', RUN_INLINE % revision, text)
    head, tail = text.split("[views]")
    tail = re.sub(r'(?m)^(run = "restaurant:\w+")$', r"\1" + f"\nrevision = {revision}", tail)
    manifest.write_text(f"{head}[views]{tail}")


def evening(engine: Engine) -> None:
    """Let two houses be busy: orders, more lines, bills, refusals."""
    for house in ("chez-1", "chez-2"):
        path = f"/v1/workspaces/{house}/commands"
        ask(engine, f"{path}/found", {"name": house, "pin": "1234"})
        changes = [
            {"op": "create", "type": "table", "id": 1, "fields": {"number": 1, "seats": 4}},
            {"op": "create", "type": "table", "id": 2, "fields": {"number": 2, "seats": 2}},
            {
                "op": "create",
                "type": "item",
                "id": 3,
                "fields": {"code": "P1", "name": "Pasta", "price": 900},
            },
        ]
        ids = ask(engine, f"{path}/change", {"changes": changes})["ids"]
        for round_ in range(4):
            lines = [{"dish": ids["3"], "quantity": round_ + 1}]
            body = {"table": ids["1"], "guests": 2, "lines": lines}
            order = ask(engine, f"{path}/order", body)["result"]["order"]
            with pytest.raises(urllib.error.HTTPError):
                ask(engine, f"{path}/order", body)  # the table is taken
            ask(engine, f"{path}/add", {"order": order, "lines": lines})
            if round_ < 3:
                ask(engine, f"{path}/pay", {"order": order, "method": "cash"})


def test_every_view_of_the_restaurant_is_built_as_it_was(tmp_path: Path) -> None:
    build_all(RESTAURANT)
    folder, data = tmp_path / "restaurant", tmp_path / "data"
    restaurant(folder, "1.0.0", 1)
    engine = started(folder, data, EMBEDDED)
    evening(engine)

    def pictures() -> dict[str, Any]:
        return {
            f"{house} {view}": ask(engine, f"/v1/workspaces/{house}/views/{view}")["rows"]
            for house in ("chez-1", "chez-2")
            for view in engine.application.views
        }

    before = pictures()
    assert sum(bool(found) for found in before.values()) >= 8
    engine.stop()
    restaurant(folder, "1.1.0", 2)
    engine = started(folder, data, EMBEDDED)
    wait(lambda: built(engine))
    served = [engine.node.serving(partition).views.values() for partition in range(4)]
    assert {view.generation for views in served for view in views} == {2}
    assert pictures() == before
    engine.stop()
