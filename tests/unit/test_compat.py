"""What a change of an application does to what is already written."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.application.compat import Diff, Entry, diff
from engine.application.folder import load_application
from engine.cli.app import app
from engine.errors import ApplicationError

MANIFEST = """\
application = { name = "shop", version = "1.1.0", partitions = 4 }
records.order = { schema = "order.avsc", kind = "operational" }
records.shop = { schema = "shop.avsc", kind = "singleton", checks = { staff = { min = 0 } } }
commands.place = { args = "place.avsc", run = "shop:place" }
commands.open = { args = "shop.avsc", run = "shop:open" }
views.daily = { row = "daily.avsc", key = ["day:date"] }
projectors.daily = { on = ["order.create"], writes = ["daily"], run = "shop:daily", revision = 2 }
extensions.shop = { python = "shop:Shop" }
"""


def avsc(*fields: Any) -> str:
    return json.dumps({"type": "record", "name": "R", "fields": list(fields)})


TOTAL = {"name": "total", "type": "int"}
STATE = {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "PAID"]}}
NOTE = {"name": "note", "type": ["null", "string"], "default": None}
FILES = {
    "application.toml": MANIFEST,
    "order.avsc": avsc(TOTAL, STATE, NOTE),
    "shop.avsc": avsc({"name": "name", "type": "string"}, {"name": "staff", "type": "int"}),
    "place.avsc": avsc(TOTAL, NOTE),
    "daily.avsc": avsc(TOTAL),
    "shop.py": "class Shop: ...\n",
}


def make(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def change(tmp_path: Path, *swaps: tuple[str, str], **files: str) -> Diff:
    """Compare 1.0.0 with 1.1.0, in which manifest text is swapped and files are replaced."""
    old = {**FILES, "application.toml": MANIFEST.replace("1.1.0", "1.0.0")}
    text = MANIFEST
    for before, after in swaps:
        assert before in text
        text = text.replace(before, after)
    new = {**FILES, "application.toml": text, **files}
    return diff(
        load_application(make(tmp_path / "old", old)), load_application(make(tmp_path / "new", new))
    )


def told(changes: Diff) -> set[tuple[str, str, str]]:
    return {(entry.what, entry.where, entry.verdict.value) for entry in changes.entries}


def test_the_same_folder_is_no_change(tmp_path: Path) -> None:
    folder = load_application(make(tmp_path / "a", FILES))
    assert diff(folder, folder) == Diff(())
    assert diff(folder, folder).deployable


def test_a_higher_version_alone_is_deployable(tmp_path: Path) -> None:
    assert change(tmp_path) == Diff(())


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ('"shop", version', '"store", version', ("changed", "application.name", "refused")),
        ("partitions = 4", "partitions = 8", ("changed", "application.partitions", "refused")),
        ("1.1.0", "1.0.0-1", ("changed", "application.version", "refused")),
        ("1.1.0", "0.9.9", ("changed", "application.version", "refused")),
        ('"singleton"', '"operational"', ("changed", "records.shop.kind", "refused")),
        ("records.shop", "records.store", ("removed", "records.shop", "refused")),
        ("records.shop", "records.store", ("added", "records.store", "compatible")),
        ("min = 0", "min = 1", ("changed", "records.shop.checks.staff", "compatible")),
        ("commands.open", "commands.close", ("removed", "commands.open", "compatible")),
        ("commands.open", "commands.close", ("added", "commands.close", "compatible")),
        ("shop:place", "shop:place2", ("changed", "commands.place.run", "compatible")),
        (
            ', run = "shop:place"',
            ', run = "shop:place", result = "shop.avsc"',
            ("changed", "commands.place.result", "compatible"),
        ),
        ("day:date", "day:long", ("changed", "views.daily.key", "rebuild")),
        ('["day:date"]', '["day:date", "n:long"]', ("changed", "views.daily.key", "rebuild")),
        ("revision = 2", "revision = 3", ("changed", "projectors.daily.revision", "rebuild")),
        ("revision = 2", "revision = 1", ("changed", "projectors.daily.revision", "refused")),
        ("order.create", "order.update", ("changed", "projectors.daily.on", "rebuild")),
        ("shop:daily", "shop:daily2", ("changed", "projectors.daily.run", "rebuild")),
        ("projectors.daily", "projectors.other", ("removed", "projectors.daily", "rebuild")),
        ("projectors.daily", "projectors.other", ("added", "projectors.other", "rebuild")),
        ('"shop:Shop" }', '"shop:Other" }', ("changed", "extensions.shop", "compatible")),
    ],
)
def test_changes_of_the_manifest(
    tmp_path: Path, before: str, after: str, expected: tuple[str, str, str]
) -> None:
    changes = change(tmp_path, (before, after))
    assert expected in told(changes)
    assert changes.deployable == all(verdict != "refused" for _, _, verdict in told(changes))


def test_a_view_comes(tmp_path: Path) -> None:
    changes = change(
        tmp_path,
        ('["daily"]', '["daily", "sum"]'),
        ("views.daily", 'views.sum = { row = "daily.avsc", key = [] }\nviews.daily'),
    )
    assert told(changes) == {
        ("added", "views.sum", "rebuild"),
        ("changed", "projectors.daily.writes", "rebuild"),
    }


def test_a_view_goes(tmp_path: Path) -> None:
    lines = MANIFEST.splitlines(keepends=True)
    gone = [(line, "") for line in lines if ".daily = " in line]
    changes = change(tmp_path, *gone)
    assert told(changes) == {
        ("removed", "views.daily", "compatible"),
        ("removed", "projectors.daily", "compatible"),
    }
    assert changes.deployable


ADDED = {"name": "more", "type": "long"}
DEFAULTED = {**ADDED, "default": 0}
WIDE = {"name": "total", "type": "long"}
RENAMED = {"name": "sum", "type": "int", "aliases": ["total"]}
DATED = {"name": "total", "type": {"type": "int", "logicalType": "date"}}
FEWER = {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW"]}}
MORE = {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "PAID", "X"]}}
FILLED = {"name": "note", "type": "string", "default": ""}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([TOTAL, STATE, NOTE, DEFAULTED], {("added", "more", "compatible")}),
        ([TOTAL, STATE, NOTE, ADDED], {("changed", "more", "refused")}),
        ([TOTAL, STATE], {("removed", "note", "compatible")}),
        ([WIDE, STATE, NOTE], {("changed", "total", "compatible")}),
        ([{"name": "total", "type": "string"}, STATE, NOTE], {("changed", "total", "refused")}),
        ([RENAMED, STATE, NOTE], None),
        ([DATED, STATE, NOTE], {("changed", "total", "refused")}),
        ([TOTAL, FEWER, NOTE], {("changed", "state", "refused")}),
        ([TOTAL, MORE, NOTE], {("changed", "state", "compatible")}),
        ([TOTAL, STATE, FILLED], {("changed", "note", "refused")}),
        ([NOTE, STATE, TOTAL], None),
        ([TOTAL, STATE, {**NOTE, "doc": "said"}], None),
    ],
)
def test_changes_of_a_record_schema(
    tmp_path: Path, fields: list[Any], expected: set[tuple[str, str, str]] | None
) -> None:
    found = told(change(tmp_path, **{"order.avsc": avsc(*fields)}))
    if expected is None:
        assert all(verdict == "compatible" for _, _, verdict in found)
        assert found
    else:
        prefix = "records.order.schema."
        assert {(what, prefix + where, verdict) for what, where, verdict in expected} <= found


def test_old_arguments_must_stay_readable_and_view_rows_may_be_rebuilt(tmp_path: Path) -> None:
    text = avsc({"name": "total", "type": "string"}, NOTE)
    changes = change(tmp_path, **{"place.avsc": text, "daily.avsc": text})
    assert told(changes) == {
        ("changed", "commands.place.args.total", "refused"),
        ("changed", "views.daily.row.total", "rebuild"),
        ("added", "views.daily.row.note", "compatible"),
    }
    assert [entry.where for entry in changes.obstacles] == ["commands.place.args.total"]


def test_a_view_needs_somebody_who_writes_it(tmp_path: Path) -> None:
    lines = MANIFEST.splitlines(keepends=True)
    changes = change(tmp_path, *((line, "") for line in lines if "projectors.daily" in line))
    assert told(changes) == {("removed", "projectors.daily", "refused")}


def test_an_old_projector_must_read_on_while_the_new_rows_are_built(tmp_path: Path) -> None:
    raised = ("revision = 2", "revision = 3")
    wider = avsc(TOTAL, MORE, NOTE)
    changes = change(tmp_path, raised, **{"order.avsc": wider})
    assert ("changed", "records.order.schema", "refused") in told(changes)


def test_nested_fields_are_named(tmp_path: Path) -> None:
    def lines(inner: str) -> str:
        item = {"type": "record", "name": "Line", "fields": [{"name": "n", "type": inner}]}
        return avsc(TOTAL, {"name": "lines", "type": {"type": "array", "items": item}})

    older = {**FILES, "application.toml": MANIFEST.replace("1.1.0", "1.0.0")}
    old = load_application(make(tmp_path / "old", {**older, "place.avsc": lines("long")}))
    new = load_application(make(tmp_path / "new", {**FILES, "place.avsc": lines("int")}))
    assert ("changed", "commands.place.args.lines[].n", "refused") in told(diff(old, new))
    back = {**FILES, "place.avsc": lines("long"), "application.toml": MANIFEST}
    older = {**older, "place.avsc": lines("int")}
    wider = diff(
        load_application(make(tmp_path / "older", older)),
        load_application(make(tmp_path / "back", back)),
    )
    assert wider.deployable
    assert ("changed", "commands.place.args.lines[].n", "compatible") in told(wider)


def test_new_code_is_compatible(tmp_path: Path) -> None:
    changes = change(tmp_path, **{"shop.py": "class Shop:\n    pass\n"})
    assert told(changes) == {("changed", "extensions.shop", "compatible")}
    assert isinstance(changes.entries[0], Entry)


def test_another_content_needs_another_version(tmp_path: Path) -> None:
    changes = change(tmp_path, ("1.1.0", "1.0.0"), **{"shop.py": "\n"})
    assert [entry.where for entry in changes.obstacles] == ["application.version"]


def test_the_command_line(tmp_path: Path) -> None:
    old = make(tmp_path / "old", {**FILES, "application.toml": MANIFEST.replace("1.1.0", "1.0.0")})
    code = "class Shop:\n    def place(self, call): ...\n    open = daily = place\n"
    good = make(tmp_path / "good", {**FILES, "shop.py": code})
    bad = make(tmp_path / "bad", {**FILES, "application.toml": MANIFEST.replace("= 4", "= 8")})
    runner = CliRunner()

    shown = runner.invoke(app, ["check", str(good)])
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.startswith("shop 1.1.0 is right")
    shown = runner.invoke(app, ["show", str(good)])
    assert "record order (operational, table 0x0100)\n  total: int\n" in shown.stdout
    shown = runner.invoke(app, ["show", str(good), "--json"])
    assert json.loads(shown.stdout)["views"]["daily"]["key"] == ["day:date"]

    shown = runner.invoke(app, ["diff", str(old), str(good), "--json"])
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["deployable"] is True
    shown = runner.invoke(app, ["diff", str(old), str(bad)])
    assert isinstance(shown.exception, ApplicationError)
    assert (shown.exception.code, shown.exception.exit_status) == ("E1105", 3)
    assert "application.partitions" in shown.stdout
    shown = runner.invoke(app, ["check", str(tmp_path / "nowhere")])
    assert isinstance(shown.exception, ApplicationError)
    assert shown.exception.code == "E1101"
