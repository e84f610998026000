"""Reading on in the archive: what it holds, what it doesn't, and when it doesn't answer."""

import pytest
from replica_world import ReplicaWorld

from engine.errors import LogError, UnavailableError
from engine.log.archive import Archive, archived
from engine.log.archived import ArchivedLogs
from engine.log.simulated import SimulatedBroker, SimulatedLogs
from engine.model import LogRecord, Lookup, Phase
from engine.partition.replica import Identity, Replica
from engine.ports import EventLog, Logs
from engine.simulator.applications import ledger
from engine.simulator.clocks import WorldClock
from engine.simulator.disks import MemoryObjects
from engine.simulator.others import Inline
from engine.store.memory import MemoryStore
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


def looked_up(log: EventLog, offset: int) -> LogRecord | Lookup:
    for _ in range(10):
        found = log.lookup(offset)
        if found is not Lookup.PENDING:
            return found
    raise AssertionError(f"offset {offset} stays pending")


def test_a_record_that_was_trimmed_since_the_archive_was_listed_is_looked_up_there(
    world: World,
) -> None:
    """Simulator seed 200467: the replica took a trimmed record for one that never was (E1204)."""
    log = world.logs.event_log(0)
    log.bounds()
    world.archive(6)
    world.broker.trim(0, 6)
    world.go_away(away=True)
    with pytest.raises(UnavailableError):
        looked_up(log, 5)
    world.go_away(away=False)
    found = looked_up(log, 5)
    assert isinstance(found, LogRecord)
    assert (found.offset, found.value) == (5, b"5")


def test_what_is_in_neither_log_nor_archive_is_said_to_be_gone(world: World) -> None:
    log = world.logs.event_log(0)
    world.archive(1)
    world.broker.trim(0, 6)
    assert looked_up(log, 2) is Lookup.GONE
    assert looked_up(log, RECORDS) is Lookup.GONE
    world.go_away(away=True)
    assert looked_up(log, 2) is Lookup.GONE, "it is not asked again"


class ArchivedWorld(ReplicaWorld):
    """A partition whose events are trimmed once they are archived."""

    def __init__(self) -> None:
        super().__init__()
        self.objects = MemoryObjects()

    def logs(self) -> Logs:
        return ArchivedLogs(super().logs(), lambda: self.objects, Inline())

    def owner_of_one_trimmed(self) -> tuple[Replica, bytes]:
        """Return an owner, and the id of a command whose outcome only the archive has."""
        owner = self.opened(Identity(node="n", partition=0, application=ledger()), None)
        self.until(owner, Phase.OWNING)
        command_id = self.move(5)
        self.settle(owner)
        log = self.broker.event_logs[0]
        records = (log.record(offset) for offset in range(log.end))
        archived(records, Archive(self.objects, 0, log.topic_id), log.end)
        self.broker.trim(0, log.end)
        return owner, command_id


def test_a_duplicate_whose_outcome_is_in_an_archive_that_is_away_holds_up_nobody() -> None:
    world = ArchivedWorld()
    owner, first = world.owner_of_one_trimmed()
    world.objects.fails = lambda: True
    world.move(5, first)
    world.move(6)
    world.settle(owner)
    assert owner.phase is Phase.OWNING
    assert owner.statistics()["takeovers"] == 1
    assert [(reply.sequence, reply.duplicate) for reply in world.replies] == [
        (1, False),
        (2, False),
    ]
    world.objects.fails = lambda: False
    world.move(5, first)
    world.settle(owner)
    assert (world.replies[-1].sequence, world.replies[-1].duplicate) == (1, True)


def test_a_duplicate_whose_outcome_is_in_a_damaged_archive_has_one_no_longer() -> None:
    world = ArchivedWorld()
    owner, first = world.owner_of_one_trimmed()
    for name in world.objects.names(""):
        world.objects.put(name, b"damaged")
    world.move(5, first)
    world.settle(owner)
    assert owner.phase is Phase.OWNING
    assert world.replies[-1].code == "id_expired"


def test_a_store_whose_last_record_was_trimmed_since_the_bounds_were_read_is_of_this_log() -> None:
    world = ReplicaWorld()
    store = MemoryStore()
    identity = Identity(node="n", partition=0, application=ledger())
    replica = world.opened(identity, store)
    world.until(replica, Phase.OWNING)
    world.move(5)
    world.settle(replica)
    store = world.closed(replica, store)
    again = world.opened(identity, store)
    world.broker.trim(0, 3)  # the Released record is not applied by who wrote it
    world.until(again, Phase.OWNING)
