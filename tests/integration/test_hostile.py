"""Extensions that mean harm: one rejected outcome with a code that says why, and no other trace."""

from pathlib import Path

import guest_world
import pytest
from guest_world import GROWING, SMALL_MANIFEST, wat

from engine.errors import ApplicationError
from engine.sandbox.testkit import TestKit
from engine.sandbox.wasm import WasmGuests

SOURCE = Path(__file__).parent / "hostile.c"
CASES = {
    1: "time_exceeded",
    2: "time_exceeded",
    3: "time_exceeded",
    4: "extension_trapped",
    5: "extension_trapped",
    6: "extension_trapped",
    7: "memory_exceeded",
    **dict.fromkeys(range(20, 50), "abi_misused"),
}


@pytest.fixture(scope="session")
def module(tmp_path_factory) -> bytes:
    return guest_world.from_c(SOURCE, tmp_path_factory.mktemp("guest"), link=GROWING)


@pytest.fixture(params=["python", "wasm"])
def kit(module, request):
    kit = TestKit(guest_world.application(module), request.param)
    assert kit.send("w", "good").accepted
    yield kit
    kit.close()


@pytest.mark.parametrize(("what", "code"), CASES.items())
def test_one_rejected_outcome_and_the_next_command_is_right(kit, what, code):
    before = dict(kit.rows)
    outcome = kit.send("w", "bad", {"what": what})
    assert (outcome.code, outcome.sequence, outcome.changes) == (code, 2, ())
    assert 0 < len(outcome.message) < 200
    assert "wasm" not in outcome.message
    assert "backtrace" not in outcome.message
    changed = {key for key in before if kit.rows[key] != before[key]}
    assert all(key[:2] == b"\x00\x05" for key in changed), "only the workspace's own row counts it"
    assert kit.send("w", "good").accepted
    assert kit.record("w", "thing")["total"] == 2
    assert kit.view("w", "total") == [{"total": 2}]
    kit.replay()


@pytest.fixture(scope="session")
def fixed(tmp_path_factory) -> bytes:
    """Return the same guest with a memory that can't grow: the only kind beside the WASM host."""
    link = (*GROWING, "--no-growable-memory")
    return guest_world.from_c(SOURCE, tmp_path_factory.mktemp("fixed"), link=link)


def test_both_hosts_say_the_same_of_all_that_goes_wrong(fixed):
    kits = [TestKit(guest_world.application(fixed), host) for host in ("python", "wasm")]

    def both(*sent):
        one, other = (kit.send("w", *sent) for kit in kits)
        assert one == other
        return one

    both("good")
    for what in CASES:
        assert not both("bad", {"what": what}).accepted
        assert both("good").accepted
    for total in (666, 667, 668, 669, 1):
        both("set", {"what": total})
    both("leak")
    handle = kits[0].record("w", "thing")["total"]
    assert both("bad", {"what": 23, "handle": handle}).code == "abi_misused"
    assert kits[0].rows == kits[1].rows
    assert kits[0].digests == kits[1].digests
    for kit in kits:
        kit.replay()
        kit.close()


def test_handles_without_end_are_refused_before_any_time_is_up(module):
    """Here the bound on handles is what counts, so that no busy machine can reach the other."""
    patient = guest_world.MANIFEST.replace("time_ms = 40", "time_ms = 1000")
    kit = TestKit(guest_world.application(module, patient))
    kit.send("w", "good")
    assert kit.send("w", "bad", {"what": 8}).code == "abi_misused"
    assert kit.send("w", "good").accepted
    assert kit.record("w", "thing")["total"] == 2
    kit.close()


def test_a_handle_of_an_earlier_call_is_found(kit):
    kit.send("w", "leak")
    handle = kit.record("w", "thing")["total"]
    assert handle > 4
    outcome = kit.send("w", "bad", {"what": 23, "handle": handle})
    assert outcome.code == "abi_misused"


