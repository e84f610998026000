"""The host in WASM says and stores what the Python host does, byte for byte, whatever happens."""

import functools
import json
from dataclasses import replace
from pathlib import Path

from copier import Copier
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from test_any_calls import COMMAND, MAKE, PROJECTOR, guest
from test_any_calls import application as boxes
from twins import Twins, batches

from engine import limits
from engine.application import generic
from engine.application.building import Parts, build
from engine.application.folder import load_application

TOPOLOGY = Path(__file__).parents[2] / "topology"
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
SIZES = st.lists(st.integers(1, 6), max_size=6)
# What becomes of a batch before the next one is decided.
THEN = st.sampled_from(["confirm", "confirm", "confirm", "wait", "discard", "restart"])
IDS = st.one_of(
    st.integers(limits.ID_FIRST, limits.ID_FIRST + 6), st.sampled_from([0, 1, -1, 1 << 62])
)
TEXTS = st.sampled_from(["", "a", "ab", "abc", "é", "x\x00y", "𝄞", "a" * 300]) | st.text(max_size=6)


def run(twins, values, sizes, steps):
    """Let the twins decide commands in batches, and do something between them."""
    for number, batch in enumerate(batches(values, sizes)):
        twins.decide(*batch)
        then = steps[number % len(steps)] if steps else "confirm"
        if then == "confirm":
            twins.settle()
        elif then != "wait":
            getattr(twins, then)()
    twins.replayed()
    event(f"decided in the fast lane: {min(twins.fast(), 5)}")
    twins.close()


# ---- any calls of a guest that does as it likes ----


@settings(deadline=None, max_examples=60, suppress_health_check=SLOW)
@given(
    look=COMMAND,
    drop=COMMAND,
    parts=PROJECTOR,
    names=st.lists(st.sampled_from(["look", "drop", "make"]), max_size=6),
    sizes=SIZES,
    steps=st.lists(THEN, max_size=4),
)
def test_any_calls(look, drop, parts, names, sizes, steps):
    bodies = {"make": MAKE, "look": look, "drop": drop, "parts": parts}
    twins = Twins(replace(boxes(guest(bodies)), index=1))
    values = [twins.python.command(name) for name in ["make", *names]]
    run(twins, values, sizes, steps)


# ---- the example applications ----


def value_of(field):
    """Return a strategy of a field's values."""
    found = {
        "boolean": st.booleans(),
        "int": st.integers(-2, 9) | st.sampled_from([-(1 << 31), (1 << 31) - 1]),
        "long": IDS | st.integers(-5, 100) | st.sampled_from([-(1 << 63), (1 << 63) - 1]),
        "float": st.floats(width=32),
        "double": st.floats() | st.sampled_from([0.0, -0.0, 1.5]),
        "string": TEXTS,
        "bytes": st.binary(max_size=6),
        "fixed": st.binary(min_size=field.size, max_size=field.size),
        "enum": st.sampled_from(field.symbols or ("",)),
    }
    if field.kind == "array":
        items = record_of(field.items) if field.items else value_of(field.item)
        return st.lists(items, max_size=3)
    kind = found[field.kind]
    return st.none() | kind if field.nullable else kind


def record_of(schema):
    return st.fixed_dictionaries({field.name: value_of(field) for field in schema.fields})


def command_of(application, name):
    """Return a strategy of (name, arguments) of one command."""
    command = application.commands[name]
    if not command.generic:
        return st.tuples(st.just(name), record_of(command.args))
    types = [application.records[each] for each in command.generic]
    changes = st.lists(st.sampled_from(types).flatmap(change_of), min_size=1, max_size=3)
    return st.tuples(st.just(name), changes.map(lambda found: {"changes": found}))


def change_of(type_):
    fields = {
        field.name: value_of(field)
        for field in type_.schema.fields
        if field.kind in {"long", "int", "string", "boolean", "enum"} and not field.logical
    }
    operation = st.sampled_from(["create", "create", "update", "activate", "deactivate"])
    return st.builds(
        lambda op, id_, parent, given: {
            "op": op,
            "type": type_.name,
            "id": id_ if op != "create" or type_.kind == "singleton" else 1 + id_ % 3,
            **({"parent": parent} if op == "create" and type_.parent else {}),
            **({"fields": given} if op in {"create", "update"} else {}),
        },
        operation,
        st.integers(limits.ID_FIRST, limits.ID_FIRST + 5),
        st.integers(1, 3) | st.integers(limits.ID_FIRST, limits.ID_FIRST + 5),
        st.fixed_dictionaries({}, optional=fields),
    )


