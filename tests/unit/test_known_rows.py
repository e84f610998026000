"""A host that began with an empty store knows which rows there are not, and when it no longer does.

No row is asked for that never was; but rows that another host has built are there all the same.
"""

from pathlib import Path
from typing import Any

import pytest
from test_generations import World, with_sums

from engine.model import Phase
from engine.partition.reading import PartitionReader
from engine.partition.replica import Replica
from engine.partition.selection import Selection
from engine.sandbox.guests import load_guests
from engine.sandbox.wasm_host import WasmHost
from engine.simulator.applications import ledger
from engine.store.memory import MemoryStore
from engine.wire import Kind


@pytest.fixture
def world() -> World:
    return World()


def sums(replica: Replica) -> list[dict[str, Any]]:
    reader = PartitionReader(replica.store.view(), replica.applications)
    page = reader.view_rows("sum", "w", Selection(limit=9))
    reader.close()
    return page.rows


def test_nothing_is_asked_for_in_a_store_that_began_empty(world: World) -> None:
    host = WasmHost(load_guests)
    replica = world.replica(ledger(), host=host)
    world.until(replica, Phase.OWNING)
    world.move(1)
    world.settle(replica)
    assert replica.held().sequence == 1
    assert host.statistics()["misses"] == 0


def test_rows_that_were_built_elsewhere_are_asked_for(world: World, tmp_path: Path) -> None:
    wider = with_sums(tmp_path / "a")
    store = world.served(ledger(), range(1, 4))
    owner = world.replica(wider, store, records_min=1)
    world.until(owner, Phase.OWNING)
    world.settle(owner, steps=40)
    assert Kind.SWITCH in world.kinds()
    world.move(4)
    world.settle(owner)
    world.closed(owner, store)

    fresh, host = MemoryStore(), WasmHost(load_guests)
    follower = world.replica(wider, fresh, node="m", records_min=1, host=host)
    world.until(follower, Phase.OWNING)
    assert sums(follower) == [{"balance": 10}]
    assert host.statistics()["misses"] > 0
    world.move(5)
    world.settle(follower)
    assert sums(follower) == [{"balance": 15}]
    assert world.audit(fresh) == []