def test_memory_that_grew_is_gone_in_the_next_call(kit):
    assert kit.send("w", "grow").accepted
    first = kit.record("w", "thing")["total"]
    assert kit.send("w", "grow").accepted
    assert kit.record("w", "thing")["total"] == first
    kit.send("w", "set", {"what": 0})
    assert kit.send("w", "good").accepted
    assert kit.record("w", "thing")["total"] == 1


def test_memory_that_was_written_is_put_back(kit):
    for _ in range(3):
        kit.send("w", "good")
    assert kit.record("w", "thing")["total"] == 4, "each call counts from 1"


@pytest.mark.parametrize(
    ("total", "code"),
    [
        (666, "abi_misused"),
        (667, "abi_misused"),
        (668, "extension_trapped"),
        (669, "abi_misused"),
    ],
)
def test_a_projector_that_does_what_it_may_not_rejects_its_command(kit, total, code):
    assert kit.send("w", "set", {"what": total}).code == code
    assert kit.record("w", "thing")["total"] == 1
    assert kit.send("w", "good").accepted
    kit.replay()


GLOBAL = """
(import "partita1" "record" (func $record (param i32 i64) (result i32)))
(import "partita1" "create" (func $create (param i32) (result i32)))
(import "partita1" "set_i64" (func $set (param i32 i32 i64)))
(global $kept (export "kept") (mut i64) (i64.const 7))
(func (export "good") (local $thing i32)
  (local.set $thing (call $record (i32.const 0) (i64.const 0)))
  (if (i32.eqz (local.get $thing))
    (then (local.set $thing (call $create (i32.const 0)))))
  (call $set (local.get $thing) (i32.const 0) (global.get $kept))
  (global.set $kept (i64.add (global.get $kept) (i64.const 1))))
"""
WANTED = "abi 1\\nentry good\\nrecord thing\\nfield record thing total i64\\n"


def test_globals_are_put_back():
    with_global = guest_world.application(wat(GLOBAL, WANTED), SMALL_MANIFEST)
    kit = TestKit(with_global)
    for _ in range(3):
        assert kit.send("w", "good").accepted
        assert kit.record("w", "thing")["total"] == 7


RUN_TIME = {
    "endless recursion": (
        '(func $f (call $f)) (func (export "good") (call $f))',
        "memory_exceeded",
    ),
    "division by zero": (
        '(func (export "good") (drop (i32.div_s (i32.const 1) (i32.const 0))))',
        "extension_trapped",
    ),
    "a null function": (
        '(table 1 funcref) (func (export "good") (call_indirect (i32.const 0)))',
        "extension_trapped",
    ),
    "a table out of bounds": (
        '(table 1 funcref) (func (export "good") (call_indirect (i32.const 9)))',
        "extension_trapped",
    ),
    "memory out of bounds": (
        '(func (export "good") (i32.store (i32.const -4) (i32.const 1)))',
        "extension_trapped",
    ),
}


@pytest.mark.parametrize(("body", "code"), RUN_TIME.values(), ids=RUN_TIME)
def test_traps_of_wasm_itself(body, code):
    kit = TestKit(guest_world.application(wat(body), SMALL_MANIFEST))
    for _ in range(2):
        assert kit.send("w", "good").code == code
    kit.replay()


