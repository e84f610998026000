"""What commands that trap, or loop without end, cost the other commands of their partition.

Batches of a command that makes some host calls are decided, clean ones and ones in which a share
traps or loops. What is told is what a good command takes with its share of the bad ones' time.
"""

import shutil
import statistics
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import wire
from engine.bench.bank import built
from engine.bench.host_call import FOLDER, Asked, HostBench
from engine.bench.hosts import HOSTS
from engine.errors import EngineError
from engine.model import Decided

GOOD: tuple[str, dict[str, int]] = ("get_int64", {"times": 13})
CASES = (("trap", 10), ("trap", 100), ("endless", 1), ("endless", 10))
_CODES = {"trap": "extension_trapped", "endless": "time_exceeded"}


@dataclass(slots=True, frozen=True)
class Harm:
    """What to measure."""

    hosts: tuple[str, ...] = ("wasm", "python")
    commands: int = 1_000
    cases: tuple[tuple[str, int], ...] = CASES  # of a batch's commands: which, and how many
    rounds: int = 5


def run(asked: Harm) -> dict[str, Any]:
    """Measure; return the case's keys."""
    cases: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="partita-bench-") as scratch:
        folder = Path(scratch) / "calls"
        shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("build"))
        application = built(folder)
        for name in asked.hosts:
            bench = HostBench(application, HOSTS[name](), Asked())
            clean_us = _median_us(bench, asked, "", 0) / asked.commands
            for bad, count in asked.cases:
                spent_us, good = _median_us(bench, asked, bad, count), asked.commands - count
                case = {"host": name, "bad": bad, "share": count / asked.commands}
                figures = {
                    "us_per_bad": round((spent_us - clean_us * good) / count, 1),
                    "us_per_good": round(spent_us / good, 2),
                    "clean_us": round(clean_us, 2),
                    "slow_down": round(spent_us / good / clean_us, 2),
                }
                cases.append({**case, **figures})
    budget_ms = application.extensions["harm"].time_ms
    return {"commands": asked.commands, "time_ms": budget_ms, "cases": cases}


def _median_us(bench: HostBench, asked: Harm, bad: str, count: int) -> float:
    """Return the median time of a batch with `count` bad commands in it, evenly spread."""
    commands = [GOOD] * asked.commands
    for at in range(count):
        commands[at * asked.commands // count] = (bad, {})
    found: list[float] = []
    for _ in range(asked.rounds):
        codes: Counter[str] = Counter()

        def accept(decided: Decided, codes: Counter[str] = codes) -> None:
            codes.update(wire.decode_outcome(value)["code"] for value in decided.outcomes)

        found.append(bench.decide(commands, accept) / 1_000)
        if codes[""] != asked.commands - count or codes[_CODES.get(bad, "")] < count:
            raise EngineError("E1405", f"not as they should be: {dict(codes)}")
    return statistics.median(found)
