"""Commands over HTTP, from a request to its outcome, on a real node."""

from concurrent.futures import Future
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from http_world import BASE, Bent, check_problem, client, http_settings, put, start_node, wait_ready
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from engine import wire
from engine.errors import Code
from engine.http import create_app
from engine.node.node import Node
from engine.telemetry.traces import Traces
from engine.world import SystemClock, derived_id, uuid7_time_ms

pytestmark = pytest.mark.anyio


async def test_a_retry_by_a_command_s_old_name_gets_the_first_outcome(
    http: httpx.AsyncClient,
) -> None:
    workspace, headers = str(uuid4()), {"Idempotency-Key": "one"}
    path = BASE.format(workspace, "store")
    first = (await http.post(path, json={"count": 1}, headers=headers)).json()
    again = (await http.post(path, json={"count": 1}, headers=headers)).json()
    assert (first["code"], first["duplicate"], again["duplicate"]) == ("", False, True)
    assert again["result"] == first["result"]
    event = (await http.get(f"/v1/workspaces/{workspace}/events")).json()["events"][0]
    assert (event["command"], event["args"]["count"]) == ("store", 1)
    other = await put(http, workspace, headers, count=1)
    check_problem(other, 409, "id_conflict")


async def test_an_accepted_command_is_answered_with_its_place_and_result(
    http: httpx.AsyncClient,
) -> None:
    workspace = str(uuid4())
    first = await put(http, workspace, count=1, day="2013-01-31")
    assert first.status_code == 200
    body = first.json()
    assert body["code"] == ""
    assert body["workspace_sequence"] == 1
    assert body["sequence"] >= 1
    assert body["result"] == {"id": 65_536, "day": "2013-01-31"}
    assert body["duplicate"] is False
    assert uuid7_time_ms(UUID(body["command_id"]).bytes) is not None
    second = (await put(http, workspace, count=2)).json()
    assert second["workspace_sequence"] == 2
    assert second["sequence"] > body["sequence"]


async def test_the_same_key_gets_the_first_outcome(http: httpx.AsyncClient) -> None:
    workspace, key = str(uuid4()), {"Idempotency-Key": "order 17"}
    first = (await put(http, workspace, key, count=1)).json()
    again = (await put(http, workspace, key, count=1)).json()
    assert again["duplicate"] is True
    assert {**again, "duplicate": False} == first
    expected = derived_id(workspace.encode(), b"order 17")
    assert UUID(first["command_id"]).bytes == expected
    other = (await put(http, str(uuid4()), key, count=1)).json()
    assert other["command_id"] != first["command_id"]
    body = check_problem(await put(http, workspace, key, count=2), 409, Code.ID_CONFLICT)
    assert "sequence" not in body


async def test_a_uuid_as_key_is_the_command_id(http: httpx.AsyncClient) -> None:
    key = str(uuid4())
    answer = await put(http, "w", {"Idempotency-Key": key.upper()}, count=1)
    assert answer.json()["command_id"] == key
    found = await http.get(BASE.format("w", key))
    assert found.status_code == 200
    assert found.json()["args"]["count"] == 1


async def test_a_rejection_says_code_field_and_where_it_is_recorded(
    http: httpx.AsyncClient,
) -> None:
    await put(http, "rejected", count=1)
    answer = await http.post(
        BASE.format("rejected", "refuse"), json={"code": "no_more", "text": "enough", "field": "f"}
    )
    body = check_problem(answer, 422, "no_more")
    assert body["detail"] == "enough"
    assert body["field"] == "f"
    assert body["sequence"] > 0
    found = (await http.get(BASE.format("rejected", body["command_id"]))).json()
    assert found["code"] == "no_more"
    assert found["message"] == "enough"
    assert found["changes"] == []


async def test_expected_sequence_is_checked_when_it_is_decided(http: httpx.AsyncClient) -> None:
    workspace = str(uuid4())
    assert (await put(http, workspace, {"Expected-Sequence": "0"}, count=1)).status_code == 200
    check_problem(
        await put(http, workspace, {"Expected-Sequence": "0"}, count=1),
        409,
        Code.SEQUENCE_MISMATCH,
    )
    check_problem(
        await put(http, workspace, {"Expected-Sequence": "-1"}, count=1), 400, "invalid_header"
    )
    check_problem(
        await put(http, workspace, {"Expected-Sequence": "x"}, count=1), 400, "invalid_header"
    )


