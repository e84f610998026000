"""The long measurements, made short: each runs to its end and says what it is made to say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.soak import Series, flat

ROOT = Path(__file__).parent.parent.parent
pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


def ran(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *command],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )


def test_bench_failover_measures_a_hand_over_and_a_kill() -> None:
    faults = ("--fault", "term", "--fault", "kill")
    done = ran("engine.cli", "bench", "failover", *faults, "--state-mb=1", "--rounds=1", "--json")
    assert done.returncode == 0, done.stderr[-4000:]
    made = json.loads(done.stdout)
    assert [case["fault"] for case in made["cases"]] == ["term", "kill"]
    for case in made["cases"]:
        assert case["rounds"] == 1
        assert 0 < case["gap_ms_p50"] == case["gap_ms_max"]
    assert all(one["partitions"] > 0 for one in made["every_round"])
    assert made["machine"]["cores"] > 0


def test_a_soak_judges_memory_files_and_lag() -> None:
    done = ran("loadtest.soak", "--minutes", "0.3", "--rate", "100")
    made = json.loads(done.stdout)
    judged = {row["what"] for row in made["series"] if "flat" in row}
    assert judged == {"rss_bytes", "files", "threads"}
    assert made["decided_behind_warm_up"] > 0
    assert bool(made["faults"]) == bool(done.returncode)


def test_growth_is_told_from_noise() -> None:
    still, growing = Series(), Series()
    for at in range(100):
        still.add(at, 100.0 + at % 3)
        growing.add(at, 100.0 + at)
    assert flat(still, 0.05, 2)
    assert not flat(growing, 0.05, 2)
    assert flat(growing, 0.05, 2, explained=60)
