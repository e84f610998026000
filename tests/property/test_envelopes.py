"""Whatever lies on the command log: one outcome or one refusal each, and none in another's way.

The walk is the shipped one, on a simulated log without faults; the audit that the CLI runs then
judges the log, and replays it.
"""

import functools
import io
import uuid
from collections import Counter

import fastavro
import pytest
from envelopes import (
    CHANGES,
    HEADERS,
    Writer,
    any_break,
    any_json,
    binary,
    each_break,
    each_json,
    full,
    reads,
)
from host_world import workspaces
from hypothesis import given, settings
from hypothesis import strategies as st
from record_world import inn

from engine import limits, wire
from engine.application import schema
from engine.assembly import NoObserver, build_replica, python_host
from engine.audit import Evidence, Parts, audit, outcomes, witness_of
from engine.errors import REFUSALS, Code
from engine.log.simulated import SimulatedLogs
from engine.log.simulated_broker import SimulatedBroker
from engine.model import Phase
from engine.partition.replica import Identity
from engine.simulator.clocks import WorldClock
from engine.simulator.disks import MemoryObjects
from engine.store.memory import MemoryStore
from engine.world import SeededRandom, uuid7

PARTITIONS = 4
HERE = workspaces(0, 2)
KEYS = [HERE[0].encode(), HERE[1].encode(), workspaces(1, 1)[0].encode()]
ODD_KEYS = [b"", None, b"a\x00b", b"\xff", b"\xed\xa0\x80", b"w" * 257, "\ufeffé".encode()]
SCHEMA, ARGS_SCHEMA = wire.schema_text("command"), wire.schema_text("changes")
FRESH = 0xF0  # the first byte of what makes an id: those of good commands are of their own


@functools.cache
def application():
    return inn()


class Walk:
    """One partition's owner, and who writes to its commands."""

    def __init__(self, *, reading):
        self.clock, random = WorldClock(), SeededRandom(1)
        self.broker = SimulatedBroker(random, self.clock, PARTITIONS)
        self.store, self.content, self.replies = MemoryStore(), MemoryObjects(), []
        self.good = {}  # command id -> workspace
        self.ids = 0
        self.replica = build_replica(
            Identity("n", 0, application()),
            SimulatedLogs(self.broker),
            self.store,
            self.content,
            replies=self,
            host=python_host(self.store if reading else None),
            clock=self.clock,
            random=random,
            observer=NoObserver(),
        )
        self.replica.open()
        while self.replica.phase is not Phase.OWNING:
            self.step()
        for workspace in HERE:
            args = encoded(application().commands["found"].args, {"name": "Inn"})
            self.ask(workspace, name="found", args=args)

    def waiting(self, _partition, ids):
        return range(len(ids))

    def send(self, _partition, reply):
        self.replies.append(reply)

    def step(self):
        moved = self.replica.tick()
        self.broker.step()
        return moved

    def next_id(self, kind=0):
        self.ids += 1
        return uuid7(self.clock.now_ms(), bytes([kind]) + self.ids.to_bytes(9))

    def fields(self, name="ring", args=b"", kind=0):
        schema = application().commands[name].args
        command_id = self.next_id(kind)
        return {
            "command_id": command_id,
            "name": name,
            "args_schema": schema.fingerprint,
            "args": args,
        }

    def ask(self, workspace, **given):
        """Send a good command."""
        fields = self.fields(kind=FRESH, **given)
        self.good[fields["command_id"]] = workspace
        self.broker.publish(0, workspace.encode(), wire.encode_command(fields))

    def drain(self):
        end = self.broker.command_logs[0].end
        for _ in range(20_000):
            if not self.step() and self.replica.resume == end:
                return
        raise AssertionError(f"{self.replica.resume} of {end} handled: {self.replica.problem}")

    def judge(self):
        """Check that all is as it should be; return the outcome (or None) by command offset."""
        self.drain()
        self.clock.time_ms += limits.MARK_INTERVAL_MS + 1
        while self.step():
            pass
        held = witness_of("n", self.store.view())
        parts = Parts(python_host, MemoryStore(), self.content, [held])
        commands, events = self.broker.commands(0), self.broker.events(0)
        report = audit([Evidence(0, commands, events, parts)], PARTITIONS, settled=True)
        assert not report.differences
        counted = [outcome for _, outcome in outcomes(events)]
        by_offset = {outcome["input_offset"]: outcome for outcome in counted}
        assert len(by_offset) == len(counted)
        self.check_replies(len(commands), by_offset)
        self.check_good(counted)
        return [by_offset.get(record.offset) for record in commands]

    def check_replies(self, count, by_offset):
        """Each record has one answer: its outcome's, the first outcome's, or a refusal."""
        without = [one for one in self.replies if one.duplicate or one.sequence == 0]
        told = {one.sequence for one in self.replies} - {0}
        assert told == {outcome["sequence"] for outcome in by_offset.values()}
        assert len(without) + len(by_offset) == count
        for one in self.replies:
            assert not one.code or Code(one.code)
            assert (one.code in REFUSALS) == (one.sequence == 0)

    def check_good(self, counted):
        """Good commands were accepted, in order, on what all accepted ones before had made."""
        mine = [outcome for outcome in counted if outcome["command_id"] in self.good]
        assert [one["command_id"] for one in mine] == [*self.good]
        assert {one["code"] for one in mine} == {""}
        seen = Counter()
        for one in counted:
            seen[one["workspace"]] += one["code"] == ""
            if one["command_id"] in self.good and one["name"] == "ring":
                assert len(one["changes"]) == 2
                # A dish has the number of its outcome; ids are dense as none was used in vain.
                assert str(one["sequence"]).encode() in one["changes"][1]["body"]


