"""What a manifest may not say: each error names the file and the key."""

from pathlib import Path

import pytest
from test_manifest_rules import load

from engine.errors import ApplicationError
from engine.limits import OCCURS_MAX


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        # A record's own section.
        ('kind = "configuration"\n', "", "records.table", "either a kind, or a parent"),
        ('parent = "order"', 'parent = "order"\nkind = "operational"', "records.line", "a parent"),
        ('kind = "configuration"', 'kind = "config"', "records.table.kind", "'configuration'"),
        ('parent = "order"\n', 'kind = "operational"\n', "records.line", "have a parent"),
        ("[1, 50]", "[5, 1]", "records.line.occurs", "[least, most]"),
        ("[1, 50]", "[0, 0]", "records.line.occurs", "[least, most]"),
        ("[1, 50]", "[-1, 5]", "records.line.occurs", "[least, most]"),
        ("[1, 50]", f"[1, {OCCURS_MAX + 1}]", "records.line.occurs", "from 0 to 1000"),
        ("[1, 50]", "[1]", "records.line.occurs", "[least, most]"),
        ('"singleton"', '"singleton"\nunique = { n = ["name"] }', "records.shop", "the only one"),
        ('"operation"', '"operation"\nunique = { n = ["name"] }', "records.receipt", "not stored"),
        ('["name"]', '["name", "name"]', "records.table.required", "name is there twice"),
        ('["name"]', "[]", "records.table.required", "at least 1 item"),
        # Fields and their kinds.
        ('["name"]', '["nam"]', "records.table.required", "did you mean name?"),
        ("{ table =", "{ tabel =", "records.order.references.tabel", "did you mean table?"),
        ("{ table =", "{ guests =", "records.order.references.guests", "a long, not an int"),
        ('["day", "number"]', '["dya"]', "records.table.unique.place", "did you mean day?"),
        ('["day", "number"]', '["share"]', "records.table.unique.place", "it is a decimal"),
        ('["day", "number"]', '["tags"]', "records.table.unique.place", "it is an array"),
        ('["pin"]', '["pni"]', "commands.found.secret", "did you mean pin?"),
        # Checks.
        ("{ name = {", "{ nmae = {", "records.table.checks.nmae", "did you mean name?"),
        ("length = [1, 20]", "length = [20, 1]", "records.table.checks.name.length", "least"),
        ("length = [1, 20]", "min = 1", "records.table.checks.name", "has no bounds"),
        ("min = 1, max = 99", "length = [1, 2]", "records.table.checks.number", "has no length"),
        ("min = 1, max = 99", "min = 1.5", "records.table.checks.number", "integers"),
        ("min = 1, max = 99", "min = 9, max = 1", "records.table.checks.number", "above max"),
        ("min = 1, max = 99", "", "records.table.checks.number", "must say min, max"),
        ("min = 1, max = 99", 'pattern = "a"', "records.table.checks.number", "no pattern"),
        ('"[A-Z].*"', '"[A-Z"', "records.table.checks.name", "ends inside a class"),
        ('"[A-Z].*"', '"(a|b)*a(a|b){11}"', "records.table.checks.name", "1024 states"),
        ('"[A-Z].*"', f'"{"a" * 1001}"', "records.table.checks.name.pattern", "1000 characters"),
        (
            '["open", "paid"]',
            '["open", "pait"]',
            "records.order.checks.state",
            "did you mean paid?",
        ),
        ('["open", "paid"]', "[1]", "records.order.checks.state", "1 is no choice of an enum"),
        ('["open", "paid"]', "[]", "records.order.checks.state.one_of", "at least 1 item"),
        ("[1, 2, 4]", '[1, "2"]', "records.order.checks.guests", "'2' is no choice of an int"),
        ("[1, 2, 4]", "[1, 1]", "records.order.checks.guests.one_of", "1 is there twice"),
        ("[1, 2, 4]", "[true]", "records.order.checks.guests.one_of.0", "a text or an integer"),
        (
            "name = { length",
            "tags = { one_of = ['a'] }, name = { length",
            "records.table.checks.tags",
            "has no choices",
        ),
        # Nesting.
        ('parent = "order"', 'parent = "ordre"', "records.line.parent", "did you mean order?"),
        (
            'parent = "order"',
            'parent = "extra"',
            "records.line.parent",
            "in a circle: line in extra in line",
        ),
        (
            'parent = "line"',
            'parent = "extra"',
            "records.extra.parent",
            "in a circle: extra in extra",
        ),
        ('parent = "line"', 'parent = "shop"', "records.extra.parent", "has no nested records"),
        (
            'parent = "line"',
            'parent = "receipt"\nunique = { n = ["name"] }',
            "records.extra.unique",
            "not stored",
        ),
        (
            "[records.receipt]",
            '[records.name]\nschema = "line.avsc"\nparent = "line"\n[records.receipt]',
            "records.name",
            "has a field name",
        ),
        # References.
        (
            'before = ["order", "table"]',
            'before = ["ordre"]',
            "records.order.references.before",
            "did you mean order?",
        ),
        (
            'before = ["order", "table"]',
            'before = ["line"]',
            "records.order.references.before",
            "line is nested",
        ),
        (
            'before = ["order", "table"]',
            'before = ["shop"]',
            "records.order.references.before",
            "is a singleton",
        ),
        (
            'before = ["order", "table"]',
            'before = ["receipt"]',
            "records.order.references.before",
            "not stored",
        ),
        (
            'required = ["name"]',
            'references = { number = ["order"] }',
            "records.table.references.number",
            "what is operational: order",
        ),
        # Workspaces.
        (
            '"table", "order", "line", "extra"]',
            '"tabel"]',
            "workspaces.inn.records",
            "did you mean table?",
        ),
        (
            '"order", "line", "extra"]',
            '"line"]',
            "workspaces.inn.records",
            "has line, but not order",
        ),
        (
            '"found", "close", "change"]',
            '"fund"]',
            "workspaces.inn.commands",
            "did you mean found?",
        ),
        ('"found", "close", "change"]', '"close"]', "commands.found.creates", "doesn't have found"),
        ('creates = "inn"', 'creates = "in"', "commands.found.creates", "did you mean inn?"),
        ('creates = "inn"\n', "", "workspaces.inn", "no command makes such a workspace"),
        # Commands.
        ("deactivates = true", 'deactivates = true\ncreates = "inn"', "commands.close", "at once"),
        ('run = "inn:close"\n', "", "commands.close", "run missing"),
        ('args = "found.avsc"\nrun = "inn:close"\n', "", "commands.close", "args and run missing"),
        ("changes_max = 20", "changes_max = 101", "commands.change.changes_max", "less than or"),
        ("changes_max = 20", 'run = "inn:x"', "commands.change", "it has no run"),
        ("changes_max = 20", 'result = "line.avsc"', "commands.change", "it has no result"),
        (
            '["table", "order"]\nchanges',
            '["tabel"]\nchanges',
            "commands.change.generic",
            "did you mean table?",
        ),
        ("too_young =", "check_failed =", "commands.found.errors.check_failed", "engine's own"),
        ("too_young =", "Too_young =", "commands.found.errors.Too_young", "lower-case"),
        ('"An inn needs a year"', '""', "commands.found.errors.too_young", "at least 1 character"),
        # Names from before.
        (
            "deactivates = true",
            'renamed_from = "found"',
            "commands.close.renamed_from",
            "still there",
        ),
        (
            'key = ["day:date"]',
            'key = []\nrenamed_from = "days"',
            "views.days.renamed_from",
            "still there",
        ),
        # Projectors.
        ("receipt.create", "receipt.update", "projectors.days.on", "never changed"),
        ("close.rejected", "line.rejected", "projectors.days.on", "there is no command line"),
        ('["day:date"]', '["where:string"]', "views.days.key", "no column can be named so"),
    ],
)
def test_an_error_names_file_and_key(
    tmp_path: Path, old: str, new: str, key: str, says: str
) -> None:
    with pytest.raises(ApplicationError) as caught:
        load(tmp_path, (old, new))
    error = caught.value
    assert error.code == "E1102"
    if "key" in error.where:
        assert error.where == {"file": str(tmp_path / "application.toml"), "key": key}
    else:
        assert f"\n  {key}: " in error.message  # it led to a second error
    assert says in str(error)


def test_two_parts_can_not_have_been_one(tmp_path: Path) -> None:
    swaps = (
        ("deactivates = true", 'renamed_from = "shut"'),
        ("changes_max = 20", 'renamed_from = "shut"'),
    )
    with pytest.raises(ApplicationError, match="shut has become close already"):
        load(tmp_path, *swaps)
