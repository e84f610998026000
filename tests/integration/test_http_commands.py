"""Commands over HTTP, from a request to its outcome, on a real node."""

from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from http_world import Bent, client, http_settings, start_node, wait_ready
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from engine import limits, wire
from engine.errors import Code, LogError, UnavailableError
from engine.http import Waits, create_app
from engine.model import Lookup, Phase, Progress, Reply
from engine.node.node import Node
from engine.telemetry.traces import Traces
from engine.world import SystemClock, derived_id, uuid7_time_ms

pytestmark = pytest.mark.anyio
BASE = "/v1/workspaces/{}/commands/{}"


async def put(
    http: httpx.AsyncClient, workspace: str, headers: dict[str, str] | None = None, **args: Any
) -> httpx.Response:
    return await http.post(BASE.format(workspace, "put"), json=args, headers=headers)


def check_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["type"] == f"/problems/{code}"
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in response.text
    assert ("retry-after" in response.headers) == (status in {429, 503})
    return body


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


async def test_a_large_body_is_refused_declared_or_not(http: httpx.AsyncClient) -> None:
    large = b'{"count":1,"name":"' + b"x" * limits.HTTP_BODY_BYTES_MAX + b'"}'
    headers = {"Content-Type": "application/json"}
    declared = await http.post(BASE.format("w", "put"), content=large, headers=headers)
    check_problem(declared, 413, "body_too_large")

    sent = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal sent
        for start in range(0, len(large) * 4, 65_536):
            sent = start
            yield b"x" * 65_536

    undeclared = await http.post(BASE.format("w", "put"), content=parts(), headers=headers)
    check_problem(undeclared, 413, "body_too_large")
    assert sent <= limits.HTTP_BODY_BYTES_MAX + 65_536
    full = b'{"count":1,"raw":"' + b"A" * (limits.HTTP_BODY_BYTES_MAX - 20) + b'"}'
    fits = await http.post(BASE.format("w", "put"), content=full, headers=headers)
    assert fits.status_code in {200, 413, 422}, fits.text


@pytest.mark.parametrize("size", [0, limits.COMMAND_BYTES_MAX])
async def test_a_wrong_content_length_is_no_fault(http: httpx.AsyncClient, size: int) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": "nonsense"}
    answer = await http.post(BASE.format("w", "put"), content=b"x" * size, headers=headers)
    check_problem(answer, 400, "invalid_header")


async def test_unknown_names_are_problems(http: httpx.AsyncClient) -> None:
    body = check_problem(
        await http.post(BASE.format("w", "putt"), json={}), 404, Code.UNKNOWN_COMMAND
    )
    assert "put" in body["hint"]
    check_problem(await http.get(BASE.format("w", str(uuid4()))), 404, "unknown_command_id")
    check_problem(await http.get(BASE.format("w", "put")), 400, "invalid_path")
    check_problem(
        await http.post(BASE.format("w", "put") + "?wait=1", json={"count": 1}),
        400,
        "unknown_parameter",
    )


async def test_an_outcome_is_not_shown_in_another_workspace(
    http: httpx.AsyncClient, node: Node
) -> None:
    done = (await put(http, "mine", count=1)).json()
    others = [f"w{number}" for number in range(20)]
    same = next(name for name in others if node.partition_of(name) == node.partition_of("mine"))
    check_problem(await http.get(BASE.format(same, done["command_id"])), 404, "unknown_command_id")


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_has_bounds(http: httpx.AsyncClient, key: str) -> None:
    check_problem(await put(http, "w", {"Idempotency-Key": key}, count=1), 400, "invalid_header")


@pytest.mark.parametrize("raw", ["%00", "a%00b", "x" * 257, "%C3%A9" * 129])
async def test_a_workspace_has_bounds(http: httpx.AsyncClient, raw: str) -> None:
    answer = await put(http, raw, count=1)
    assert answer.status_code == 400
    assert answer.json()["code"] in {"invalid_workspace", "invalid_path"}


async def test_a_path_must_be_utf_8(http: httpx.AsyncClient) -> None:
    check_problem(await put(http, "a%FF", count=1), 400, "invalid_path")


