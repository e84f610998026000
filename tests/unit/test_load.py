"""Recordings keep every byte or say so; replays measure from when a command was due."""

import asyncio
import io
import random
import time
import uuid
from pathlib import Path

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from engine import wire
from engine.errors import EngineError, UnavailableError
from engine.load.pace import parse_pace
from engine.load.recording import Header, Recorded, RecordingWriter, open_recording
from engine.load.replay_http import HttpReplay
from engine.load.replay_log import LogReplay, Plan
from engine.load.result import Result, read_result, report, write_result
from engine.load.rewrite import Rewriter, without_token
from engine.load.tap import Tap, Until
from engine.log.simulated import SimulatedBroker, SimulatedLogs
from engine.world import uuid7, uuid7_time_ms

HEADER = Header("bank", 2, 1_700_000_000_000)
NOW = 1_800_000_000_000

recorded_commands = st.lists(
    st.builds(
        Recorded,
        st.integers(0, 2**63),
        st.none() | st.binary(max_size=20),
        st.none() | st.binary(max_size=200),
    ),
    max_size=20,
)


def write(path: Path, commands: list[Recorded]) -> None:
    with path.open("wb") as file:
        writer = RecordingWriter(file, HEADER)
        for recorded in commands:
            writer.write(recorded)
        writer.close()


def avro(number: int, **fields) -> bytes:
    command = {
        "command_id": uuid7(NOW, number.to_bytes(10)),
        "name": "credit",
        "args_schema": 7,
        "args": b"args",
    }
    return wire.encode_command({**command, **fields})


def result() -> Result:
    return Result("run", "file", "target", "max", NOW)


@settings(max_examples=50, deadline=None)
@given(commands=recorded_commands)
def test_a_recording_keeps_every_byte(tmp_path_factory, commands):
    path = tmp_path_factory.mktemp("load") / "r"
    write(path, commands)
    recording = open_recording(path)
    assert list(recording.commands()) == commands
    assert recording.header == HEADER
    assert recording.count == len(commands)


def test_a_recording_cut_off_anywhere_is_none(tmp_path):
    path = tmp_path / "r"
    write(path, [Recorded(0, b"a", b"one"), Recorded(5, None, None)])
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(EngineError) as caught:
            open_recording(path)
        assert caught.value.code == "E1502"


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_recording_with_any_bit_flipped_is_none(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("load") / "r"
    write(path, [Recorded(0, b"a", b"one"), Recorded(5, b"", b"")])
    whole = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    path.write_bytes(whole)
    with pytest.raises(EngineError) as caught:
        open_recording(path)
    assert caught.value.code == "E1502"


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x89PARTITA\r\n\x1a\n", b"{}" * 100])
def test_garbage_is_no_recording(tmp_path, content):
    path = tmp_path / "r"
    path.write_bytes(content)
    with pytest.raises(EngineError, match="E1502"):
        open_recording(path)
    with pytest.raises(EngineError, match="E1502"):
        open_recording(tmp_path / "absent")


def test_paces():
    assert parse_pace("1x").due_ns(3, 2_000) == 2_000_000_000
    assert parse_pace("10x").due_ns(3, 2_000) == 200_000_000
    assert parse_pace("2000/s").due_ns(3, 99) == 1_500_000
    assert parse_pace("max").due_ns(3, 99) == 0
    assert parse_pace("max").unpaced
    assert not parse_pace("0.5x").unpaced


@pytest.mark.parametrize("text", ["", "x", "0x", "0/s", "-1x", "fast", "1", "1 /s"])
def test_wrong_paces_are_refused(text):
    with pytest.raises(EngineError, match="E1001"):
        parse_pace(text)


def test_ids_are_new_in_each_run_and_the_same_within_one():
    value = avro(1)
    first = Rewriter(b"one", NOW + 5, 0).rewrite(Recorded(0, b"a", value))
    again = Rewriter(b"one", NOW + 5, 0).rewrite(Recorded(9, b"a", value))
    other = Rewriter(b"two", NOW + 5, 0).rewrite(Recorded(0, b"a", value))
    assert first.command_id == again.command_id != other.command_id
    assert uuid7_time_ms(first.command_id) == NOW + 5
    assert wire.decode_command(first.value)["command_id"] == first.command_id
    kept = Rewriter(b"one", NOW, 0, same_ids=True).rewrite(Recorded(0, b"a", value))
    assert kept.value == value


def test_deadlines_move_along_and_replies_are_not_for_old_clients():
    reply = {"partition": 0, "correlation": b"x"}
    value = avro(1, not_after=NOW, reply=reply)
    sendable = Rewriter(b"one", NOW, 1_000).rewrite(Recorded(0, b"a", value))
    command = wire.decode_command(sendable.value)
    assert (command["not_after"], command["reply"]) == (NOW + 1_000, None)


def test_json_commands_are_rewritten_too():
    old = uuid.UUID(int=9, version=4)
    text = orjson.dumps({"command_id": str(old), "name": "credit", "args": {}, "not_after": 5})
    sendable = Rewriter(b"one", NOW, 7).rewrite(Recorded(0, b"a", text))
    fields = orjson.loads(sendable.value)
    assert uuid.UUID(fields["command_id"]).bytes == sendable.command_id != old.bytes
    assert fields["not_after"] == 12


@pytest.mark.parametrize("value", [None, b"", b"garbage", b"{", b"{}", b"\xc3\x01cut"])
def test_what_cannot_be_read_goes_out_as_it_is(value):
    sendable = Rewriter(b"one", NOW, 0).rewrite(Recorded(0, b"a", value))
    assert (sendable.command_id, sendable.value) == (b"", value)


def test_tokens_never_get_into_a_recording():
    assert b"secret" not in without_token(avro(1, token="secret"))
    assert b"secret" not in without_token(orjson.dumps({"token": "secret", "name": "x"}))
    assert without_token(avro(1)) == avro(1)
    assert without_token(b"{broken") == b"{broken"


class StillClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ms = NOW

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ms(self) -> int:
        return self.ms


class Seeded:
    """Randomness of one seed."""

    def __init__(self) -> None:
        self._random = random.Random(1)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)


