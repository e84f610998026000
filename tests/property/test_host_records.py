"""Random commands against a plain-dict model of records, rules, uniqueness and views."""

from host_world import HOSTS, answers, digests_of, workspaces
from hypothesis import given, settings
from hypothesis import strategies as st
from record_model import PARENTS, REFERENCES, SINGLETONS, UNIQUES, Model
from record_world import Inn, change_of, inn

from engine import limits, wire
from engine.application import rows

FIRST = limits.ID_FIRST
NAMES = workspaces(0, 3)
HOST_NAMES = sorted(HOSTS)

PICK = st.integers(0, 99)  # which record: most often one that is there, see `picked`
NEW = st.sampled_from([0, 0, 0, 1, 1, 2, 2, 3, 3, FIRST, -1])
ODD = [0, 9, FIRST + 900, -1, 1, 2, 3]
FIELDS = {
    "room": {
        "number": st.sampled_from([1, 2, 3, 4, 5, 6, 7, 0]),
        "name": st.sampled_from(["a", "é1", "b", "a", "c", "", "A", "abcde"]),
        "floor": st.sampled_from(["ground", "ground", "ground", "first", "attic"]),
        "beds": st.sampled_from([None, 1, 2, 3]),
    },
    "dish": {"name": st.sampled_from(["a", "b", "c", "d", "e"]), "instead": PICK},
    "stay": {"room": PICK, "also": PICK, "guest": st.sampled_from(["A", ""])},
    "night": {"day": st.integers(0, 9), "paid": st.booleans()},
    "extra": {"dish": PICK, "count": st.integers(0, 2)},
    "setup": {"name": st.sampled_from(["a", "b"])},
}
FIELDS |= {"visit": FIELDS["stay"], "remark": FIELDS["extra"], "note": FIELDS["setup"]}
TYPES = ["room", "room", "dish", "stay", "stay", "night", "night", "night", "extra", "extra"]
TYPES += ["visit", "remark", "setup", "note"]
MUST = {"room": ["number", "name"], "stay": ["room"], "night": ["day"], "dish": ["name"]}


@st.composite
def changes(draw):
    """Draw one change of a generic command; ids are drawn as picks."""
    type_ = draw(st.sampled_from(TYPES))
    op = draw(st.sampled_from(["create", "create", "update", "activate", "deactivate"]))
    change = {"op": op, "type": type_, "pick": draw(PICK), "parent": draw(PICK)}
    if op == "create":
        change["pick"] = draw(NEW)
    fields = {}
    if op in {"create", "update"} or draw(st.integers(0, 9)) == 0:
        names = set(draw(st.lists(st.sampled_from(sorted(FIELDS[type_])), max_size=2)))
        if op == "create" and draw(st.integers(0, 19)):
            names.update(MUST.get(type_, ()))
        fields = {name: draw(FIELDS[type_][name]) for name in sorted(names)}
    return {**change, "fields": fields}


@st.composite
def stays(draw):
    """Draw a stay with its nights, as whole documents are made."""
    stay = {"op": "create", "type": "stay", "pick": 1, "parent": 0}
    made = [{**stay, "fields": {"room": draw(PICK)}}]
    for number in range(draw(st.sampled_from([1, 1, 2, 2, 0, 3]))):
        day = draw(FIELDS["night"]["day"])
        night = {"op": "create", "type": "night", "pick": 2 + number, "parent": "temporary"}
        made.append({**night, "fields": {"day": day}})
    return made


def picked(pick, candidates):
    """Return the id that a pick stands for."""
    if pick >= 93:
        return ODD[pick - 93]
    return candidates[pick % len(candidates)] if candidates and pick < 85 else pick % 3 + 1


def resolve(model, name, drawn):
    """Make a drawn change one of a generic command, on what the model holds by now."""
    workspace = model.workspaces.get(name)
    records = list(workspace.records.values()) if workspace else []
    type_, op, pick = drawn["type"], drawn["op"], drawn["pick"]
    same = [record for record in records if record.type == type_]
    id_, parent, root = pick, 0, 0
    if op != "create":
        id_ = 0 if type_ in SINGLETONS and pick < 93 else picked(pick, [r.id for r in same])
    if drawn["parent"] == "temporary":
        parent = 1
    elif type_ in PARENTS:
        above = [record for record in records if record.type == PARENTS[type_]]
        own = [r for r in same if r.id == id_ and op != "create" and drawn["parent"] < 90]
        parent = own[0].parent if own else picked(drawn["parent"], [r.id for r in above])
        roots = [record.root for record in above if record.id == parent]
        root = roots[0] if roots and type_ == "extra" else 0
    elif drawn["parent"] == 99:
        parent = picked(pick, [record.id for record in records])
    fields = {}
    for field, value in drawn["fields"].items():
        targets = REFERENCES.get(type_, {}).get(field)
        if targets is None:
            fields[field] = value
        elif value == 98:
            fields[field] = None if field in {"instead", "also"} else 0
        else:
            fields[field] = picked(value, [r.id for r in records if r.type in targets])
    return change_of(op, type_, id_, parent, root, **fields)


