"""Bad commands on the command log of a running engine: each one answered, none in the way.

All of them lie on one log, each followed by good commands of the same and of another workspace;
the engine decides them once, for every log, and the tests look at what it made of each.
"""

import json
import shutil
import struct
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import guest_world
import httpx
import pytest
from confluent_kafka import Producer
from guest_world import GROWING
from typer.testing import CliRunner

from engine import limits, wire
from engine.application import Application
from engine.application.folder import load_application
from engine.application.schema import encode
from engine.assembly import Engine
from engine.cli.main import app
from engine.cli.sources import Asked, opened
from engine.load.sources import read
from engine.model import Phase
from engine.settings import load_settings
from engine.wire import Kind
from engine.world import SystemClock, derived_id, uuid7

PARTITIONS = 2
PAST_MS, AHEAD_MS = 1_600_000_000_000, 600_000
HOSTILE = Path(__file__).parent / "hostile.c"


def in_partition(number: int, count: int) -> list[str]:
    names = (f"w{at}" for at in range(100))
    return [one for one in names if wire.partition_of(one.encode(), PARTITIONS) == number][:count]


HERE, OTHER = in_partition(0, 2)
(ELSEWHERE,) = in_partition(1, 1)


def envelope(application: Application, name: str, **given: Any) -> bytes:
    args = application.commands.get(name, application.commands["good"]).args
    fields = {
        "command_id": uuid.uuid4().bytes,
        "name": name,
        "args_schema": args.fingerprint,
        "args": encode(args, given.pop("values", {})),
        **given,
    }
    return wire.encode_command(fields)


def as_json(**given: Any) -> bytes:
    return json.dumps({"command_id": str(uuid.uuid4()), "name": "good", **given}).encode()


def bad_commands(application: Application) -> dict[str, tuple[bytes | None, str]]:
    """Return the value and the code of each bad command under a right key."""

    def command(name: str = "good", **given: Any) -> bytes:
        return envelope(application, name, **given)

    good = command()
    source = {"incarnation": 1, "partition": 0, "number": 1, "hops": 1, "application": 1}
    guest = {
        "loops for ever": (1, "time_exceeded"),
        "logs for ever": (3, "time_exceeded"),
        "calls itself for ever": (4, "extension_trapped"),
        "traps": (5, "extension_trapped"),
        "writes out of its memory": (6, "extension_trapped"),
        "allocates without end": (7, "memory_exceeded"),
        "forges a handle": (20, "abi_misused"),
        "asks for a wrong type": (30, "abi_misused"),
        "asks for a wrong field": (32, "abi_misused"),
        "writes text that is none": (41, "abi_misused"),
    }
    return {
        "garbage": (b"\xff\x01garbage", "undecodable"),
        "nothing": (b"", "undecodable"),
        "the Confluent format": (b"\x00\x00\x00\x00\x07abc", "undecodable"),
        "truncated Avro": (good[:-3], "undecodable"),
        "Avro with a tail": (good + b"\x00", "undecodable"),
        "a prefix alone": (good[:10], "undecodable"),
        "an unknown envelope": (b"\xc3\x01" + struct.pack("<q", 5) + good[10:], "undecodable"),
        "a union's branch -2": (good[:-1] + b"\x03", "undecodable"),
        "a name that is no text": (
            good.replace(b"\x08good", b"\x08\xff\xfe\xfd\xfc"),
            "undecodable",
        ),
        "an unknown schema": (command(args_schema=77), "unknown_schema"),
        "arguments of another schema": (command(args=b"\x01"), "invalid_arguments"),
        "no arguments": (command(args=b""), "invalid_arguments"),
        "an unknown command": (command("nosuch"), "unknown_command"),
        "too much": (b"{" + b" " * 300_000 + b"}", "too_large"),
        "too much Avro": (command(args=bytes(300_000)), "too_large"),
        "JSON cut off": (as_json()[:-1], "undecodable"),
        "JSON of depth": (b"{" + b'"a":{' * 30_000 + b"}" * 30_001, "undecodable"),
        "JSON with another field": (as_json(colour="red"), "undecodable"),
        "JSON with a number as its id": (as_json(command_id=5), "undecodable"),
        "JSON with a list of arguments": (as_json(args=[1]), "undecodable"),
        "JSON with text for a number": (as_json(args={"what": "x"}), "invalid_arguments"),
        "JSON with a fraction": (as_json(args={"what": 1.5}), "invalid_arguments"),
        "JSON with too large a number": (as_json(args={"what": 2**63}), "invalid_arguments"),
        "JSON with an unknown argument": (as_json(args={"who": 1}), "invalid_arguments"),
        "JSON with a wrong sequence": (as_json(expected_sequence="1"), "undecodable"),
        "a source": (command(source=source), "source_forbidden"),
        "an expired command": (command(not_after=PAST_MS), "expired"),
        "another sequence": (command(expected_sequence=7_777), "sequence_mismatch"),
        "a projector that traps": (command("set", values={"what": 668}), "extension_trapped"),
        **{
            f"an extension that {what}": (command("bad", values={"what": number}), code)
            for what, (number, code) in guest.items()
        },
    }


