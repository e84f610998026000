"""What every state host promises (ports.StateHost), on an application in builtin Python.

A new host is another entry of host_world.HOSTS, never a condition in a test.
"""

import json
import uuid
from dataclasses import replace

import host_world
import pytest
from host_world import (
    BOUNDED,
    HOSTS,
    NAMING,
    START_MS,
    World,
    answers,
    build,
    digests_of,
    shop,
    uuid4_of,
    workspaces,
)

from engine import limits, wire
from engine.application import rows
from engine.errors import EngineError
from engine.model import Batch, Duplicate, HostState, Input, Position, ReplyTo
from engine.store.memory import MemoryStore
from engine.wire import Kind
from engine.world import derived_id, uuid7

DAY = START_MS // 86_400_000


@pytest.fixture(params=sorted(HOSTS))
def make_host(request):
    return HOSTS[request.param]


@pytest.fixture
def world(make_host):
    return World(make_host)


@pytest.fixture(params=sorted(NAMING))
def make_naming(request):
    return NAMING[request.param]


@pytest.fixture
def naming(make_naming):
    return World(make_naming)


def code(reply):
    return str(reply.code)


def test_a_command_becomes_an_outcome_with_rows_digests_and_a_reply(world):
    world.do("open", {"owner": "Ann"})
    id_ = world.next_id()
    decided = world.decide(
        world.command(
            "credit",
            {"amount": 5},
            command_id=id_,
            reply={"partition": 3, "correlation": b"c"},
            principal={"subject": "s", "kind": "user"},
            traceparent="00-1",
            token="secret",
        )
    )
    world.confirm()
    (reply,) = decided.replies
    assert (reply.sequence, reply.workspace_sequence, reply.code) == (2, 2, "")
    assert reply.reply_to == ReplyTo(3, b"c")
    assert decided.ids == [id_]
    assert decided.workspaces == [world.workspace.encode()]
    outcome = wire.decode_outcome(world.log[1])
    assert outcome["epoch"] == 7
    assert outcome["previous"] == wire.hash64(world.log[0])
    assert decided.state.previous == wire.hash64(world.log[1])
    assert outcome["principal"] == {"subject": "s", "kind": "user"}
    assert outcome["traceparent"] == "00-1"
    assert b"secret" not in world.log[1]
    assert world.record("account") == {
        "owner": "Ann",
        "balance": 5,
        "entries": 1,
        "state": "open",
        "note": None,
    }
    assert world.view("statement", DAY, 1) == {"balance": 5, "command": "credit"}
    assert digests_of(world.rows()) == world.ledger.digests


def test_a_change_is_a_full_after_image_and_names_what_it_replaces(world):
    world.do("open", {"owner": "Ann"})
    before = dict(world.rows())
    (change,) = world.do("credit", {"amount": 5})["changes"]
    type_ = world.application.records["account"]
    key = rows.record_key(type_.table, world.workspace, 0, 0)
    assert change["op"] == "update"
    assert change["set"] == b"\x06"  # balance and entries
    assert change["before"] == rows.row_hash(key, before[key])
    assert rows.encode_value(1, type_.table, 0, change["body"]) == world.rows()[key]


def test_ids_come_from_the_workspaces_counter_and_results_name_them(world):
    first = world.do("add", {"name": "pen", "quantity": 3})
    world.do("trouble", {"kind": "raises"})  # takes an id, and gives it back
    world.restart()
    second = world.do("add", {"name": "ink", "quantity": 1})
    ids = [outcome["changes"][0]["id"] for outcome in (first, second)]
    assert ids == [limits.ID_FIRST, limits.ID_FIRST + 1]
    assert world.record("item", ids[1])["marks"] == [1]
    assert world.view("stock", "ink") == {"quantity": 1, "id": ids[1]}


