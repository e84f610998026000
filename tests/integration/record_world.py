"""An inn on the whole record model, in builtin Python and generic commands, and its world."""

import functools
import uuid

import orjson
from host_shop import avsc, build
from host_world import HOSTS, World, digests_of

from engine import wire
from engine.application import generic, rows, schema

MANIFEST = """
application = { name = "inn", version = "%(version)s", partitions = 4 }
extensions.inn = { python = "shop:Inn" }

[workspaces.inn]
[workspaces.shed]
records = ["room", "note"]
commands = ["build", "change", "ring"]
views = ["rooms"]

[commands]
found = { args = "found.avsc", run = "inn:found", creates = "inn" }
build = { args = "found.avsc", run = "inn:nothing", creates = "shed" }
close = { args = "empty.avsc", run = "inn:nothing", deactivates = true }
ring = { args = "empty.avsc", run = "inn:ring" }
host = { args = "host.avsc", run = "inn:host", result = "hosted.avsc", secret = ["pin", "mood"] }
peek = { args = "peek.avsc", run = "inn:peek", result = "peeked.avsc" }
few = { args = "empty.avsc", run = "inn:few", changes_max = 2 }
[commands.refuse]
args = "refuse.avsc"
run = "inn:refuse"
errors = { full = "There is no room left" }
[commands.change]
generic = ["dish", "room", "stay", "night", "extra", "note", "visit", "remark", "setup", "badge"]
[commands.narrow]
generic = ["room"]
changes_max = 2

[records.dish]
schema = "dish.avsc"
kind = "configuration"
unique.name = ["name"]
references.instead = ["dish"]

[records.room]
schema = "room.avsc"
kind = "configuration"
required = ["number", "name"]
unique.number = ["floor", "number"]
checks.number = { min = 1, max = 9 }
checks.name = { length = [1, 4], pattern = "[a-zé]*[0-9]?" }
checks.floor = { one_of = ["ground", "first"] }
checks.beds = { one_of = [1, 2] }
checks.key = { length = [0, 2] }
checks.tags = { length = [0, 2] }

[records.badge]
schema = "badge.avsc"
kind = "operational"
unique.all = ["label", "since", "gold", "mood", "mark", "day"]

[records.stay]
schema = "stay.avsc"
kind = "operational"
required = ["room"]
references.room = ["room"]
references.also = ["dish", "room"]

[records.night]
schema = "night.avsc"
parent = "stay"
occurs = [1, 2]
unique.day = ["day"]

[records.extra]
schema = "extra.avsc"
parent = "night"
occurs = [0, 2]
references.dish = ["dish"]

[records.note]
schema = "dish.avsc"
kind = "singleton"

[records.visit]
schema = "stay.avsc"
kind = "operation"
references.room = ["room"]

[records.remark]
schema = "extra.avsc"
parent = "visit"
occurs = [0, 1]

[records.setup]
schema = "dish.avsc"
kind = "singleton"

[views]
rooms = { row = "rooms.avsc", key = ["floor:string", "number:long"] }
nights = { row = "nights.avsc", key = ["stay:long", "night:long"] }
refusals = { row = "refusals.avsc", key = ["name:string"] }

[projectors.rooms]
on = ["room.create", "room.update", "room.activate", "room.deactivate"]
writes = ["rooms"]
run = "inn:project_rooms"
[projectors.nights]
on = ["stay.create", "night.create", "night.deactivate", "stay.update", "visit.create"]
writes = ["nights"]
run = "inn:project_nights"
[projectors.refusals]
on = ["host.rejected", "host.execute", "change.rejected", "refuse.rejected"]
writes = ["refusals"]
run = "inn:project_refusals"
"""

