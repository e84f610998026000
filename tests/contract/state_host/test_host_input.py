"""What no extension sees: commands that are cut, unknown, misplaced or written in JSON."""

import json
import uuid

import pytest
from host_world import answers, code, digests_of, workspaces

from engine import limits, wire
from engine.model import Batch, Duplicate, ReplyTo
from engine.world import derived_id

# Input that anybody may have written.

UNDECODABLE = {
    "nothing": None,
    "empty": b"",
    "garbage": b"\x01\x02\x03",
    "confluent": b"\x00\x00\x00\x00\x01abc",
    "magic only": wire.MAGIC,
    "another schema": wire.MAGIC + b"12345678" + b"x" * 50,
    "json text": b"{no json",
    "json of another kind": b'{"command_id": 5}',
    "json with an unknown field": b'{"command_id": "%s", "name": "open", "colour": 1}'
    % str(uuid.UUID(int=5)).encode(),
    "json with a wrong type": b'{"command_id": "%s", "name": 3}' % str(uuid.UUID(int=5)).encode(),
}


@pytest.mark.parametrize("name", sorted(UNDECODABLE))
def test_what_cant_be_decoded_becomes_a_rejected_outcome(world, name):
    offset = world.command_offset
    (reply,) = world.send(UNDECODABLE[name])
    assert (reply.sequence, code(reply), reply.workspace) == (1, "undecodable", world.workspace)
    place = (world.partition.to_bytes(8), offset.to_bytes(8))
    assert reply.command_id == derived_id(b"undecodable", *place)
    world.command_offset = offset  # the same record is read again
    (again,) = world.send(UNDECODABLE[name])
    assert isinstance(again, Duplicate)
    assert again.first_sequence == 1


def test_every_cut_of_a_command_is_rejected(world):
    value = world.command("open", {"owner": "Ann"}, traceparent="t")
    replies = world.send(*[value[:end] for end in range(len(value))])
    assert {code(reply) for reply in replies} == {"undecodable"}


def test_a_command_that_is_too_large_is_rejected(world):
    large = world.command("open", {"owner": "x" * (limits.COMMAND_BYTES_MAX)})
    (reply,) = world.send(large)
    assert code(reply) == "too_large"


@pytest.mark.parametrize("key", [b"", None, b"x" * 257, b"a\x00b", b"\xff\xfe"])
def test_a_command_without_a_workspace_is_rejected(world, key):
    batch = Batch()
    batch.add(0, world.now_ms, key, world.command("open", {"owner": "Ann"}))
    decided = world.finish(batch, world.decide_pass)
    (reply,) = answers(batch.values, decided)
    assert (reply.sequence, code(reply), reply.workspace) == (1, "no_workspace", "")
    assert decided.rows == {}


def test_a_command_in_the_wrong_partition_is_rejected(world):
    stranger = workspaces(world.partition + 1)[0]
    (reply,) = world.send(world.command("open", {"owner": "Ann"}), key=stranger)
    assert (reply.sequence, code(reply), reply.workspace) == (1, "wrong_partition", stranger)
    assert reply.workspace_sequence == 0


@pytest.mark.parametrize(
    ("altered", "expected"),
    [
        ({"name": "close"}, "unknown_command"),
        ({"args_schema": 5}, "unknown_schema"),
        ({"args_schema": 0, "args": b""}, "unknown_schema"),
        ({"args": b"\x80"}, "invalid_arguments"),
        ({"args": b"\x02ab"}, "invalid_arguments"),
        ({"args": b""}, "invalid_arguments"),
    ],
)
def test_commands_and_arguments_that_arent_known_are_rejected(world, altered, expected):
    known = wire.decode_command(world.command("open", {"owner": "x"}))
    (reply,) = world.send(wire.encode_command({**known, **altered}))
    assert (reply.sequence, code(reply)) == (1, expected)


def test_a_clients_command_may_not_name_a_source(world):
    source = {"incarnation": 1, "partition": 0, "number": 1, "hops": 0, "application": 1}
    assert world.do("open", {"owner": "x"}, source=source)["code"] == "source_forbidden"


def test_people_may_write_commands_in_json(world):
    def envelope(name, args, **fields):
        command_id = str(uuid.UUID(bytes=world.next_id()))
        return json.dumps({"command_id": command_id, "name": name, "args": args, **fields}).encode()

    reply_to = {"partition": 1, "correlation": "Yw=="}
    replies = world.send(
        envelope("open", {"owner": "Ann"}, reply=reply_to),
        envelope("credit", {"amount": "five"}),
        envelope("credit", {"sum": 5}),
        envelope("close", {"x": 1}),
        envelope("credit", {"amount": 5}, expected_sequence=1),
    )
    codes = [code(reply) for reply in replies]
    assert codes == ["", "invalid_arguments", "invalid_arguments", "unknown_command", ""]
    assert replies[0].reply_to == ReplyTo(1, b"c")
    assert replies[1].field == "amount"
    first = wire.decode_outcome(world.log[0])
    assert first["args_schema"] == world.application.commands["open"].args.fingerprint
    assert world.record("account")["balance"] == 5


DEEP = b'{"owner": ' + b"[" * 900 + b"]" * 900 + b"}"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("args", DEEP, "invalid_arguments"),
        ("args", b"[1]", "undecodable"),
        ("args", b"null", "invalid_arguments"),
        ("expected_sequence", b"1.5", "undecodable"),
        ("expected_sequence", b"true", "undecodable"),
        ("expected_sequence", b"9223372036854775808", "undecodable"),
        ("not_after", b'"soon"', "undecodable"),
        ("reply", b'{"partition": 1}', "undecodable"),
        ("reply", b'{"partition": 3000000000, "correlation": ""}', "undecodable"),
        ("reply", b"[]", "undecodable"),
        ("principal", b'{"subject": 1, "kind": "x"}', "undecodable"),
        ("source", b"{}", "source_forbidden"),
        ("traceparent", b"5", "undecodable"),
        ("name", b'"' + b"x" * 256 + b'"', "undecodable"),
        ("name", DEEP[10:-1], "undecodable"),
    ],
)
def test_json_with_wrong_types_is_rejected(world, field, value, expected):
    id_ = b'"%s"' % str(uuid.UUID(bytes=world.next_id())).encode()
    fields = {"command_id": id_, "name": b'"open"', "args": b'{"owner": "Ann"}', field: value}
    text = b", ".join(b'"%s": %s' % (name.encode(), raw) for name, raw in fields.items())
    (reply,) = world.send(b"{" + text + b"}")
    assert (reply.sequence, code(reply)) == (1, expected)
    assert reply.message


def test_any_bytes_are_answered(world):
    value = bytearray(world.command("open", {"owner": "Ann"}, traceparent="t" * 20))
    damaged = []
    for at in range(len(value)):
        for bit in (0x01, 0x80):
            changed = bytearray(value)
            changed[at] ^= bit
            damaged.append(bytes(changed))
    replies = world.send(*damaged)
    assert len(replies) == len(damaged)
    assert digests_of(world.rows()) == world.ledger.digests
