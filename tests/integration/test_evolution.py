"""A changed record model on rows of an older one: nothing is lost, rules hold from now on."""

import json

import pytest
from host_shop import MANIFEST, build
from host_world import World, digests_of
from record_world import json_command

from engine import limits, wire
from engine.application import generic, rows, schema
from engine.application.compat import diff
from engine.application.record import numbered
from engine.http.outcomes import outcome_json
from engine.sandbox.guests import load_guests
from engine.sandbox.python import PythonHost

OLD = """
application = { name = "inn", version = "%(version)s", partitions = 4 }
commands.change = { generic = ["room", "guest"] }
records.guest = { schema = "guest.avsc", kind = "operational", references.room = ["room"] }
extensions.inn = { python = "shop:Inn" }

[records.room]
schema = "room.avsc"
kind = "configuration"
unique = { number = ["number"] }
checks = { number = { max = 9 }, beds = { max = 9 } }
"""
NEW = """
application = { name = "inn", version = "%(version)s", partitions = 4 }
commands.alter = { generic = ["chamber", "guest"], renamed_from = "change" }
records.guest = { schema = "guest.avsc", kind = "operational", references.room = ["chamber"] }
extensions.inn = { python = "shop:Inn" }

[records.chamber]
renamed_from = "room"
schema = "chamber.avsc"
kind = "configuration"
required = ["name"]
unique = { number = ["no"] }
checks = { no = { max = 5 }, beds = { max = 2 }, name = { length = [1, 9] } }
"""


def avsc(*fields):
    return json.dumps({"type": "record", "name": "R", "fields": list(fields)})


NUMBER = {"name": "number", "type": "int"}
BEDS = {"name": "beds", "type": "int"}
FILES = {
    "room.avsc": avsc(NUMBER, BEDS),
    "chamber.avsc": avsc(
        {"name": "no", "type": "long", "aliases": ["number"]},
        {"name": "name", "type": "string", "default": ""},
        {"name": "beds", "type": "long"},
    ),
    "guest.avsc": avsc({"name": "room", "type": "long"}),
}


class Inn(World):
    """A world whose application changes."""

    def __init__(self):
        super().__init__(
            lambda _: PythonHost(load_guests),
            build(files=FILES, source="class Inn: ...", manifest=OLD),
        )

    def renew(self, manifest, version):
        """Put a changed manifest in force, as a new owner does."""
        newer = build(files=FILES, source="class Inn: ...", manifest=manifest, version=version)
        old = self.application
        newer = numbered(newer, old)
        assert diff(old, newer).deployable
        self.deploy(newer)
        self.restart()

    def change(self, *changes):
        """Send the generic command; return its code and field, or the ids that were given."""
        (name,) = self.application.commands
        type_ = self.application.commands[name]
        args = generic.changes_from_json(self.application, {"changes": list(changes)})
        outcome = self.do(name, args)
        assert schema.encode(type_.args, args) == outcome["args"]
        if outcome["code"]:
            return outcome["code"], outcome["field"]
        ids = generic.result_to_json(type_, outcome["result"])["ids"]
        return list(ids.values())

    def room(self, id_):
        """Return a room as a command sees it: (values, active)."""
        (type_,) = [each for each in self.application.records.values() if each.uniques]
        return self.rows_of(type_)[id_]

    def rows_of(self, type_):
        """Return all rows of a type, read by the schema in force."""
        prefix = rows.workspace_prefix(type_.table, self.workspace)
        found = {}
        for key, value in self.rows().items():
            if key.startswith(prefix):
                row = rows.decode_value(value)
                writer = self.applications[row.application].record_tables[type_.table].schema
                values = schema.decode(type_.schema, row.body, writer)
                found[rows.decode_long(key[-8:])] = (values, not row.flags & rows.INACTIVE)
        return found


def create(type_, id_, **fields):
    return {"op": "create", "type": type_, "id": id_, "fields": fields}


def update(type_, id_, **fields):
    return {"op": "update", "type": type_, "id": id_, "fields": fields}


def switch(op, type_, id_):
    return {"op": op, "type": type_, "id": id_}


@pytest.fixture
def inn():
    return Inn()


def test_a_renamed_type_keeps_its_records_and_its_index(inn):
    four, nine = inn.change(
        create("room", 1, number=4, beds=2), create("room", 2, number=9, beds=9)
    )
    inn.renew(NEW, "1.1.0")
    assert inn.room(four) == ({"no": 4, "name": "", "beds": 2}, True)
    taken = inn.change(create("chamber", 1, no=4, name="Four", beds=1))
    assert taken == ("not_unique", "chamber.no")
    assert inn.change(switch("deactivate", "chamber", four)) == []
    (again,) = inn.change(create("chamber", 1, no=4, name="Four", beds=1))
    assert again > nine > four
    back = inn.change(update("chamber", four, name="Old"), switch("activate", "chamber", four))
    assert back == ("not_unique", "chamber.no")


