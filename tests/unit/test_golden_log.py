"""Recorded logs and stores of every released format: replayed, they give the recorded rows.

A format's file is written once, by this module run as a program, and never again.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from replica_world import ReplicaWorld

from engine import wire
from engine.application import rows
from engine.limits import FORMAT
from engine.model import Phase
from engine.partition.deploying import Loaded
from engine.partition.replica import Identity
from engine.simulator.applications import ledger, ledger_next
from engine.store.memory import MemoryStore
from engine.wire import Kind

GOLDEN = Path(__file__).parents[1] / "golden"
LOCAL = frozenset({rows.TABLE_POSITION, rows.TABLE_PAGES})
FORMATS = range(1, FORMAT + 1)


def file_of(format_: int) -> Path:
    return GOLDEN / f"log_{format_}.json"


def rows_of(store: MemoryStore) -> dict[str, str]:
    """Return every row, but for what is the replica's own: where it stands, how its pages lie."""
    return {
        key.hex(): value.hex()
        for key, value in store.view().scan(b"", b"\xff" * 4)
        if rows.table_of(key) not in LOCAL
    }


def record() -> dict[str, Any]:
    """Return a log with a record of each kind, and the store of the replica that wrote it."""
    world, store = ReplicaWorld(), MemoryStore()
    replica = world.opened(Identity("golden", 0, ledger()), store)
    world.until(replica, Phase.OWNING)
    for workspace in ("a", "ä/b"):
        for amount in range(1, 12):  # beyond nine entries they are rejected
            world.move(amount, workspace=workspace)
    world.settle(replica)
    replica.deploying.loaded = Loaded(ledger_next())
    world.settle(replica, steps=60)
    world.move(5, workspace="c")
    world.settle(replica)
    world.clock.time_ms += 20_000  # a Mark is due
    world.settle(replica)
    store = world.closed(replica, store)
    events = [
        {"offset": each.offset, "time": each.time_ms, "value": (each.value or b"").hex()}
        for each in world.broker.events(0)
    ]
    content = {name: (world.content.get(name) or b"").hex() for name in world.content.names()}
    return {"events": events, "content": content, "rows": rows_of(store)}


@pytest.mark.parametrize("format_", FORMATS)
def test_a_recorded_log_gives_the_recorded_rows(format_: int) -> None:
    recorded = json.loads(file_of(format_).read_text())
    world, store = ReplicaWorld(), MemoryStore()
    for each in recorded["events"]:
        world.broker.event_logs[0].land(None, bytes.fromhex(each["value"]), each["time"])
    for name, data in recorded["content"].items():
        world.content.put(name, bytes.fromhex(data))
    replica = world.opened(Identity("reader", 0, ledger_next()), store)
    for _ in range(200):
        if replica.phase is not Phase.RECOVERING:
            break
        replica.tick()
    assert replica.phase is not Phase.STOPPED, replica.problem
    assert rows_of(store) == recorded["rows"]
    assert replica.held().sequence == 23


@pytest.mark.parametrize("format_", FORMATS)
def test_a_recorded_log_has_a_record_of_every_kind(format_: int) -> None:
    values = [
        bytes.fromhex(each["value"]) for each in json.loads(file_of(format_).read_text())["events"]
    ]
    kinds = {head.kind for value in values if (head := wire.head(value))}
    assert kinds == set(Kind)
    for value in values:
        kind, fields = wire.decode_event(value)
        assert wire.encode_event(kind, fields) == value


if __name__ == "__main__":
    file_of(FORMAT).write_text(json.dumps(record(), indent=1) + "\n")
