"""The record model in plain dictionaries: what an inn (record_world) should make of commands.

Written from the rules, not from the host: one command after the other, everything in memory.
"""

import copy
import re

from engine.limits import ID_FIRST

KINDS = {
    "inn": None,
    "shed": {
        "records": {"room", "note"},
        "commands": {"build", "change", "ring"},
        "views": {"rooms"},
    },
}
PARENTS = {"night": "stay", "extra": "night", "remark": "visit"}
SINGLETONS = {"note", "setup"}
OPERATIONS = {"visit", "remark"}
GENERIC = {
    "change": ({"dish", "room", "stay", "night", "extra", "note", "visit", "remark", "setup"}, 100),
    "narrow": ({"room"}, 2),
}
OCCURS = {"night": (1, 2), "extra": (0, 2), "remark": (0, 1)}
REQUIRED = {"room": ["number", "name"], "stay": ["room"]}
REFERENCES = {
    "dish": {"instead": {"dish"}},
    "stay": {"room": {"room"}, "also": {"dish", "room"}},
    "extra": {"dish": {"dish"}},
    "visit": {"room": {"room"}},
}
UNIQUES = {"dish": ["name"], "room": ["floor", "number"], "night": ["day"]}
FIELDS = {
    "dish": {"name": "", "instead": None},
    "room": {"number": 0, "name": "", "floor": "ground", "beds": None, "key": b"", "tags": []},
    "stay": {"room": 0, "also": None, "guest": ""},
    "night": {"day": 0, "paid": False},
    "extra": {"dish": 0, "count": 0},
}
FIELDS |= {"visit": FIELDS["stay"], "remark": FIELDS["extra"]}
FIELDS |= {"note": FIELDS["dish"], "setup": FIELDS["dish"]}
CHECKS = {
    ("room", "number"): lambda value: 1 <= value <= 9,
    ("room", "name"): lambda v: 1 <= len(v) <= 4 and re.fullmatch("[a-zé]*[0-9]?", v) is not None,
    ("room", "floor"): lambda value: value in {"ground", "first"},
    ("room", "beds"): lambda value: value in {None, 1, 2},
}


class RefusedError(Exception):
    """The command is rejected: with this code, for this field."""


class Record:
    def __init__(self, type_, root, id_, parent):
        self.type, self.root, self.id, self.parent = type_, root, id_, parent
        self.fields = copy.deepcopy(FIELDS[type_])
        self.active = self.was_active = True
        self.created = True
        self.set = set()
        self.before = None

    @property
    def key(self):
        return self.type, self.root, self.id


class Workspace:
    """One workspace: its records, index and views."""

    def __init__(self, kind):
        self.kind, self.gone = kind, False
        self.next_id = ID_FIRST
        self.records = {}
        self.rooms, self.nights, self.refusals = {}, {}, {}

    def held(self, type_):
        return {
            (record.root, record.id): (record.fields, record.active, record.parent)
            for record in self.records.values()
            if record.type == type_
        }

    def index(self):
        found = {}
        for record in self.records.values():
            if record.type in UNIQUES and record.active:
                values = tuple(record.fields[name] for name in UNIQUES[record.type])
                assert (record.type, values) not in found
                found[record.type, values] = record.id
        return found