@pytest.mark.parametrize("wish", ["respond-async", "wait=5, respond-async", "Respond-Async; a=b"])
async def test_respond_async_answers_before_the_outcome(
    http: httpx.AsyncClient, node: Node, wish: str
) -> None:
    workspace = f"a/b é {uuid4()}"
    path = str(httpx.URL("http://x").copy_with(path="/" + workspace).raw_path.decode())[1:]
    path = path.replace("/", "%2F")
    answer = await put(http, path, {"Prefer": wish}, count=5)
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    location = answer.headers["location"]
    assert answer.json()["command_id"] in location
    # What follows in the same workspace is decided behind it.
    assert (await put(http, path, count=6)).json()["workspace_sequence"] == 2
    found = await http.get(location)
    assert found.status_code == 200
    assert found.json()["workspace"] == workspace
    assert found.json()["args"]["count"] == 5


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ({}, "count"),
        ({"count": "1"}, "count"),
        ({"count": 1.5}, "count"),
        ({"count": True}, "count"),
        ({"count": None}, "count"),
        ({"count": 1 << 63}, "count"),
        ({"count": 1, "day": "31.01.2013"}, "day"),
        ({"count": 1, "day": "2013-02-30"}, "day"),
        ({"count": 1, "price": "1.234"}, "price"),
        ({"count": 1, "price": 1.5}, "price"),
        ({"count": 1, "colour": "blue"}, "colour"),
        ({"count": 1, "at": "yesterday"}, "at"),
        ({"count": 1, "raw": "§"}, "raw"),
        ({"count": 1, "name": 7}, "name"),
        ({"count": 1, "cuont": 2}, "cuont"),
    ],
)
async def test_wrong_arguments_name_their_field(
    http: httpx.AsyncClient, args: dict[str, Any], field: str
) -> None:
    body = check_problem(
        await http.post(BASE.format("w", "put"), json=args), 400, Code.INVALID_ARGUMENTS
    )
    assert body["field"] == field


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"\xff", b'{"a":1}{}', b"{" * 9_000])
async def test_what_is_no_json_object_is_refused(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post(
        BASE.format("w", "put"), content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["code"] in {"invalid_body", "invalid_arguments"}


async def test_an_empty_body_is_an_empty_object(http: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    answer = await http.post(BASE.format("w", "noop"), headers=headers)
    assert answer.status_code == 200
    assert "result" not in answer.json()


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "json"])
async def test_only_json_is_taken(http: httpx.AsyncClient, kind: str) -> None:
    answer = await http.post(
        BASE.format("w", "put"), content=b'{"count":1}', headers={"Content-Type": kind}
    )
    check_problem(answer, 415, "unsupported_media_type")


async def test_a_traceparent_travels_into_the_outcome(http: httpx.AsyncClient) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    done = (await put(http, "w", {"traceparent": parent}, count=1)).json()
    found = (await http.get(BASE.format("w", done["command_id"]))).json()
    assert found["traceparent"] == parent
    done = (await put(http, "w", {"traceparent": "nonsense"}, count=1)).json()
    found = (await http.get(BASE.format("w", done["command_id"]))).json()
    assert "traceparent" not in found


async def test_a_command_as_published_is_the_documented_envelope(node: Node) -> None:
    seen: list[bytes] = []
    landed: Future[None] = Future()
    landed.set_result(None)

    def publish(_partition: int, _workspace: str, value: bytes) -> "Future[None]":
        seen.append(value)
        return landed

    headers = {"Prefer": "respond-async", "Expected-Sequence": "7", "Idempotency-Key": "k"}
    async with client(Bent(node, publish=publish)) as http:
        assert (await put(http, "w", headers, count=1)).status_code == 202
    command = wire.decode_command(seen[0])
    assert command["command_id"] == derived_id(b"w", b"k")
    assert command["name"] == "put"
    assert command["expected_sequence"] == 7
    assert command["source"] is None
    assert command["token"] is None


async def test_a_trace_follows_a_command_from_http_into_the_walk(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    memory = InMemorySpanExporter()
    traces = Traces("", 0.0, "node-1", SystemClock().now_ms, memory)
    traced = start_node(tmp_path_factory.mktemp("traced"), observer=traces)
    try:
        wait_ready(traced)
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        async with client(traced, traces=traces) as http:
            done = (await put(http, "w", {"traceparent": parent}, count=1)).json()
            assert (await put(http, "w", count=2)).status_code == 200
            found = (await http.get(BASE.format("w", done["command_id"]))).json()
    finally:
        traced.stop()
    traces.close()
    spans = {span.name: span for span in memory.get_finished_spans()}
    request = spans["command"]
    assert request.context is not None
    assert format(request.context.trace_id, "032x") == "0af7651916cd43dd8448eb211c80319c"
    assert request.attributes is not None
    assert request.attributes["partita.sequence"] == done["sequence"]
    assert found["traceparent"].split("-")[2] == format(request.context.span_id, "016x")
    assert {"decide", "append", "confirm", "apply", "reply", "walk"} <= spans.keys()
    apply = spans["apply"]
    assert apply.context is not None
    assert apply.context.trace_id == request.context.trace_id
    assert sum(span.name == "apply" for span in memory.get_finished_spans()) == 1


async def test_a_client_that_hangs_up_before_its_body_is_no_fault(node: Node) -> None:
    app = create_app(node, http_settings(), None, None, None)
    path = BASE.format("gone", "put")
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", b"20"),
        ],
    }
    messages = [
        {"type": "http.request", "body": b'{"count"', "more_body": True},
        {"type": "http.disconnect"},
    ]
    answered: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        answered.append(message)

    with capture_logs() as logs:
        await app(scope, receive, send)
    assert (answered, logs) == ([], [])
    assert (await _sequences(node, "gone")) == []


async def _sequences(node: Node, workspace: str) -> list[int]:
    async with client(node) as http:
        found = await http.get(f"/v1/workspaces/{workspace}/events")
    return [event["sequence"] for event in found.json()["events"]]
