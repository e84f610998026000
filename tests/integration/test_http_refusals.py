"""Commands over HTTP that are refused or fail: each as a problem that says whose fault it is."""

from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from http_world import (
    BASE,
    Bent,
    check_problem,
    client,
    put,
)

from engine import limits
from engine.errors import Code, LogError, UnavailableError
from engine.http import Waits
from engine.model import Lookup, Phase, Progress, Reply
from engine.node.node import Node
from engine.world import derived_id

pytestmark = pytest.mark.anyio


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
