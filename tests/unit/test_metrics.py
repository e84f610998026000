"""What is counted, read when it is asked for."""

from engine.telemetry import SLOWEST_MAX, Slowest
from engine.telemetry.metrics import Metrics

# Metrics.


def test_counters_and_gauges_are_read_when_asked_for() -> None:
    counters = {"partition 3": {"commands": 5, "lag": 7, "unheard_of": 1}, "gate": {"waiting": 2}}
    metrics = Metrics("node-1", lambda: counters)
    text = metrics.exposition().decode()
    assert 'partita_partition_commands_total{partition="3"} 5.0' in text
    assert 'partita_commands_lag_records{partition="3"} 7.0' in text
    assert "partita_gate_waiting_requests 2.0" in text
    assert "unheard_of" not in text
    counters["partition 3"]["commands"] = 6
    counters["partition 4"] = {"commands": 1}
    text = metrics.exposition().decode()
    assert 'partita_partition_commands_total{partition="3"} 6.0' in text
    assert 'partita_partition_commands_total{partition="4"} 1.0' in text
    metrics.close()


def test_two_nodes_in_one_process_don_t_share_metrics() -> None:
    first = Metrics("a", lambda: {"gate": {"waiting": 1}})
    second = Metrics("b", lambda: {"gate": {"waiting": 2}})
    assert b"partita_gate_waiting_requests 1.0" in first.exposition()
    assert b"partita_gate_waiting_requests 2.0" in second.exposition()


def test_the_slowest_workspaces_are_few_and_fade() -> None:
    slowest = Slowest()
    for number in range(100):
        slowest.note(f"w{number}", number, 1_000)
    slowest.note("w99", 5, 1_000)
    top = slowest.top(1_000)
    assert len(top) == SLOWEST_MAX
    assert list(top.items())[:2] == [("w99", 99), ("w98", 98)]
    slowest.note("late", 50, 62_000)
    assert "w99" in slowest.top(62_000)
    assert list(slowest.top(125_000)) == ["late"]
    assert slowest.top(400_000) == {}
