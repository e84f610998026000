"""A log written by the shipped replica is replayed; planted differences in digests are found."""

from dataclasses import replace
from functools import partial

import pytest
from purse import Runner, move, write_purse

from engine import wire
from engine.application import rows
from engine.audit import Broken, Evidence, Parts, Witness, audit_partition, witness_of
from engine.log.simulated import SimulatedBroker, SimulatedLogs
from engine.model import LogRecord
from engine.sandbox.guests import load_guests
from engine.sandbox.python import PythonHost
from engine.simulator.clocks import WorldClock
from engine.simulator.disks import MemoryObjects
from engine.store.memory import MemoryStore
from engine.wire import Kind
from engine.world import SeededRandom


class World:
    """One replica that has decided 60 commands, among them duplicates and garbage, and marked."""

    def __init__(self, folder) -> None:
        self.application = write_purse(folder)
        self.content = MemoryObjects()
        self.clock = WorldClock()
        self.broker = SimulatedBroker(SeededRandom(1), self.clock, 1)
        logs = SimulatedLogs(self.broker)
        self.runner = Runner(self.application, logs, self.content, self.clock)
        self.store = self.runner.store
        for number in range(60):
            self.ask(number)
        self.broker.publish(0, b"w1", b"garbage")
        self.broker.publish(0, b"w3", self.value(3))
        self.broker.publish(0, b"w1", self.value(3))
        self.settle()
        self.clock.time_ms += 20_000
        self.settle()

    def value(self, number: int) -> bytes:
        return move(self.application, number, self.clock.now_ms())

    def settle(self) -> None:
        self.runner.settle(self.broker.command_logs[0].end)

    def ask(self, number: int) -> None:
        self.broker.publish(0, f"w{number % 4}".encode(), self.value(number))

    def audit(self, *witnesses: Witness, events: list[LogRecord] | None = None):
        parts = Parts(
            partial(PythonHost, load_guests), MemoryStore(), self.content, list(witnesses)
        )
        logged = self.broker.events(0) if events is None else events
        evidence = Evidence(0, self.broker.commands(0), logged, parts)
        return audit_partition(evidence, 1, settled=True)

    def witness(self) -> Witness:
        return witness_of("live", self.store.view())


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


def kinds(report) -> list[str]:
    return [finding.kind for finding in report.differences]


def tampered(events: list[LogRecord], kind: Kind, change) -> list[LogRecord]:
    """Return the events with the last one of a kind changed."""
    at = max(n for n, one in enumerate(events) if wire.head(one.value).kind is kind)
    fields = wire.decode_event(events[at].value)[1]
    change(fields)
    changed = replace(events[at], value=wire.encode_event(kind, fields))
    return [*events[:at], changed, *events[at + 1 :]]


def test_a_real_log_is_sound(world):
    report = world.audit(world.witness())
    assert report.differences == []
    assert report.alarms == []
    assert (report.commands, report.outcomes) == (63, 61)
    assert (report.duplicates, report.refused) == (1, 1)
    assert report.rejected["undecodable"] == 1
    assert report.digests_checked == report.marks > 0
    assert report.stores_checked == 1
    assert report.digests == world.witness().recounted


def test_a_wrong_digest_in_a_mark_is_found(world):
    def change(fields):
        fields["digests"][0]["digest"] ^= 1

    report = world.audit(events=tampered(world.broker.events(0), Kind.MARK, change))
    assert kinds(report) == [Broken.DIGEST]
    assert report.digests_checked == 0


def test_changed_contents_of_an_outcome_are_found(world):
    """The last outcome can be forged so that the chain holds: the digests tell."""

    def change(fields):
        fields["changes"][0]["body"] = b"\x02"

    events = world.broker.events(0)
    accepted = [
        one
        for one in events
        if wire.head(one.value).kind is Kind.OUTCOME and not wire.decode_outcome(one.value)["code"]
    ]
    whole = events[: accepted[-1].offset + 1]
    forged = tampered(whole, Kind.OUTCOME, change)
    commands = world.broker.commands(0)
    reports = []
    for logged in (whole, forged):
        parts = Parts(partial(PythonHost, load_guests), MemoryStore(), world.content)
        reports.append(audit_partition(Evidence(0, commands, logged, parts), 1))
    assert reports[0].digests != reports[1].digests


def test_a_store_with_a_row_of_its_own_is_found(world):
    key = rows.record_key(rows.TABLE_UNIQUE, "w1", 0, 0)
    world.store.write([(key, b"stray")])
    assert kinds(world.audit(world.witness())) == [Broken.STORE]


def test_a_store_with_other_digests_is_found(world):
    witness = world.witness()
    changed = {table: digest ^ 1 for table, digest in witness.position.digests.items()}
    witness.position.digests = changed
    assert kinds(world.audit(replace(witness, recounted=changed))) == [Broken.DIGEST]


@pytest.mark.parametrize("name", ["epoch", "released", "incarnation", "tail_hash"])
def test_a_store_that_would_let_other_records_count_is_found(world, name):
    """Its rows are right, but a zombie's next record would count, or the owner's would not."""
    witness = world.witness()
    setattr(witness.position, name, getattr(witness.position, name) ^ 1)
    report = world.audit(witness)
    assert kinds(report) == [Broken.STORE]
    assert name in report.differences[0].what


def test_a_store_ahead_of_its_log_is_found(world):
    events = world.broker.events(0)[:-1]
    assert Broken.STORE in kinds(world.audit(world.witness(), events=events))


def test_an_older_store_is_compared_where_it_stands(world):
    older = world.witness()
    world.ask(100)
    world.settle()
    report = world.audit(older, world.witness())
    assert (kinds(report), report.stores_checked) == ([], 2)


def test_an_empty_store_is_no_difference(world):
    report = world.audit(witness_of("new", MemoryStore().view()))
    assert (kinds(report), report.stores_checked) == ([], 1)


def test_missing_code_is_told(world):
    world.content.delete(world.content.names()[0])
    assert kinds(world.audit()) == [Broken.REPLAY]