SOURCE = '''
class Inn:
    def found(self, call):
        setup = call.create("setup")
        setup["name"] = call.args["name"]

    def nothing(self, call):
        pass

    def ring(self, call):
        note = call.record("note") or call.create("note")
        note["name"] = "rung"
        call.create("dish")["name"] = str(call.context["sequence"])

    def host(self, call):
        """A stay of some nights, with an extra each; what the pin says goes to the result."""
        stay = call.create("stay")
        stay["room"] = call.args["room"]
        call.result["stay"] = stay.id
        call.result["pin"] = call.args["pin"]
        for number in range(call.args["nights"]):
            night = stay.child("night")
            night["day"] = call.args["day"] + number
            extra = night.child("extra")
            extra["dish"] = call.args["dish"]

    def peek(self, call):
        """Say what a command sees of rooms, nights and extras."""
        stay = call.record("stay", call.args["stay"]) or call.reject("no_stay", "no such stay")
        nights = list(stay.children("night"))
        for night in nights:
            call.result.append("nights", night.id)
            for extra in night.children("extra"):
                call.result.append("extras", extra.id)
        name = call.args["room"]
        call.result["room"] = call.unique("room.number", floor="ground", number=name)
        if call.args["more"]:
            stay.child("night")["day"] = 500
            nights[0].active = False
            for night in stay.children("night"):
                call.result.append("nights", night.id)
            room = call.record("room", call.result["room"])
            room.active = False
            call.result["gone"] = call.unique("room.number", floor="ground", number=name)
            new = call.create("room")
            new["number"], new["name"] = name, "new"
            call.result["room"] = call.unique("room.number", floor="ground", number=name)
            assert stay.child_of("night", 1 << 40) is None
            assert stay.child_of("night", nights[0].id).active is False

    def few(self, call):
        for number in range(3):
            call.create("dish")["name"] = str(number)

    def refuse(self, call):
        call.reject(call.args["code"])

    def project_rooms(self, call):
        key = {"floor": call.event["floor"], "number": call.event["number"]}
        if call.context["op"] == "deactivate":
            call.remove("rooms", **key)
            return
        row = call.put("rooms", **key)
        row["name"] = call.event["name"]
        rows = list(call.scan("rooms", floor=key["floor"]))
        row["order"] = " ".join(str(r["number"]) for r in rows)
        row["back"] = " ".join(str(r["number"]) for r in call.scan("rooms", reverse=True))

    def project_nights(self, call):
        if call.context["type"] == "visit":
            call.put("nights", stay=call.event.id, night=0)["day"] = -1
            return
        root = call.context["root"]
        if call.context["type"] == "stay":
            for row in list(call.scan("nights", stay=root)):
                call.put("nights", stay=root, night=row["night"])["room"] = call.event["room"]
            return
        if call.context["op"] == "deactivate":
            call.remove("nights", stay=root, night=call.event.id)
            return
        row = call.put("nights", stay=root, night=call.event.id)
        row["day"] = call.event["day"]
        assert call.context["parent"] == root

    def project_refusals(self, call):
        row = call.put("refusals", name=call.context["name"])
        row["count"] += 1
        row["code"] = call.context["code"]
        if call.context["name"] == "host":
            row["pin"] = call.args["pin"]
            if call.args["day"] == 13:
                raise ValueError("a projector's bad luck")
'''

LONG, TEXT = '"long"', '"string"'
FLOOR = '{"type": "enum", "name": "Floor", "symbols": ["ground", "first", "attic"]}'
MOOD = '{"type": "enum", "name": "Mood", "symbols": ["calm", "cross"]}'
LONGS = '{"type": "array", "items": "long"}'
FILES = {
    "empty.avsc": avsc("Empty"),
    "found.avsc": avsc("Found", ("name", TEXT)),
    "dish.avsc": avsc("Dish", ("name", TEXT), ("instead", '["null", "long"]')),
    "room.avsc": avsc(
        "Room",
        ("number", '"int"'),
        ("name", TEXT),
        ("floor", FLOOR),
        ("beds", '["null", "int"]'),
        ("key", '"bytes"'),
        ("tags", '{"type": "array", "items": "string"}'),
    ),
    "badge.avsc": avsc(
        "Badge",
        ("label", '["null", "string"]'),
        ("since", '["null", "double"]'),
        ("gold", '"boolean"'),
        ("mood", f'["null", {MOOD}]'),
        ("mark", '["null", {"type": "fixed", "name": "Mark", "size": 2}]'),
        ("day", '["null", {"type": "int", "logicalType": "date"}]'),
    ),
    "stay.avsc": avsc("Stay", ("room", LONG), ("also", '["null", "long"]'), ("guest", TEXT)),
    "night.avsc": avsc("Night", ("day", LONG), ("paid", '"boolean"')),
    "extra.avsc": avsc("Extra", ("dish", LONG), ("count", LONG)),
    "host.avsc": avsc(
        "Host",
        ("room", LONG),
        ("dish", LONG),
        ("nights", LONG),
        ("day", LONG),
        ("pin", TEXT),
        ("mood", MOOD),
    ),
    "hosted.avsc": avsc("Hosted", ("stay", LONG), ("pin", TEXT)),
    "peek.avsc": avsc("Peek", ("stay", LONG), ("room", LONG), ("more", '"boolean"')),
    "peeked.avsc": avsc(
        "Peeked", ("nights", LONGS), ("extras", LONGS), ("room", LONG), ("gone", LONG)
    ),
    "refuse.avsc": avsc("Refuse", ("code", TEXT)),
    "rooms.avsc": avsc("Rooms", ("name", TEXT), ("order", TEXT), ("back", TEXT)),
    "nights.avsc": avsc("Nights", ("day", LONG), ("room", LONG)),
    "refusals.avsc": avsc("Refusals", ("count", LONG), ("code", TEXT), ("pin", TEXT)),
}