@functools.cache
def topology(name):
    return replace(load_application(TOPOLOGY / name), index=1)


def encoded(twins, commands):
    """Encode commands; a generic one's changes are in their JSON form."""
    python = twins.python
    for name, args in commands:
        if python.application.commands[name].generic:
            yield python.command(name, generic.changes_from_json(python.application, args))
        else:
            yield python.command(name, args)


def histories(application, *names):
    listed = names or tuple(application.commands)
    one = st.sampled_from(listed).flatmap(lambda name: command_of(application, name))
    return st.lists(one, max_size=14)


@settings(deadline=None, max_examples=40, suppress_health_check=SLOW)
@given(commands=histories(topology("bank")), sizes=SIZES, steps=st.lists(THEN, max_size=4))
def test_the_bank(commands, sizes, steps):
    twins = Twins(topology("bank"))
    opened = [("open", {"owner": "Ada"}), ("credit", {"amount": 700, "reference": "a"})]
    run(twins, list(encoded(twins, [*opened, *commands])), sizes, steps)


HOUSE = [
    ("found", {"name": "Chez Nous", "pin": "1234"}),
    (
        "change",
        {
            "changes": [
                {"op": "create", "type": "table", "id": 1, "fields": {"number": 1, "seats": 9}},
                {"op": "create", "type": "table", "id": 2, "fields": {"number": 2, "seats": 9}},
                {
                    "op": "create",
                    "type": "item",
                    "id": 3,
                    "fields": {"code": "P1", "name": "Pasta", "price": 900},
                },
            ]
        },
    ),
]


# Tables, the dish, then orders and their lines: the numbers that ids have here.
NEAR = st.integers(limits.ID_FIRST, limits.ID_FIRST + 9)
DISHES = st.just(limits.ID_FIRST + 2) | NEAR
LINE = st.fixed_dictionaries({"dish": DISHES, "quantity": st.integers(1, 3), "note": TEXTS})
LINES = st.lists(LINE, min_size=1, max_size=3)
SENSIBLE = st.one_of(
    st.tuples(
        st.just("order"),
        st.fixed_dictionaries(
            {
                "table": st.integers(limits.ID_FIRST, limits.ID_FIRST + 2),
                "guests": st.integers(1, 10),
                "lines": LINES,
            }
        ),
    ),
    st.tuples(st.just("add"), st.fixed_dictionaries({"order": NEAR, "lines": LINES})),
    st.tuples(st.just("take_back"), st.fixed_dictionaries({"order": NEAR, "line": NEAR})),
    st.tuples(st.just("cancel"), st.fixed_dictionaries({"order": NEAR})),
    st.tuples(
        st.just("pay"),
        st.fixed_dictionaries(
            {"order": NEAR, "method": st.sampled_from(["cash", "card"]), "tip": st.integers(0, 5)}
        ),
    ),
)


@settings(deadline=None, max_examples=60, suppress_health_check=SLOW)
@given(
    commands=st.lists(
        SENSIBLE
        | SENSIBLE
        | histories(topology("restaurant")).flatmap(
            lambda found: st.sampled_from(found) if found else SENSIBLE
        ),
        max_size=14,
    ),
    sizes=SIZES,
    steps=st.lists(THEN, max_size=4),
)
def test_the_restaurant(commands, sizes, steps):
    twins = Twins(topology("restaurant"))
    run(twins, list(encoded(twins, [*HOUSE, *commands])), sizes, steps)


# ---- random schemas and rules, and a guest that copies arguments into records ----

KINDS = ["boolean", "int", "long", "float", "double", "string", "bytes", "fixed", "enum"]
COLUMNS = {"boolean": "boolean", "double": "double", "float": "double", "string": "string"}
CHECKS = {
    "int": [{"min": 0}, {"max": 5}, {"min": -1, "max": 7}, {"one_of": [1, 2, 3]}],
    "long": [{"min": 0}, {"max": 90}, {"one_of": [7, 65_536]}],
    "float": [{"min": 0}, {"max": 1.5}],
    "double": [{"min": -1.0, "max": 1.5}],
    "string": [
        {"length": [0, 2]},
        {"pattern": "[a-z]*"},
        {"pattern": "(a|b)*b?c{0,2}.?"},
        {"one_of": ["", "a", "é"]},
    ],
    "bytes": [{"length": [0, 3]}],
    "enum": [{"one_of": ["A", "C"]}],
}


