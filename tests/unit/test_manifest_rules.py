"""The record model in a manifest: what it becomes, and every error in it with file and key."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.application.checks import is_empty, violation
from engine.application.folder import load_application
from engine.application.types import Application, KeyColumn
from engine.cli.app import app
from engine.errors import ApplicationError
from engine.limits import CHANGES_MAX, NESTING_MAX, OCCURS_MAX

MANIFEST = """\
application = { name = "inn", version = "1.0.0", partitions = 4 }

[workspaces.inn]
records = ["table", "order", "line", "extra"]
commands = ["found", "close", "change"]

[records.table]
schema = "table.avsc"
kind = "configuration"
required = ["name"]
unique = { place = ["day", "number"] }
checks = { name = { length = [1, 20], pattern = "[A-Z].*" }, number = { min = 1, max = 99 } }

[records.order]
schema = "order.avsc"
kind = "operational"
references = { table = ["table"], before = ["order", "table"] }
checks = { state = { one_of = ["open", "paid"] }, guests = { one_of = [1, 2, 4] } }

[records.line]
schema = "line.avsc"
parent = "order"
occurs = [1, 50]

[records.extra]
schema = "line.avsc"
parent = "line"

[records.receipt]
schema = "line.avsc"
kind = "operation"

[records.shop]
schema = "line.avsc"
kind = "singleton"

[commands.found]
args = "found.avsc"
run = "inn:found"
creates = "inn"
secret = ["pin"]
errors = { too_young = "An inn needs a year" }

[commands.close]
args = "found.avsc"
run = "inn:close"
deactivates = true
result = "line.avsc"

[commands.change]
generic = ["table", "order"]
changes_max = 20

[views.days]
row = "line.avsc"
key = ["day:date"]

[projectors.days]
on = ["order.create", "line.deactivate", "receipt.create", "close.execute", "close.rejected"]
writes = ["days"]
run = "inn:days"

