"""What every state host promises of the record model, on an inn whose records have every rule."""

import host_world
import pytest
import record_world
from record_world import Inn, change_of, inn, json_command, replay

from engine import limits, wire
from engine.application import rows, schema

FIRST = limits.ID_FIRST


def test_a_generic_command_answers_temporary_ids_and_takes_them_in_any_reference(world):
    outcome, ids = world.change(
        change_of("create", "stay", 9, room=7, also=8),
        change_of("create", "night", 3, 9, day=1),
        change_of("create", "extra", 0, 3, dish=8),
        change_of("create", "room", 7, number=1, name="a"),
        change_of("create", "dish", 8, name="soup"),
        change_of("update", "dish", 8, instead=8),
    )
    assert outcome["code"] == "", outcome
    assert ids == {9: FIRST, 3: FIRST + 1, 7: FIRST + 3, 8: FIRST + 4}
    assert world.held("stay")[FIRST, FIRST][0] == {
        "room": FIRST + 3,
        "also": FIRST + 4,
        "guest": "",
    }
    assert world.held("extra") == {
        (FIRST, FIRST + 2): ({"dish": FIRST + 4, "count": 0}, True, FIRST + 1)
    }
    assert world.record("dish", FIRST + 4) == {"name": "soup", "instead": FIRST + 4}
    changes = outcome["changes"]
    assert [change["op"] for change in changes] == ["create"] * 5
    assert [(c["root"], c["parent"]) for c in changes[:3]] == [
        (FIRST, 0),
        (FIRST, FIRST),
        (FIRST, FIRST + 1),
    ]
    assert world.make("dish", name="tea") == FIRST + 5
    replay(world)


def test_explicit_empties_are_told_apart_from_absent_ones(house):
    outcome, _ = house.change(change_of("create", "room", number=3, name="c", tags=[], key=""))
    bits = int.from_bytes(outcome["changes"][0]["set"], "little")
    fields = house.application.records["room"].schema.by_name
    names = {name for name, field in fields.items() if bits >> field.ordinal & 1}
    assert names == {"number", "name", "tags", "key"}
    outcome, _ = house.change(change_of("update", "room", house.room, beds=None))
    assert outcome["changes"][0]["set"] == b"\x08\x00"[: len(outcome["changes"][0]["set"])]


def test_nested_records_are_one_range_with_their_document_and_live_by_their_parents(house):
    assert house.held("night") == {
        (house.stay, house.night): ({"day": 5, "paid": False}, True, house.stay)
    }
    second = house.make("night", house.stay, day=6)
    outcome, _ = house.change(change_of("deactivate", "night", house.night, house.stay))
    assert outcome["code"] == ""
    # What lies in an inactive record can't be changed, nor made.
    for change in (
        change_of("update", "extra", house.extra, house.night, house.stay, count=2),
        change_of("create", "extra", 0, house.night, house.stay, dish=house.dish),
    ):
        code, field, message = house.refused(change)
        assert (code, field) == ("inactive_record", "extra")
        assert f"night {house.night}" in message
    house.change(change_of("activate", "night", house.night, house.stay))
    outcome, _ = house.change(
        change_of("update", "extra", house.extra, house.night, house.stay, count=2)
    )
    assert outcome["code"] == ""
    # A document may be closed together with what lies in it; its children don't go by themselves.
    outcome, _ = house.change(
        change_of("deactivate", "stay", house.stay),
        change_of("deactivate", "night", second, house.stay),
    )
    assert outcome["code"] == ""
    assert {place[1]: active for place, (_, active, _) in house.held("night").items()} == {
        house.night: True,
        second: False,
    }
    assert house.refused(change_of("update", "night", house.night, house.stay, paid=True))[0] == (
        "inactive_record"
    )
    assert (
        house.refused(change_of("update", "extra", house.extra, house.night, house.stay, count=3))[
            0
        ]
        == "inactive_record"
    )
    replay(house)


def test_a_document_may_be_closed_with_all_that_lies_in_it(house):
    """How many nested records there must be is asked of active parents only."""
    outcome, _ = house.change(
        change_of("deactivate", "night", house.night, house.stay),
        change_of("deactivate", "stay", house.stay),
    )
    assert outcome["code"] == "", outcome
    code, field, _ = house.refused(change_of("activate", "stay", house.stay))
    assert (code, field) == ("too_few", "stay.night")
    outcome, _ = house.change(
        change_of("activate", "stay", house.stay),
        change_of("activate", "night", house.night, house.stay),
    )
    assert outcome["code"] == "", outcome
    replay(house)


def test_a_nested_record_is_found_below_its_own_parent_only(house):
    second = house.make("night", house.stay, day=6)
    change = change_of("update", "extra", house.extra, second, house.stay, count=2)
    assert house.refused(change)[:2] == ("unknown_record", "changes[0].id")