@st.composite
def shapes(draw):
    """Draw the fields of a record: (name, kind, nullable, check)."""
    found = []
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(KINDS))
        check = draw(st.none() | st.sampled_from(CHECKS.get(kind, [None])))
        found.append((f"f{number}", kind, draw(st.booleans()), check))
    return found


def avro(name, fields):
    return json.dumps({"type": "record", "name": name, "fields": fields})


def avro_field(shape):
    name, kind, nullable, _ = shape
    kinds = {
        "fixed": {"type": "fixed", "name": f"X{name}", "size": 3},
        "enum": {"type": "enum", "name": f"E{name}", "symbols": ["A", "B", "C"]},
    }
    type_ = kinds.get(kind, kind)
    return {"name": name, "type": ["null", type_] if nullable else type_}


def toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


@st.composite
def applications(draw):
    """Draw an application of one record type, its rules, its view and its guest."""
    fields = draw(shapes())
    names = [name for name, *_ in fields]
    longs = [name for name, kind, *_ in fields if kind == "long"]
    some = st.lists(st.sampled_from(names), max_size=2, unique=True)
    record = {"schema": "thing.avsc", "kind": draw(st.sampled_from(["operational", "singleton"]))}
    singleton = record["kind"] == "singleton"
    required, unique = draw(some), [] if singleton else draw(some)
    if required:
        record["required"] = required
    if unique:
        record["unique"] = {"u": unique}
    if longs and not singleton and draw(st.booleans()):
        record["references"] = {longs[0]: ["thing"]}
    checks = {name: check for name, _, _, check in fields if check}
    if checks:
        record["checks"] = checks
    keyed = [shape for shape in fields if shape[1] not in {"fixed", "enum", "bytes"}]
    columns = keyed[: draw(st.integers(0, 2))]
    key = [f"k{name}:{COLUMNS.get(kind, 'long')}" for name, kind, *_ in columns]
    manifest = f"""
application = {{ name = "random", version = "1.0.0", partitions = 4 }}
records.thing = {toml(record)}
commands.put = {{ args = "put.avsc", run = "guest:put", result = "made.avsc" }}
views.shown = {{ row = "thing.avsc", key = {json.dumps(key)} }}
projectors.shown = {
        toml(
            {
                "on": [f"thing.{op}" for op in ("create", "update", "deactivate")],
                "writes": ["shown"],
                "run": "guest:shown",
            }
        )
    }
extensions.guest = {{ wasm = "guest.wasm", memory_kib = 192 }}
"""
    shown = [avro_field(shape) for shape in fields]
    extra = [{"name": name, "type": "long"} for name in ("id", "mask", "active")]
    texts = {
        "thing.avsc": avro("Thing", shown),
        "put.avsc": avro("Put", [*shown, *extra]),
        "made.avsc": avro("Made", [{"name": "id", "type": "long"}]),
    }
    module = Copier(fields, columns, has_unique=bool(unique)).module(singleton=singleton)
    return build(Parts(manifest, texts, {"guest": module}, "application.toml"))


@settings(deadline=None, max_examples=80, suppress_health_check=SLOW)
@given(data=st.data(), application=applications(), sizes=SIZES, steps=st.lists(THEN, max_size=4))
def test_random_schemas_and_rules(data, application, sizes, steps):
    twins = Twins(replace(application, index=1))
    put = application.commands["put"].args
    special = {
        "id": IDS,
        "mask": st.just(-1) | st.integers(0, 63),
        "active": st.sampled_from([0, 0, 0, 0, 1, 2, 9]),
    }
    values = st.fixed_dictionaries(
        {
            field.name: special[field.name] if field.name in special else value_of(field)
            for field in put.fields
        }
    )
    found = data.draw(st.lists(values, min_size=1, max_size=8))
    run(twins, [twins.python.command("put", args) for args in found], sizes, steps)
