"""Subscriptions on a real node behind a real socket: what is told, resumed, bounded and let go."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from http_world import Bent, http_settings, start_node, wait_ready

from engine import limits
from engine.http import Server, Waits, create_app
from engine.node.node import Node

pytestmark = pytest.mark.anyio
WAITS = Waits(heartbeat_ms=200, send_ms=1_000)


class Told(NamedTuple):
    place: str
    id: int
    name: str
    data: dict[str, Any]


class Served(NamedTuple):
    node: Node
    url: str
    app: Any


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    node = start_node(tmp_path_factory.mktemp("node"))
    wait_ready(node)
    server = Server(http_settings(port=0))
    app = create_app(node, http_settings(port=0), waits=WAITS)
    server.start(app)
    yield Served(node, server.url, app)
    server.stop()
    node.stop()


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.url, timeout=20) as made:
        yield made


@asynccontextmanager
async def stream(
    http: httpx.AsyncClient, path: str, last_id: int | str | None = None, **params: Any
) -> AsyncIterator[AsyncGenerator[Told, None]]:
    headers = {} if last_id is None else {"Last-Event-ID": str(last_id)}
    async with http.stream("GET", path, headers=headers, params=params) as answer:
        if answer.status_code != 200:
            await answer.aread()
            raise AssertionError((answer.status_code, answer.text))
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield _events(answer)


async def _events(answer: httpx.Response) -> AsyncGenerator[Told, None]:
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields:
            place = fields.get("id", "-1")
            sequence = int(place.partition("-")[0] or -1)
            yield Told(place, sequence, fields["event"], json.loads(fields["data"]))
            fields = {}


async def put(http: httpx.AsyncClient, workspace: str, count: int, **more: Any) -> int:
    args = {"count": count, "day": "2020-01-01", **more}
    answer = await http.post(f"/v1/workspaces/{workspace}/commands/put", json=args)
    assert answer.status_code == 200, answer.text
    sequence: int = answer.json()["sequence"]
    return sequence


async def subscriptions(served: Served) -> int:
    text = (await asyncio.to_thread(httpx.get, served.url + "/metrics")).text
    line = next(row for row in text.splitlines() if row.startswith("partita_http_open_subs"))
    return int(float(line.split()[-1]))


async def none_left(served: Served) -> None:
    """Return once no stream is open."""
    async with asyncio.timeout(20):
        while await subscriptions(served):
            pass


async def test_a_view_tells_its_state_and_then_what_differs(http: httpx.AsyncClient) -> None:
    first = await put(http, "seen", 1, name="a")
    view = "/v1/workspaces/seen/views/by_day/changes"
    async with stream(http, view, keys="name,count") as told:
        state = await anext(told)
        assert (state.name, state.data["rows"]) == ("state", [{"name": "a", "count": 1}])
        assert state.id == state.data["sequence"] >= first
        await put(http, "other", 5)
        second = await put(http, "seen", 2, name="b")
        change = await anext(told)
        assert (change.name, change.id) == ("change", change.data["sequence"])
        assert change.id >= second
        assert change.data["put"] == [{"name": "b", "count": 2}]
        assert change.data["remove"] == []


async def test_only_what_is_asked_for_is_told(http: httpx.AsyncClient) -> None:
    view = "/v1/workspaces/asked/views/by_day/changes"
    async with stream(http, view, where='{"count": {"ge": 10}}', day="2020-01-01") as told:
        assert (await anext(told)).data["rows"] == []
        for count in (1, 20, 2):
            await put(http, "asked", count)
        await put(http, "asked", 30, day="2020-01-02")
        await put(http, "asked", 40)
        seen: list[int] = []
        while 40 not in seen:
            seen += [row["count"] for row in (await anext(told)).data["put"]]
        assert seen == [20, 40]


async def test_a_view_is_resumed_or_reset(http: httpx.AsyncClient) -> None:
    sequence = await put(http, "resumed", 1)
    view = "/v1/workspaces/resumed/views/one/changes"
    async with stream(http, view) as told:
        state = await anext(told)
        assert (state.name, state.id >= sequence) == ("state", True)
        last = state.place
    async with stream(http, view, last) as told:
        # It has missed nothing: the first thing it hears of is new.
        await put(http, "resumed", 2)
        change = await anext(told)
        assert (change.name, change.data["put"]) == ("change", [{"count": 2, "note": None}])
    async with stream(http, view, last) as told:
        reset = await anext(told)
        assert (reset.name, reset.data["rows"]) == ("reset", [{"count": 2, "note": None}])
    ahead, shape = 1 << 40, last.partition("-")[2]
    newest = reset.place
    for unknown in (f"{ahead}-{shape}", ahead, newest.partition("-")[0], f"{newest}0"):
        async with stream(http, view, unknown) as told:
            assert (await anext(told)).name == "reset"


async def test_a_record_is_told_as_it_stands(http: httpx.AsyncClient) -> None:
    record = "/v1/workspaces/record/records/item/65536/changes"
    async with stream(http, record) as told:
        absent = await anext(told)
        assert (absent.name, absent.data["type"], absent.data["id"]) == ("absent", "item", 65_536)
        await put(http, "record", 7)
        found = await anext(told)
        assert (found.name, found.data["fields"]["count"]) == ("record", 7)
    async with stream(http, record, found.place) as told:
        heard = asyncio.ensure_future(anext(told))
        await put(http, "record", 8)  # another item
        # Its own heartbeat comes before anything of the record.
        done, _ = await asyncio.wait([heard], timeout=0.5)
        assert not done
        heard.cancel()


async def test_a_log_tells_every_outcome_once_and_in_order(http: httpx.AsyncClient) -> None:
    log = "/v1/workspaces/log/events/changes"
    for count in range(40):
        await put(http, "log", count)
    async with stream(http, log, after=0) as told:
        seen = [await anext(told) for _ in range(40)]
        assert [entry.data["workspace_sequence"] for entry in seen] == list(range(1, 41))
        assert all(entry.name == "outcome" for entry in seen)
        assert all(entry.id == entry.data["sequence"] for entry in seen)
    async with stream(http, log, seen[19].id) as told:
        again = [await anext(told) for _ in range(20)]
        assert again == seen[20:]
        await asyncio.gather(*(put(http, "log", count) for count in range(30)))
        more = [await anext(told) for _ in range(30)]
        assert [entry.data["workspace_sequence"] for entry in more] == list(range(41, 71))
    async with stream(http, log) as told:
        await http.post("/v1/workspaces/log/commands/refuse", json={"code": "no"})
        assert (await anext(told)).data["code"] == "no"
    async with stream(http, log, 1 << 40) as told:
        reset = await anext(told)
        assert (reset.name, reset.data["after"]) == ("reset", 71)


async def test_a_slow_client_is_told_the_newest_state_once(
    served: Served, http: httpx.AsyncClient
) -> None:
    # A client that reads nothing while much happens; its socket is as small as may be.
    reader, writer = await _raw(served.url, "/v1/workspaces/slow/views/one/changes")
    rows: list[dict[str, Any]] = []
    await _until(reader, b"event: state")
    for count in range(200):
        await put(http, "slow", count)
    told = 0
    while not rows or rows[-1]["count"] != 199:
        line = await reader.readline()
        if line.startswith(b"data: "):
            told += 1
            rows += json.loads(line[6:]).get("put", [])
    assert [row["count"] for row in rows] == sorted(row["count"] for row in rows)
    writer.close()
    await writer.wait_closed()
    await none_left(served)


async def test_a_client_that_stops_reading_holds_no_place(
    served: Served, http: httpx.AsyncClient
) -> None:
    raw = base64.b64encode(bytes(150_000)).decode()
    for count in range(60):
        await put(http, "stuck", count, raw=raw)
    # It never reads, so its socket takes what fits into buffers and then no more.
    _, writer = await _raw(served.url, "/v1/workspaces/stuck/events/changes?after=0", 1 << 14)
    await none_left(served)
    await put(http, "stuck", 1)
    writer.transport.abort()


async def _raw(
    url: str, path: str, limit: int = 1 << 20
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=limit)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    await writer.drain()
    return reader, writer


async def _until(reader: asyncio.StreamReader, wanted: bytes) -> None:
    line = b""
    while wanted not in line:
        line = await reader.readline()
        assert line, "the stream has ended"


async def test_silence_is_broken_by_heartbeats(served: Served) -> None:
    reader, writer = await _raw(served.url, "/v1/workspaces/still/views/one/changes")
    for _ in range(3):
        await _until(reader, b": still here")
    writer.close()
    await writer.wait_closed()
    await none_left(served)


async def test_clients_that_vanish_leave_nothing_behind(
    served: Served, http: httpx.AsyncClient
) -> None:
    writers: list[asyncio.StreamWriter] = []
    for number in range(40):
        path = f"/v1/workspaces/v{number % 4}/{('views/one', 'events')[number % 2]}/changes"
        reader, writer = await _raw(served.url, path)
        await _until(reader, b"retry")
        writers.append(writer)
    assert await subscriptions(served) == 40
    for writer in writers:
        writer.transport.abort()
    await none_left(served)
    # Nobody listens to the node any more, and it answers as before.
    assert served.node._feed._listening == {}
    await put(http, "v0", 1)


async def test_there_are_at_most_so_many(
    served: Served, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SUBSCRIPTIONS_PER_WORKSPACE_MAX", 1)
    path = "/v1/workspaces/{}/views/one/changes"
    async with stream(http, path.format("full")) as told:
        await anext(told)
        answer = await http.get(path.format("full"))
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_subscriptions")
        assert answer.headers["retry-after"]
        monkeypatch.setattr(limits, "SUBSCRIPTIONS_MAX", 1)
        answer = await http.get(path.format("free"))
        assert answer.json()["code"] == "too_many_subscriptions"
    await none_left(served)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("views/none/changes", 404, "unknown_view"),
        ("views/one/changes?limit=1", 400, "unknown_parameter"),
        ("views/one/changes?order=count", 400, "unknown_parameter"),
        ("views/one/changes?where=1", 400, "invalid_parameter"),
        ("records/none/1/changes", 404, "unknown_record_type"),
        ("records/item/x/changes", 400, "invalid_parameter"),
        ("events/changes?after=-1", 400, "invalid_parameter"),
    ],
)
async def test_a_wrong_wish_is_refused_before_any_stream(
    served: Served, http: httpx.AsyncClient, path: str, status: int, code: str
) -> None:
    answer = await http.get(f"/v1/workspaces/w/{path}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    answer = await http.get("/v1/workspaces/w/views/one/changes", headers={"Last-Event-ID": "x"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_header")
    assert await subscriptions(served) == 0


async def test_what_is_too_wide_to_be_watched_is_refused(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in range(3):
        await put(http, "wide", count)
    monkeypatch.setattr(limits, "SUBSCRIPTION_ROWS_MAX", 3)
    view = "/v1/workspaces/wide/views/by_day/changes"
    async with stream(http, view) as told:
        assert len((await anext(told)).data["rows"]) == 3
        await put(http, "wide", 3)
        problem = await anext(told)
        assert (problem.name, problem.data["code"]) == ("problem", "query_too_wide")
        assert [entry async for entry in told] == []
    answer = await http.get(view)
    assert (answer.status_code, answer.json()["code"]) == (422, "query_too_wide")


async def test_a_head_request_ends(served: Served, http: httpx.AsyncClient) -> None:
    answer = await http.head("/v1/workspaces/w/views/one/changes")
    assert answer.status_code == 200
    await none_left(served)


async def test_streams_end_with_the_server_and_with_the_partition(tmp_path: Path) -> None:
    node = start_node(tmp_path / "node")
    wait_ready(node)
    servers = [Server(http_settings(port=0)) for _ in range(2)]
    for server in servers:
        server.start(create_app(node, http_settings(port=0)))
    urls = [server.url for server in servers]
    async with (
        httpx.AsyncClient(base_url=urls[0], timeout=20) as one,
        httpx.AsyncClient(base_url=urls[1], timeout=20) as two,
        stream(one, "/v1/workspaces/w/views/one/changes") as first,
        stream(two, "/v1/workspaces/w/views/one/changes") as second,
    ):
        await anext(first)
        await anext(second)
        stopping = asyncio.create_task(asyncio.to_thread(servers[0].stop))
        assert [entry async for entry in first] == []
        assert await stopping
        releasing = asyncio.create_task(asyncio.to_thread(node.stop))
        assert [entry async for entry in second] == []
        await releasing
        answer = await two.get("/v1/workspaces/w/views/one/changes")
        assert answer.status_code == 503
    await asyncio.to_thread(servers[1].stop)


async def test_an_outcome_that_the_log_no_longer_has_is_a_reset(
    served: Served, http: httpx.AsyncClient
) -> None:
    await put(http, "trimmed", 1)
    await put(http, "trimmed", 2)
    server = Server(http_settings(port=0))

    def gone(partition: int, offset: int) -> Any:
        return served.node.event(partition, 1 << 40)

    server.start(create_app(Bent(served.node, event=gone), http_settings(port=0)))
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=20) as other,
        stream(other, "/v1/workspaces/trimmed/events/changes", after=0) as told,
    ):
        reset = await anext(told)
        assert (reset.name, reset.data["after"]) == ("reset", 2)
    await asyncio.to_thread(server.stop)
