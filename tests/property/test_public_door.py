"""Where wasmtime has other internals, guests run behind its public functions, and do the same."""

import ast
import subprocess
import sys
from pathlib import Path

import guest_world
import pytest
import test_any_calls
import test_differential
from test_hostile import CASES, SOURCE

from engine.sandbox import wasm_binding, wasm_check, wasm_public, wasm_raw
from engine.sandbox.testkit import TestKit

BANK = Path(__file__).parents[2] / "topology" / "bank"
# A process whose binding is broken by the first line; it says which host its kit had.
PROCESS = """
{broken}
from engine.sandbox import wasm_binding
from engine.sandbox.testkit import TestKit
kit = TestKit({bank!r})
codes = [kit.send("a", *sent).code for sent in (
    ("open", {{"owner": "Ada"}}), ("credit", {{"amount": 5}}), ("debit", {{"amount": 9}}))]
print((wasm_binding.fallback(), codes, kit._host.statistics().get("fallback", 0)))
"""
VERSION = "import importlib.metadata as m; m.version = lambda name: '51.0.0'"
GONE = "import wasmtime._ffi as f; del f.filename"
LIES = "import wasmtime._bindings as b; b._wasmtime_func_call_unchecked = lambda *_: None"


@pytest.fixture
def public(monkeypatch):
    monkeypatch.setattr(wasm_binding, "_chosen", lambda: (wasm_public, "a test wants it"))


@pytest.mark.parametrize("door", [wasm_raw, wasm_public], ids=["raw", "public"])
def test_both_doors_do_what_a_door_must(door):
    wasm_check.check(door)


@pytest.mark.parametrize(
    ("broken", "why"),
    [("", ""), (VERSION, "wasmtime is 51.0.0"), (GONE, "AttributeError"), (LIES, "ImportError")],
    ids=["as it is", "another version", "a name is gone", "a function does something else"],
)
def test_a_binding_that_does_not_fit_is_found_before_any_guest_runs(broken, why):
    command = [sys.executable, "-c", PROCESS.format(broken=broken, bank=str(BANK))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    said, codes, fallback = ast.literal_eval(done.stdout)
    assert codes == ["", "", "insufficient_funds"]
    assert (fallback, why in said) == (int(bool(why)), True)


def test_importing_the_engine_takes_no_signal_handlers():
    lines = (
        "import sys, engine.assembly, engine.sandbox.testkit",
        "print('wasm_raw' in sys.modules)",
    )
    command = [sys.executable, "-c", "; ".join(lines).replace("wasm_raw", wasm_raw.__name__)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


def test_what_is_hostile_ends_the_same_way(tmp_path, public):
    module = guest_world.from_c(SOURCE, tmp_path, link=guest_world.GROWING)
    kit = TestKit(guest_world.application(module), "python")
    assert kit.send("w", "good").accepted
    for what, code in CASES.items():
        assert kit.send("w", "bad", {"what": what}).code == code
        assert kit.send("w", "good").accepted
    for total in (666, 667, 668, 669):
        assert not kit.send("w", "set", {"what": total}).accepted
    assert kit.record("w", "thing")["total"] == 1 + len(CASES)
    kit.replay()
    kit.close()


# The very tests of the differential suite, whose plain host now goes through the other door.


def test_the_bank_is_the_same(public):
    test_differential.test_the_bank()


def test_any_calls_are_the_same(public):
    test_any_calls.test_any_calls_do_what_they_may_or_end_their_command()