[extensions.inn]
python = "inn:Inn"
"""


def avsc(fields: str) -> str:
    """Return a schema of `name:type` words; a type in JSON may stand for a word."""
    pairs = (field.split(":", 1) for field in fields.split("; "))
    listed = [{"name": name, "type": json.loads(kind)} for name, kind in pairs]
    return json.dumps({"type": "record", "name": "R", "fields": listed})


DATE = '{"type": "int", "logicalType": "date"}'
STATE = '{"type": "enum", "name": "S", "symbols": ["open", "paid", "void"]}'
AMOUNT = '{"type": "bytes", "logicalType": "decimal", "precision": 9}'
LIST = '{"type": "array", "items": "string"}'
FILES = {
    "table.avsc": avsc(
        f'name:"string"; number:["null", "long"]; day:{DATE}; share:{AMOUNT}; tags:{LIST}'
    ),
    "order.avsc": avsc(f'table:["null", "long"]; before:"long"; state:{STATE}; guests:"int"'),
    "line.avsc": avsc('name:"string"'),
    "found.avsc": avsc('pin:"string"; year:"int"'),
    "inn.py": "class Inn: ...\n",
}


def load(folder: Path, *swaps: tuple[str, str], **files: str) -> Application:
    folder.mkdir(exist_ok=True)
    text = MANIFEST
    for before, after in swaps:
        assert before in text
        text = text.replace(before, after, 1)
    for name, content in {**FILES, **files, "application.toml": text}.items():
        (folder / name).write_text(content)
    return load_application(folder)


def test_the_record_model_of_an_application(tmp_path: Path) -> None:
    application = load(tmp_path)
    table, order = application.records["table"], application.records["order"]
    assert [field.name for field in table.required] == ["name"]
    (unique,) = table.uniques
    assert (unique.name, unique.record, unique.number) == ("place", "table", 1)
    assert unique.columns == (KeyColumn("day", "date"), KeyColumn("number", "long"))
    assert application.uniques["table.place"] is unique
    name, number = table.checks
    assert name.length == (1, 20)
    assert name.pattern is not None
    assert name.pattern.text == "[A-Z].*"
    assert (number.minimum, number.maximum) == (1, 99)
    assert [(each.field.name, each.targets) for each in order.references] == [
        ("table", ("table",)),
        ("before", ("order", "table")),
    ]
    assert [check.one_of for check in order.checks] == [("open", "paid"), (1, 2, 4)]
    line, extra = application.records["line"], application.records["extra"]
    assert (order.parent, order.root, order.children) == ("", "order", ("line",))
    assert (line.parent, line.root, line.kind, line.occurs) == (
        "order",
        "order",
        order.kind,
        (1, 50),
    )
    assert (extra.parent, extra.root, extra.occurs) == ("line", "order", (0, OCCURS_MAX))
    assert [record.kind for record in application.records.values()] == [
        "configuration",
        "operational",
        "operational",
        "operational",
        "operation",
        "singleton",
    ]
    kind = application.workspaces["inn"]
    assert kind.records == {"table", "order", "line", "extra"}
    assert kind.views == {"days"}
    found, close, change = application.commands.values()
    assert (found.creates, found.deactivates, close.deactivates) == ("inn", False, True)
    assert [field.name for field in found.secret] == ["pin"]
    assert found.errors == {"too_young": "An inn needs a year"}
    assert (found.changes_max, change.changes_max) == (CHANGES_MAX, 20)
    assert (change.run, change.generic, change.args.name) == (None, ("table", "order"), "Changes")
    assert ("close", "rejected") in application.projectors[0].on
    assert {entry.function for entry in application.entry_points} == {"found", "close", "days"}


def test_records_nest_so_deep_only(tmp_path: Path) -> None:
    def nested(depth: int) -> str:
        names = ["extra", *(f"in{number}" for number in range(depth))]
        pairs = zip(names[1:], names, strict=False)
        return "".join(
            f'[records.{name}]\nschema = "line.avsc"\nparent = "{parent}"\n'
            for name, parent in pairs
        )

    # order, line and extra are there already.
    swap = ("[records.receipt]", nested(NESTING_MAX - 3) + "[records.receipt]")
    assert load(tmp_path / "fits", swap).records["in4"].root == "order"
    with pytest.raises(ApplicationError, match="nested more than 8 deep"):
        load(
            tmp_path / "deep", ("[records.receipt]", nested(NESTING_MAX - 2) + "[records.receipt]")
        )


@pytest.mark.parametrize(
    ("default", "required", "is_right"),
    [("A", False, True), ("a", False, False), ("", False, False), ("", True, True)],
)
def test_a_default_passes_its_checks(
    tmp_path: Path, default: str, *, required: bool, is_right: bool
) -> None:
    raw = json.loads(FILES["table.avsc"])
    raw["fields"][0]["default"] = default
    swaps = () if required else (('required = ["name"]\n', ""),)
    if is_right:
        load(tmp_path, *swaps, **{"table.avsc": json.dumps(raw)})
        return
    with pytest.raises(ApplicationError, match="the schema's default would be") as caught:
        load(tmp_path, *swaps, **{"table.avsc": json.dumps(raw)})
    assert caught.value.where["key"] == "records.table.checks.name"


def test_checks_on_values(tmp_path: Path) -> None:
    application = load(tmp_path)
    name, number = application.records["table"].checks
    state, guests = application.records["order"].checks
    assert violation(name, "Äh") == 'would be "Äh", what matches [A-Z].* is allowed'
    assert violation(name, "A" * 20) == ""
    assert "a length from 1 to 20, not 21, is allowed" in violation(name, "A" * 21)
    assert violation(number, None) == ""
    assert violation(number, 1) == violation(number, 99) == ""
    assert violation(number, 0) == "would be 0, at least 1 is allowed"
    assert violation(number, 100) == "would be 100, at most 99 is allowed"
    assert violation(number, float("nan")) != ""
    assert violation(state, "void") == 'would be "void", one of open, paid is allowed'
    assert violation(guests, 2) == ""
    assert violation(guests, 3) == "would be 3, one of 1, 2, 4 is allowed"
    table, order = application.records["table"].schema, application.records["order"].schema
    assert is_empty(table.by_name["name"], "")
    assert is_empty(table.by_name["tags"], [])
    assert is_empty(order.by_name["table"], None)
    assert not is_empty(order.by_name["before"], 0)


def test_show_tells_all_of_it(tmp_path: Path) -> None:
    load(tmp_path)
    runner = CliRunner()
    shown = runner.invoke(app, ["show", str(tmp_path)]).stdout
    for line in (
        "workspace inn\n  records: table, order, line, extra\n",
        "record table (configuration, table 0x0100)",
        "  required: name\n  unique place: day, number (number 1)\n",
        "  check name: length [1, 20], pattern [A-Z].*\n  check number: min 1, max 99\n",
        "record line in order, 1 to 50 (operational, table 0x0102)",
        "  reference before: order or table\n",
        "command change, changes table, order\n",
        "  makes a workspace: inn\n  secret: pin\n  error too_young: An inn needs a year\n",
    ):
        assert line in shown
    told = json.loads(runner.invoke(app, ["show", str(tmp_path), "--json"]).stdout)
    assert told["records"]["line"]["parent"] == "order"
    assert told["records"]["order"]["checks"]["guests"] == {"one_of": [1, 2, 4]}
    assert told["commands"]["close"]["deactivates"] is True


def test_the_same_folder_gives_the_same_application_in_any_process(tmp_path: Path) -> None:
    load(tmp_path)
    script = (
        "import sys, pathlib; from engine.application.folder import load_application; "
        "app = load_application(pathlib.Path(sys.argv[1])); "
        "print(app.fingerprint.hex(), app.tables, app.records['table'].checks)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