def encoded(schema, value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema.avro, value)
    return out.getvalue()


def dish(name, id_=1):
    return {
        "op": "create", "type": "dish", "id": id_, "parent": 0, "root": 0, "set": ["name"],
        "body": schema.encode_named(
            application().records["dish"].schema, {"name": name, "instead": None}
        ),
    }  # fmt: skip


def members(walk):
    """Return the members of a good command in JSON."""
    return [
        ("command_id", f'"{uuid.UUID(bytes=walk.next_id())}"'),
        ("name", '"ring"'),
        ("args", "{}"),
        ("expected_sequence", "null"),
        ("principal", '{"subject":"Ann","kind":"person"}'),
        ("reply", '{"partition":0,"correlation":"AA=="}'),
    ]


def bad_ones(walk):
    """Yield (name, value) of commands broken in one place each."""
    for header, change in HEADERS.items():
        yield header, binary(walk.fields(), header=change)
    for optional in (False, True):
        for path, name, change in each_break(SCHEMA):
            fields = walk.fields()
            yield f"{path} {name}", binary(full(fields) if optional else fields, {path: change})
    for number, (path, name, change) in enumerate(each_break(ARGS_SCHEMA)):
        changes = {"changes": [dish(f"a{number}"), dish(f"b{number}", 2)]}
        args = Writer(CHANGES, {path: change}).write(changes)
        fields = walk.fields("change", args)
        yield f"args{path} {name}", binary(fields)
    whole = binary(full(walk.fields()))
    for at in range(len(whole)):
        yield f"cut off at {at}", whole[:at]


def send_all(walk, values):
    for _, value in values:
        walk.broker.publish(0, HERE[0].encode(), value)
        walk.ask(HERE[0])


@pytest.mark.parametrize("reading", [True, False])
def test_every_node_broken_in_every_way_is_answered_and_in_nobody_s_way(reading):
    walk = Walk(reading=reading)
    bad = [*bad_ones(walk)]
    send_all(walk, bad)
    found = walk.judge()[len(HERE) :: 2]
    for (name, value), outcome in zip(bad, found, strict=True):
        is_command = name not in HEADERS and reads(value) is not None
        assert is_command == (outcome is None or outcome["code"] != "undecodable"), name
    codes = Counter(outcome["code"] for outcome in found if outcome)
    expected = {"undecodable", "source_forbidden", "invalid_arguments", "unknown_schema", ""}
    assert expected | {"unknown_command", "invalid_id"} <= codes.keys()


def test_json_that_is_odd_in_any_way_is_answered_and_in_nobody_s_way():
    walk = Walk(reading=True)
    bad = [*each_json(members(walk))]
    send_all(walk, bad)
    found = walk.judge()[len(HERE) :: 2]
    for (name, _), outcome in zip(bad, found, strict=True):
        if name.startswith(("cut off", "not UTF-8", "surrogates")):
            assert outcome["code"] == "undecodable", name


@st.composite
def records(draw):
    """Draw what makes a record of the command log: (key, function of a walk to its value)."""
    key = draw(st.sampled_from([*KEYS, KEYS[0], KEYS[0]]) | st.sampled_from(ODD_KEYS))
    kind = draw(st.sampled_from(["binary", "binary", "args", "json", "anything"]))
    if kind == "json":
        value = draw(any_json(members(Source)))
        return key, lambda _: value
    if kind == "anything":
        value = draw(st.none() | st.binary(max_size=40))
        return key, lambda _: value
    breaks = dict(
        draw(st.lists(any_break(SCHEMA if kind == "binary" else ARGS_SCHEMA), max_size=3))
    )
    optional, again = draw(st.booleans()), draw(st.booleans())
    header = draw(st.none() | st.sampled_from(list(HEADERS.values()))) if again else None

    def value(walk):
        if kind == "args":
            args = Writer(CHANGES, breaks).write({"changes": [dish("a")]})
            return binary(walk.fields("change", args))
        fields = walk.fields()
        if again and walk.good:  # somebody else's id
            fields["command_id"] = next(iter(walk.good))
        return binary(full(fields) if optional else fields, breaks, header)

    return key, value


class Source:
    """Gives ids to what is drawn before there is a walk."""

    @staticmethod
    def next_id():
        return uuid7(WorldClock().now_ms(), b"\x01" * 10)


@settings(max_examples=150, deadline=None)
@given(st.lists(records(), min_size=1, max_size=12), st.booleans())
def test_any_mixture_of_commands_is_answered_and_in_nobody_s_way(drawn, reading):
    walk = Walk(reading=reading)
    for number, (key, make) in enumerate(drawn):
        walk.broker.publish(0, key, make(walk))
        walk.ask(HERE[number % 2])
    walk.judge()