async def test_silence_is_never_a_rejection(node: Node) -> None:
    forgotten: list[Any] = []
    silent: Future[Reply] = Future()
    bent = Bent(
        node,
        submit=lambda *_: silent,
        forget=lambda *args: forgotten.append(args),
    )
    async with client(bent, Waits(outcome_ms=20)) as http:
        body = check_problem(await put(http, "w", count=1), 503, "timed_out")
    assert body["idempotency_key"] == body["command_id"]
    assert forgotten[0][2] is silent
    # The node may answer late; nobody listens, nothing breaks.
    assert not silent.set_running_or_notify_cancel()


async def test_a_lost_partition_is_retryable_and_names_the_key(node: Node) -> None:
    lost: Future[Reply] = Future()
    lost.set_exception(UnavailableError("E1402", "the partition changed its owner"))
    async with client(Bent(node, submit=lambda *_: lost)) as http:
        body = check_problem(await put(http, "w", {"Idempotency-Key": "k"}, count=1), 503, "E1402")
    assert UUID(body["idempotency_key"]).bytes == derived_id(b"w", b"k")
    assert body["partition"] == node.partition_of("w")


async def test_too_many_waiting_is_a_429(node: Node) -> None:
    def full(*_: Any) -> None:
        raise UnavailableError("E1403", "too many wait", "Try again later")

    async with client(Bent(node, submit=full, publish=full)) as http:
        check_problem(await put(http, "w", count=1), 429, "E1403")
        check_problem(await put(http, "w", {"Prefer": "respond-async"}, count=1), 429, "E1403")


async def test_a_restoring_partition_answers_with_its_progress(node: Node) -> None:
    partition = node.partition_of("w")
    progress = Progress(partition, Phase.RECOVERING, 10, 110, 25.0, 4.0)

    def restoring(*_: Any, **__: Any) -> None:
        raise UnavailableError("E1402", "the partition is recovering", partition=partition)

    bent = Bent(node, submit=restoring, reader=restoring, progress=lambda: [progress])
    async with client(bent) as http:
        for answer in (
            await put(http, "w", count=1),
            await http.get("/v1/workspaces/w/views/one"),
        ):
            body = check_problem(answer, 503, "E1402")
            assert answer.headers["retry-after"] == "4"
            assert body["progress"]["applied_offset"] == 10
            assert body["progress"]["target_offset"] == 110


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.UNKNOWN_COMMAND, 404),
        (Code.ID_EXPIRED, 410),
        (Code.ID_TOO_NEW, 422),
        (Code.DEDUP_FULL, 429),
        (Code.OUTCOME_TOO_LARGE, 413),
        (Code.TIME_EXCEEDED, 422),
    ],
)
async def test_each_code_has_its_status(node: Node, code: Code, status: int) -> None:
    answered: Future[Reply] = Future()
    answered.set_result(Reply(bytes(16), "w", 0, 0, code))
    async with client(Bent(node, submit=lambda *_: answered)) as http:
        check_problem(await put(http, "w", count=1), status, code)


async def test_an_outcome_that_left_the_log_is_gone(node: Node) -> None:
    done: Future[Any] = Future()
    async with client(node) as http:
        made = (await put(http, "w", count=1)).json()
    done.set_result(Lookup.GONE)
    async with client(Bent(node, event=lambda *_: done)) as http:
        check_problem(await http.get(BASE.format("w", made["command_id"])), 410, "gone")
        check_problem(await http.get("/v1/workspaces/w/events"), 410, "gone")


async def test_a_fault_shows_no_inside(node: Node) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret detail")

    def damaged(*_: Any) -> None:
        raise LogError("E1303", "a segment is damaged")

    async with client(Bent(node, submit=broken)) as http:
        answer = await put(http, "w", count=1)
        check_problem(answer, 500, "E1405")
        assert "secret" not in answer.text
    async with client(Bent(node, submit=damaged)) as http:
        check_problem(await put(http, "w", count=1), 500, "E1303")


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
