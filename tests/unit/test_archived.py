"""Reading on in the archive: what it holds, what it doesn't, and when it doesn't answer."""

import pytest

from engine.errors import LogError, UnavailableError
from engine.log.archive import Archive, archived
from engine.log.archived import ArchivedLogs
from engine.log.simulated import SimulatedBroker, SimulatedLogs
from engine.simulator.clocks import WorldClock
from engine.simulator.disks import MemoryObjects
from engine.simulator.others import Inline
from engine.world import SeededRandom

RECORDS = 10


class World:
    """A log of ten records, of which some are archived, and more are trimmed."""

    def __init__(self) -> None:
        self.broker = SimulatedBroker(SeededRandom(1), WorldClock(), 1)
        self.objects = MemoryObjects()
        self.log = self.broker.event_logs[0]
        for number in range(RECORDS):
            self.log.land(None, b"%d" % number, 0)
        self.logs = ArchivedLogs(SimulatedLogs(self.broker), lambda: self.objects, Inline())

    def archive(self, end: int) -> None:
        records = (self.log.record(offset) for offset in range(self.log.begin, end))
        archived(records, Archive(self.objects, 0, self.log.topic_id), end)

    def go_away(self, *, away: bool) -> None:
        self.objects.fails = lambda: away


@pytest.fixture
def world() -> World:
    return World()


def test_a_reader_under_which_the_log_was_trimmed_waits_for_an_archive_that_is_away(
    world: World,
) -> None:
    reader = world.logs.event_log(0)
    reader.seek(2)
    world.archive(6)
    world.broker.trim(0, 6)
    world.go_away(away=True)
    with pytest.raises(UnavailableError):
        reader.take(100)
    world.go_away(away=False)
    found: list[int] = []
    for _ in range(4):
        found += reader.take(100).offsets
    assert found == list(range(2, RECORDS))


def test_what_is_in_neither_is_gone(world: World) -> None:
    reader = world.logs.history(0)
    reader.seek(2)
    world.archive(1)
    world.broker.trim(0, 6)
    with pytest.raises(LogError) as told:
        reader.take(100)
    assert told.value.code == "E1302"
