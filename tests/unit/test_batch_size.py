"""How many commands a batch has follows from how long the last ones took to be decided."""

from collections.abc import Sequence

import pytest
from replica_world import ReplicaWorld

from engine import limits
from engine.model import Batch, Decided, Input, Phase
from engine.partition.replica import Identity
from engine.sandbox.guests import load_guests
from engine.sandbox.python import PythonHost
from engine.simulator.applications import ledger


class TimedHost(PythonHost):
    """Takes as long for a command as a test says, by the world's clock."""

    def __init__(self, world: ReplicaWorld) -> None:
        super().__init__(load_guests)
        self._world = world
        self.command_us = 0
        self.batches: list[int] = []

    def decide(self, batch: Batch, source: Input, now_ms: int) -> Decided:
        self.batches.append(len(batch))
        self._world.clock.time_ms += len(batch) * self.command_us // 1_000
        return super().decide(batch, source, now_ms)


class World(ReplicaWorld):
    """An owner whose host is timed."""

    def __init__(self) -> None:
        super().__init__()
        self.host = TimedHost(self)
        self.owner = self.opened(Identity("n", 0, ledger()), None, host=self.host)
        self.until(self.owner, Phase.OWNING)
        self.batches(1, command_us=0)  # asks for the workspace's row, so no later batch does

    def batches(self, count: int, command_us: int) -> Sequence[int]:
        """Return the sizes of the batches in which so many commands are decided."""
        self.host.command_us = command_us
        self.host.batches = []
        for _ in range(count):
            self.broker.publish(0, b"w", b"garbage")  # rejected, and quickly
        for _ in range(count):
            if sum(self.host.batches) == count:
                break
            self.settle(self.owner, steps=1)
        assert self.owner.phase is Phase.OWNING
        return self.host.batches


@pytest.fixture
def world() -> World:
    return World()


def test_slow_commands_make_batches_small_enough_for_others_not_to_wait(world: World) -> None:
    sizes = world.batches(2_030, command_us=1_000)
    assert sizes == [1_000, 500, 250, 125, 62, 31, 31, 31]
    assert 31 <= limits.BATCH_DECIDE_MS_MAX < 62


def test_batches_have_a_least_size_however_slow_commands_are(world: World) -> None:
    sizes = world.batches(2_000, command_us=10_000)
    least = limits.BATCH_COMMANDS_MIN
    assert sizes == [1_000, 500, 250, 125, 62, 31, least, least]


def test_full_batches_of_quick_commands_grow_up_to_their_limit(world: World) -> None:
    most = limits.BATCH_COMMANDS_MAX
    assert world.batches(10, command_us=0) == [10]
    assert world.batches(7_000 + most, command_us=5) == [1_000, 2_000, most, most]


def test_batches_that_had_to_be_small_grow_again(world: World) -> None:
    world.batches(2_000, command_us=10_000)
    least = limits.BATCH_COMMANDS_MIN
    assert world.batches(7 * least, command_us=0) == [least, 2 * least, 4 * least]
