"""Short chaos runs: three brokers, three nodes, real faults, and the auditor that judges them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest import network

ROOT = Path(__file__).parent.parent.parent
PROCESSES = ("broker kill", "node pause", "broker term")
LINKS = ("node cut off", "broker link")


@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_leaders_change_and_nodes_are_cut_off_under_load(tmp_path: Path) -> None:
    kinds = PROCESSES + (LINKS if network.available() else ())
    command = [sys.executable, "-m", "loadtest.chaos", "--seed", "7", "--folder", str(tmp_path)]
    for kind in kinds:
        command += ["--do", kind]
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout)
    assert report["faults"] == []
    assert {one["kind"] for one in report["schedule"]} == set(kinds)
    assert report["audit"]["answered"] == report["audit"]["sent"] > 1_000
    assert report["verify"]["stores_checked"] > 0
