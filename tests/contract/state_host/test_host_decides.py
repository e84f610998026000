"""What every state host promises (ports.StateHost) of deciding, on a shop in builtin Python."""

from dataclasses import replace

import host_shop
import pytest
from host_shop import build, shop
from host_world import START_MS, World, digests_of

from engine import limits, wire
from engine.application import rows
from engine.model import Batch, Duplicate, HostState, Input, Position, ReplyTo
from engine.store.memory import MemoryStore

DAY = START_MS // 86_400_000


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


# Applications.

WIDER = {
    **host_shop.FILES,
    "account.avsc": host_shop.FILES["account.avsc"].replace(
        '{"name": "balance"', '{"name": "limit", "type": "long", "default": 9}, {"name": "balance"'
    ),
    "amount.avsc": host_shop.FILES["amount.avsc"].replace(
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
