"""Queries over HTTP on a real node: pages, cursors, strict parameters, reading one's own writes."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import httpx
import pytest
from http_world import Bent, W, check_problem, client, http_settings

from engine import limits
from engine.http import Waits, context, create_app
from engine.node.node import Node
from engine.partition.reading import PartitionReader

pytestmark = pytest.mark.anyio


async def test_a_record_is_read_with_its_picture(http: httpx.AsyncClient, filled: str) -> None:
    answer = await http.get(f"{filled}/records/item/65537")
    body = answer.json()
    assert body["fields"] == {"count": 1, "name": "a", "day": "2013-01-02", "price": "1.50"}
    assert body["active"] is True
    assert answer.headers["partita-sequence"] == str(body["sequence"])
    assert answer.headers["partita-partition"] == str(body["partition"])


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/records/item/1", 404, "unknown_record"),
        ("/records/till/0", 404, "unknown_record"),
        ("/records/itme/1", 404, "unknown_record_type"),
        ("/records/item/one", 400, "invalid_parameter"),
        ("/records/item/-1", 400, "invalid_parameter"),
        ("/records/item/007", 400, "invalid_parameter"),
        ("/records/item/9223372036854775808", 400, "invalid_parameter"),
        ("/records/item/1?x=1", 400, "unknown_parameter"),
        ("/views/by_days", 404, "unknown_view"),
        ("/views/by_day?limit=0", 400, "invalid_parameter"),
        ("/views/by_day?limit=1001", 400, "invalid_parameter"),
        ("/views/by_day?limit=ten", 400, "invalid_parameter"),
        ("/views/by_day?limit=1&limit=2", 400, "invalid_parameter"),
        ("/views/by_day?day=yesterday", 400, "invalid_parameter"),
        ("/views/by_day?day=2013-02-29", 400, "invalid_parameter"),
        ("/views/by_day?name=a", 400, "invalid_parameter"),
        ("/views/by_day?day=2013-01-01&entry=1", 400, "invalid_parameter"),
        ("/views/by_day?day=2013-01-01&name=a&entry=x", 400, "invalid_parameter"),
        ("/views/by_day?dya=2013-01-01", 400, "unknown_parameter"),
        ("/views/by_day?after=%21", 400, "invalid_parameter"),
        ("/views/by_day?after=AAAA&day=2013-01-01", 400, "invalid_parameter"),
        ("/views/by_day?min_sequence=-1", 400, "invalid_parameter"),
        ("/views/kinds?l=1.5", 400, "invalid_parameter"),
        ("/views/kinds?l=1&t=noon", 400, "invalid_parameter"),
        ("/views/kinds?l=1&t=1970-01-01T00:00:00.001Z&d=x", 400, "invalid_parameter"),
        ("/views/kinds?l=1&t=1970-01-01T00:00:00.001Z&d=NaN", 400, "invalid_parameter"),
        ("/views/kinds?l=1&t=1970-01-01T00:00:00.001Z&d=1&b=*", 400, "invalid_parameter"),
        ("/views/kinds?l=1&t=1970-01-01T00:00:00.001Z&d=1&b=MQ==&o=1", 400, "invalid_parameter"),
        ("/events?after=-1", 400, "invalid_parameter"),
        ("/events?after=x", 400, "invalid_parameter"),
        ("/events?since=1", 400, "unknown_parameter"),
        ("/events?limit=0", 400, "invalid_parameter"),
        ("/nothing", 404, "not_found"),
        ("/views/by_day/", 404, "not_found"),
    ],
)
async def test_what_is_unknown_or_mistyped_is_an_error(
    http: httpx.AsyncClient, filled: str, path: str, status: int, code: str
) -> None:
    check_problem(await http.get(filled + path), status, code)


async def test_a_view_is_paged_to_its_end(http: httpx.AsyncClient, filled: str) -> None:
    everything = (await http.get(f"{filled}/views/by_day?limit=1000")).json()
    assert everything["next"] is None
    assert len(everything["rows"]) == 40
    keys = [(row["day"], row["name"], row["entry"]) for row in everything["rows"]]
    assert keys == sorted(keys)
    pages: list[dict[str, Any]] = []
    follow = ""
    while True:
        page = (await http.get(f"{filled}/views/by_day?limit=7{follow}")).json()
        pages += page["rows"]
        if page["next"] is None:
            break
        follow = f"&after={page['next']}"
    assert pages == everything["rows"]


async def test_a_view_is_read_by_key_prefix(http: httpx.AsyncClient, filled: str) -> None:
    rows = (await http.get(f"{filled}/views/by_day?day=2013-01-02")).json()["rows"]
    assert [row["count"] for row in rows if row["name"] == ""] == [9, 21, 33]
    rows = (await http.get(f"{filled}/views/by_day?day=2013-01-02&name=")).json()["rows"]
    assert [row["count"] for row in rows] == [9, 21, 33]
    entry = rows[0]["entry"]
    one = await http.get(f"{filled}/views/by_day?day=2013-01-02&name=&entry={entry}")
    assert [row["count"] for row in one.json()["rows"]] == [9]
    assert (await http.get(f"{filled}/views/by_day?day=1999-01-01")).json()["rows"] == []


async def test_every_kind_of_key_column_goes_out_and_comes_back(
    http: httpx.AsyncClient, filled: str
) -> None:
    row = (await http.get(f"{filled}/views/kinds?l=5")).json()["rows"][0]
    assert row["t"] == "1970-01-01T00:00:00.005Z"
    assert (row["d"], row["b"], row["o"]) == (2.5, "NQ==", True)
    params = {"l": 5, "t": row["t"], "d": row["d"], "b": row["b"], "o": "true"}
    again = await http.get(f"{filled}/views/kinds", params=params)
    assert again.json()["rows"] == [row]
    params["o"] = "false"
    assert (await http.get(f"{filled}/views/kinds", params=params)).json()["rows"] == []


async def test_a_view_without_a_key_has_one_row(http: httpx.AsyncClient, filled: str) -> None:
    body = (await http.get(f"{filled}/views/one")).json()
    assert body["rows"] == [{"count": 39, "note": None}]
    assert body["next"] is None


async def test_a_workspace_that_is_not_there_is_empty(http: httpx.AsyncClient) -> None:
    assert (await http.get(W.format("absent") + "/views/by_day")).json()["rows"] == []
    assert (await http.get(W.format("absent") + "/events")).json()["events"] == []


async def test_a_log_is_paged_in_the_workspaces_order(http: httpx.AsyncClient, filled: str) -> None:
    events: list[dict[str, Any]] = []
    after = 0
    while after is not None:
        page = (await http.get(f"{filled}/events?limit=9&after={after}")).json()
        assert len(page["events"]) <= 9
        events += page["events"]
        after = page["next"]
    assert [event["workspace_sequence"] for event in events] == list(range(1, 45))
    assert [event["code"] for event in events].count("no") == 4
    first = events[0]
    assert first["command"] == "put"
    assert first["args"]["count"] == 0
    assert first["result"]["id"] == 65_536
    assert first["changes"][0]["fields"]["price"] == "0.50"
    assert (await http.get(f"{filled}/events?after=44")).json()["events"] == []
    assert (await http.get(f"{filled}/events?after=900000000000000000")).json()["events"] == []


@pytest.mark.parametrize(
    "path", ["/events?limit=1000", "/views/by_day?limit=30", "/records/item?order=-count&limit=30"]
)
async def test_a_page_that_is_told_part_by_part_is_the_same_page(
    http: httpx.AsyncClient, filled: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    whole = await http.get(filled + path)
    assert int(whole.headers["content-length"]) == len(whole.content)
    monkeypatch.setattr(limits, "PAGE_PART_BYTES", 1)
    parts = await http.get(filled + path)
    assert "content-length" not in parts.headers
    assert parts.headers["partita-sequence"] == str(parts.json()["sequence"])
    assert parts.json() == whole.json()
    head = await http.head(filled + path)
    assert (head.status_code, head.content) == (200, b"")


class Readers:
    """Which readers a node has given, and which were closed."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made, self.closed = 0, 0
        real = node.reader

        def reader(partition: int, *, stale: bool) -> PartitionReader:
            found = real(partition, stale=stale)
            close = found.close
            self.made += 1

            def closing() -> None:
                self.closed += 1
                close()

            monkeypatch.setattr(found, "close", closing, raising=False)
            return found

        monkeypatch.setattr(node, "reader", reader)


