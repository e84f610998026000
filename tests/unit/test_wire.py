"""The engine's own records: what is written comes back, what is damaged is told."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import wire
from engine.application import rows
from engine.limits import FORMAT
from engine.model import HostState, Position
from engine.wire import Kind, WireError

GOLDEN = Path(__file__).parent.parent / "golden" / "format_1.json"
ID = bytes(range(16))
HEAD = {"epoch": (7 << 20) + 12345, "sequence": 41, "previous": -5_000_000_001, "skippable": False}
COMMAND: dict[str, Any] = {
    "command_id": ID,
    "name": "credit",
    "args_schema": -1234567890123456789,
    "args": b"\x02\x04",
    "expected_sequence": 3,
    "not_after": 1_700_000_000_000,
    "reply": {"partition": 2, "correlation": b"\xc0\xff"},
    "principal": {"subject": "ada", "kind": "person"},
    "token": "secret",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "source": {"incarnation": 1, "partition": 2, "number": 3, "hops": 4, "application": 5},
}
CHANGE = {
    "type": 256,
    "root": 65_536,
    "parent": 65_536,
    "id": 65_537,
    "op": "update",
    "set": b"\x05",
    "before": -1,
    "body": b"\x06\x07",
}
EMIT = {
    "partition": 1,
    "number": 9,
    "workspace": "b",
    "name": "debit",
    "args_schema": 8,
    "args": b"\x01",
}
TIMER = {"id": "remind", "due": 1_700_000_000_001, "name": "remind", "args_schema": 8, "args": b""}
OUTCOME: dict[str, Any] = {
    **HEAD,
    "sequence": 42,
    "workspace": "konto/ä",
    "workspace_sequence": 4,
    "command_id": ID,
    "input": "commands",
    "input_offset": 99,
    "command_time": 1_699_999_999_000,
    "registered_at": 1_699_999_999_500,
    "name": "credit",
    "application": 1,
    "args_schema": -1234567890123456789,
    "args": b"\x02\x04",
    "code": "",
    "message": "",
    "field": None,
    "changes": [CHANGE],
    "emits": [EMIT],
    "timers": [TIMER],
    "result": b"\x01",
    "principal": {"subject": "ada", "kind": "person"},
    "source": None,
    "traceparent": None,
}
EVENTS: dict[Kind, dict[str, Any]] = {
    Kind.OUTCOME: OUTCOME,
    Kind.OWNER: {
        **HEAD,
        "claim_id": ID,
        "node": "node-a",
        "incarnation": 1,
        "engine_version": "0.1.0",
        "format": 1,
        "command_topic_id": "AAAAAAAAAAAAAAAAAAAAAA",
    },
    Kind.RELEASED: {**HEAD, "successor": "node-b"},
    Kind.MARK: {
        **HEAD,
        "inputs": [{"input": "commands", "offset": 100}, {"input": "emits", "offset": 0}],
        "emitted_sequence": 40,
        "registered_at": 1_699_999_999_500,
        "newest_command_time": 1_699_999_999_000,
        "dedup_floor": 1_699_913_599_000,
        "digests": [{"table": 256, "digest": -77}],
    },
    Kind.APPLICATION: {
        **HEAD,
        "index": 1,
        "version": "1.0.0",
        "fingerprint": bytes(range(32)),
        "manifest": "application = {}\n",
        "tables": [
            {"kind": "record", "name": "account", "generation": 0, "table": 256},
            {"kind": "view", "name": "statement", "generation": 1, "table": 32768},
        ],
        "schemas": [{"name": "account.avsc", "text": "{}"}],
        "modules": [{"name": "bank", "sha256": bytes(range(32))}],
    },
    Kind.SWITCH: {**HEAD, "view": "statement", "generation": 2},
}
REPLY: dict[str, Any] = {
    "correlation": b"\xc0\xff",
    "command_id": ID,
    "partition": 3,
    "sequence": 42,
    "workspace_sequence": 4,
    "code": "check_failed",
    "message": "balance is below 0",
    "field": "balance",
    "result": None,
    "duplicate": True,
}
NODE: dict[str, Any] = {
    "node": "node-a",
    "process": ID,
    "engine_version": "0.1.0",
    "format": 1,
    "application": "1.0.0",
    "fingerprint": bytes(range(32)),
    "http": "http://127.0.0.1:7000",
    "sent_at": 1_700_000_000_000,
    "leaving": False,
    "draining": True,
    "partitions": [
        {
            "partition": 3,
            "role": "owner",
            "epoch": HEAD["epoch"],
            "sequence": 42,
            "application": 2,
            "unbuilt": 7,
            "wants": True,
        }
    ],
}
POSITION = Position(
    topic_id="BBBBBBBBBBBBBBBBBBBBBB",
    offset=1_000,
    leader_epoch=4,
    tail_hash=-9,
    epoch=(7 << 20) + 12345,
    incarnation=1,
    command_topic_id="AAAAAAAAAAAAAAAAAAAAAA",
    released=True,
    resume={"commands": 100, "emits": 5},
    host=HostState(42, -5, 1_700_000_000_000, 1_699_999_999_000, 1_699_913_599_000, 40, 1),
    digests={256: -77, 5: 12},
)
PAGE = rows.Page(41, 7_000, 2, 1_700_000_000_000, [ID, ID[::-1]])


CHANGES = [
    {
        "op": "create",
        "type": "line",
        "id": 2,
        "parent": 1,
        "root": 65_536,
        "set": ["item", "note"],
        "body": b"\x02\x04",
    },
    {
        "op": "deactivate",
        "type": "order",
        "id": 65_537,
        "parent": 0,
        "root": 0,
        "set": [],
        "body": b"",
    },
]


def golden() -> dict[str, bytes]:
    """Everything that format 1 writes, by name."""
    columns = [
        ("date", 15_736),
        ("long", -1),
        ("double", -2.5),
        ("string", "a\0ä"),
        ("bytes", b"\x00\xff"),
        ("boolean", True),
        ("time", 1_700_000_000_000),
    ]
    written = {f"event {kind}": wire.encode_event(kind, event) for kind, event in EVENTS.items()}
    return {
        **written,
        "command": wire.encode_command(COMMAND),
        "reply": wire.encode_reply(REPLY),
        "node": wire.NODE.encode(NODE),
        "position": wire.encode_position(POSITION, 1),
        "position key": rows.POSITION_KEY,
        "application key": rows.application_key(1),
        "record key": rows.record_key(256, "konto/ä", 65_536, 65_537),
        "view key": rows.view_key(0x8000, "konto/ä", columns),
        "row value": rows.encode_value(3, 256, rows.INACTIVE, b"\x06\x07"),
        "row hash": rows.row_hash(b"key", b"value").to_bytes(8, signed=True),
        "page key": rows.page_key(PAGE.first_sequence),
        "page": rows.encode_page(PAGE),
        "workspace key": rows.workspace_key("konto/ä"),
        "workspace": rows.encode_workspace(rows.Workspace(4, 3, 65_538, [1, 2, 41, 42])),
        "gone workspace": rows.encode_workspace(
            rows.Workspace(4, 3, 65_538, [41, 42], "café", rows.GONE)
        ),
        "unique key": rows.unique_key("konto/ä", 7, columns),
        "unique value": rows.encode_id(65_536),
        "changes": wire.encode_changes(CHANGES),
        "changed": wire.encode_changed({1: 65_536, 65_535: 65_537}),
        "nested body": rows.join_nested(65_536, b"\x06"),
        "workspace log key": rows.workspace_log_key("konto/ä", 1),
        "workspace log": rows.encode_sequences(list(range(1, 33))),
        "hash64": wire.hash64(b"value").to_bytes(8, signed=True),
    }


def test_format_1_never_changes() -> None:
    recorded = {name: bytes.fromhex(text) for name, text in json.loads(GOLDEN.read_text()).items()}
    assert golden() == recorded
    assert FORMAT == 1, "a new format needs golden bytes of its own, and this test stays"


def test_format_1_is_read() -> None:
    read = {name: bytes.fromhex(text) for name, text in json.loads(GOLDEN.read_text()).items()}
    for kind, event in EVENTS.items():
        assert wire.decode_event(read[f"event {kind}"]) == (kind, event)
    assert wire.decode_outcome(read["event outcome"]) == OUTCOME
    assert wire.decode_command(read["command"]) == COMMAND
    assert wire.decode_reply(read["reply"]) == REPLY
    assert wire.decode_changes(read["changes"]) == CHANGES
    assert wire.decode_changed(read["changed"]) == {1: 65_536, 65_535: 65_537}
    assert wire.NODE.decode(read["node"]) == NODE
    assert wire.decode_position(read["position"]) == (1, POSITION)
    assert rows.decode_page(read["page key"], read["page"]) == PAGE


@pytest.mark.parametrize("kind", Kind)
def test_a_head_is_read_without_the_rest(kind: Kind) -> None:
    value = wire.encode_event(kind, EVENTS[kind])
    fields = EVENTS[kind]
    expected = (kind, fields["epoch"], fields["sequence"], fields["previous"], False)
    assert wire.head(value) == expected
    # Of a kind that a later engine adds, the head still reads.
    unknown = wire.MAGIC + b"\x01" * 8 + value[wire.HEADER_BYTES :]
    assert wire.head(unknown) == (None, *expected[1:])
    with pytest.raises(WireError):
        wire.decode_event(unknown)


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, (1 << 63) - 1), st.booleans())
def test_heads_of_any_numbers(number: int, sequence: int, skippable: bool) -> None:  # noqa: FBT001
    fields = {
        **EVENTS[Kind.RELEASED],
        "epoch": sequence,
        "sequence": sequence,
        "previous": number,
        "skippable": skippable,
    }
    head = wire.head(wire.encode_event(Kind.RELEASED, fields))
    assert head == (Kind.RELEASED, sequence, sequence, number, skippable)


@given(st.binary(max_size=40))
def test_any_bytes_have_a_head_or_none(value: bytes) -> None:
    assert wire.head(value) is None or value.startswith(wire.MAGIC)
    wire.head(wire.MAGIC + value)


@given(st.data())
def test_cut_off_and_longer_records_are_wire_errors(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(Kind)))
    value = wire.encode_event(kind, EVENTS[kind])
    cut = data.draw(st.integers(0, len(value) - 1))
    with pytest.raises(WireError):
        wire.decode_event(value[:cut])
    with pytest.raises(WireError):
        wire.decode_event(value + b"\0")
    command = wire.encode_command(COMMAND)
    with pytest.raises(WireError):
        wire.decode_command(command[: data.draw(st.integers(0, len(command) - 1))])
    with pytest.raises(WireError):
        wire.decode_command(value)


@given(st.binary(max_size=100))
def test_any_body_is_a_command_or_a_wire_error(body: bytes) -> None:
    prefix = wire.encode_command(COMMAND)[: wire.HEADER_BYTES]
    try:
        wire.decode_command(prefix + body)
    except WireError:
        return


FEW = {name: COMMAND[name] for name in ("command_id", "name", "args_schema", "args")}
INT_TOO_LARGE = b"\x80\x80\x80\x80\x20"  # 2**32, zigzag


@pytest.mark.parametrize(
    ("at", "changed"),
    [
        (-7, b"\x03"),  # branch -2 of a union, which some readers take for null
        (-7, b"\x01"),
        (-7, b"\x04"),
        (-5, b"\x02" + INT_TOO_LARGE + b"\x00"),  # reply.partition
        (-4, b"\x02\x01\x00"),  # principal.subject of length -1
        (-3, b"\x02\x02\xff"),  # a token that is not UTF-8
        (-3, b"\x02" + b"\xff" * 9 + b"\x7f"),  # a length of more than 64 bits
    ],
)
def test_a_command_that_lenient_readers_take_is_refused(at: int, changed: bytes) -> None:
    value = wire.encode_command(FEW)
    assert value.endswith(bytes(7))
    with pytest.raises(WireError):
        wire.decode_command(value[:at] + changed + value[len(value) + at + 1 :])


def test_an_outcome_that_lenient_readers_take_is_refused() -> None:
    value = wire.encode_event(Kind.OUTCOME, OUTCOME)
    assert wire.outcome_input(value) == ("commands", 99)
    source = value.index(ID) + len(ID)
    for number in (b"\x01", b"\x03", b"\x06"):  # -1 and -2 count from the end in Python
        forged = value[:source] + number + value[source + 1 :]
        with pytest.raises(WireError):
            wire.decode_outcome(forged)
        with pytest.raises(WireError):
            wire.outcome_input(forged)
    flag = value.index(b"\x00", wire.HEADER_BYTES)
    assert wire.head(value[:flag] + b"\x01" + value[flag + 1 :]).skippable
    forged = value[:flag] + b"\x02" + value[flag + 1 :]
    assert wire.head(forged) is None
    with pytest.raises(WireError):
        wire.decode_outcome(forged)


def test_optional_fields_may_be_left_out_of_a_command() -> None:
    few = {name: COMMAND[name] for name in ("command_id", "name", "args_schema", "args")}
    command = wire.decode_command(wire.encode_command(few))
    assert {name for name, value in command.items() if value is not None} == set(few)


@pytest.mark.parametrize(
    ("key", "partition"),
    [
        # Utils.toPositive(Utils.murmur2(key)), as Apache Kafka's own UtilsTest lists murmur2:
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_partitions_are_those_of_kafka(key: bytes, partition: int) -> None:
    for partitions in (1, 3, 8, 1024, 1 << 31):
        assert wire.partition_of(key, partitions) == (partition & 0x7FFFFFFF) % partitions


@given(st.integers(), st.integers())
def test_sums_of_hashes_wrap(one: int, other: int) -> None:
    assert -(1 << 63) <= wire.signed64(one) < 1 << 63
    assert wire.signed64(one + other) == wire.signed64(wire.signed64(one) + wire.signed64(other))
    assert wire.signed64(one) % (1 << 64) == one % (1 << 64)


def test_a_position_without_anything_comes_back() -> None:
    empty = Position()
    assert wire.decode_position(wire.encode_position(empty, 1)) == (1, empty)
    moved = dataclasses.replace(empty, offset=5)
    assert wire.encode_position(moved, 1) != wire.encode_position(empty, 1)
