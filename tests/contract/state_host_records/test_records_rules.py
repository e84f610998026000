"""Each rule of the record model refuses what breaks it, at every state host."""

import pytest
from record_world import change_of, replay

from engine import limits

FIRST = limits.ID_FIRST


ROOM = {"number": 3, "name": "c"}
REFUSED = {
    "required and not set": (
        [change_of("create", "room", name="c")],
        ("required", "room.number", "not set"),
    ),
    "required and empty": (
        [change_of("create", "room", number=3, name="")],
        ("required", "room.name", "''"),
    ),
    "required reference and zero": (
        [change_of("create", "stay", room=0)],
        ("required", "stay.room", "0"),
    ),
    "required and emptied": (
        [change_of("update", "room", "room", name="")],
        ("required", "room.name", "''"),
    ),
    "below its minimum": (
        [change_of("create", "room", **ROOM | {"number": 0})],
        ("check_failed", "room.number", "would be 0, at least 1"),
    ),
    "above its maximum": (
        [change_of("create", "room", **ROOM | {"number": 10})],
        ("check_failed", "room.number", "would be 10, at most 9"),
    ),
    "too long": (
        [change_of("create", "room", **ROOM | {"name": "ééééé"})],
        ("check_failed", "room.name", "not 5"),
    ),
    "bytes too long": (
        [change_of("create", "room", key="AAAA", **ROOM)],
        ("check_failed", "room.key", "not 3"),
    ),
    "array too long": (
        [change_of("create", "room", tags=["a", "b", "c"], **ROOM)],
        ("check_failed", "room.tags", "not 3"),
    ),
    "not of its pattern": (
        [change_of("create", "room", **ROOM | {"name": "a<b"})],
        ("check_failed", "room.name", '"a<b"'),
    ),
    "none of the symbols": (
        [change_of("create", "room", floor="attic", **ROOM)],
        ("check_failed", "room.floor", "attic"),
    ),
    "none of the numbers": (
        [change_of("create", "room", beds=3, **ROOM)],
        ("check_failed", "room.beds", "would be 3"),
    ),
    "a reference to nothing": (
        [change_of("create", "stay", room=99_999)],
        ("invalid_reference", "stay.room", "99999"),
    ),
    "a reference to another type": (
        [change_of("create", "stay", room="dish")],
        ("invalid_reference", "stay.room", "no active room"),
    ),
    "a reference to an inactive record": (
        [change_of("create", "stay", room="shut")],
        ("invalid_reference", "stay.room", "no active room"),
    ),
    "a reference that goes in the same command": (
        [change_of("create", "stay", room="room"), change_of("deactivate", "room", "room")],
        ("invalid_reference", "stay.room", "no active room"),
    ),
    "an unknown temporary id in a reference": (
        [change_of("create", "stay", room=9)],
        ("invalid_reference", "stay.room", "9, a temporary id"),
    ),
    "a reference of an operation document": (
        [change_of("create", "visit", room="shut")],
        ("invalid_reference", "visit.room", "no active room"),
    ),
    "taken": (
        [change_of("create", "room", number=1, name="c")],
        ("not_unique", "room.floor", "floor 'ground', number 1 already: 65536"),
    ),
    "taken in the same command": (
        [change_of("create", "room", **ROOM), change_of("create", "room", **ROOM)],
        ("not_unique", "room.floor", "number 3"),
    ),
    "taken when it is activated": (
        [change_of("create", "room", number=2, name="c"), change_of("activate", "room", "shut")],
        ("not_unique", "room.floor", "number 2"),
    ),
    "freed too late": (
        [
            change_of("create", "room", number=1, name="c"),
            change_of("deactivate", "room", "room"),
        ],
        ("not_unique", "room.floor", "number 1"),
    ),
    "a unique field of an active record": (
        [change_of("update", "room", "room", number=4)],
        ("unique_changed", "room.floor", "number 1 can't become floor 'ground', number 4"),
    ),
    "a unique field of one that is deactivated by the same command": (
        [change_of("update", "room", "room", number=4), change_of("deactivate", "room", "room")],
        ("unique_changed", "room.floor", "number 4"),
    ),
    "too few nested": (
        [change_of("create", "stay", room="room")],
        ("too_few", "stay.night", "would have 0 night, at least 1"),
    ),
    "too few nested left": (
        [change_of("deactivate", "night", "night", "stay")],
        ("too_few", "stay.night", "would have 0 night"),
    ),
    "too many nested": (
        [change_of("create", "night", 0, "stay", day=6 + day) for day in range(2)],
        ("too_many", "stay.night", "would have 3 night, at most 2"),
    ),
    "too many nested in a nested one": (
        [change_of("create", "extra", 0, "night", "stay", dish="dish") for _ in range(2)],
        ("too_many", "night.extra", "would have 3 extra, at most 2"),
    ),
    "too many nested in an operation document": (
        [
            change_of("create", "visit", 1, room="room"),
            change_of("create", "remark", 0, 1, dish=0),
            change_of("create", "remark", 0, 1, dish=0),
        ],
        ("too_many", "visit.remark", "would have 2 remark"),
    ),
    "an inactive record": (
        [change_of("update", "room", "shut", name="z")],
        ("inactive_record", "room", "is inactive"),
    ),
    "an unknown record": (
        [change_of("update", "room", 99_999, name="z")],
        ("unknown_record", "changes[0].id", "99999"),
    ),
    "a record of another type": (
        [change_of("update", "room", "dish", name="z")],
        ("unknown_record", "changes[0].id", "no room"),
    ),
    "an operation document after its outcome": (
        [change_of("update", "visit", 99_999, guest="z")],
        ("unknown_record", "changes[0].id", "no visit 99999"),
    ),
    "an unknown parent": (
        [change_of("create", "night", 0, 99_999, day=1)],
        ("unknown_record", "changes[0].parent", "99999"),
    ),
    "no parent": (
        [change_of("create", "night", 0, day=1)],
        ("unknown_record", "changes[0].parent", "no stay"),
    ),
    "a parent of another type": (
        [change_of("create", "dish", 1, name="x"), change_of("create", "night", 0, 1, day=1)],
        ("unknown_record", "changes[1].parent", "no stay"),
    ),
    "a parent that is made later": (
        [
            change_of("create", "night", 2, 1, day=1),
            change_of("create", "stay", 1, room="room"),
        ],
        ("unknown_record", "changes[0].parent", "1"),
    ),
    "a nested record of another parent": (
        [
            change_of("create", "stay", 1, room="room"),
            change_of("create", "night", 0, 1, day=8),
            change_of("update", "night", "night", 1, paid=True),
        ],
        ("unknown_record", "changes[2].id", "no night"),
    ),
    "a parent where there is none": (
        [change_of("create", "room", 0, "stay", **ROOM)],
        ("invalid_id", "changes[0].parent", "nested in nothing"),
    ),
    "a new record with an id that is not temporary": (
        [change_of("create", "room", FIRST, **ROOM)],
        ("invalid_id", "changes[0].id", "65536"),
    ),
    "a negative id": (
        [change_of("create", "room", -1, **ROOM)],
        ("invalid_id", "changes[0].id", "-1"),
    ),
    "a temporary id twice": (
        [change_of("create", "dish", 4, name="x"), change_of("create", "dish", 4, name="y")],
        ("invalid_id", "changes[1].id", "4 is there twice"),
    ),
    "a temporary id that nothing has": (
        [change_of("update", "room", 4, name="x")],
        ("invalid_id", "changes[0].id", "is 4"),
    ),
    "a singleton's id for a document": (
        [change_of("update", "room", 0, name="x")],
        ("invalid_id", "changes[0].id", "is 0"),
    ),
    "a document's id for a singleton": (
        [change_of("update", "setup", FIRST, name="x")],
        ("invalid_id", "changes[0].id", "65536"),
    ),
    "a second singleton": (
        [change_of("create", "setup", name="x")],
        ("invalid_id", "changes[0].id", "singleton"),
    ),
    "made and deactivated at once": (
        [change_of("create", "dish", 4, name="x"), change_of("deactivate", "dish", 4)],
        ("invalid_id", "changes[1].id", "dish 4 is new"),
    ),
    "fields of a deactivation": (
        [change_of("deactivate", "room", "room", name="z")],
        ("invalid_arguments", "changes[0].set", "no fields"),
    ),
}


def resolved(house, changes):
    """Put ids where a case has names of the house's records."""

    def known(value):
        return getattr(house, value) if isinstance(value, str) else value

    found = []
    for change in changes:
        places = {key: known(change[key]) for key in ("id", "parent", "root") if key in change}
        fields = change.get("fields", {})
        refers = {key: known(fields[key]) for key in ("room", "dish") if key in fields}
        found.append({**change, **places, **({"fields": {**fields, **refers}} if fields else {})})
    return found


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_each_rule_refuses_with_its_own_code_field_and_value_and_changes_nothing(house, case):
    changes, (code, field, text) = REFUSED[case]
    found = house.refused(*resolved(house, changes))
    assert found[:2] == (code, field), found
    assert text in found[2]
    replay(house)