START = [
    change_of("create", "room", number=1, name="a"),
    change_of("create", "room", number=2, name="a"),
    change_of("create", "dish", 2, name="a"),
    change_of("create", "stay", 1, room=FIRST),
    change_of("create", "night", 3, 1, day=0),
    change_of("create", "extra", 0, 3, dish=2),
]
CLOSED = [
    change_of("create", "stay", 1, room=FIRST),
    change_of("create", "night", 2, 1, day=9),
    change_of("deactivate", "room", FIRST + 1),
]
BEGIN = [
    (NAMES[0], "found", []),
    (NAMES[1], "build", []),
    (NAMES[0], "change", START),
    (NAMES[0], "change", CLOSED),
    (NAMES[0], "change", [change_of("deactivate", "stay", FIRST + 6)]),
]
LISTS = st.one_of(
    st.lists(changes(), min_size=1, max_size=3), changes().map(lambda c: [c]), stays()
)
COMMANDS = st.lists(
    st.tuples(
        st.sampled_from([NAMES[0]] * 8 + NAMES),
        st.sampled_from(["change"] * 40 + ["narrow", "narrow", "found", "build", "close"]),
        LISTS,
    ),
    min_size=5,
    max_size=30,
)
CUTS = st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.booleans()), max_size=12)


def expected_index(world, model):
    """Return the unique index as it must be stored."""
    found = {}
    for name, workspace in model.workspaces.items():
        for (type_, values), id_ in workspace.index().items():
            (unique,) = world.application.records[type_].uniques
            assert [field.name for field in unique.fields] == UNIQUES[type_]
            kinds = [column.kind for column in unique.columns]
            columns = list(zip(kinds, values, strict=True))
            found[rows.unique_key(name, unique.number, columns)] = id_
    return found


def check_state(world, model):
    """Compare all that is stored with the model."""
    kinds = {name: workspace.kind for name, workspace in model.workspaces.items()}
    for name, kind in kinds.items():
        workspace = model.workspaces[name]
        stored = rows.decode_workspace(world.rows()[rows.workspace_key(name)])
        status = rows.GONE if workspace.gone else rows.ACTIVE
        assert (stored.kind, stored.status, stored.next_id) == (kind, status, workspace.next_id)
        for type_ in FIELDS:
            assert world.held(type_, name) == workspace.held(type_)
        assert world.rows_of("rooms", name) == workspace.rooms
        assert world.rows_of("nights", name) == workspace.nights
        assert world.rows_of("refusals", name) == workspace.refusals
    assert world.index() == expected_index(world, model)
    assert world.ledger.digests == digests_of(world.rows())


def expected(model, name, kind, asked):
    """Return what the model makes of a command: (code, field, ids)."""
    if kind in {"change", "narrow"}:
        return model.change(name, kind, asked)
    return (*model.command(name, kind), {})


def encoded(world, kind, asked):
    if kind in {"change", "narrow"}:
        return world.generic(*asked, name=kind)
    return world.command(kind, {} if kind == "close" else {"name": "x"})


@settings(max_examples=150, deadline=None)
@given(COMMANDS, CUTS, st.sampled_from(HOST_NAMES))
def test_records_uniques_and_views_are_those_of_a_plain_model(drawn, cuts, host):
    world, model = Inn(HOSTS[host], inn(), founded=False), Model()
    todo = [*BEGIN, *drawn]
    for count, restarts, waits in [*cuts, (len(todo), False, False)]:
        batch, todo = todo[:count], todo[count:]
        values, wanted = [], []
        for name, kind, asked in batch:
            changed = [each if "pick" not in each else resolve(model, name, each) for each in asked]
            values.append((name, encoded(world, kind, changed)))
            wanted.append(expected(model, name, kind, changed))
        decided = world.decide(*values)
        told = answers([value for _, value in values], decided)
        for reply, (code, field, ids) in zip(told, wanted, strict=True):
            assert (str(reply.code), reply.field) == (code, field), reply
            if ids or reply.result:
                assert wire.decode_changed(reply.result) == ids
        if waits:
            continue
        while world.flights:
            world.confirm()
        check_state(world, model)
        if restarts:
            world.restart()
    while world.flights:
        world.confirm()
    check_state(world, model)
    for make_host in HOSTS.values():
        replica = Inn(make_host, inn(), founded=False)
        replica.fold(world.log)
        assert replica.rows() == world.rows()
        assert replica.ledger.digests == world.ledger.digests
