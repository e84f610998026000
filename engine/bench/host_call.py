"""What one host call costs an extension, on each state host, with every check on.

A real guest in C makes one call many times in a command. A batch of such commands is decided, and
one of commands that make none; the difference is the calls' time. Beside it, in the same run, the
bare call of one WASM module into another (`bare_call`), which moves the same bytes.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import wire
from engine.application import Application
from engine.application.schema import encode
from engine.bench import bare_call
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
# Calls that move bytes are held to a bare call that copies as many, all others to one of a number.
BYTES = {"get_string16": 16, "set_string16": 16, "read_record": 56}


@dataclass(slots=True, frozen=True)
class Asked:
    """What to measure: calls in a command, commands in a batch, and how often, by host."""

    hosts: tuple[str, ...] = ("wasm", "python")
    calls: tuple[int, int] = (100_000, 1_000)  # on wasm, on python
    commands: int = 20
    rounds: int = 9


def run(asked: Asked) -> dict[str, Any]:
    """Measure; return the case's keys."""
    bare_ns = {0: bare_call.call_ns(BARE_CALLS, asked.rounds)}
    for length in sorted(set(BYTES.values())):
        bare_ns[length] = bare_call.copy_ns(length, BARE_CALLS, asked.rounds)
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
                bare = bare_ns[BYTES.get(call, 0)]
                cases.append({**case, "bare_ns": round(bare, 2), "ratio": round(ns / bare, 2)})
            reads_us[name] = round(bench.call_ns("get_int64", READS) * READS / 1_000, 2)
    return {
        "bare_call_ns": round(bare_ns[0], 2),
        "bare_copy_ns": {str(length): round(ns, 2) for length, ns in bare_ns.items() if length},
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
        return self.decide([(name, args)] * count, self._accept)

    def decide(
        self, commands: Sequence[tuple[str, dict[str, int]]], accept: Callable[[Decided], None]
    ) -> int:
        """Decide commands, by name and arguments, in one batch; return how long that took in ns."""
        batch, now_ms = Batch(), self._clock.now_ms()
        for name, args in commands:
            schema = self._application.commands[name].args
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
            accept(decided)
            if decided.outcomes:
                self._host.confirm(decided.state.sequence)
            batch = batch.rest(decided.done)
            self._host.provide(dict.fromkeys(decided.missing))
        return spent_ns

    def _accept(self, decided: Decided) -> None:
        for value in decided.outcomes if decided.rejected else ():
            outcome = wire.decode_outcome(value)
            if outcome["code"]:
                raise EngineError("E1405", f"{outcome['name']}: {outcome['message']}")


_ZERO = {"times": 0}