def test_records_are_deactivated_and_activated_and_inactive_ones_stay_as_they_are(world):
    id_ = world.do("add", {"name": "pen", "quantity": 3})["changes"][0]["id"]
    assert world.do("retire", {"id": id_})["changes"][0]["op"] == "deactivate"
    assert world.view("stock", "pen") is None
    assert world.do("sell", {"id": id_})["code"] == "inactive_record"
    assert world.do("retire", {"id": id_})["changes"] == []
    assert world.do("revive", {"id": id_})["changes"][0]["op"] == "activate"
    assert world.view("stock", "pen") == {"quantity": 3, "id": id_}
    assert world.do("sell", {"id": id_})["code"] == ""
    assert world.record("item", id_)["sales"] == [{"at": world.now_ms}]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("raises", "extension_trapped"),
        ("exits", "extension_trapped"),
        ("recursion", "extension_trapped"),
        ("field", "extension_trapped"),
        ("text", "extension_trapped"),
        ("projector", "extension_trapped"),
        ("type", "abi_misused"),
        ("range", "abi_misused"),
        ("swallows", "abi_misused"),
        ("readonly", "abi_misused"),
        ("large", "abi_misused"),
        ("row", "abi_misused"),
        ("changes", "too_many_changes"),
        ("handles", "abi_misused"),
        ("view", "abi_misused"),
        ("code", "abi_misused"),
        ("refusal", "abi_misused"),
        ("outcome", "outcome_too_large"),
        ("stubborn", "went_on"),
    ],
)
def test_what_an_extension_does_wrong_rejects_that_command_alone(world, kind, expected):
    world.do("open", {"owner": "Ann"})
    rows_before = world.rows()
    outcome = world.do("trouble", {"kind": kind})
    assert outcome["code"] == expected
    assert outcome["message"]
    assert outcome["changes"] == []
    assert outcome["workspace_sequence"] == 2
    changed = {rows.table_of(k) for k, v in world.rows().items() if rows_before.get(k) != v}
    assert changed == {rows.TABLE_WORKSPACE}
    assert world.do("credit", {"amount": 5})["code"] == ""


def test_a_rejection_names_code_text_and_field_and_changes_nothing(world):
    assert world.do("credit", {"amount": 5})["code"] == "no_account"
    world.do("open", {"owner": "Ann"})
    outcome = world.do("debit", {"amount": 5})
    assert (outcome["code"], outcome["field"]) == ("insufficient_funds", "amount")
    assert world.record("account")["balance"] == 0


def test_checks_of_the_manifest_hold_for_every_changed_row(world):
    world.do("open", {"owner": "Ann"})
    assert world.do("credit", {"amount": 1_000_000})["code"] == ""
    outcome = world.do("credit", {"amount": 1})
    assert (outcome["code"], outcome["field"]) == ("check_failed", "account.balance")
    assert world.do("add", {"name": "pen", "quantity": -1})["code"] == "check_failed"


def test_a_workspace_begins_with_its_first_accepted_outcome(world):
    first = world.do("credit", {"amount": 5})
    assert (first["code"], first["workspace_sequence"]) == ("no_account", 0)
    assert world.rows().keys() == {rows.application_key(1)}
    numbers = [
        world.do("open", {"owner": "Ann"}),
        world.do("debit", {"amount": 5}),
        world.do("credit", {"amount": 5}),
    ]
    assert [outcome["workspace_sequence"] for outcome in numbers] == [1, 2, 3]
    row = rows.decode_workspace(world.rows()[rows.workspace_key(world.workspace)])
    assert (row.last, row.accepted, row.recent) == (3, 3, [2, 3, 4])


def test_a_workspaces_log_is_kept_in_pages(world):
    world.do("open", {"owner": "Ann"})
    world.send(*[world.command("debit", {"amount": 5}) for _ in range(70)])
    row = rows.decode_workspace(world.rows()[rows.workspace_key(world.workspace)])
    assert (row.last, row.accepted, row.recent) == (71, 1, list(range(65, 72)))
    pages = [world.rows()[rows.workspace_log_key(world.workspace, n)] for n in range(2)]
    assert [s for page in pages for s in rows.decode_sequences(page)] == list(range(1, 65))
    assert digests_of(world.rows()) == world.ledger.digests