@pytest.fixture
def broker() -> SimulatedBroker:
    return SimulatedBroker(Seeded(), StillClock(), 2)


def fill(broker: SimulatedBroker, count: int) -> None:
    for number in range(count):
        workspace = f"w{number}".encode()
        broker.clock.ms += 10
        broker.publish(wire.partition_of(workspace, 2), workspace, avro(number, token="t"))


def test_a_tap_records_what_is_there_in_the_order_of_its_times(broker, tmp_path):
    fill(broker, 30)
    path = tmp_path / "r"
    with path.open("wb") as file:
        tap = Tap(SimulatedLogs(broker), "bank", 2)
        assert tap.run(file, Until(end_of_log=True), from_begin=True) == 30
    recording = open_recording(path)
    commands = list(recording.commands())
    assert [one.key for one in commands] == [f"w{number}".encode() for number in range(30)]
    assert [one.time_ms for one in commands] == [number * 10 for number in range(30)]
    assert all(wire.decode_command(one.value)["token"] is None for one in commands)
    assert recording.header.started_at_ms == NOW + 10


def test_a_tap_begins_at_the_end_and_stops_when_told(broker):
    fill(broker, 3)
    file = io.BytesIO()
    assert Tap(SimulatedLogs(broker), "bank", 2).run(file, Until(stopped=lambda: True)) == 0
    assert Tap(SimulatedLogs(broker), "bank", 2).run(file, Until(count=2), from_begin=True) == 2


class Decider(SimulatedLogs):
    """Logs in which each wait also lets a one-line node decide what has come."""

    def __init__(self, broker: SimulatedBroker, *, deaf_to: bytes = b"") -> None:
        super().__init__(broker)
        self._node = [(self.command_log(p), self.event_log(p)) for p in range(2)]
        self._deaf_to = deaf_to
        self._sequence = 0
        for commands, _ in self._node:
            commands.seek(commands.bounds().begin)

    def wait(self, timeout_ms: int) -> None:
        super().wait(timeout_ms)
        for commands, events in self._node:
            batch = commands.take(100)
            values = [
                self._decide(key, value)
                for key, value in zip(batch.keys, batch.values, strict=True)
                if key != self._deaf_to
            ]
            if values:
                events.append([b""] * len(values), values)

    def _decide(self, key: bytes, value: bytes) -> bytes:
        self._sequence += 1
        outcome = dict.fromkeys(
            ("sequence", "workspace_sequence", "input_offset", "command_time", "registered_at"), 1
        )
        lists = {"changes": [], "emits": [], "timers": []}
        head = {"epoch": 1, "previous": 0, "skippable": False, "application": 1, "message": ""}
        command = wire.decode_command(value)
        same = {name: command[name] for name in ("command_id", "name", "args_schema", "args")}
        code = "no" if key == b"w1" else ""
        more = {"workspace": key.decode(), "input": "commands", "code": code}
        return wire.encode_event(wire.Kind.OUTCOME, {**outcome, **lists, **head, **same, **more})


def recording(count: int) -> list[Recorded]:
    return [Recorded(n, f"w{n}".encode(), avro(n)) for n in range(count)]


def plan(pace: str = "max", drain_ms: int = 10_000) -> Plan:
    return Plan(parse_pace(pace), Rewriter(b"run", NOW, 0), drain_ms)