class Command:
    """One generic command on a copy of its workspace's records."""

    def __init__(self, workspace, types, most):
        self.workspace, self.types, self.most = workspace, types, most
        self.records = copy.deepcopy(workspace.records)
        for record in self.records.values():
            record.created, record.set = False, set()
            record.was_active, record.before = record.active, dict(record.fields)
        self.next_id = workspace.next_id
        self.ids, self.made, self.changed = {}, {}, []

    def run(self, changes):
        if len(changes) > self.most:
            raise RefusedError("too_many_changes", "changes")
        for at, change in enumerate(changes):
            if change["type"] not in self.types:
                raise RefusedError("invalid_arguments", f"changes[{at}].type")
        self.number(changes)
        for at, change in enumerate(changes):
            if change["op"] == "create":
                self.create(change, f"changes[{at}]")
            else:
                self.alter(change, f"changes[{at}]")
        self.rules()

    def number(self, changes):
        next_id = self.next_id
        for at, change in enumerate(changes):
            if change["op"] == "create":
                id_ = change["id"]
                if not 0 <= id_ < ID_FIRST or id_ in self.ids:
                    raise RefusedError("invalid_id", f"changes[{at}].id")
                real = 0 if change["type"] in SINGLETONS else next_id
                next_id += real != 0
                if id_:
                    self.ids[id_] = real

    def touch(self, record):
        if record not in self.changed:
            kind = KINDS[self.workspace.kind]
            if kind is not None and record.type not in kind["records"]:
                raise RefusedError("not_in_workspace", record.type)
            self.changed.append(record)

    def create(self, change, path):
        type_ = change["type"]
        if type_ in PARENTS:
            above = self.above(change, path)
            root, parent = above.root, above.id
        else:
            if change.get("parent"):
                raise RefusedError("invalid_id", f"{path}.parent")
            if type_ in SINGLETONS and (type_, 0, 0) in self.records:
                raise RefusedError("invalid_id", f"{path}.id")
            root, parent = None, 0
        id_ = 0
        if type_ not in SINGLETONS:
            id_, self.next_id = self.next_id, self.next_id + 1
        record = Record(type_, id_ if root is None else root, id_, parent)
        self.touch(record)
        self.records[record.key] = record
        if change["id"]:
            self.made[change["id"]] = record
        self.assign(record, change)

    def alter(self, change, path):
        record = self.find(change, path)
        if record is None:
            raise RefusedError("unknown_record", f"{path}.id")
        if change["op"] == "update":
            self.assign(record, change)
            return
        if change.get("fields"):
            raise RefusedError("invalid_arguments", f"{path}.set")
        if record.created:
            raise RefusedError("invalid_id", f"{path}.id")
        if record.active != (change["op"] == "activate"):
            record.active = not record.active
            self.touch(record)

    def find(self, change, path):
        type_, id_ = change["type"], change["id"]
        if 0 < id_ < ID_FIRST:
            record = self.made.get(id_)
            if record is None or record.type != type_:
                raise RefusedError("invalid_id", f"{path}.id")
            return record
        if id_ < 0 or (id_ == 0) != (type_ in SINGLETONS):
            raise RefusedError("invalid_id", f"{path}.id")
        if type_ in PARENTS:
            above = self.above(change, path)
            record = self.records.get((type_, above.root, id_))
            return record if record is not None and record.parent == above.id else None
        if change.get("parent"):
            raise RefusedError("invalid_id", f"{path}.parent")
        return None if type_ in OPERATIONS else self.records.get((type_, id_, id_))

    def above(self, change, path):
        id_, type_ = change.get("parent", 0), PARENTS[change["type"]]
        if 0 < id_ < ID_FIRST:
            record = self.made.get(id_)
        elif type_ in OPERATIONS:
            record = None
        else:
            root = change.get("root", 0) if type_ in PARENTS else id_
            record = self.records.get((type_, root, id_))
        if record is None or record.type != type_:
            raise RefusedError("unknown_record", f"{path}.parent")
        return record

    def assign(self, record, change):
        for name, value in change.get("fields", {}).items():
            refers = name in REFERENCES.get(record.type, ())
            if refers and value and 0 < value < ID_FIRST and value not in self.ids:
                raise RefusedError("invalid_reference", f"{record.type}.{name}")
            self.touch(record)
            record.fields[name] = self.ids.get(value, value) if refers else value
            record.set.add(name)

    def rules(self):
        taken = self.workspace.index()
        for record in self.changed:
            if not record.active and not record.was_active:
                raise RefusedError("inactive_record", record.type)
            self.ancestors(record)
            self.values(record)
            self.references(record)
            self.unique(record, taken)
        self.occurrences()

    def ancestors(self, record):
        above = record
        while above.type in PARENTS:
            above = self.records[self.place(PARENTS[above.type], above.root, above.parent)]
            if not above.active and not above.was_active:
                raise RefusedError("inactive_record", record.type)

    @staticmethod
    def place(type_, root, id_):
        return (type_, root, id_) if type_ in PARENTS else (type_, id_, id_)

    def values(self, record):
        for name in REQUIRED.get(record.type, ()):
            empties = [None, "", 0] if name in REFERENCES.get(record.type, ()) else [None, ""]
            emptied = name in record.set and record.fields[name] in empties
            if emptied or (record.created and name not in record.set):
                raise RefusedError("required", f"{record.type}.{name}")
        for (type_, name), passes in CHECKS.items():
            asked = record.created or not record.was_active or name in record.set
            if type_ == record.type and asked and not passes(record.fields[name]):
                raise RefusedError("check_failed", f"{type_}.{name}")

    def references(self, record):
        for name, targets in REFERENCES.get(record.type, {}).items():
            id_ = record.fields[name]
            stays = not record.created and record.was_active and record.before[name] == id_
            if not id_ or stays or not record.active:
                continue
            found = [self.records.get((target, id_, id_)) for target in targets]
            if not any(other is not None and other.active for other in found):
                raise RefusedError("invalid_reference", f"{record.type}.{name}")

    def unique(self, record, taken):
        names = UNIQUES.get(record.type)
        if names is None:
            return
        key = record.type, tuple(record.fields[name] for name in names)
        field = f"{record.type}.{names[0]}"
        if not record.created and record.was_active:
            if key[1] != tuple(record.before[name] for name in names):
                raise RefusedError("unique_changed", field)
            if not record.active:
                del taken[key]
        elif key in taken:
            raise RefusedError("not_unique", field)
        else:
            taken[key] = record.id

    def occurrences(self):
        for record in self.changed:
            if not record.created and record.active == record.was_active:
                continue
            groups = []
            if record.type in PARENTS:
                type_ = PARENTS[record.type]
                above = self.records[self.place(type_, record.root, record.parent)]
                groups.append((record.type, above))
            groups += [(child, record) for child, above in PARENTS.items() if above == record.type]
            for child, above in groups:
                if above.active:
                    self.count(child, above)

    def count(self, child, above):
        least, most = OCCURS[child]
        below = [
            other
            for other in self.records.values()
            if other.type == child and (other.root, other.parent) == (above.root, above.id)
        ]
        number = sum(other.active for other in below)
        if not least <= number <= most:
            code = "too_few" if number < least else "too_many"
            raise RefusedError(code, f"{above.type}.{child}")