def test_expected_sequence_compares_with_the_last_accepted_outcome(world):
    assert world.do("open", {"owner": "Ann"}, expected_sequence=0)["code"] == ""
    world.do("debit", {"amount": 5})
    assert world.do("credit", {"amount": 5}, expected_sequence=2)["code"] == "sequence_mismatch"
    world.restart()
    assert world.do("credit", {"amount": 5}, expected_sequence=1)["code"] == ""


def test_a_command_decided_too_late_is_rejected(world):
    world.do("open", {"owner": "Ann"})
    assert world.do("credit", {"amount": 5}, not_after=world.now_ms)["code"] == ""
    assert world.do("credit", {"amount": 5}, not_after=world.now_ms - 1)["code"] == "expired"


def test_times_never_go_back(world):
    world.do("open", {"owner": "Ann"})
    world.now_ms -= 1_000
    outcome = world.do("credit", {"amount": 5})
    assert outcome["command_time"] == outcome["registered_at"] == START_MS


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


# Dedup (FORMATS 4).


def test_a_duplicate_names_the_first_outcome_and_becomes_none(world):
    value = world.command("open", {"owner": "Ann"}, reply={"partition": 1, "correlation": b"c"})
    first, again = world.send(value, value)
    assert (first.sequence, again.first_sequence) == (1, 1)
    world.restart()
    (later,) = world.send(value)
    assert isinstance(later, Duplicate)
    assert (later.first_sequence, later.name, later.reply_to) == (1, "open", ReplyTo(1, b"c"))
    command = wire.decode_command(value)
    assert (later.args_schema, later.args) == (command["args_schema"], command["args"])
    assert later.workspace == world.workspace
    assert len(world.log) == 1


def test_the_same_id_for_something_else_is_told_apart_by_what_the_duplicate_says(world):
    id_ = world.next_id()
    world.do("open", {"owner": "Ann"}, command_id=id_)
    other = workspaces(world.partition)[1]
    (reply,) = world.send(world.command("credit", {"amount": 5}, command_id=id_), key=other)
    assert isinstance(reply, Duplicate)
    assert (reply.workspace, reply.name) == (other, "credit")
    assert reply.args == wire.decode_command(world.command("credit", {"amount": 5}))["args"]


def test_a_rejected_command_has_its_outcome_too(world):
    value = world.command("credit", {"amount": 5})
    world.send(value)
    world.do("open", {"owner": "Ann"})
    (again,) = world.send(value)
    assert again.first_sequence == 1


def test_ids_from_the_future_and_ids_below_the_floor_are_refused_without_a_record(world):
    world.do("open", {"owner": "Ann"})
    ahead = uuid7(world.now_ms + limits.ID_AHEAD_MS_MAX + 1, bytes(10))
    just = uuid7(world.now_ms + limits.ID_AHEAD_MS_MAX, bytes(10))
    old = uuid7(world.now_ms - limits.DEDUP_WINDOW_MS, bytes(10))
    young = uuid7(world.now_ms - limits.DEDUP_WINDOW_MS + 1, bytes(10))
    replies = world.send(
        *[world.command("credit", {"amount": 1}, command_id=i) for i in (ahead, just, old, young)]
    )
    assert [code(reply) for reply in replies] == ["id_too_new", "", "id_expired", ""]
    assert [reply.sequence for reply in replies] == [0, 2, 0, 3]
    assert len(world.log) == 3


def test_an_id_is_remembered_until_the_floor_passes_its_own_time(world):
    value = world.command(
        "open", {"owner": "Ann"}, command_id=uuid7(world.now_ms + 60_000, bytes(10))
    )
    world.send(value)
    world.now_ms += limits.DEDUP_WINDOW_MS + 59_999
    world.do("debit", {"amount": 1})
    world.restart()
    (still,) = world.send(value)
    assert isinstance(still, Duplicate)
    world.now_ms += 1
    (expired,) = world.send(value)
    assert code(expired) == "id_expired"