async def told(node: Node, path: str, send: Any, waits: Waits | None = None) -> None:
    """Let a node answer to a client of our own making."""
    app = create_app(node, http_settings(), waits=waits)
    raw, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": "GET",
        "path": raw,
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"127.0.0.1")],
        "app": app,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    await app(scope, receive, send)


async def test_a_page_is_of_one_picture_however_slowly_it_is_taken(
    node: Node, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PAGE_PART_BYTES", 1)
    filled = W.format("slow")
    for number in range(9):
        await http.post(f"{filled}/commands/put", json={"count": number, "day": "2013-01-01"})
    before = (await http.get(f"{filled}/views/by_day?limit=1000")).json()
    readers, taken = Readers(node, monkeypatch), bytearray()

    async def send(message: dict[str, Any]) -> None:
        if len(taken) < 300:  # meanwhile a row of the rest of the page changes
            args = {"count": 1_000 + len(taken), "day": "2999-01-01", "name": "later"}
            await http.post(f"{filled}/commands/put", json=args)
        taken.extend(message.get("body", b""))

    await told(node, f"{filled}/views/by_day?limit=1000", send)
    assert json.loads(taken) == before
    assert len((await http.get(f"{filled}/views/by_day?limit=1000")).json()["rows"]) > len(
        before["rows"]
    )
    assert readers.closed == readers.made >= 1


async def test_who_stops_reading_a_page_holds_no_picture(
    node: Node, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PAGE_PART_BYTES", 1)
    readers, taken = Readers(node, monkeypatch), []

    async def send(message: dict[str, Any]) -> None:
        taken.append(message)
        if len(taken) == 4:
            await asyncio.Event().wait()

    await told(node, f"{filled}/views/by_day?limit=1000", send, Waits(send_ms=20))
    assert (readers.made, readers.closed) == (1, 1)
    assert taken[-1]["more_body"]


async def test_min_sequence_waits_for_one_s_own_write(http: httpx.AsyncClient) -> None:
    for number in range(5):
        done = await http.post(W.format("own") + "/commands/put", json={"count": number})
        sequence = done.json()["sequence"]
        page = await http.get(f"{W.format('own')}/views/one?min_sequence={sequence}")
        assert page.json()["sequence"] >= sequence
        assert page.json()["rows"][0]["count"] == number


async def test_min_sequence_that_does_not_come_is_a_503(node: Node) -> None:
    async with client(node, Waits(sequence_ms=20)) as http:
        for path in ("/views/one", "/records/item/1", "/events"):
            answer = await http.get(f"{W.format('w')}{path}?min_sequence=4000000000")
            check_problem(answer, 503, "timed_out")
            assert answer.headers["retry-after"] == "1"


async def test_a_late_answer_harms_nobody(node: Node) -> None:
    late: Future[int] = Future()
    async with client(
        Bent(node, wait_sequence=lambda *_, **__: late), Waits(sequence_ms=5)
    ) as http:
        check_problem(await http.get(f"{W.format('w')}/views/one?min_sequence=1"), 503, "timed_out")
    assert late.cancelled()


async def test_readers_are_closed(node: Node) -> None:
    opened: list[Any] = []
    closed: list[Any] = []

    def reader(partition: int, *, stale: bool) -> Any:
        inner = node.reader(partition, stale=stale)
        opened.append(inner)
        return Bent(inner, close=lambda: (closed.append(inner), inner.close()))

    async with client(Bent(node, reader=reader)) as http:
        for path in ("/views/one", "/records/item/1", "/records/item", "/events"):
            await http.get(W.format("w") + path)
    assert len(opened) == 4
    assert opened == closed


async def test_what_is_brief_is_read_without_another_thread(
    http: httpx.AsyncClient, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_over: list[str] = []

    async def elsewhere(work: Callable[[], Any]) -> Any:
        handed_over.append("once")
        return work()

    monkeypatch.setattr(context, "run_in_threadpool", elsewhere)
    for path in ("/views/by_day", "/views/by_day?limit=10", "/views/one", "/records/item/65536"):
        assert (await http.get(filled + path)).status_code == 200
    assert handed_over == []
    for path in ("/views/by_day?limit=101", "/views/by_day?order=name", "/records/item"):
        assert (await http.get(filled + path)).status_code == 200
    assert handed_over == ["once"] * 3
