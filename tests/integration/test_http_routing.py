"""Requests that reach the wrong node, and the server that listens."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.abc
import httpx
import pytest
from http_world import Bent, client, http_settings, start_node, wait_ready

from engine.errors import ConfigError
from engine.http import Server, create_app
from engine.node.api import Route, Where
from engine.node.node import Node

pytestmark = pytest.mark.anyio
KEY = [(b"Idempotency-Key", "é 1".encode("latin-1"))]
PUT = "/v1/workspaces/w%2Fx%20y/commands/put"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    running = start_node(tmp_path_factory.mktemp("node"), "owner")
    wait_ready(running)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def served(node: Node) -> Iterator[Server]:
    """Yield the owner's HTTP, on a real socket."""
    server = Server(http_settings(port=0))
    server.start(create_app(node, http_settings(port=0)))
    yield server
    assert server.stop()


def elsewhere(node: Node, url: str, **answers: Any) -> Bent:
    route = Route(Where.THERE, url) if url else Route(Where.NOBODY)

    def refuse(*_: Any) -> None:
        raise AssertionError("only the owner may be asked")

    silent = {"submit": refuse, "reader": refuse, "find": refuse, "name": "other"}
    return Bent(node, route=lambda _: route, **(silent | answers))


@pytest.fixture
async def other(node: Node, served: Server) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a node that owns nothing."""
    async with client(elsewhere(node, served.url)) as made:
        yield made


async def test_any_node_answers_for_the_owner(other: httpx.AsyncClient) -> None:
    done = await other.post(PUT, json={"count": 7}, headers=KEY)
    assert done.status_code == 200, done.text
    body = done.json()
    again = await other.post(PUT, json={"count": 7}, headers=KEY)
    assert again.json()["duplicate"] is True
    base = "/v1/workspaces/w%2Fx%20y"
    found = await other.get(f"{base}/commands/{body['command_id']}")
    assert found.json()["workspace"] == "w/x y"
    sequence = body["sequence"]
    rows = await other.get(f"{base}/views/by_day?min_sequence={sequence}&limit=1")
    assert rows.json()["rows"][0]["count"] == 7
    assert rows.headers["partita-sequence"] == str(rows.json()["sequence"])
    assert rows.headers["content-type"] == "application/json"
    assert len(rows.headers.get_list("date")) <= 1
    head = await other.head(f"{base}/views/by_day")
    assert head.status_code == 200


async def test_a_stream_comes_through_and_leaves_with_its_client(
    node: Node, served: Server
) -> None:
    server = Server(http_settings(port=0))
    server.start(create_app(elsewhere(node, served.url), http_settings(port=0)))
    workspace = "/v1/workspaces/streamed"
    async with httpx.AsyncClient(base_url=server.url, timeout=20) as http:
        async with http.stream("GET", workspace + "/views/one/changes") as told:
            lines = told.aiter_lines()
            while await anext(lines) != "event: state":
                pass
            await http.post(workspace + "/commands/put", json={"count": 7})
            while await anext(lines) != "event: change":
                pass
            assert '"count":7' in await anext(lines)
            assert node._feed._listening
        async with asyncio.timeout(20):
            while node._feed._listening:
                await http.get("/health/live")
    await asyncio.to_thread(server.stop)


async def test_problems_come_through_as_the_owner_wrote_them(other: httpx.AsyncClient) -> None:
    answer = await other.post(PUT, json={"count": "x"})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["field"] == "count"
    answer = await other.get("/v1/workspaces/w/views/one?x=1")
    assert answer.json()["code"] == "unknown_parameter"


async def test_a_body_is_bounded_before_it_is_sent_on(other: httpx.AsyncClient) -> None:
    answer = await other.post(
        PUT, content=b"x" * 300_000, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_what_is_only_published_needs_no_owner(node: Node) -> None:
    async with client(elsewhere(node, "")) as http:
        answer = await http.post(PUT, json={"count": 1}, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202


async def test_nobody_owns_it_now(node: Node) -> None:
    async with client(elsewhere(node, "")) as http:
        for answer in (
            await http.post(PUT, json={"count": 1}),
            await http.get("/v1/workspaces/w/views/one"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "E1402")
            assert answer.headers["retry-after"] == "1"


async def test_a_loop_ends_after_one_hop(node: Node) -> None:
    """Two nodes that each believe the other one owns it."""
    hops = 0
    apps: dict[str, Any] = {}

    async def send(request: httpx.Request) -> httpx.Response:
        nonlocal hops
        hops += 1
        inner = httpx.ASGITransport(apps[request.url.host])
        return await inner.handle_async_request(request)

    network = httpx.MockTransport(send)
    for here, there in (("a", "b"), ("b", "a")):
        bent = elsewhere(node, f"http://{there}")
        apps[here] = create_app(bent, http_settings(token="t"), transport=network)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(apps["a"]),
        base_url="http://a",
        headers={"Authorization": "Bearer t"},
    ) as http:
        answer = await http.post(PUT, json={"count": 1})
    assert (answer.status_code, answer.json()["code"]) == (503, "E1402")
    assert hops == 1


@pytest.mark.parametrize("answered", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"])
async def test_an_owner_that_dies_on_the_way_is_a_503(node: Node, answered: bytes) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)

    async def die(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            if answered:
                await stream.send(answered)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, die)
        async with client(elsewhere(node, f"http://127.0.0.1:{port}")) as http:
            answer = await http.post(PUT, json={"count": 1})
        tasks.cancel_scope.cancel()
    await listener.aclose()
    body = answer.json()
    assert (answer.status_code, body["code"]) == (503, "E1402")
    assert answer.headers["retry-after"]
    assert body["idempotency_key"]


async def test_an_owner_that_is_gone_is_a_503(node: Node) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with client(elsewhere(node, f"http://127.0.0.1:{port}")) as http:
        answer = await http.post(PUT, json={"count": 1}, headers={"Idempotency-Key": "k"})
    body = answer.json()
    assert (answer.status_code, body["code"]) == (503, "E1402")
    assert body["idempotency_key"] == "k"


async def test_hop_by_hop_headers_stay_behind(node: Node) -> None:
    seen: list[httpx.Request] = []

    async def send(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        headers = {"Connection": "close", "X-Kept": "1", "Date": "x", "Content-Length": "2"}
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(b"{}"))

    transport = httpx.MockTransport(send)
    async with client(elsewhere(node, "http://there"), transport=transport) as http:
        answer = await http.get(
            "/v1/workspaces/a%2Fb/views/one?limit=3&after=%41",
            headers={
                "Authorization": "Bearer t",
                "Connection": "close, X-Private",
                "X-Private": "1",
                "TE": "trailers",
            },
        )
    assert answer.headers["x-kept"] == "1"
    assert "connection" not in answer.headers
    sent = seen[0]
    assert str(sent.url) == "http://there/v1/workspaces/a%2Fb/views/one?limit=3&after=%41"
    assert sent.headers["authorization"] == "Bearer t"
    assert sent.headers["partita-hop"] == "other"
    assert sent.headers["host"] == "there"
    assert "x-private" not in sent.headers
    assert "te" not in sent.headers


# The server.


async def test_the_server_answers_on_its_address(served: Server) -> None:
    assert served.port > 0
    async with httpx.AsyncClient(base_url=served.url, trust_env=False) as http:
        assert (await http.get("/health/live")).status_code == 200
        answer = await http.get("/nothing")
        assert answer.json()["code"] == "not_found"
        assert "server" not in answer.headers


def test_a_port_in_use_is_told_with_its_code(served: Server) -> None:
    with pytest.raises(ConfigError) as caught:
        Server(http_settings(port=served.port))
    assert caught.value.code == "E1002"
    assert str(served.port) in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.invalid", ""])
def test_an_address_that_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Server(http_settings(host=host, port=0))
    assert caught.value.code == "E1003"


@pytest.mark.parametrize("given", [{"token": "t"}, {"insecure": True}])
def test_with_a_token_or_on_demand_it_listens_anywhere(given: dict[str, Any]) -> None:
    server = Server(http_settings(host="0.0.0.0", port=0, **given))
    assert str(server.port) in server.url
    assert "0.0.0.0" not in server.url
    assert server.stop()


def test_an_address_that_is_not_here_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError) as caught:
        Server(http_settings(host="192.0.2.1", port=0, insecure=True))
    assert caught.value.code == "E1001"


def test_a_server_is_told_how_others_reach_it() -> None:
    server = Server(http_settings(port=0, advertise="https://node-1.example/"))
    assert server.url == "https://node-1.example"
    server.stop()
    server = Server(http_settings(host="::1", port=0))
    assert server.url == f"http://[::1]:{server.port}"
    server.stop()


def test_a_stopped_server_lets_go_of_its_port(node: Node) -> None:
    first = Server(http_settings(port=0))
    first.start(create_app(node, http_settings(port=0)))
    port = first.port
    with httpx.Client(trust_env=False) as http:
        # A connection that is kept alive must not hold the server up.
        assert http.get(f"{first.url}/health/live").status_code == 200
        assert first.stop()
    second = Server(http_settings(port=port))
    assert second.port == port
    second.stop()


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n"])
def test_a_head_without_an_end_is_hung_up_on(served: Server, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as stream:
        stream.sendall(start)
        answer = b""
        try:
            for _ in range(1_000):
                stream.sendall(b"Y: 1\r\n" * 2_000 if start.endswith(b"1.1\r\n") else b"y" * 9_000)
        except OSError:
            pass
        else:
            pytest.fail("the server took 9 MB of head")
        try:
            answer = stream.recv(1_000)
        except OSError:
            return
    assert answer[:12] in {b"", b"HTTP/1.1 400"}


def test_a_large_body_is_no_head(served: Server) -> None:
    args = {"count": 1, "raw": "AAAA" * 50_000}
    with httpx.Client(base_url=served.url) as http:
        for _ in range(20):
            answer = http.post("/v1/workspaces/large/commands/put", json=args)
            assert answer.status_code == 200, answer.text


def test_many_requests_on_one_connection_are_not_one_head(served: Server) -> None:
    request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 1_000 + b"\r\n\r\n"
    stream = socket.create_connection(("127.0.0.1", served.port), timeout=20)
    with stream, stream.makefile("rb") as lines:
        for _ in range(200):
            stream.sendall(request)
            assert lines.readline().startswith(b"HTTP/1.1 200")
            while lines.readline() != b"\r\n":
                pass
            lines.read(len(b'{"status":"live"}'))
