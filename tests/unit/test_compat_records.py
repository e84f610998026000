"""What a change of the record model does: rules, nesting, uniques, workspaces, new names."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine import wire
from engine.application.compat import Diff, diff
from engine.application.folder import load_application
from engine.application.record import from_record, to_record
from engine.application.types import Application, Table

MANIFEST = """\
application = { name = "inn", version = "1.1.0", partitions = 4 }
workspaces.inn = { records = ["table", "order", "line"], views = ["bill"] }
workspaces.club = { commands = ["join", "order"] }
records.table = { schema = "table.avsc", kind = "configuration", unique = { number = ["number"] } }
records.order.schema = "order.avsc"
records.order.kind = "operational"
records.order.required = ["table"]
records.order.references = { table = ["table"], next = ["order", "table"] }
records.order.checks = { note = { pattern = "[^<]*" }, guests = { min = 1, max = 9 } }
records.line = { schema = "table.avsc", parent = "order", occurs = [0, 20] }
commands.open = { args = "table.avsc", run = "inn:open", creates = "inn", secret = ["number"] }
commands.join = { args = "table.avsc", run = "inn:open", creates = "club" }
commands.order = { args = "table.avsc", run = "inn:order", errors = { closed = "The inn is shut" } }
commands.change = { generic = ["table", "order"], changes_max = 50 }
views.bill = { row = "table.avsc", key = ["id:long"] }
projectors.bill = { on = ["order.create", "order.rejected"], writes = ["bill"], run = "inn:bill" }
extensions.inn = { python = "inn:Inn" }
"""


def avsc(*fields: tuple[str, Any], alias: str = "") -> str:
    listed = [{"name": name, "type": kind} for name, kind in fields]
    if alias:
        listed[0]["aliases"] = [alias]
    return json.dumps({"type": "record", "name": "R", "fields": listed})


ORDER = [("table", "long"), ("next", "long"), ("note", "string"), ("guests", "int")]
FILES = {
    "table.avsc": avsc(("number", "int")),
    "order.avsc": avsc(*ORDER),
    "inn.py": "class Inn: ...\n",
}


def load(folder: Path, manifest: str, **files: str) -> Application:
    folder.mkdir()
    for name, text in {**FILES, **files, "application.toml": manifest}.items():
        (folder / name).write_text(text)
    return load_application(folder)


def logged(application: Application, previous: Application | None) -> Application:
    """Take an application through the bytes of an Application record."""
    head = {"epoch": 1, "sequence": 0, "previous": 0, "skippable": False}
    value = wire.encode_event(wire.Kind.APPLICATION, {**head, **to_record(application, previous)})
    modules = {name: entry.content for name, entry in application.extensions.items()}
    return from_record(wire.decode_event(value)[1], modules)


def swapped(text: str, swaps: tuple[tuple[str, str], ...]) -> str:
    for before, after in swaps:
        assert before in text
        text = text.replace(before, after)
    return text


def change(tmp_path: Path, *swaps: tuple[str, str], **files: str) -> Diff:
    """Compare 1.0.0 with 1.1.0, in which manifest text is swapped and files are replaced."""
    old = load(tmp_path / "old", MANIFEST.replace("1.1.0", "1.0.0"))
    return diff(old, load(tmp_path / "new", swapped(MANIFEST, swaps), **files))


def told(changes: Diff) -> set[tuple[str, str, str]]:
    return {(entry.what, entry.where, entry.verdict.value) for entry in changes.entries}


def test_nothing_but_a_version_is_no_change(tmp_path: Path) -> None:
    assert change(tmp_path) == Diff(())


@pytest.mark.parametrize(
    ("before", "after", "what", "where", "verdict"),
    [
        ('"configuration"', '"operational"', "changed", "records.table.kind", "refused"),
        ('parent = "order"', 'parent = "table"', "changed", "records.line.parent", "refused"),
        (
            'parent = "order", occurs = [0, 20]',
            'kind = "operational"',
            "changed",
            "records.line.parent",
            "refused",
        ),
        ("[0, 20]", "[1, 5]", "changed", "records.line.occurs", "compatible"),
        ('["table"]\n', '["note"]\n', "changed", "records.order.required.table", "compatible"),
        ('["table"]\n', '["note"]\n', "changed", "records.order.required.note", "compatible"),
        (
            '["order", "table"]',
            '["order"]',
            "changed",
            "records.order.references.next",
            "compatible",
        ),
        ("max = 9", "max = 5", "changed", "records.order.checks.guests", "compatible"),
        ("[^<]*", "[^<>]*", "changed", "records.order.checks.note", "compatible"),
        (', unique = { number = ["number"] }', "", "removed", "records.table.unique.number", "ok"),
        ("occurs = [0, 20]", 'unique = { n = ["number"] }', "added", "records.line.unique.n", "no"),
        ('creates = "club"', 'creates = "inn"', "changed", "commands.join.creates", "compatible"),
        ('"The inn is shut"', '"Come back"', "changed", "commands.order.errors", "compatible"),
        (', secret = ["number"]', "", "changed", "commands.open.secret", "compatible"),
        ("changes_max = 50", "changes_max = 5", "changed", "commands.change.changes_max", "ok"),
        ('["table", "order"],', '["order"],', "changed", "commands.change.generic", "compatible"),
        (
            '["table", "order", "line"]',
            '["table"]',
            "removed",
            "workspaces.inn.records.order",
            "refused",
        ),
        ('["join", "order"]', '["join"]', "removed", "workspaces.club.commands.order", "ok"),
        (', views = ["bill"]', "", "changed", "", "none"),
        (
            'order"] }',
            'order", "open"] }',
            "added",
            "workspaces.club.commands.open",
            "compatible",
        ),
        ("order.rejected", "order.execute", "changed", "projectors.bill.on", "rebuild"),
    ],
)
def test_changes_of_the_model(
    tmp_path: Path, before: str, after: str, what: str, where: str, verdict: str
) -> None:
    swaps = [(before, after)]
    if 'creates = "inn"' in after:
        swaps.append(('workspaces.club = { commands = ["join", "order"] }\n', ""))
    verdict = {"ok": "compatible", "no": "refused"}.get(verdict, verdict)
    found = told(change(tmp_path, *swaps))
    if verdict == "none":
        assert not found
    else:
        assert (what, where, verdict) in found


def test_a_unique_of_other_fields_is_refused(tmp_path: Path) -> None:
    swap = ('unique = { number = ["number"] }', 'unique = { number = ["number", "hall"] }')
    text = json.dumps(
        {
            "type": "record",
            "name": "R",
            "fields": [
                {"name": "number", "type": "int"},
                {"name": "hall", "type": "int", "default": 0},
            ],
        }
    )
    found = told(change(tmp_path, swap, **{"table.avsc": text}))
    assert ("changed", "records.table.unique.number", "refused") in found


def test_a_renamed_field_keeps_its_rules(tmp_path: Path) -> None:
    renamed = avsc(("no", "int"), alias="number")
    changes = change(tmp_path, ('["number"]', '["no"]'), **{"table.avsc": renamed})
    assert changes.deployable
    places = {entry.where for entry in changes.entries if "unique" in entry.where}
    assert not places
    assert ("renamed", "records.table.schema.no", "compatible") in told(changes)


def test_kinds_of_workspaces_come_and_go(tmp_path: Path) -> None:
    lines = MANIFEST.splitlines(keepends=True)
    without = [line for line in lines if not line.startswith("workspaces")]
    bare = "".join(without).replace(', creates = "inn"', "").replace(', creates = "club"', "")
    kinds = load(tmp_path / "kinds", MANIFEST)
    none = load(tmp_path / "none", bare.replace("1.1.0", "1.2.0"))
    assert told(diff(kinds, none)) >= {
        ("removed", "workspaces.inn", "refused"),
        ("removed", "workspaces.club", "refused"),
    }
    none = load(tmp_path / "before", bare.replace("1.1.0", "1.0.0"))
    assert ("added", "workspaces.inn", "refused") in told(diff(none, kinds))


def test_a_view_that_a_kind_is_given_is_built(tmp_path: Path) -> None:
    older = MANIFEST.replace("1.1.0", "1.0.0").replace(
        "workspaces.club = {", 'workspaces.club = { views = ["other"],'
    )
    more = 'views.other = { row = "table.avsc", key = [] }\n'
    old = load(tmp_path / "old", older + more)
    new = load(tmp_path / "new", MANIFEST + more)
    assert told(diff(old, new)) == {("added", "workspaces.club.views.bill", "rebuild")}


RENAMES = (
    ("records.table", "records.desk"),
    ('records.desk = { schema = "table.avsc"', 'records.desk = { renamed_from = "table", @'),
    ("@", 'schema = "table.avsc"'),
    ('["table", "order"', '["desk", "order"'),
    ('{ table = ["table"], next = ["order", "table"] }', "@"),
    ("@", '{ table = ["desk"], next = ["order", "desk"] }'),
    ("commands.order", "commands.place"),
    ('commands.place = { args = "table.avsc"', 'commands.place = { renamed_from = "order", @'),
    ("@", 'args = "table.avsc"'),
    ('["join", "order"]', '["join", "place"]'),
    ("order.rejected", "place.rejected"),
    ("views.bill = {", 'views.check = { renamed_from = "bill",'),
    ('views = ["bill"]', 'views = ["check"]'),
    ('writes = ["bill"]', 'writes = ["check"]'),
)


def test_a_rename_loses_nothing_and_rebuilds_nothing(tmp_path: Path) -> None:
    old = logged(load(tmp_path / "old", MANIFEST.replace("1.1.0", "1.0.0")), None)
    text = swapped(MANIFEST, RENAMES)
    new = logged(load(tmp_path / "new", text), old)
    changes = diff(old, new)
    assert changes.deployable
    assert told(changes) == {
        ("renamed", "records.desk", "compatible"),
        ("renamed", "commands.place", "compatible"),
        ("renamed", "views.check", "compatible"),
    }
    assert new.records["desk"].table == old.records["table"].table
    assert new.views["check"].table == old.views["bill"].table
    assert new.uniques["desk.number"].number == old.uniques["table.number"].number
    assert set(new.tables) - set(old.tables) == {
        Table("record", "desk", 0, old.records["table"].table),
        Table("unique", "desk.number", 0, old.uniques["table.number"].number),
        Table("view", "check", 1, old.views["bill"].table),
    }

    # Once the rename is over, the old name is free, and is another type.
    later = text.replace('renamed_from = "table", ', "").replace('renamed_from = "bill",', "")
    later = later.replace('renamed_from = "order", ', "").replace("1.1.0", "1.2.0")
    later += 'records.table = { schema = "table.avsc", kind = "operational" }\n'
    later += 'views.bill = { row = "table.avsc", key = [] }\n'
    third = logged(load(tmp_path / "later", later), new)
    assert third.records["desk"].table == old.records["table"].table
    assert third.records["table"].table not in {table.table for table in new.tables}
    assert third.views["bill"].table not in {table.table for table in new.tables}
    assert third.views["check"].table == old.views["bill"].table


def test_numbers_of_uniques_are_kept_and_never_given_twice(tmp_path: Path) -> None:
    more = 'records.hall = { schema = "table.avsc", kind = "configuration", unique = '
    more += '{ number = ["number"] } }\n'
    first = logged(load(tmp_path / "1", MANIFEST), None)
    second = logged(load(tmp_path / "2", MANIFEST.replace("1.1.0", "1.2.0") + more), first)
    without = MANIFEST.replace("1.1.0", "1.3.0").replace(', unique = { number = ["number"] }', "")
    third = logged(load(tmp_path / "3", without + more), second)
    assert {name: unique.number for name, unique in first.uniques.items()} == {"table.number": 1}
    assert {name: unique.number for name, unique in second.uniques.items()} == {
        "table.number": 1,
        "hall.number": 2,
    }
    assert {name: unique.number for name, unique in third.uniques.items()} == {"hall.number": 2}
    assert Table("unique", "table.number", 0, 1) in third.tables


def test_a_unique_symbol_may_not_be_read_as_another(tmp_path: Path) -> None:
    def places(*symbols: str) -> str:
        kind = {"type": "enum", "name": "P", "symbols": symbols, "default": "hall"}
        return avsc(("number", kind))

    older = {"table.avsc": places("hall", "bar")}
    old = load(tmp_path / "old", MANIFEST.replace("1.1.0", "1.0.0"), **older)
    fewer = load(tmp_path / "fewer", MANIFEST, **{"table.avsc": places("hall")})
    assert ("changed", "records.table.unique.number", "refused") in told(diff(old, fewer))
    more = load(tmp_path / "more", MANIFEST, **{"table.avsc": places("hall", "bar", "roof")})
    assert diff(old, more).deployable
