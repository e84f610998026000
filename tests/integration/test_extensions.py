"""Extensions in C and in Python through the SDK and the test kit, as an author meets them."""

import importlib.util
import threading
from pathlib import Path

import pytest
from guest_world import SMALL_MANIFEST, application, wat
from typer.testing import CliRunner

from engine.application.types import EntryPoint
from engine.cli.extension import app as extension_words
from engine.errors import ApplicationError, ConfigError
from engine.sandbox import wasm
from engine.sandbox.sdk import build, generate
from engine.sandbox.session import Call
from engine.sandbox.testkit import TestKit

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MANIFEST = """
application = { name = "types", version = "1.0.0", partitions = 1 }
records.kept = { schema = "every.avsc", kind = "operational" }
commands.by_field = { args = "every.avsc", run = "guest:by_field" }
commands.by_row = { args = "every.avsc", run = "guest:by_row" }
extensions.guest = { wasm = "build/every_type.wasm" }
"""
EVERY = """{"type": "record", "name": "Every", "fields": [
  {"name": "flag", "type": "boolean", "default": false},
  {"name": "small", "type": "int", "default": 0}, {"name": "large", "type": "long", "default": 0},
  {"name": "ratio", "type": "float", "default": 0},
  {"name": "exact", "type": "double", "default": 0},
  {"name": "text", "type": "string", "default": ""},
  {"name": "raw", "type": "bytes", "default": ""},
  {"name": "four", "type": {"type": "fixed", "name": "Four", "size": 4},
   "default": "\\u0000\\u0000\\u0000\\u0000"},
  {"name": "colour", "type": {"type": "enum", "name": "Colour", "symbols": ["red", "green"]},
   "default": "red"},
  {"name": "day", "type": {"type": "int", "logicalType": "date"}, "default": 0},
  {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}, "default": 0},
  {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
   "default": ""},
  {"name": "maybe", "type": ["null", "long"], "default": null},
  {"name": "word", "type": ["null", "string"], "default": null},
  {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
  {"name": "lines", "default": [], "type": {"type": "array", "items": {
    "type": "record", "name": "Line", "fields": [
      {"name": "amount", "type": "long", "default": 0},
      {"name": "what", "type": "string", "default": ""}]}}}
]}"""
FULL = {
    "flag": True,
    "small": -(2**31),
    "large": 2**63 - 1,
    "ratio": 0.5,
    "exact": -1e300,
    "text": "grüße, 世界",
    "raw": "AAH/",
    "four": "AQIDBA==",
    "colour": "green",
    "day": "1969-12-31",
    "at": "2013-01-01T10:15:00.123456Z",
    "price": "-12.34",
    "maybe": -7,
    "word": "",
    "tags": ["a", "", "ü"],
    "lines": [{"amount": 1, "what": "tea"}, {"amount": -1, "what": ""}],
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("types")
    (folder / "application.toml").write_text(MANIFEST)
    (folder / "every.avsc").write_text(EVERY)
    source = (HERE / "every_type.c").read_text()
    (folder / "every_type.c").write_text(source)
    build.build_all(folder)
    return folder


@pytest.mark.parametrize("command", ["by_field", "by_row"])
@pytest.mark.parametrize("args", [FULL, {}], ids=["full", "defaults"])
def test_every_type_in_both_granularities(folder, command, args):
    kit = TestKit(folder)
    outcome = kit.send("w", command, args)
    assert outcome.accepted, outcome
    expected = {**kit.send("w", command).changes[0]["body"], **args}
    assert outcome.changes[0]["body"] == expected
    (first, _) = kit.records("w", "kept").values()
    assert first == expected
    kit.replay()


def test_texts_that_fit_no_row_are_told(folder):
    kit = TestKit(folder)
    assert kit.send("w", "by_row", {"text": "x" * 600}).code == "too_long"
    assert kit.send("w", "by_row", {"text": "x" * 500}).accepted


def test_the_same_sources_give_the_same_bytes(folder, tmp_path):
    first = (folder / "build" / "every_type.wasm").read_bytes()
    for name in ("application.toml", "every.avsc", "every_type.c"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (again,) = build.build_all(tmp_path)
    assert again.read_bytes() == first
    written = again.stat().st_mtime_ns
    build.build_all(tmp_path)
    assert again.stat().st_mtime_ns == written, "what is the same is left alone"


def test_a_guest_is_small(folder):
    loaded = generate.read_sources(ROOT / "topology" / "bank")
    assert loaded.extensions["bank"].target == "build/bank.wasm"
    result = CliRunner().invoke(extension_words, ["build", str(ROOT / "topology" / "bank")])
    assert result.exit_code == 0, result.output
    (row,) = wasm.check(TestKit(ROOT / "topology" / "bank").application)
    assert row.memory_bytes < 8_192, "putting it back after each call must cost nothing"


def test_check_and_list(folder):
    run = CliRunner()
    assert (
        "extensions are right: guest" in run.invoke(extension_words, ["check", str(folder)]).output
    )
    listed = run.invoke(extension_words, ["list", str(folder)]).output
    assert "by_field by_row" in listed


def test_a_mistake_in_c_is_shown(folder, tmp_path):
    for name in ("application.toml", "every.avsc"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ApplicationError, match=r"no every_type\.c"):
        build.build_all(tmp_path)
    (tmp_path / "every_type.c").write_text(
        '#include "guest.h"\nvoid by_row(void) { nonsense(); }\n'
    )
    with pytest.raises(ApplicationError) as caught:
        build.build_all(tmp_path)
    assert caught.value.code == "E1104"
    assert "nonsense" in caught.value.message
    (tmp_path / "every_type.c").write_text('#include "guest.h"\nvoid by_row(void) {}\n')
    with pytest.raises(ApplicationError, match="by_field"):
        build.build_all(tmp_path)
    assert not (tmp_path / "build" / "every_type.wasm").exists()


def test_a_missing_compiler_is_told(folder, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ziglang" else found(name)
    )
    with pytest.raises(ConfigError) as caught:
        build.build_all(folder)
    assert caught.value.code == "E1004"
    assert "pip install partita[author]" in caught.value.hint


PYTHON = """
class Thing:
    def good(self, call):
        thing = call.record("thing", 0) or call.create("thing")
        thing["total"] += call.args["what"]
        if thing["total"] > 10:
            call.reject("too_much", "at most 10")
"""


def test_the_kit_runs_python_extensions(tmp_path):
    manifest = SMALL_MANIFEST.replace('wasm = "guest.wasm"', 'python = "guest:Thing"')
    kit = TestKit(application(PYTHON.encode(), manifest))
    assert kit.send("w", "good", {"what": 7}).accepted
    assert kit.send("w", "good", {"what": 4}).code == "too_much"
    assert kit.record("w", "thing")["total"] == 7
    kit.replay()


def test_the_kit_answers_duplicates_with_the_first_outcome(folder):
    kit = TestKit(folder)
    first = kit.send("w", "by_field", {"small": 1})
    again = kit.send("w", "by_field", {"small": 1}, command_id=first.command_id)
    assert again.duplicate
    assert (again.sequence, again.changes) == (first.sequence, first.changes)
    assert len(kit.outcomes) == 1


class Standstill(Call):
    """A host that stands still in a call, as a thread without a processor does."""

    def log(self, level: int, text: str) -> None:
        threading.Event().wait(0.15)


def test_a_budget_is_cpu_time_and_not_wall_time():
    body = """
    (import "partita1" "log" (func $log (param i32 i32 i32)))
    (func (export "good") (local $n i32)
      (call $log (i32.const 0) (i32.const 0) (i32.const 0))
      (loop $l
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $n) (i32.const 1000)))))
    """
    guests = wasm.WasmGuests(application(wat(body), SMALL_MANIFEST))
    guests.run(EntryPoint("guest", "good"), Standstill(1), time_ms=40)
    guests.close()