def test_other_ids_are_remembered_for_the_window(world):
    value = world.command("open", {"owner": "Ann"}, command_id=uuid4_of(9))
    world.send(value)
    world.now_ms += limits.DEDUP_WINDOW_MS
    (again,) = world.send(value)
    assert isinstance(again, Duplicate)


def test_find_sees_confirmed_outcomes_only(world):
    id_ = world.next_id()
    world.decide(world.command("open", {"owner": "Ann"}, command_id=id_))
    assert world.host.find(id_) == 0
    world.confirm()
    assert world.host.find(id_) == 1
    assert world.host.find(world.next_id()) == 0
    world.restart()
    assert world.host.find(id_) == 1


# Misses (FORMATS 6).


def warm(world):
    world.do("open", {"owner": "Ann"})
    for name in ("pen", "ink"):
        world.do("add", {"name": name, "quantity": 3})


def test_the_first_miss_ends_the_finished_prefix_and_the_rest_finds_more(naming):
    warm(naming)
    other = workspaces(naming.partition)[1]
    naming.restart()
    batch = naming.batch(
        b"garbage",
        naming.command("credit", {"amount": 1}),
        (other.encode(), naming.command("open", {"owner": "Bea"})),
        b"garbage",
    )
    naming.host.provide({rows.workspace_key(naming.workspace): None})
    decided = naming.decide_pass(batch)
    assert decided.done == len(decided.outcomes) == 1
    account = naming.application.records["account"].table
    assert set(decided.missing) == {
        rows.record_key(account, naming.workspace, 0, 0),
        rows.workspace_key(other),
        rows.record_key(account, other, 0, 0),
    }
    assert decided.state.sequence == len(naming.log) + 1


def test_what_runs_behind_a_miss_leaves_nothing(naming):
    warm(naming)
    naming.restart()
    commands = [naming.command("credit", {"amount": 1}) for _ in range(3)]
    before = naming.host.statistics()
    decided = naming.decide_pass(naming.batch(*commands))
    assert (decided.done, decided.outcomes, decided.rows, decided.ids) == (0, [], {}, [])
    assert decided.state == HostState(
        **{slot: getattr(naming.ledger.position.host, slot) for slot in HostState.__slots__}
    )
    after = naming.host.statistics()
    assert after["ids_remembered"] == before["ids_remembered"]
    assert [reply.code for reply in naming.send(*commands)] == ["", "", ""]
    assert naming.record("account")["balance"] == 3


def test_a_cold_batch_needs_few_passes_however_long_it_is(naming):
    warm(naming)
    naming.restart()
    naming.passes = 0
    naming.send(*[naming.command("credit", {"amount": 1}) for _ in range(50)])
    assert naming.passes <= limits.MISS_PASSES_MAX
    assert naming.view("statement", DAY, 50) == {"balance": 50, "command": "credit"}


def test_a_row_that_is_absent_is_provided_as_none(naming):
    assert naming.do("sell", {"id": 70_000})["code"] == "no_item"
    naming.passes = 0
    assert naming.do("sell", {"id": 70_000})["code"] == "no_item"
    assert naming.passes == 1


# Unconfirmed batches.


def test_a_batch_sees_earlier_unconfirmed_ones(world):
    world.do("open", {"owner": "Ann"})
    world.decide(world.command("credit", {"amount": 5}))
    world.decide(world.command("debit", {"amount": 2}))
    world.confirm()
    world.decide(world.command("debit", {"amount": 3}))
    world.confirm()
    world.confirm()
    account = world.record("account")
    assert (account["balance"], account["entries"]) == (0, 3)


def test_rows_that_are_provided_never_replace_newer_ones(world):
    old = {}
    world.do("open", {"owner": "Ann"})
    old.update(world.rows())
    world.do("credit", {"amount": 5})
    world.host.provide(old)
    world.decide(world.command("credit", {"amount": 6}))
    world.host.provide(old)
    world.decide(world.command("credit", {"amount": 7}))
    world.confirm()
    world.host.provide(old)
    world.confirm()
    assert world.do("debit", {"amount": 18})["code"] == ""


