"""What an extension may do with records of every kind, and what of secrets is never written."""

import pytest
import record_world
from record_world import Inn, hosted, inn, json_command, replay

from engine import wire
from engine.model import Duplicate

# What an extension may do.


def test_an_extension_makes_nested_records_and_a_typed_result(house):
    outcome = hosted(house)
    assert outcome["code"] == ""
    result = house.result(outcome)
    assert result["pin"] == "1234"
    stay = result["stay"]
    kinds = [(c["root"], c["parent"]) for c in outcome["changes"]]
    assert kinds == [(stay, 0), (stay, stay), (stay, stay + 1), (stay, stay), (stay, stay + 3)]
    replay(house)


def test_an_extensions_records_keep_the_same_rules(house):
    assert hosted(house, room=house.shut)["code"] == "invalid_reference"
    assert hosted(house, nights=0)["code"] == "too_few"
    assert hosted(house, nights=3)["code"] == "too_many"
    assert hosted(house, day=5)["code"] == "not_unique"
    assert hosted(house, dish=1)["code"] == "invalid_reference"  # temporary ids are for clients


@pytest.mark.parametrize("restarted", [False, True])
def test_an_extension_sees_nested_records_and_uniques_with_its_own_changes(house, restarted):
    second = house.make("night", house.stay, day=6)
    if restarted:
        house.restart()
    seen = house.result(house.do("peek", {"stay": house.stay, "room": 1, "more": False}))
    expected = {"nights": [house.night, second], "extras": [house.extra], "gone": 0}
    assert seen == {**expected, "room": house.room}
    assert (
        house.result(house.do("peek", {"stay": house.stay, "room": 2, "more": False}))["room"] == 0
    )
    outcome = house.do("peek", {"stay": house.stay, "room": 1, "more": True})
    assert outcome["code"] == "", outcome
    made = {c["type"]: c["id"] for c in outcome["changes"] if c["op"] == "create"}
    types = house.application.records
    night, room = made[types["night"].table], made[types["room"].table]
    seen = house.result(outcome)
    assert seen["nights"] == [house.night, second, second, night]
    assert (seen["room"], seen["gone"]) == (room, 0)
    replay(house)


def test_an_extension_rejects_with_what_its_command_declares_only(house):
    outcome = house.do("refuse", {"code": "full"})
    assert (outcome["code"], outcome["message"]) == ("full", "There is no room left")
    outcome = house.do("refuse", {"code": "closed"})
    assert outcome["code"] == "undeclared_code"
    assert "'closed'" in outcome["message"]


def test_secrets_reach_the_extension_and_no_log(house):
    id_ = house.next_id()
    args = {
        "room": house.room,
        "dish": house.dish,
        "nights": 1,
        "day": 50,
        "pin": "8-secret-8",
        "mood": "cross",
    }
    value = house.command("host", args, command_id=id_)
    (reply,) = house.send(value)
    assert reply.code == ""
    outcome = wire.decode_outcome(house.log[reply.sequence - 1])
    assert b"8-secret-8" not in outcome["args"]
    assert house.result(outcome)["pin"] == "8-secret-8"
    assert house.rows_of("refusals")[("host",)]["pin"] == ""
    (again,) = house.decide(value).replies
    assert isinstance(again, Duplicate)
    assert (again.args, again.args_schema) == (outcome["args"], outcome["args_schema"])
    (rejected,) = house.send(house.command("host", {**args, "room": 5}))
    assert rejected.code == "invalid_reference"
    assert b"8-secret-8" not in house.log[rejected.sequence - 1]
    replay(house)


@pytest.mark.parametrize("args", [{"pin": "8-secret-8", "room": "x"}, {"pin": ["8-secret-8"]}, {}])
def test_what_does_not_fit_is_not_logged_where_a_secret_may_be_in_it(house, args):
    (reply,) = house.send(json_command("host", args, command_id=str(house.uuid())))
    assert reply.code == "invalid_arguments"
    outcome = wire.decode_outcome(house.log[reply.sequence - 1])
    assert outcome["args"] == b""
    assert b"8-secret-8" not in house.log[reply.sequence - 1]
    type_ = house.application.commands["host"].args
    fields = {"command_id": house.next_id(), "name": "host", "args": b"8-secret-8"}
    for fingerprint in (type_.fingerprint, 77):
        fields["command_id"] = house.next_id()
        (reply,) = house.send(wire.encode_command({**fields, "args_schema": fingerprint}))
        assert reply.code in {"invalid_arguments", "unknown_schema"}
        assert b"8-secret-8" not in house.log[reply.sequence - 1]
    replay(house)


def test_secrets_of_a_command_that_was_taken_away_are_masked_too(make_host):
    world = Inn(make_host, inn())
    begin = record_world.MANIFEST.index("host = {")
    end = record_world.MANIFEST.index("peek = {")
    manifest = record_world.MANIFEST[:begin] + record_world.MANIFEST[end:]
    manifest = manifest.replace('"host.rejected", "host.execute", ', "")
    args = {"room": 1, "dish": 1, "nights": 1, "day": 1, "pin": "8-secret-8", "mood": "calm"}
    value = world.command("host", args)
    world.deploy(inn(manifest, index=2))
    (reply,) = world.send(value)
    assert reply.code == "unknown_command"
    assert b"8-secret-8" not in world.log[-1]
