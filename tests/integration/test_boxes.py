"""Nested records, uniques, references, cursors and results, as an extension in C meets them."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ApplicationError
from engine.sandbox import wasm
from engine.sandbox.sdk import build
from engine.sandbox.testkit import TestKit

HERE = Path(__file__).parent
MANIFEST = """
application = { name = "boxes", version = "1.0.0", partitions = 1 }
records.part = { schema = "part.avsc", parent = "box" }
commands.drop = { args = "drop.avsc", run = "guest:drop" }
commands.look = { args = "named.avsc", run = "guest:look", result = "seen.avsc" }
views.sizes = { row = "sized.avsc", key = ["kind:string", "box:long", "size:long", "part:long"] }
views.largest = { row = "largest.avsc", key = ["box:long"] }
extensions.guest = { wasm = "build/boxes.wasm" }
[records.box]
schema = "box.avsc"
kind = "operational"
references = { inside = ["box"] }
unique = { name = ["name"] }
[commands.make]
args = "make.avsc"
run = "guest:make"
result = "made.avsc"
errors = { name_taken = "There is a box of this name" }
[projectors.parts]
on = ["part.create", "part.deactivate"]
writes = ["sizes", "largest"]
run = "guest:parts"
"""


def schema(name: str, /, **fields: Any) -> str:
    zeros = {"string": "", "long": 0}
    listed = [
        {"name": field, "type": type_, "default": zeros[type_] if type(type_) is str else []}
        for field, type_ in fields.items()
    ]
    return json.dumps({"type": "record", "name": name, "fields": listed})


SCHEMAS = {
    "box": schema("Box", name="string", inside="long"),
    "part": schema("Part", size="long"),
    "make": schema("Make", name="string", inside="long", sizes={"type": "array", "items": "long"}),
    "made": schema("Made", id="long"),
    "named": schema("Named", name="string"),
    "seen": schema("Seen", sum="long", count="long", inside="string"),
    "drop": schema("Drop", box="long", part="long"),
    "sized": schema("Sized", count="long"),
    "largest": schema("Largest", first="long", second="long", all="long"),
}


def write(folder: Path, source: str) -> Path:
    (folder / "application.toml").write_text(MANIFEST)
    for name, text in SCHEMAS.items():
        (folder / f"{name}.avsc").write_text(text)
    (folder / "boxes.c").write_text(source)
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    folder = write(tmp_path_factory.mktemp("boxes"), (HERE / "boxes.c").read_text())
    build.build_all(folder)
    return folder


@pytest.fixture
def kit(folder):
    kit = TestKit(folder)
    yield kit
    kit.replay()
    kit.close()


def make(kit: TestKit, name: str, *sizes: int, inside: int = 0) -> int:
    outcome = kit.send("w", "make", {"name": name, "inside": inside, "sizes": list(sizes)})
    assert outcome.accepted, outcome
    assert outcome.result is not None
    return outcome.result["id"]


def test_a_cursor_goes_through_the_active_children_in_order(kit):
    outer = make(kit, "crate")
    box = make(kit, "tin", 3, 4, 5, inside=outer)
    seen = kit.send("w", "look", {"name": "tin"})
    assert seen.result == {"sum": 12, "count": 3, "inside": "crate"}
    middle = list(kit.children("w", "part", box))[1]
    assert kit.send("w", "drop", {"box": box, "part": middle}).accepted
    assert kit.send("w", "look", {"name": "tin"}).result["sum"] == 8
    assert kit.send("w", "look", {"name": "crate"}).result == {"sum": 0, "count": 0, "inside": ""}


def test_break_and_continue_are_those_of_any_loop(kit):
    make(kit, "tin", 1, -7, 2, 0, 100)
    assert kit.send("w", "look", {"name": "tin"}).result["sum"] == 3


def test_a_unique_is_looked_up(kit):
    make(kit, "tin")
    again = kit.send("w", "make", {"name": "tin"})
    assert (again.code, again.message, again.field) == (
        "name_taken",
        "There is a box of this name",
        "name",
    )
    nobody = kit.send("w", "look", {"name": "jar"})
    assert (nobody.code, nobody.field, nobody.result) == ("nobody", None, None)
    assert kit.send("v", "make", {"name": "tin"}).accepted, "a workspace of its own"


def test_a_part_of_another_box_is_not_in_this_one(kit):
    one, two = make(kit, "one", 1), make(kit, "two", 2)
    (part,) = kit.children("w", "part", two)
    wrong = kit.send("w", "drop", {"box": one, "part": part})
    assert (wrong.code, wrong.message, wrong.field) == ("no_part", "it isn't in there", "part")
    assert kit.send("w", "drop", {"box": one, "part": -1}).code == "no_part"
    assert kit.send("w", "drop", {"box": two, "part": part}).accepted
    nowhere = kit.send("w", "drop", {"box": part, "part": part})
    assert nowhere.code == "abi_misused", "no box: its handle is none"


def test_a_projector_scans_its_own_view_in_both_directions(kit):
    box = make(kit, "tin", 4, 9, 2)
    make(kit, "jar", 50)
    row = kit.row("w", "largest", box=box)
    assert row is not None
    assert (row["first"], row["second"], row["all"]) == (9, 4, 3)
    nine = next(id_ for id_, part in kit.children("w", "part", box).items() if part["size"] == 9)
    kit.send("w", "drop", {"box": box, "part": nine})
    row = kit.row("w", "largest", box=box)
    assert row is not None
    assert (row["first"], row["second"], row["all"]) == (4, 2, 3)
    sizes = [row["size"] for row in kit.view("w", "sizes", kind="part", box=box)]
    assert sizes == [2, 4]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("part_next((part_cursor_t){PARTITA_ARGS});", "no cursor"),
        ("part_children((box_t){PARTITA_ARGS});", "no record"),
        ("part_create((box_t){0});", "not one of this call"),
        ("partita_unique(box_create().handle);", "no key of a unique"),
        ("partita_unique_key(99);", "ordinal"),
        ("partita_child(box_create().handle, 99);", "ordinal"),
        ("sizes_scan(PARTITA_FORWARD);", "only a projector"),
        ("box_name((box_t){part_children(box_create()).handle}, 0, 0);", "no field name"),
        ('partita_reject_field("nonsense", "", "");', "declares no error"),
        ('partita_reject_field_text("name_taken", 10, "", 0, (char *)1e6, 9);', "outside"),
    ],
)
def test_misuse_ends_the_command_and_is_named(tmp_path, line, said):
    source = (HERE / "boxes.c").read_text()
    body = source.replace("void make(void)\n{", f"void make(void)\n{{\n    {line}\n    return;", 1)
    folder = write(tmp_path, body.replace("1e6", "1000000"))
    build.build_all(folder)
    kit = TestKit(folder)
    outcome = kit.send("w", "make", {"name": "a"})
    assert outcome.code in {"abi_misused", "undeclared_code"}, outcome
    assert said in outcome.message
    assert kit.send("w", "look", {"name": "a"}).code == "nobody"
    kit.close()


def test_the_header_knows_declared_errors_only(tmp_path):
    source = (HERE / "boxes.c").read_text().replace("reject_name_taken", "reject_name_token")
    with pytest.raises(ApplicationError, match="reject_name_token"):
        build.build_all(write(tmp_path, source))


def test_a_module_that_asks_for_another_unique_is_refused(folder):
    kit = TestKit(folder)
    (guest,) = wasm.check(kit.application)
    assert [unique.name for unique in guest.resolved.uniques] == ["name"]
    kit.close()


AWKWARD = """
application = { name = "awkward", version = "1.0.0", partitions = 1 }
records.thing = { schema = "thing.avsc", kind = "operational", unique = { id = ["id", "for"] } }
records.sub = { schema = "thing.avsc", parent = "thing" }
commands.do = { args = "thing.avsc", run = "guest:make", result = "thing.avsc" }
views.seen = { row = "row.avsc", key = ["key:string", "scan:long", "cursor:boolean"] }
projectors.seen = { on = ["thing.create"], writes = ["seen"], run = "guest:see" }
extensions.guest = { wasm = "build/guest.wasm" }
"""
NAMES = "active append children create event exists for get id is_active item key length next put \
read remove row scan text value write"


def test_fields_may_have_the_names_of_functions_and_of_keywords(tmp_path):
    fields = dict.fromkeys(NAMES.split(), "long")
    inner = json.loads(schema("Inner", **fields))
    lines = {"type": "array", "items": inner}
    (tmp_path / "thing.avsc").write_text(schema("Thing", **fields, lines=lines))
    (tmp_path / "row.avsc").write_text(schema("Row", put="long", get="long", exists="long"))
    (tmp_path / "application.toml").write_text(AWKWARD)
    (tmp_path / "guest.c").write_text(
        """#include "guest.h"
        void make(void)
        {
            thing_t thing = thing_create();
            thing_set_active_(thing, do_args_lines_item_(do_args_lines_item(0)));
            sub_set_get_(sub_create(thing), thing_active_(thing) + thing_by_id(1, 2));
        }
        void see(void)
        {
            seen_set_put_(seen_put(seen_key("", 0, 1, true)), thing_put(thing_event()));
        }
        """
    )
    build.build_all(tmp_path)
    kit = TestKit(tmp_path)
    assert kit.send("w", "do", {"lines": [{"item": 7}]}).accepted
    assert kit.records("w", "thing")[65_536]["active"] == 7
    assert kit.children("w", "sub", 65_536)[65_537]["get"] == 7
    kit.replay()
    kit.close()