BAD_KEYS: dict[str, tuple[bytes | None, str]] = {
    "no key": (None, "no_workspace"),
    "a key that is too long": (b"k" * 257, "no_workspace"),
    "a key with NUL": (b"k\x00k", "no_workspace"),
    "a key that is no text": (b"\xff\xfe", "no_workspace"),
    "another partition's key": (ELSEWHERE.encode(), "wrong_partition"),
}


@dataclass
class Sent:
    """What was published to partition 0, and what became of it."""

    codes: dict[str, tuple[int, str]] = field(default_factory=dict)  # kind -> offset, code
    refused: dict[str, int] = field(default_factory=dict)  # kind -> offset, no outcome
    goods: dict[int, str] = field(default_factory=dict)  # offset -> workspace
    count: int = 0
    outcomes: dict[int, list[wire.Outcome]] = field(default_factory=dict)  # by offset


class World:
    """An application, a log, and an engine that may be started again."""

    def __init__(self, folder: Path, kafka: str | None, module: bytes) -> None:
        self.name = f"hostile-{uuid.uuid4().hex[:8]}"  # the broker serves other processes too
        self.folder, self.data, self.kafka = folder / "app", folder / "data", kafka
        self.folder.mkdir()
        manifest = guest_world.MANIFEST.replace('"hostile"', f'"{self.name}"')
        manifest = manifest.replace("partitions = 1", f"partitions = {PARTITIONS}")
        (self.folder / "application.toml").write_text(manifest)
        for name, text in guest_world.SCHEMAS.items():
            (self.folder / name).write_text(text)
        (self.folder / "guest.wasm").write_bytes(module)
        self.application = load_application(self.folder)
        self.flags = ("--bootstrap-servers", kafka) if kafka else ("--data", str(self.data))
        self.engine: Engine | None = None

    def start(self) -> None:
        log = {"kind": "kafka", "bootstrap_servers": self.kafka} if self.kafka else {}
        flags = {"data": self.data, "node": "one", "http": {"port": 0}, "log": log}
        self.engine = Engine(load_settings(None, flags), self.folder)
        self.engine.start()
        self.wait(self.running.node.ready)
        assert len(self.running.node.progress()) == PARTITIONS

    @property
    def running(self) -> Engine:
        assert self.engine is not None
        return self.engine

    def stop(self) -> None:
        self.running.stop()

    def wait(self, condition: Any) -> None:
        clock = SystemClock()
        deadline_ms = clock.monotonic_ms() + 120_000
        while not condition():
            assert clock.monotonic_ms() < deadline_ms, self.running.node.problems()
            clock.sleep_ms(20)

    def publish(self, records: list[tuple[bytes | None, bytes | None]]) -> None:
        """Publish (key, value) to partition 0, as anybody who may write there could."""
        if self.kafka is None:
            sink = self.running.node._parts.logs.commands
            for key, value in records:
                sink.publish(0, key or b"", value or b"")
            return
        producer = Producer({"bootstrap.servers": self.kafka, "enable.idempotence": True})
        for key, value in records:
            producer.produce(f"{self.name}.commands", value or None, key, 0)
        assert producer.flush(60) == 0

    def wait_decided(self, count: int) -> None:
        node = self.running.node

        def done() -> bool:
            assert node.problems() == {}
            replica = node._replicas.get(0)  # none while the group moves it
            return replica is not None and replica.phase is Phase.OWNING and replica.resume >= count

        self.wait(done)

    def outcomes(self) -> list[wire.Outcome]:
        asked = Asked(self.folder, None if self.kafka else self.data, self.kafka)
        with opened(asked) as source:
            log = source.logs.event_log(0)
            values = [record.value or b"" for record in read(source.logs, log, log.bounds())]
        heads = [(wire.head(value), value) for value in values]
        return [
            wire.decode_outcome(value)
            for head, value in heads
            if head and head.kind is Kind.OUTCOME
        ]

    def total(self, workspace: str) -> int:
        path = f"{self.running.server.url}/v1/workspaces/{workspace}"
        view = httpx.get(f"{path}/views/total", timeout=30).json()["rows"]
        record = httpx.get(f"{path}/records/thing/0", timeout=30).json()["fields"]["total"]
        assert [row["total"] for row in view] == [record]
        return record

    def audit(self) -> dict[str, Any]:
        words = ["verify", str(self.folder), *self.flags, "--settled", "--json"]
        result = CliRunner().invoke(app, words, env={"NO_COLOR": "1"})
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return guest_world.from_c(HOSTILE, tmp_path_factory.mktemp("guest"), link=GROWING)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("embedded", marks=pytest.mark.xdist_group("bad-input-embedded")),
        pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.xdist_group("bad-input")]),
    ],
)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, module: bytes
) -> Iterator[tuple[World, Sent]]:
    address = request.getfixturevalue("kafka") if request.param == "kafka" else None
    made = World(tmp_path_factory.mktemp("bad"), address, module)
    with ExitStack() as ends:
        made.start()
        ends.callback(made.stop)
        yield made, publish_all(made)