def test_a_replay_waits_for_every_outcome(broker):
    ran = LogReplay(Decider(broker), 2, plan(), result()).run(iter(recording(700)))
    assert (ran.sent, ran.answered, ran.missing, ran.failed) == (700, 700, 0, 0)
    assert ran.rejected == {"no": 1}
    assert ran.latencies.get_total_count() == 700


def test_a_replay_counts_what_stays_unanswered(broker):
    commands = [*recording(5), Recorded(5, b"w0", avro(0)), Recorded(7, None, b"")]
    logs = Decider(broker, deaf_to=b"w3")
    ran = LogReplay(logs, 2, plan(drain_ms=100), result()).run(iter(commands))
    assert (ran.sent, ran.answered, ran.missing) == (6, 4, 1)
    assert (ran.repeated, ran.failed) == (1, 1)


class Full:
    """A place for commands that has no room until `until_ns`."""

    def __init__(self, commands, until_ns: int) -> None:
        self._commands = commands
        self._until_ns = until_ns
        self.refused = 0

    def publish(self, partition: int, workspace: bytes, value: bytes) -> int:
        if time.perf_counter_ns() < self._until_ns:
            self.refused += 1
            raise UnavailableError("E1403", "full")
        return self._commands.publish(partition, workspace, value)

    def published(self):
        return self._commands.published()


def test_latency_counts_from_when_a_command_was_due(broker):
    """Nothing could be sent before all was due: the waiting for that is in the figures."""
    logs = Decider(broker)
    logs.commands = Full(logs.commands, time.perf_counter_ns() + 100_000_000)
    ran = LogReplay(logs, 2, plan("1000/s"), result()).run(iter(recording(50)))
    assert (ran.answered, ran.failed) == (50, 0)
    assert logs.commands.refused > 0
    # The first command was due 49 ms before the last one, and all were sent at the same time.
    spread_us = ran.latencies.get_max_value() - ran.latencies.get_min_value()
    assert spread_us >= 40_000


async def _play(app: Starlette, commands: list[Recorded], drain_ms: int = 10_000) -> Result:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        replay = HttpReplay([client], plan(drain_ms=drain_ms), result(), None)
        return await replay.run(iter(commands))


def json_commands(count: int, workspaces: int) -> list[Recorded]:
    return [
        Recorded(
            n,
            f"w{n % workspaces}".encode(),
            orjson.dumps(
                {"command_id": str(uuid.UUID(int=n, version=4)), "name": "credit", "args": {"n": n}}
            ),
        )
        for n in range(count)
    ]


def test_http_keeps_the_order_of_each_workspace_and_tries_again():
    seen: dict[str, list[int]] = {}
    busy = {3, 4}

    async def post(request: Request) -> Response:
        number = (await request.json())["n"]
        if number in busy:
            busy.discard(number)
            return JSONResponse({"code": "E1402"}, 503)
        await asyncio.sleep(0)
        seen.setdefault(request.path_params["workspace"], []).append(number)
        if number == 7:
            return JSONResponse({"code": "too_poor", "sequence": 9}, 422)
        if number == 8:
            return JSONResponse({"code": "id_conflict"}, 409)
        return JSONResponse({"sequence": 1})

    app = Starlette(
        routes=[Route("/v1/workspaces/{workspace}/commands/{name}", post, methods=["POST"])]
    )
    ran = asyncio.run(_play(app, json_commands(40, 4)))
    assert (ran.sent, ran.accepted, ran.rejected, ran.refused) == (40, 38, {"too_poor": 1}, 1)
    assert (ran.retried, ran.missing) == (2, 0)
    assert all(numbers == sorted(numbers) for numbers in seen.values())


def test_http_gives_up_on_a_node_that_stays_busy():
    async def post(request: Request) -> Response:
        del request
        return Response(status_code=503)

    app = Starlette(routes=[Route("/{path:path}", post, methods=["POST"])])
    ran = asyncio.run(_play(app, json_commands(3, 1), drain_ms=0))
    assert (ran.sent, ran.missing, ran.answered) == (3, 3, 0)


def test_avro_over_http_needs_the_application():
    with pytest.raises(EngineError, match="--application"):
        asyncio.run(_play(Starlette(), [Recorded(0, b"a", avro(1))]))


def test_results_are_read_back_as_they_were_written(tmp_path):
    written = Result("r1", "file", "target", "1x", NOW, sent=3, duration_ms=1_500.0)
    written.answer("", 2_000_000)
    written.answer("no", 4_000_000)
    path = write_result(written, tmp_path)
    back = read_result(path)
    assert back.as_dict() == written.as_dict()
    row = report([back])[0]
    assert (row["per_s"], row["rejected"]) == (1.3, 1)
    assert row["max_ms"] == pytest.approx(4, rel=0.01)


def test_other_files_are_no_results(tmp_path):
    (tmp_path / "x").write_text("{}")
    with pytest.raises(EngineError, match="E1502"):
        read_result(tmp_path / "x")
