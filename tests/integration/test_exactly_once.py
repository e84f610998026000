"""The main promise on a real broker, small: one node of two is killed on the way."""

from pathlib import Path

import pytest

from loadtest import exactly_once


@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_every_command_has_one_outcome_though_a_node_is_killed(tmp_path: Path) -> None:
    result = exactly_once.run(3_000, tmp_path, kills=(0.2,))
    assert result["faults"] == []
    assert result["audit"]["owners"] > 4, "no partition has changed its owner"
