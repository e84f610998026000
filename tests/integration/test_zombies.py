"""Owners that are paused, or cut off from their broker alone, and wake up as zombies."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest import network

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.kafka
@pytest.mark.timeout(400)
def test_an_owner_that_was_away_answers_nothing_wrong_and_nothing_of_it_counts() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.zombies"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=350,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    report = json.loads(done.stdout)
    assert report["faults"] == []
    assert report["cut"] == network.available()
    assert report["answered"] >= 20 * (1 + report["cut"])
    refused = [codes.get("503", 0) for codes in report["seen"].values()]
    assert sum(refused) > 0
