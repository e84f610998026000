"""A short chaos run: three brokers, three nodes, real faults, and the auditor that judges it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_or_wrong_in_a_few_faults(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtest.chaos", "--minutes", "1", "--seed", "7"]
    options = ["--faults", "3", "--rate", "100", "--folder", str(tmp_path)]
    done = subprocess.run(
        [*command, *options], check=False, cwd=ROOT, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout)
    assert report["faults"] == []
    assert report["faults_done"] >= 1
    assert report["audit"]["answered"] == report["audit"]["sent"] > 1_000
    assert report["verify"]["stores_checked"] > 0
