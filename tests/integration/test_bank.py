"""The bank: its rules, its 13 host calls, and its statement, against a model in plain Python."""

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.sandbox import wasm_imports
from engine.sandbox.testkit import TestKit

FOLDER = Path(__file__).parents[2] / "topology" / "bank"
DAY_MS = 86_400_000


def test_open_credit_debit(kit):
    assert kit.send("a", "credit", {"amount": 1}).code == "not_open"
    assert kit.send("a", "open", {"owner": "Ada"}).accepted
    assert kit.send("a", "open", {"owner": "Eve"}).code == "already_open"
    assert kit.send("a", "credit", {"amount": 500, "reference": "salary"}).accepted
    assert kit.send("a", "debit", {"amount": 200, "reference": "rent"}).accepted
    account = kit.record("a", "account")
    assert (account["owner"], account["balance"], account["entries"]) == ("Ada", 300, 2)
    assert account["turnover"] == 700
    kit.replay()


def test_never_below_zero(kit):
    kit.send("a", "open", {"owner": "Ada"})
    kit.send("a", "credit", {"amount": 100})
    assert kit.send("a", "debit", {"amount": 101}).code == "insufficient_funds"
    assert kit.send("a", "debit", {"amount": 100}).accepted
    assert kit.send("a", "debit", {"amount": 1}).code == "insufficient_funds"
    assert kit.record("a", "account")["balance"] == 0


@pytest.mark.parametrize("amount", [0, -5, 10**12 + 1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("command", ["credit", "debit"])
def test_amounts_are_bounded(kit, command, amount):
    kit.send("a", "open", {"owner": "Ada"})
    assert kit.send("a", command, {"amount": amount}).code == "invalid_amount"


def test_texts_are_bounded(kit):
    assert kit.send("a", "open", {"owner": ""}).code == "invalid_owner"
    assert kit.send("a", "open", {"owner": "x" * 129}).code == "invalid_owner"
    assert kit.send("a", "open", {"owner": "x" * 128}).accepted
    long = {"amount": 1, "reference": "x" * 65}
    assert kit.send("a", "credit", long).code == "invalid_reference"
    assert kit.send("a", "credit", {"amount": 1, "reference": "x" * 64}).accepted


def test_the_statement_is_in_order_of_days(kit):
    kit.send("a", "open", {"owner": "Ada"})
    kit.send("a", "credit", {"amount": 500, "reference": "salary"})
    kit.pass_time(DAY_MS)
    kit.send("a", "debit", {"amount": 20, "reference": "tea"})
    first, second = kit.view("a", "statement")
    assert (first["entry"], first["amount"], first["balance"]) == (1, 500, 500)
    assert (second["entry"], second["amount"], second["balance"]) == (2, -20, 480)
    assert (first["day"], second["day"]) == ("2023-11-14", "2023-11-15")
    assert second["reference"] == "tea"


@pytest.mark.parametrize(("command", "amount"), [("credit", 5), ("debit", 5)])
def test_exactly_13_host_calls(built, monkeypatch, command, amount):
    calls: Counter[str] = Counter()
    run = wasm_imports.Imports.begin

    def counted(self, call, memory):
        for name in ("record", "get_i64", "get_bytes", "set_i64", "set_bytes", "reject"):
            method = getattr(call, name)

            def wrapped(*args, _name=name, _method=method):
                calls[_name] += 1
                return _method(*args)

            setattr(call, name, wrapped)
        run(self, call, memory)

    kit = TestKit(built, "python")
    kit.send("a", "open", {"owner": "Ada"})
    kit.send("a", "credit", {"amount": 100})
    # Without projectors, so that only the command's own calls are counted.
    bare = TestKit(dataclasses.replace(kit.application, projectors=()), "python")
    bare.send("a", "open", {"owner": "Ada"})
    bare.send("a", "credit", {"amount": 100})
    monkeypatch.setattr(wasm_imports.Imports, "begin", counted)
    assert bare.send("a", command, {"amount": amount, "reference": "r"}).accepted
    assert calls.total() == 13, calls


STEPS = st.tuples(
    st.sampled_from(["a", "b"]),
    st.sampled_from(["open", "credit", "debit"]),
    st.integers(-1, 120),
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, max_size=25))
def test_any_commands_agree_with_a_model(built, steps):
    kit = TestKit(built)
    balances: dict[str, int] = {}
    entries: dict[str, list[int]] = {}
    for workspace, command, amount in steps:
        args = {"owner": "Ada"} if command == "open" else {"amount": amount}
        outcome = kit.send(workspace, command, args)
        balance = balances.get(workspace)
        if command == "open":
            code = "" if balance is None else "already_open"
        elif balance is None:
            code = "not_open"
        elif amount <= 0:
            code = "invalid_amount"
        elif command == "debit" and amount > balance:
            code = "insufficient_funds"
        else:
            code = ""
        assert outcome.code == code
        if code == "":
            change = 0 if command == "open" else amount if command == "credit" else -amount
            balances[workspace] = balances.get(workspace, 0) + change
            if command != "open":
                entries.setdefault(workspace, []).append(change)
    for workspace, balance in balances.items():
        assert kit.record(workspace, "account")["balance"] == balance
        lines = kit.view(workspace, "statement")
        assert [line["amount"] for line in lines] == entries.get(workspace, [])
    kit.replay()
    kit.close()
