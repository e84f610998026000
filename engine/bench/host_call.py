"""What one host call costs an extension, on each state host, with every check on.

A real guest in C makes one call many times in a command. A batch of such commands is decided, and
one of commands that make none; the difference is the calls' time. Beside it, in the same run, the
bare call of one WASM module into another, with the epoch check that ends endless loops.
"""

import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wasmtime

from engine import wire
from engine.application import Application
from engine.application.schema import encode
from engine.bench.bank import built
from engine.bench.hosts import HOSTS
from engine.errors import EngineError
from engine.model import Batch, Decided, HostState, Input, Position
from engine.ports import StateHost
from engine.world import SystemClock, SystemRandom, uuid7

FOLDER = Path(__file__).with_name("calls")
NAMES = (
    "get_int64",
    "set_int64",
    "get_string16",
    "set_string16",
    "is_null",
    "nested_item",
    "read_record",
    "null_call",
)
READS = 3_000
HANDLES = 2_000  # each item's handle lives as long as its command
BARE_CALLS = 10_000_000
_WORKSPACE = "box"

# The callee reads a number, as a host's function at least does; the caller adds them up.
_CALLEE = """(module (memory 1) (func (export "call") (param i32 i32) (result i64)
  (i64.load (i32.and (local.get 1) (i32.const 1016)))))"""
_CALLER = """(module (import "callee" "call" (func $call (param i32 i32) (result i64)))
  (func (export "run") (param $left i32) (result i64) (local $sum i64)
    (loop $again
      (local.set $sum
        (i64.add (local.get $sum) (call $call (i32.const 4) (local.get $left))))
      (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (local.get $sum)))"""


@dataclass(slots=True, frozen=True)
class Asked:
    """What to measure: calls in a command, commands in a batch, and how often, by host."""

    hosts: tuple[str, ...] = ("wasm", "python")
    calls: tuple[int, int] = (100_000, 1_000)  # on wasm, on python
    commands: int = 20
    rounds: int = 9


def run(asked: Asked) -> dict[str, Any]:
    """Measure; return the case's keys."""
    bare_ns = _bare(BARE_CALLS, asked.rounds)
    cases: list[dict[str, Any]] = []
    reads_us: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="partita-bench-") as scratch:
        folder = Path(scratch) / "calls"
        shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("build"))
        application = built(folder)
        for name in asked.hosts:
            bench = HostBench(application, HOSTS[name](), asked)
            calls = asked.calls[name == "python"]
            for call in NAMES:
                times = min(calls, HANDLES) if call == "nested_item" else calls
                ns = bench.call_ns(call, times)
                case = {"name": call, "host": name, "anti_freeze": True, "ns": round(ns, 2)}
                cases.append({**case, "bare_calls": round(ns / bare_ns, 2)})
            reads_us[name] = round(bench.call_ns("get_int64", READS) * READS / 1_000, 2)
    return {
        "bare_call_ns": round(bare_ns, 2),
        "reads_3000_us": reads_us[asked.hosts[0]],
        "reads_3000_us_by_host": reads_us,
        "cases": cases,
    }


class HostBench:
    """One state host with one record, and the time its commands take."""

    def __init__(self, application: Application, host: StateHost, asked: Asked) -> None:
        self._application = application
        self._host = host
        self._asked = asked
        self._clock, self._random = SystemClock(), SystemRandom()
        self._offset = 0
        host.open(0, {1: application}, Position(host=HostState(application=1)))
        host.own(1)
        self._decide("fill", {}, 1)

    def call_ns(self, name: str, times: int) -> float:
        """Return the median time of one call, in processor time of this thread."""
        commands, rounds = self._asked.commands, self._asked.rounds
        found = [
            (self._decide(name, {"times": times}, commands) - self._decide(name, _ZERO, commands))
            / (times * commands)
            for _ in range(rounds)
        ]
        return statistics.median(found)

    def _decide(self, name: str, args: dict[str, int], count: int) -> int:
        """Decide a batch; return how long that took in ns."""
        schema = self._application.commands[name].args
        batch, now_ms = Batch(), self._clock.now_ms()
        for _ in range(count):
            fields = {
                "command_id": uuid7(now_ms, self._random.bytes(10)),
                "name": name,
                "args_schema": schema.fingerprint,
                "args": encode(schema, args),
            }
            batch.add(self._offset, now_ms, _WORKSPACE.encode(), wire.encode_command(fields))
            self._offset += 1
        spent_ns = 0
        while batch:
            began_ns = time.thread_time_ns()
            decided = self._host.decide(batch, Input.COMMANDS, now_ms)
            spent_ns += time.thread_time_ns() - began_ns
            self._accept(decided)
            batch = batch.rest(decided.done)
            self._host.provide(dict.fromkeys(decided.missing))
        return spent_ns

    def _accept(self, decided: Decided) -> None:
        for value in decided.outcomes if decided.rejected else ():
            outcome = wire.decode_outcome(value)
            if outcome["code"]:
                raise EngineError("E1405", f"{outcome['name']}: {outcome['message']}")
        if decided.outcomes:
            self._host.confirm(decided.state.sequence)


_ZERO = {"times": 0}


def _bare(calls: int, rounds: int) -> float:
    """Return the time of one call from a WASM module into another in ns."""
    config = wasmtime.Config()
    config.epoch_interruption = True
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    store.set_epoch_deadline(1)
    callee = wasmtime.Instance(store, wasmtime.Module(engine, _CALLEE), [])
    call = callee.exports(store)["call"]
    assert isinstance(call, wasmtime.Func)
    caller = wasmtime.Instance(store, wasmtime.Module(engine, _CALLER), [call])
    loop = caller.exports(store)["run"]
    assert isinstance(loop, wasmtime.Func)
    found: list[float] = []
    for _ in range(rounds):
        began_ns = time.thread_time_ns()
        loop(store, calls)
        found.append((time.thread_time_ns() - began_ns) / calls)
    return statistics.median(found)
