"""How fast state and views come back from nothing but the event log.

A log is made by a node that decides; then its stores are deleted, and a new process folds all of it
on one core. Counted are outcomes, from the first tenth on until the last one is applied.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.bench import bank, places
from engine.bench.nodes import Nodes

ACCOUNTS = (10_000, 1_000_000)
OUTCOMES = 1_500_000
WARM_SHARE = 0.1


@dataclass(slots=True, frozen=True)
class Asked:
    """What to measure."""

    log: str = "kafka"
    host: str | None = None
    accounts: Sequence[int] = ACCOUNTS
    outcomes: int = OUTCOMES
    folder: Path = bank.FOLDER


def run(asked: Asked) -> dict[str, Any]:
    """Measure each number of accounts; return the case's keys."""
    cases = [_case(asked, accounts) for accounts in asked.accounts]
    return {"log": asked.log, "host": asked.host or "default", "cases": cases}


def _case(asked: Asked, accounts: int) -> dict[str, Any]:
    workload = bank.Bank(asked.folder, accounts)
    with places.place(asked.log, workload.application) as place:
        total = place.load(workload.opens())
        total += place.load(workload.credits(max(asked.outcomes - total, 0)))
        with Nodes(place, asked.folder, workload.partitions, 1, asked.host) as nodes:
            nodes.wait_owned()
            nodes.wait_outcomes(total)
        _forget(place, workload.application.name)
        with Nodes(place, asked.folder, workload.partitions, 1, asked.host) as nodes:
            nodes.wait_outcomes(total, of="folded")
            window = nodes.window(int(total * WARM_SHARE), total, of="folded")
    return {
        "accounts": accounts,
        "outcomes": total,
        "outcomes_per_s": round(window.per_s),
        "cpu_us": round(window.cpu_us, 2),
        "fold_cpu_us": round(window.shell_us, 2),
    }


def _forget(place: places.Place, name: str) -> None:
    """Delete every store, and all copies of stores: only the log is left."""
    for kept in ("nodes", "stores"):
        shutil.rmtree(place.folder / "data" / name / kept, ignore_errors=True)
