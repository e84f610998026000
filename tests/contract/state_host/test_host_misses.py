"""Rows that a state host does not know: it names them and goes on (FORMATS 6)."""

from host_world import START_MS, warm, workspaces

from engine import limits
from engine.application import rows
from engine.model import HostState

DAY = START_MS // 86_400_000


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
