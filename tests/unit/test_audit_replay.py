"""A log written by the shipped replica is replayed; planted differences in digests are found."""

from dataclasses import replace

import pytest

from engine import wire
from engine.application import rows
from engine.application.folder import load_application
from engine.application.schema import encode
from engine.audit import Broken, Evidence, Parts, Witness, audit_partition, witness_of
from engine.log.simulated import SimulatedBroker, SimulatedLogs
from engine.model import LogRecord, Phase
from engine.partition.processor import Ports
from engine.partition.replica import Identity, Replica
from engine.sandbox.guests import load_guests
from engine.sandbox.python import PythonHost
from engine.simulator.cluster import MemoryObjects, WorldClock
from engine.store.memory import MemoryStore
from engine.wire import Kind
from engine.world import SeededRandom, uuid7

MANIFEST = """
application = { name = "purse", version = "1.0.0", partitions = 1 }
records.purse = { schema = "purse.avsc", kind = "singleton" }
commands.move = { args = "move.avsc", run = "purse:move" }
extensions.purse = { python = "purse:Purse" }
views.total = { row = "purse.avsc", key = ["number:long"] }
[projectors.total]
on = ["purse.create", "purse.update"]
writes = ["total"]
run = "purse:project"
revision = 1
"""
CODE = '''
"""A purse."""


class Purse:
    """One per workspace."""

    def move(self, ctx):
        """Add an amount."""
        purse = ctx.record("purse", 0) or ctx.create("purse")
        if purse["amount"] + ctx.args["amount"] < 0:
            ctx.reject("empty", "not that much")
            return
        purse["amount"] = purse["amount"] + ctx.args["amount"]

    def project(self, ctx):
        """Show it."""
        ctx.put("total", number=1)["amount"] = ctx.event["amount"]
'''
SCHEMA = """{"type": "record", "name": "%s", "fields": [
  {"name": "amount", "type": "long", "default": 0}]}"""


class Silent:
    """Observes nothing."""

    def batch(self, stage, partition, decided) -> None:
        pass


class World:
    """One replica that has decided 60 commands, among them duplicates and garbage, and marked."""

    def __init__(self, folder) -> None:
        (folder / "application.toml").write_text(MANIFEST)
        (folder / "purse.py").write_text(CODE)
        (folder / "purse.avsc").write_text(SCHEMA % "Purse")
        (folder / "move.avsc").write_text(SCHEMA % "Move")
        self.application = load_application(folder)
        self.content = MemoryObjects()
        self.store = MemoryStore()
        self.clock = WorldClock()
        random = SeededRandom(1)
        self.broker = SimulatedBroker(random, self.clock, 1)
        logs = SimulatedLogs(self.broker)
        ports = Ports(
            commands=logs.command_log(0),
            events=logs.event_log(0),
            host=PythonHost(load_guests),
            replies=logs.replies,
            clock=self.clock,
            observer=Silent(),
        )
        identity = Identity("n", 0, self.application)
        self.replica = Replica(identity, ports, self.store, self.content, random)
        self.replica.open()
        self._logs = logs
        for number in range(60):
            self.ask(number)
        self.broker.publish(0, b"w1", b"garbage")
        self.broker.publish(0, b"w3", self.value(3))
        self.broker.publish(0, b"w1", self.value(3))
        self.settle()
        self.clock.time_ms += 20_000
        self.settle()

    def value(self, number: int) -> bytes:
        move = self.application.commands["move"].args
        return wire.encode_command(
            {
                "command_id": uuid7(self.clock.now_ms(), number.to_bytes(10)),
                "name": "move",
                "args_schema": move.fingerprint,
                "args": encode(move, {"amount": number % 7 - 2}),
            }
        )

    def ask(self, number: int) -> None:
        self.broker.publish(0, f"w{number % 4}".encode(), self.value(number))

    def settle(self) -> None:
        quiet = 0
        for _ in range(10_000):
            moved = self.replica.tick()
            self._logs.wait(0)
            quiet = 0 if moved else quiet + 1
            if quiet > 20 and self.replica.phase is Phase.OWNING:
                return
        raise AssertionError(f"not settled: {self.replica.phase} {self.replica.reason}")

    def audit(self, *witnesses: Witness, events: list[LogRecord] | None = None):
        parts = Parts(PythonHost(load_guests), MemoryStore(), self.content, list(witnesses))
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
        parts = Parts(PythonHost(load_guests), MemoryStore(), world.content)
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