def test_operation_documents_live_in_their_outcome_only(house):
    held = house.rows()
    outcome, ids = house.change(
        change_of("create", "visit", 1, room=house.room, guest="Ann"),
        change_of("create", "remark", 2, 1, dish=7),
    )
    assert outcome["code"] == ""
    assert [(c["root"], c["parent"], c["before"]) for c in outcome["changes"]] == [
        (ids[1], 0, 0),
        (ids[1], ids[1], 0),
    ]
    changed = {rows.table_of(k) for k, v in house.rows().items() if held.get(k) != v}
    assert changed == {rows.TABLE_WORKSPACE, house.application.views["nights"].table}
    assert house.rows_of("nights")[ids[1], 0]["day"] == -1
    assert house.refused(change_of("create", "stay", room=ids[1]))[0] == "invalid_reference"
    assert house.refused(change_of("create", "remark", 0, ids[1], dish=0))[0] == "unknown_record"
    assert house.make("dish", name="next") == ids[2] + 1
    replay(house)


def test_a_unique_is_freed_by_deactivation_and_taken_again_by_activation(house):
    index = house.index()
    key = rows.unique_key(
        house.workspace,
        house.application.uniques["room.number"].number,
        [("string", "ground"), ("long", 1)],
    )
    assert index[key] == house.room
    outcome, ids = house.change(
        change_of("deactivate", "room", house.room),
        change_of("create", "room", 1, number=1, name="new"),
    )
    assert outcome["code"] == "", outcome
    assert house.index() == {**index, key: ids[1]}
    assert house.refused(change_of("activate", "room", house.room))[0] == "not_unique"
    # An inactive record isn't changed, but for what it is activated with.
    outcome, _ = house.change(
        change_of("activate", "room", house.room),
        change_of("update", "room", house.room, number=7),
    )
    assert outcome["code"] == "", outcome
    assert sorted(house.index().values()) == sorted({*index.values(), ids[1]})
    outcome, _ = house.change(
        change_of("deactivate", "room", house.room),
        change_of("deactivate", "room", ids[1]),
    )
    assert set(house.index().values()) == {house.dish, house.night}
    replay(house)


def test_uniques_have_every_kind_of_column_and_null_counts_as_zero(world):
    fields = {
        "label": "a",
        "since": -1.5,
        "gold": True,
        "mood": "cross",
        "mark": "AAE=",
        "day": "2024-02-29",
    }
    names = [{}, *({name: value} for name, value in fields.items()), fields]
    for given in names:
        world.make("badge", **given)
    for given in names:
        code, field, _ = world.refused(change_of("create", "badge", **given))
        assert (code, field) == ("not_unique", "badge.label")
    zeros = {
        "label": "",
        "since": -0.0,
        "gold": False,
        "mood": "calm",
        "mark": "AAA=",
        "day": "1970-01-01",
    }
    assert world.refused(change_of("create", "badge", **zeros))[0] == "not_unique"
    assert len(world.index()) == len(names)
    replay(world)


def test_uniqueness_is_per_workspace_and_not_found_beyond_it(world):
    other = host_world.workspaces(0)[1]
    world.make("room", number=1, name="a")
    world.send(world.command("found", {"name": "Other"}), key=other)
    (reply,) = world.send(world.generic(change_of("create", "room", number=1, name="a")), key=other)
    assert reply.code == ""


def test_what_a_record_refers_to_may_go_later(house):
    house.change(change_of("deactivate", "room", house.room))
    outcome, _ = house.change(change_of("update", "stay", house.stay, guest="Bob"))
    assert outcome["code"] == ""
    outcome, _ = house.change(change_of("update", "stay", house.stay, guest="C", room=house.room))
    assert outcome["code"] == ""  # it referred to that before
    house.change(change_of("deactivate", "stay", house.stay))
    code, field, _ = house.refused(change_of("activate", "stay", house.stay))
    assert (code, field) == ("invalid_reference", "stay.room")


def test_too_many_changes_are_refused_by_the_commands_own_limit(house):
    three = [change_of("create", "room", number=n, name="c") for n in (3, 4, 5)]
    code, field, message = house.refused(*three, name="narrow")
    assert (code, field) == ("too_many_changes", "changes")
    assert "3 changes" in message
    assert house.change(*three[:2], name="narrow")[0]["code"] == ""
    outcome = house.do("few")
    assert (outcome["code"], outcome["field"]) == ("too_many_changes", "dish")
    assert outcome["changes"] == []


def test_a_generic_command_changes_only_the_types_it_names(house):
    code, field, message = house.refused(change_of("create", "dish", name="x"), name="narrow")
    assert (code, field) == ("invalid_arguments", "changes[0].type")
    assert "'dish'" in message