LOAD = {
    "garbage": (b"\x00asm garbage", "no module"),
    "nothing": (b"", "no module"),
    "an unknown import": (
        wat('(import "partita1" "launch" (func))'),
        "imports partita1.launch",
    ),
    "a name of the ABI that comes later": (
        wat('(import "partita1" "timer" (func (param i32 i64 i64) (result i32)))'),
        "imports partita1.timer",
    ),
    "another module's import": (
        wat('(import "wasi_snapshot_preview1" "clock_time_get" (func))'),
        "wasi_snapshot_preview1.clock_time_get",
    ),
    "an import of another type": (
        wat('(import "partita1" "id" (func (param i64) (result i64)))'),
        "another type",
    ),
    "an imported memory": (wat('(import "partita1" "memory" (memory 1))'), "partita1.memory"),
    "an imported global": (
        wat('(import "partita1" "id" (global i32))'),
        "another type",
    ),
    "no memory": (
        wat('(memory 1) (export "memories" (memory 0)) (; "memory" ;)'),
        "no memory",
    ),
    "no description": (wat('(; "partita_describe" ;)'), "partita_describe"),
    "a description of a wrong type": (
        wat('(func (export "partita_describe") (result i32) (i32.const 0))'),
        "partita_describe",
    ),
    "a description out of bounds": (
        wat('(func (export "partita_describe") (result i64) (i64.const 0x7fffffffffffffff))'),
        "outside of its memory",
    ),
    "a description that traps": (
        wat('(func (export "partita_describe") (result i64) (unreachable))'),
        "gave up",
    ),
    "a description that never ends": (
        wat('(func (export "partita_describe") (result i64) (loop $l (br $l)) (unreachable))'),
        "longer than 40 ms",
    ),
    "a start function that never ends": (
        wat("(func $s (loop $l (br $l))) (start $s)"),
        "start function failed: it ran longer",
    ),
    "a start function that asks for a record": (
        wat(
            '(import "partita1" "record" (func $r (param i32 i64) (result i32))) '
            "(func $s (drop (call $r (i32.const 0) (i64.const 0)))) (start $s)"
        ),
        "start function failed",
    ),
    "an entry of a wrong type": (
        wat('(func (export "good") (result i32) (i32.const 0))'),
        "'good' is not a function",
    ),
    "an entry that is no function": (
        wat('(global (export "good") i32 (i32.const 0))'),
        "no function named 'good'",
    ),
    "an entry that it doesn't describe": (wat("", "abi 1\\n"), "names its function 'good'"),
    "another ABI": (wat("", "abi 2\\nentry good\\n"), "instead of 'abi 1'"),
    "an unknown statement": (wat("", "abi 1\\nentry good\\ntimer x\\n"), "line 3"),
    "an unknown record type": (wat("", "abi 1\\nentry good\\nrecord thong\\n"), "'thong'"),
    "an unknown field": (
        wat("", "abi 1\\nentry good\\nfield record thing totals i64\\n"),
        "'totals'",
    ),
    "a mistyped field": (
        wat("", "abi 1\\nentry good\\nfield record thing total f64\\n"),
        "'total' (long) as f64",
    ),
    "a hidden global": (wat("(global (mut i32) (i32.const 0))"), "mutable globals"),
    "too large a memory": (wat('(memory (export "memory") 3)'), "memory"),
    "two memories": (wat('(memory (export "memory") 1) (memory 1)'), "multiple memories"),
    "a shared memory": (wat('(memory (export "memory") 1 1 shared)'), "threads"),
    "bulk memory": (
        wat("(func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0)))"),
        "bulk memory",
    ),
    "a table that changes": (
        wat("(table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))"),
        "reference types",
    ),
    "a passive segment": (wat('(data "kept") (data (i32.const 16) "x")'), "passive"),
}


@pytest.mark.parametrize(("module_bytes", "said"), LOAD.values(), ids=LOAD)
def test_refused_when_loaded(module_bytes, said):
    with pytest.raises(ApplicationError) as caught:
        WasmGuests(guest_world.application(module_bytes, SMALL_MANIFEST))
    assert caught.value.code == "E1104"
    assert said in caught.value.message
    assert "guest.wasm" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_threads_of_one_process_are_bounded_apart():
    """A second application's guest runs while the first one's loops: each has its own budget."""
    looping = TestKit(
        guest_world.application(wat('(func (export "good") (loop $l (br $l)))'), SMALL_MANIFEST)
    )
    fine = TestKit(guest_world.application(wat(GLOBAL, WANTED), SMALL_MANIFEST))
    for _ in range(3):
        assert looping.send("w", "good").code == "time_exceeded"
        assert fine.send("w", "good").accepted
