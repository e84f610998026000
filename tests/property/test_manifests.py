"""Whatever a manifest says about its parts, it becomes an application or an error with its keys."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.application.building import Parts, build
from engine.application.compat import diff
from engine.application.differences import renames
from engine.application.record import from_record, numbered, to_record
from engine.application.tables import newest
from engine.application.types import Application
from engine.errors import ApplicationError
from engine.limits import NESTING_MAX

FIELDS: list[Any] = ["long", "string", "int", "bytes", ["null", "long"], "double", "boolean"]
SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": name, "type": kind} for name, kind in zip("abcdefg", FIELDS, strict=True)
        ],
    }
)
NAMES = st.sampled_from(["a", "b", "r", "s", "t", "u"])
FIELD_NAMES = st.sampled_from([*"abcdefg", "z"])
SOME_NAMES = st.lists(NAMES, min_size=1, max_size=3, unique=True)
NUMBERS = st.integers(-3, 20)


def table(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


CHECKS = table(
    {},
    {
        "min": NUMBERS,
        "max": NUMBERS | st.just(1.5),
        "length": st.lists(NUMBERS, min_size=2, max_size=2),
        "pattern": st.sampled_from(["[a-z]*", "(", "a{3}", "(a|b)*a(a|b){11}"]),
        "one_of": st.lists(NUMBERS | st.sampled_from("xy"), max_size=3),
    },
)
KINDS = st.sampled_from(["configuration", "operational", "operation", "singleton"])
RULES: dict[str, Any] = {
    "required": st.lists(FIELD_NAMES, min_size=1, max_size=2, unique=True),
    "references": st.dictionaries(FIELD_NAMES, SOME_NAMES, max_size=2),
    "unique": st.dictionaries(NAMES, st.lists(FIELD_NAMES, min_size=1, max_size=2), max_size=2),
    "checks": st.dictionaries(FIELD_NAMES, CHECKS, max_size=2),
    "renamed_from": st.sampled_from(["x", "y", "r"]),
}
RECORD = table({"schema": st.just("r.avsc"), "kind": KINDS}, RULES) | table(
    {"schema": st.just("r.avsc"), "parent": NAMES},
    {**RULES, "occurs": st.lists(NUMBERS, min_size=2, max_size=2)},
)
COMMAND = table(
    {"args": st.just("r.avsc"), "run": st.sampled_from(["e:f", "f:f"])},
    {
        "creates": NAMES,
        "deactivates": st.booleans(),
        "secret": st.lists(FIELD_NAMES, min_size=1, max_size=2, unique=True),
        "errors": st.dictionaries(NAMES | st.just("check_failed"), st.just("No")),
    },
) | table({"generic": SOME_NAMES}, {"creates": NAMES})
MANIFEST = table(
    {"records": st.dictionaries(NAMES, RECORD, max_size=5)},
    {
        "commands": st.dictionaries(NAMES, COMMAND, max_size=3),
        "workspaces": st.dictionaries(
            NAMES, table({}, {"records": SOME_NAMES, "commands": SOME_NAMES}), max_size=2
        ),
        "views": st.dictionaries(
            NAMES,
            table(
                {
                    "row": st.just("r.avsc"),
                    "key": st.lists(st.sampled_from(["k:long", "limit:date"]), max_size=2),
                },
                {},
            ),
            max_size=2,
        ),
        "projectors": st.dictionaries(
            NAMES,
            table(
                {
                    "on": st.lists(
                        st.builds(
                            "{}.{}".format, NAMES, st.sampled_from(["create", "update", "rejected"])
                        ),
                        min_size=1,
                        max_size=2,
                    ),
                    "writes": SOME_NAMES,
                    "run": st.just("e:f"),
                },
                {},
            ),
            max_size=2,
        ),
    },
)


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(toml(entry) for entry in value)}]"
    return json.dumps(value)


def made(
    manifest: dict[str, Any], previous: Application | None = None, version: str = "1.0.0"
) -> Application:
    lines = [f'application = {{ name = "a", version = "{version}", partitions = 1 }}']
    lines += [f"{section} = {toml(entries)}" for section, entries in manifest.items()]
    lines.append('extensions.e = { python = "e:E" }')
    parts = Parts("\n".join(lines), {"r.avsc": SCHEMA}, {"e": b""}, "application.toml")
    return build(parts, () if previous is None else previous.tables)


@settings(max_examples=300)
@given(MANIFEST)
def test_a_manifest_is_an_application_or_an_error(manifest: dict[str, Any]) -> None:
    try:
        application = made(manifest)
    except ApplicationError as error:
        assert error.code == "E1102"  # noqa: PT017
        return
    records = application.records
    for record in records.values():
        depth, above = 1, record
        while above.parent:
            depth, above = depth + 1, records[above.parent]
        assert above.name == record.root
        assert above.kind == record.kind
        assert depth <= NESTING_MAX
        assert set(record.children) == {
            other.name for other in records.values() if other.parent == record.name
        }
        for reference in record.references:
            assert all(not records[target].parent for target in reference.targets)
    tables = [entry.table for entry in application.tables if entry.kind == "record"]
    assert len(set(tables)) == len(tables) == len(records)
    numbers = [unique.number for unique in application.uniques.values()]
    assert len(set(numbers)) == len(numbers)
    # The same again on the tables that were given: nothing is given anew.
    assert made(manifest, application).tables == application.tables
    assert set(newest(application.tables).values()) == set(application.tables)


# Two manifests that are alike: what the second changes is drawn anew.
PAIRS = st.tuples(MANIFEST, MANIFEST, st.booleans()).map(
    lambda drawn: (
        drawn[0],
        {**drawn[0], **drawn[1], "records": {**drawn[0]["records"], **drawn[1]["records"]}}
        if drawn[2]
        else drawn[1],
    )
)


@settings(max_examples=500)
@given(PAIRS)
def test_any_two_applications_have_a_difference_and_numbers(
    manifests: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    try:
        first = numbered(made(manifests[0]), None)
        made(manifests[1])
    except ApplicationError:
        return
    second = numbered(made(manifests[1], version="1.1.0"), first)
    changes = diff(first, second)
    assert from_record(to_record(second, first), {"e": b""}) == numbered(second, first)
    held = newest(second.tables)
    assert len({(entry.kind, entry.table) for entry in held.values()}) == len(held)
    before = {after: name for name, after in renames(first.records, second.records).items()}
    for after, name in before.items():
        assert first.records[name].table == second.records[after].table
    if changes.deployable:
        assert set(before.values()) == set(first.records)
        for unique in second.uniques.values():
            if unique.record in before:
                known = first.uniques[f"{before[unique.record]}.{unique.name}"]
                assert known.number == unique.number