def test_discard_drops_what_is_unconfirmed_and_nothing_else(world):
    world.do("open", {"owner": "Ann"})
    kept = world.command("credit", {"amount": 5})
    dropped = world.command("credit", {"amount": 7})
    world.decide(kept, world.command("add", {"name": "pen", "quantity": 1}))
    world.decide(dropped, world.command("add", {"name": "ink", "quantity": 2}))
    world.confirm()
    world.discard()
    assert world.host.decide(Batch(), Input.COMMANDS, world.now_ms).state == (
        world.ledger.position.host
    )
    first, again = world.send(kept, dropped)
    assert isinstance(first, Duplicate)
    assert (again.sequence, again.workspace_sequence, again.code) == (4, 4, "")
    assert world.record("account") == {
        "owner": "Ann",
        "balance": 12,
        "entries": 2,
        "state": "open",
        "note": None,
    }
    outcome = world.do("add", {"name": "tip", "quantity": 1})
    assert outcome["changes"][0]["id"] == limits.ID_FIRST + 1
    assert digests_of(world.rows()) == world.ledger.digests


def test_discard_returns_times_and_floor_too(world):
    world.do("open", {"owner": "Ann"})
    old = world.command("credit", {"amount": 5})
    world.now_ms += 2 * limits.DEDUP_WINDOW_MS
    world.decide(world.command("credit", {"amount": 1}))
    world.discard()
    world.now_ms -= 2 * limits.DEDUP_WINDOW_MS
    (reply,) = world.send(old)
    assert (reply.sequence, reply.code) == (2, "")
    assert wire.decode_outcome(world.log[1])["registered_at"] == START_MS


# Fold.


def replica(world, make_host):
    other = World(make_host, world.applications[1], world.partition)
    for index in sorted(world.applications)[1:]:
        other.deploy(world.applications[index])
    return other


def history(world):
    warm(world)
    world.send(
        *[world.command("credit", {"amount": 1}) for _ in range(40)],
        world.command("sell", {"id": limits.ID_FIRST}),
        world.command("retire", {"id": limits.ID_FIRST}),
        world.command("trouble", {"kind": "raises"}),
        b"garbage",
        (workspaces(world.partition + 1)[0], world.command("open", {"owner": "Bea"})),
    )


def test_fold_gives_the_rows_digests_and_state_that_decide_gave(world, make_host):
    history(world)
    other = replica(world, make_host)
    other.fold(world.log[:10])
    other.fold(world.log[10:])
    assert other.rows() == world.rows()
    assert other.ledger.digests == world.ledger.digests == digests_of(world.rows())
    assert other.ledger.position.host == world.ledger.position.host


@pytest.mark.parametrize("name", sorted(BOUNDED))
def test_a_small_cache_holds_less_and_changes_nothing_else(name):
    world, small = (
        World(lambda _, bytes_=bytes_: BOUNDED[name](bytes_)) for bytes_ in (1 << 20, 1)
    )
    for each in (world, small):
        history(each)
    assert small.rows() == world.rows()
    assert small.log == world.log
    assert world.host.statistics()["rows_held"] > 10
    assert small.host.statistics()["rows_held"] == 0
    assert small.host.statistics()["rows_bytes"] == 0


def test_who_has_folded_decides_on(world, make_host):
    value = world.command("open", {"owner": "Ann"})
    world.send(value)
    other = replica(world, make_host)
    other.fold(world.log)
    other.host.own(9)
    other.ids = 100
    (again, reply) = other.send(value, other.command("credit", {"amount": 5}))
    assert again.first_sequence == 1
    assert (reply.sequence, reply.workspace_sequence) == (2, 2)
    other.discard()
    assert other.host.find(wire.decode_command(value)["command_id"]) == 1