class Model:
    """All workspaces of a partition."""

    def __init__(self):
        self.workspaces = {}

    def command(self, name, kind):
        """Take a command without records; return (code, field)."""
        workspace = self.workspaces.get(name)
        try:
            self.admit(workspace, kind)
        except RefusedError as why:
            return why.args
        if kind in {"found", "build"}:
            workspace = self.workspaces[name] = Workspace("inn" if kind == "found" else "shed")
        if kind == "found":
            command = Command(workspace, {"setup"}, 1)
            command.run([{"op": "create", "type": "setup", "id": 0, "fields": {"name": "x"}}])
            self.apply(workspace, command)
        workspace.gone = kind == "close"
        return "", None

    def change(self, name, kind, changes):
        """Take a generic command; return (code, field, ids)."""
        workspace = self.workspaces.get(name)
        try:
            self.admit(workspace, kind)
            command = Command(workspace, *GENERIC[kind])
            command.run(changes)
        except RefusedError as why:
            code, field = why.args
            if kind == "change" and workspace is not None and workspace.kind == "inn":
                row = workspace.refusals.setdefault((kind,), {"count": 0, "pin": ""})
                row["count"] += 1
                row["code"] = code
            return code, field, {}
        self.apply(workspace, command)
        return "", None, command.ids

    @staticmethod
    def admit(workspace, command):
        creates = command in {"found", "build"}
        if workspace is None:
            if not creates:
                raise RefusedError("unknown_workspace", None)
            return
        if workspace.gone:
            raise RefusedError("workspace_gone", None)
        if creates:
            raise RefusedError("workspace_exists", None)
        kind = KINDS[workspace.kind]
        if kind is not None and command not in kind["commands"]:
            raise RefusedError("not_in_workspace", None)

    def apply(self, workspace, command):
        workspace.records = {
            key: record for key, record in command.records.items() if key[0] not in OPERATIONS
        }
        workspace.next_id = command.next_id
        for record in command.changed:
            if record.created:
                self.project(workspace, record, "create")
            elif record.active == record.was_active:
                self.project(workspace, record, "update")
            else:
                self.project(workspace, record, "activate" if record.active else "deactivate")

    def project(self, workspace, record, op):
        if record.type == "room":
            self.project_room(workspace, record, op)
        elif workspace.kind == "inn":
            self.project_night(workspace, record, op)

    @staticmethod
    def project_room(workspace, record, op):
        fields = record.fields
        key = fields["floor"], fields["number"]
        if op == "deactivate":
            workspace.rooms.pop(key, None)
            return
        row = workspace.rooms.setdefault(key, {})
        keys = sorted(workspace.rooms)
        row["name"] = fields["name"]
        row["order"] = " ".join(str(n) for floor, n in keys if floor == key[0])
        row["back"] = " ".join(str(n) for _, n in reversed(keys))

    @staticmethod
    def project_night(workspace, record, op):
        key, fields = (record.root, record.id), record.fields
        if record.type == "visit":
            workspace.nights[record.id, 0] = {"day": -1, "room": 0}
        elif record.type == "stay" and op in {"create", "update"}:
            for (root, _), row in workspace.nights.items():
                if root == record.id:
                    row["room"] = fields["room"]
        elif record.type == "night" and op == "deactivate":
            workspace.nights.pop(key, None)
        elif record.type == "night" and op == "create":
            workspace.nights.setdefault(key, {"room": 0})["day"] = fields["day"]