DISH = schema.encode_named(inn().records["dish"].schema, {"name": "a", "instead": None})


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        ({"type": "castle"}, "changes[0].type", "'castle'"),
        ({"set": ["colour"]}, "changes[0].set", "'colour'"),
        ({"body": b"\xff"}, "changes[0].body", "dish"),
        ({"body": b"\x02a\x00"}, "changes[0].body", "fingerprint"),
        ({"body": DISH[:-1]}, "changes[0].body", "cut off"),
        ({"body": DISH[:9]}, "changes[0].body", "fingerprint"),
        ({"set": ["name"], "body": b""}, "changes[0].body", "dish"),
    ],
)
def test_bytes_that_are_no_changes_are_refused(world, change, field, text):
    good = {"op": "create", "type": "dish", "id": 0, "parent": 0, "set": ["name"], "body": DISH}
    outcome = world.do("change", {"changes": [{**good, **change}]})
    assert (outcome["code"], outcome["field"]) == ("invalid_arguments", field)
    assert text in outcome["message"]
    assert world.do("change", {"changes": [good]})["code"] == ""


def test_a_body_of_a_schema_that_the_type_never_had_is_refused_and_not_misread(world):
    # A stay is a long, a long and a string: of these bytes a dish could be made.
    stay = world.application.records["stay"].schema
    body = schema.encode_named(stay, {"room": 1, "also": None, "guest": ""})
    change = {"op": "create", "type": "dish", "id": 0, "parent": 0, "set": ["name"], "body": body}
    outcome = world.do("change", {"changes": [change]})
    assert (outcome["code"], outcome["field"]) == ("unknown_schema", "changes[0].body")
    assert str(stay.fingerprint) in outcome["message"]


def test_changes_may_come_as_json(world):
    args = {"changes": [change_of("create", "dish", 4, name="soup")]}
    (reply,) = world.send(json_command("change", args))
    assert reply.code == ""
    assert wire.decode_changed(reply.result) == {4: FIRST}
    bad = {"changes": [change_of("create", "dish", 4, colour="red")]}
    (reply,) = world.send(json_command("change", bad, command_id=str(world.uuid())))
    assert reply.code == "invalid_arguments"
    assert "colour" in reply.message


# Workspaces.


def test_a_workspace_is_made_by_a_command_once_and_goes_by_a_command(make_host):
    world = Inn(make_host, inn(), founded=False)
    empty = world.rows()
    outcome = world.do("ring")
    assert (outcome["code"], outcome["workspace_sequence"]) == ("unknown_workspace", 0)
    assert world.workspace in outcome["message"]
    assert world.rows() == empty
    assert world.do("found", {"name": "Inn"})["code"] == ""
    assert world.do("found", {"name": "Inn"})["code"] == "workspace_exists"
    assert world.do("build", {"name": "Inn"})["code"] == "workspace_exists"
    assert world.do("ring")["code"] == ""
    assert world.do("close")["code"] == ""
    stored = world.rows()[rows.workspace_key(world.workspace)]
    row = rows.decode_workspace(stored)
    assert (row.kind, row.status, row.last, row.accepted) == ("inn", rows.GONE, 5, 5)
    world.restart()
    for name, args in (("ring", {}), ("close", {}), ("found", {"name": "I"})):
        outcome = world.do(name, args)
        assert outcome["code"] == "workspace_gone"
        assert world.workspace in outcome["message"]
    replay(world)


def test_a_kind_of_workspace_has_its_own_commands_records_and_views(make_host):
    world = Inn(make_host, inn(), founded=False)
    world.do("build", {"name": "Shed"})
    outcome = world.do(
        "host", {"room": 1, "dish": 1, "nights": 1, "day": 1, "pin": "", "mood": "calm"}
    )
    assert outcome["code"] == "not_in_workspace"
    assert "host" in outcome["message"]
    code, field, message = world.refused(change_of("create", "dish", name="x"))
    assert (code, field) == ("not_in_workspace", "dish")
    assert "dish" in message
    outcome = world.do("ring")  # makes a note, which it has, and a dish, which it has not
    assert (outcome["code"], outcome["field"]) == ("not_in_workspace", "dish")
    assert outcome["changes"] == []
    world.make("room", number=1, name="a")
    assert world.rows_of("rooms").keys() == {("ground", 1)}
    # The refused changes were projected in an inn; a shed has no such view.
    assert world.rows_of("refusals") == {}
    replay(world)


def test_an_application_without_kinds_lets_every_workspace_be(make_host):
    begin = record_world.MANIFEST.index("[workspaces.inn]")
    manifest = record_world.MANIFEST[:begin]
    manifest += record_world.MANIFEST[record_world.MANIFEST.index("[commands]") :]
    manifest = manifest.replace(', creates = "inn"', "").replace(', creates = "shed"', "")
    world = Inn(make_host, inn(manifest), founded=False)
    assert world.do("ring")["code"] == ""
    assert world.do("close")["code"] == ""
    assert world.do("ring")["code"] == "workspace_gone"
    replay(world)