def test_a_mark_raises_what_the_fold_of_outcomes_may_not_have_seen(world, make_host):
    world.do("open", {"owner": "Ann"})
    mark = {
        "epoch": 7,
        "sequence": 1,
        "previous": wire.hash64(world.log[0]),
        "skippable": False,
        "inputs": [],
        "emitted_sequence": 0,
        "registered_at": START_MS + 5,
        "newest_command_time": START_MS + 6,
        "dedup_floor": START_MS - 7,
        "digests": [],
    }
    other = replica(world, make_host)
    decided = other.fold([*world.log, wire.encode_event(Kind.MARK, mark)])
    assert decided.done == 2
    assert decided.state == HostState(
        1, wire.hash64(world.log[0]), START_MS + 5, START_MS + 6, START_MS - 7, 0, 1
    )
    (reply,) = other.send(
        other.command("credit", {"amount": 5}, command_id=uuid7(START_MS - 7, bytes(10)))
    )
    assert code(reply) == "id_expired"


def test_a_batch_that_misses_in_fold_goes_on_behind_what_is_done(naming, make_naming):
    history(naming)
    other = replica(naming, make_naming)
    other.fold(naming.log[:3])
    other.restart()
    other.passes = 0
    other.fold(naming.log[3:])
    assert 1 < other.passes <= limits.MISS_PASSES_MAX
    assert other.rows() == naming.rows()


def test_an_outcome_of_another_application_stops_the_fold(world, make_host):
    world.do("open", {"owner": "Ann"})
    world.deploy(build(2, "2.0.0"))
    world.do("credit", {"amount": 5})
    other = World(make_host, world.applications[1], world.partition)
    with pytest.raises(EngineError, match="E1307"):
        other.fold(world.log)


def test_a_projector_that_fails_in_fold_stops_it(world, make_host):
    world.do("open", {"owner": "Ann"})
    broken = host_world.SOURCE.replace('row["command"] =', "raise ValueError(1)\n#")
    other = World(make_host, build(source=broken), world.partition)
    with pytest.raises(EngineError, match="E1106"):
        other.fold(world.log)


# Applications.

WIDER = {
    **host_world.FILES,
    "account.avsc": host_world.FILES["account.avsc"].replace(
        '{"name": "balance"', '{"name": "limit", "type": "long", "default": 9}, {"name": "balance"'
    ),
    "amount.avsc": host_world.FILES["amount.avsc"].replace(
        '"fields": [', '"fields": [{"name": "why", "type": "string", "default": "none"}, '
    ),
}


def test_another_application_reads_the_rows_and_takes_the_commands_of_older_ones(world, make_host):
    duplicate = world.command("open", {"owner": "Ann"})
    world.send(duplicate)
    old_client = world.command("credit", {"amount": 5})
    world.deploy(build(2, "2.0.0", WIDER))
    first, second = world.send(duplicate, old_client)
    assert isinstance(first, Duplicate)
    assert second.code == ""
    assert wire.decode_outcome(world.log[1])["application"] == 2
    assert world.record("account")["balance"] == 5
    assert world.record("account")["limit"] == 9
    world.do("credit", {"amount": 5, "why": "salary"})
    world.restart()
    world.do("credit", {"amount": 5, "why": "salary"})
    assert digests_of(world.rows()) == world.ledger.digests

    other = World(make_host, shop(), world.partition)
    other.fold(world.log[:1])
    other.deploy(world.applications[2])
    other.fold(world.log[1:])
    assert other.rows() == world.rows()


def test_a_host_may_open_before_there_is_an_application(make_host):
    host = make_host(MemoryStore())
    host.open(0, {}, Position())
    application = shop()
    host.open(0, {1: application}, replace(Position(), host=HostState(application=1)))
    assert host.decide(Batch(), Input.COMMANDS, START_MS).state.application == 1
    host.close()


def test_a_batch_of_nothing_is_nothing(world):
    assert world.host.fold(Batch()).done == 0
    assert world.host.decide(Batch(), Input.COMMANDS, 0).done == 0


def test_statistics_are_numbers(world):
    world.do("open", {"owner": "Ann"})
    assert world.host.statistics()["outcomes"] == 1
    assert all(isinstance(value, int | float) for value in world.host.statistics().values())