def publish_all(world: World) -> Sent:
    """Publish everything, wait until it is decided, and read what became of it."""
    sent, records = Sent(), []

    def put(key: bytes | None, value: bytes | None) -> int:
        records.append((key, value))
        return len(records) - 1

    def good() -> None:
        for workspace in (HERE, OTHER):
            offset = put(workspace.encode(), envelope(world.application, "good"))
            sent.goods[offset] = workspace

    good()
    for kind, (value, code) in bad_commands(world.application).items():
        sent.codes[kind] = (put(HERE.encode(), value), code)
        good()
    for kind, (key, code) in BAD_KEYS.items():
        sent.codes[kind] = (put(key, envelope(world.application, "good")), code)
        good()
    first = envelope(world.application, "good")
    sent.goods[put(HERE.encode(), first)] = HERE
    same = wire.decode_command(first)["command_id"]
    other = envelope(world.application, "set", command_id=same)
    ahead = uuid7(SystemClock().now_ms() + AHEAD_MS, bytes(10))
    old = uuid7(PAST_MS, bytes(10))
    for kind, value in {
        "the same again": first,
        "an id used for another command": other,
        "an id of the future": envelope(world.application, "good", command_id=ahead),
        "an id older than any that is remembered": envelope(
            world.application, "good", command_id=old
        ),
    }.items():
        sent.refused[kind] = put(HERE.encode(), value)
        good()
    sent.count = len(records)
    world.publish(records)
    world.wait_decided(sent.count)
    for outcome in world.outcomes():
        sent.outcomes.setdefault(outcome["input_offset"], []).append(outcome)
    return sent


NAMES = guest_world.application(b"")


@pytest.mark.parametrize("kind", [*bad_commands(NAMES), *BAD_KEYS])
def test_a_bad_command_has_one_rejected_outcome(world: tuple[World, Sent], kind: str) -> None:
    _, sent = world
    offset, code = sent.codes[kind]
    (outcome,) = sent.outcomes[offset]
    assert outcome["code"] == code, outcome["message"]
    assert 0 < len(outcome["message"]) <= limits.MESSAGE_LENGTH_MAX
    assert "Traceback" not in outcome["message"]
    assert outcome["changes"] == []
    if code in {"undecodable", "too_large"}:
        place = ((0).to_bytes(8), offset.to_bytes(8))
        assert outcome["command_id"] == derived_id(b"undecodable", *place)
        assert outcome["args"] == b""
    elsewhere = {"no_workspace": "", "wrong_partition": ELSEWHERE}
    assert outcome["workspace"] == elsewhere.get(code, HERE)
    if code in elsewhere:
        assert outcome["workspace_sequence"] == 0
    for following in (offset + 1, offset + 2):
        (good,) = sent.outcomes[following]
        assert (good["code"], good["workspace"]) == ("", sent.goods[following])


@pytest.mark.parametrize(
    "kind",
    [
        "the same again",
        "an id used for another command",
        "an id of the future",
        "an id older than any that is remembered",
    ],
)
def test_a_refused_command_has_no_outcome(world: tuple[World, Sent], kind: str) -> None:
    _, sent = world
    offset = sent.refused[kind]
    assert offset not in sent.outcomes
    for following in (offset + 1, offset + 2):
        (good,) = sent.outcomes[following]
        assert good["code"] == ""


def test_nothing_is_lost_before_or_after_a_restart_or_a_rebuild(world: tuple[World, Sent]) -> None:
    made, sent = world
    wanted = {name: list(sent.goods.values()).count(name) for name in (HERE, OTHER)}
    assert {name: made.total(name) for name in wanted} == wanted
    assert sorted(sent.outcomes) == sorted(set(range(sent.count)) - set(sent.refused.values()))
    told = made.outcomes()
    assert [outcome["sequence"] for outcome in told] == list(range(1, len(told) + 1))
    made.stop()
    assert made.audit()["sound"]
    made.start()
    assert {name: made.total(name) for name in wanted} == wanted
    assert made.outcomes() == told
    made.stop()
    shutil.rmtree(next(made.data.rglob("0/CURRENT")).parents[1])
    made.start()
    assert {name: made.total(name) for name in wanted} == wanted
    made.publish([(HERE.encode(), envelope(made.application, "good"))])
    made.wait_decided(sent.count + 1)
    assert made.total(HERE) == wanted[HERE] + 1
    assert made.outcomes()[:-1] == told
    report = made.audit()
    assert report["sound"]
    assert report["total"]["outcomes"] == len(told) + 1
