"""Projectors on rejected commands, and their scans of their own views."""

from host_world import START_MS
from record_world import Inn, change_of, hosted, inn, replay

from engine import limits
from engine.application import rows
from engine.model import Batch

FIRST = limits.ID_FIRST


# What an extension may do.


# Projectors.


def test_projectors_run_on_rejected_commands_too(house):
    assert hosted(house, room=house.shut)["code"] == "invalid_reference"
    assert house.rows_of("refusals")[("host",)]["code"] == "invalid_reference"
    assert hosted(house)["code"] == ""
    assert house.rows_of("refusals")[("host",)]["count"] == 2
    house.do("refuse", {"code": "full"})
    assert house.rows_of("refusals")[("refuse",)]["code"] == "full"
    replay(house)


def test_a_projector_that_fails_on_a_rejected_command_writes_nothing_anywhere(house):
    outcome = hosted(house, room=house.shut, day=13)
    assert outcome["code"] == "extension_trapped"
    assert "invalid_reference" in outcome["message"]
    assert ("host",) not in house.rows_of("refusals")
    replay(house)


def test_a_projector_scans_its_own_view_in_the_order_of_keys(house):
    for number, floor in ((3, "ground"), (1, "first"), (2, "ground")):
        house.make("room", number=number, name="c", floor=floor)
    seen = house.rows_of("rooms")
    assert seen["ground", 2]["order"] == "1 2 3"
    assert seen["ground", 2]["back"] == "3 2 1 1"
    assert seen["first", 1]["order"] == "1"
    second = house.make("night", house.stay, day=6)
    house.change(change_of("update", "stay", house.stay, room=house.room, guest="x"))
    nights = {key[1]: row["room"] for key, row in house.rows_of("nights").items()}
    assert nights == {house.night: house.room, second: house.room}
    replay(house)


def test_a_scan_sees_what_earlier_commands_of_the_batch_have_changed(world):
    create = [
        world.generic(change_of("create", "room", number=number, name="c")) for number in (5, 3, 4)
    ]
    world.decide(*create)
    world.decide(world.generic(change_of("deactivate", "room", FIRST)))
    world.decide(world.generic(change_of("create", "room", number=6, name="c")))
    while world.flights:
        world.confirm()
    assert world.rows_of("rooms")["ground", 6]["order"] == "3 4 6"
    replay(world)


def test_a_range_that_is_too_wide_rejects_the_command_and_binds_no_fold(make_host, monkeypatch):
    world = Inn(make_host, inn())
    monkeypatch.setattr("engine.sandbox.host_ranges.SCAN_ROWS_MAX", 2)
    for number in (1, 2):
        world.make("room", number=number, name="c")
    code, field, _ = world.refused(change_of("create", "room", number=3, name="c"))
    assert (code, field) == ("scan_too_wide", "rooms")
    # Wide enough on another node, or in a later release: it was decided, so it is folded.
    monkeypatch.setattr("engine.sandbox.host_ranges.SCAN_ROWS_MAX", 10)
    world.make("room", number=3, name="c")
    monkeypatch.setattr("engine.sandbox.host_ranges.SCAN_ROWS_MAX", 2)
    replay(world)


def test_a_naming_host_names_the_ranges_it_misses(naming):
    naming.make("room", number=1, name="a")
    naming.restart()
    value = naming.generic(change_of("create", "room", number=2, name="b"))
    batch = Batch()
    batch.add(77, START_MS, naming.workspace.encode(), value)
    wanted = set()

    def noted(rest):
        decided = naming.decide_pass(rest)
        wanted.update(decided.missing_prefixes)
        return decided

    decided = naming.finish(batch, noted)
    view = naming.application.views["rooms"]
    ground = rows.view_key(view.table, naming.workspace, [("string", "ground")])
    assert ground in wanted
    assert rows.view_key(view.table, naming.workspace, []) in wanted
    assert decided.done == 1