def test_old_rows_that_break_a_newer_rule_are_not_stuck(inn):
    (nine,) = inn.change(create("room", 1, number=9, beds=9))
    inn.renew(NEW, "1.1.0")
    # What is set must keep today's rules.
    assert inn.change(update("chamber", nine, beds=3)) == ("check_failed", "chamber.beds")
    assert inn.change(update("chamber", nine, name="")) == ("required", "chamber.name")
    # What is left as it is needn't: number 9, which can't change, and the empty name.
    assert inn.change(update("chamber", nine, beds=1)) == []
    assert inn.room(nine) == ({"no": 9, "name": "", "beds": 1}, True)
    assert inn.change(switch("deactivate", "chamber", nine)) == []
    # But nothing comes back that today's rules forbid, unless it is mended in the same breath.
    assert inn.change(switch("activate", "chamber", nine)) == ("check_failed", "chamber.no")
    mended = inn.change(
        update("chamber", nine, no=5, name="Five"), switch("activate", "chamber", nine)
    )
    assert mended == []
    assert inn.room(nine) == ({"no": 5, "name": "Five", "beds": 1}, True)
    found = inn.rows()
    assert {table: digest for table, digest in inn.ledger.position.digests.items() if digest} == (
        digests_of(found)
    )


# A command's name.

RENAMED = MANIFEST.replace(
    'commands.sell = { args = "sell.avsc", run = "shop:sell" }',
    'commands.deliver = { args = "sell.avsc", run = "shop:sell", renamed_from = "sell" }',
).replace("sell.execute", "deliver.execute")


def renamed(index=2):
    return build(index=index, version="1.1.0", manifest=RENAMED)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_command_under_way_by_its_old_name_is_decided_under_the_new_one(as_json):
    world = World(lambda _: PythonHost(load_guests))
    world.do("add", {"name": "pen", "quantity": 2})
    args = {"id": limits.ID_FIRST}
    value = world.command("sell", args)
    if as_json:
        value = json_command("sell", args)
    before = len(world.log)
    world.deploy(renamed())

    (reply,) = world.send(value)
    assert (reply.code, world.record("item", limits.ID_FIRST)["quantity"]) == ("", 1)
    outcome = wire.decode_outcome(world.log[-1])
    assert (outcome["name"], outcome["application"]) == ("sell", 2)
    assert world.view("stock", "#sold")["quantity"] == 1
    assert outcome_json(0, outcome, world.applications.get)["args"] == args
    (again,) = world.send(value)  # under the name it was asked by, it is still the same command
    assert (again.first_sequence, again.name) == (outcome["sequence"], outcome["name"])
    assert world.do("deliver", args)["code"] == ""
    assert world.do("retire", args)["code"] == ""

    replica = World(lambda _: PythonHost(load_guests))
    replica.fold(world.log[:before])
    replica.deploy(renamed())
    replica.fold(world.log[before:])
    assert replica.rows() == world.rows()


def test_an_old_name_is_free_again_once_nothing_says_it_was_renamed():
    world = World(lambda _: PythonHost(load_guests))
    value = world.command("sell", {"id": 1})
    world.deploy(renamed())
    manifest = RENAMED.replace(', renamed_from = "sell"', "")
    world.deploy(build(index=3, version="1.2.0", manifest=manifest))
    (reply,) = world.send(value)
    assert reply.code == "unknown_command"


def test_changes_under_way_are_read_by_the_schema_that_wrote_them(inn):
    (four,) = inn.change(create("room", 1, number=4, beds=2))
    changes = [create("room", 1, number=3, beds=1), update("room", four, beds=1)]
    args = generic.changes_from_json(inn.application, {"changes": changes})
    value = inn.command("change", args)
    inn.renew(NEW.replace('required = ["name"]\n', "").replace("[1, 9]", "[0, 9]"), "1.1.0")
    (reply,) = inn.send(value)
    assert (reply.code, reply.message) == ("", "")
    (three,) = wire.decode_changed(reply.result).values()
    # Their bytes could be read as a chamber's too: number 3, a name of one byte, no beds.
    assert inn.room(three) == ({"no": 3, "name": "", "beds": 1}, True)
    assert inn.room(four) == ({"no": 4, "name": "", "beds": 1}, True)
    outcome = wire.decode_outcome(inn.log[-1])
    room = inn.application.record_tables[outcome["changes"][0]["type"]]
    assert [each["set"] for each in outcome["changes"]] == [b"\x05", b"\x04"]
    assert room.name == "chamber"