@functools.cache
def inn(manifest=MANIFEST, index=1):
    return build(index=index, manifest=manifest, source=SOURCE, files=FILES)


def change_of(op, type_, id_=0, parent=0, root=0, **fields):
    """Return one change of a generic command in its JSON form."""
    change = {"op": op, "type": type_, "id": id_}
    if parent:
        change["parent"] = parent
    if root:
        change["root"] = root
    if fields:
        change["fields"] = fields
    return change


class Inn(World):
    """A world with generic commands, and what they read."""

    def __init__(self, make_host, application, *, founded=True):
        super().__init__(make_host, application)
        if founded:
            self.do("found", {"name": "Inn"})

    def generic(self, *changes, name="change", **fields):
        """Encode a generic command from the JSON form of its changes."""
        args = generic.changes_from_json(self.application, {"changes": list(changes)})
        return self.command(name, args, **fields)

    def change(self, *changes, name="change", **fields):
        """Send a generic command; return its outcome, and what became of temporary ids."""
        (reply,) = self.send(self.generic(*changes, name=name, **fields))
        assert reply.sequence, reply
        outcome = wire.decode_outcome(self.log[reply.sequence - 1])
        result = outcome["result"]
        return outcome, {} if result is None else wire.decode_changed(result)

    def make(self, type_, parent=0, root=0, **fields):
        """Create one record; return its id."""
        outcome, ids = self.change(change_of("create", type_, 1, parent, root, **fields))
        assert outcome["code"] == "", outcome
        return ids[1]

    def refused(self, *changes, **fields):
        """Send changes that a rule forbids; return code, field and message."""
        before = self.rows()
        outcome, ids = self.change(*changes, **fields)
        after = self.rows()
        changed = {k for k in {*before, *after} if before.get(k) != after.get(k)}
        tables = {rows.table_of(key) for key in changed}
        views = set(self.application.view_tables)
        assert tables - views <= {rows.TABLE_WORKSPACE, rows.TABLE_WORKSPACE_LOG}
        assert (outcome["changes"], outcome["result"], ids) == ([], None, {})
        return outcome["code"], outcome["field"], outcome["message"]

    def uuid(self):
        """Return a new command id."""
        return uuid.UUID(bytes=self.next_id())

    def result(self, outcome):
        """Return an outcome's result."""
        type_ = self.application.commands[outcome["name"]].result
        return schema.decode(type_, outcome["result"])

    def held(self, name, workspace=None):
        """Return a workspace's records of a type: (root, id) -> (fields, active, parent)."""
        mine = workspace or self.workspace
        type_ = self.application.records[name]
        found = {}
        for key, value in self.rows().items():
            if rows.table_of(key) == type_.table and rows.workspace_of(key) == mine:
                row = rows.decode_value(value)
                parent, body = rows.split_nested(row.body) if type_.parent else (0, row.body)
                place = (rows.decode_long(key[-16:-8]), rows.decode_long(key[-8:]))
                active = not row.flags & rows.INACTIVE
                found[place] = (schema.decode(type_.schema, body), active, parent)
        return found

    def rows_of(self, name, workspace=None):
        """Return a workspace's rows of a view: key columns -> fields."""
        mine = workspace or self.workspace
        view = self.application.views[name]
        kinds = [column.kind for column in view.key]
        found = {}
        for key, value in sorted(self.rows().items()):
            if rows.table_of(key) == view.table and rows.workspace_of(key) == mine:
                columns = tuple(rows.decode_columns(key, kinds))
                found[columns] = schema.decode(view.schema, rows.decode_value(value).body)
        return found

    def index(self):
        """Return the unique index: key -> id."""
        return {
            key: rows.decode_id(value)
            for key, value in self.rows().items()
            if rows.table_of(key) == rows.TABLE_UNIQUE
        }


def json_command(name, args, **fields):
    """Return a command as people write it."""
    fields.setdefault("command_id", str(uuid.UUID(int=7, version=4)))
    return orjson.dumps({"name": name, "args": args, **fields})


def replay(world):
    """Check that a fold of the log, by hosts of both kinds, gives the same rows and digests."""
    for make_host in HOSTS.values():
        replica = Inn(make_host, world.application, founded=False)
        replica.fold(world.log)
        assert replica.rows() == world.rows()
        assert replica.ledger.digests == world.ledger.digests == digests_of(world.rows())


def hosted(house, **args):
    """Run the extension that makes a stay."""
    args = {
        "room": house.room,
        "dish": house.dish,
        "nights": 2,
        "day": 50,
        "pin": "1234",
        "mood": "cross",
        **args,
    }
    return house.do("host", args)
