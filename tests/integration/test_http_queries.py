"""Queries over HTTP on a real node: pages, cursors, strict parameters, reading one's own writes."""

import asyncio
import json
from concurrent.futures import Future
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from http_world import Bent, client, http_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import limits
from engine.http import Waits, create_app
from engine.node.node import Node
from engine.partition.reading import PartitionReader

pytestmark = pytest.mark.anyio
W = "/v1/workspaces/{}"


@pytest.fixture(scope="module")
async def filled(http: httpx.AsyncClient) -> str:
    """Return a workspace with 40 items, rejections among them."""
    for number in range(40):
        day = f"2013-01-{number % 4 + 1:02d}"
        args = {"count": number, "day": day, "name": "a b"[: number % 3], "price": f"{number}.50"}
        answer = await http.post(W.format("filled") + "/commands/put", json=args)
        assert answer.status_code == 200
        if number % 10 == 9:
            await http.post(W.format("filled") + "/commands/refuse", json={"code": "no"})
    return W.format("filled")


def check(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert response.headers["content-type"] == "application/problem+json"
    return body


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
    check(await http.get(filled + path), status, code)


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
            check(answer, 503, "timed_out")
            assert answer.headers["retry-after"] == "1"


async def test_a_late_answer_harms_nobody(node: Node) -> None:
    late: Future[int] = Future()
    async with client(
        Bent(node, wait_sequence=lambda *_, **__: late), Waits(sequence_ms=5)
    ) as http:
        check(await http.get(f"{W.format('w')}/views/one?min_sequence=1"), 503, "timed_out")
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


TEXT = st.one_of(
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
    st.dates().map(str),
    st.sampled_from(["", "true", "2013-01-01", "AAAA", "1970-01-01T00:00:00.001Z", "\x00", "é"]),
)
NAMES = st.sampled_from(
    [
        "limit",
        "after",
        "min_sequence",
        "stale",
        "day",
        "name",
        "entry",
        "l",
        "t",
        "d",
        "b",
        "o",
        "x",
        "",
    ]
)
PATHS = st.sampled_from(["views/by_day", "views/kinds", "views/one", "records/item", "events"])


@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    workspace=TEXT,
    path=PATHS,
    tail=st.one_of(st.none(), TEXT),
    params=st.lists(st.tuples(NAMES, TEXT), max_size=4),
)
async def test_no_request_breaks_the_server(
    node: Node, workspace: str, path: str, tail: str | None, params: list[tuple[str, str]]
) -> None:
    url = f"/v1/workspaces/{quote(workspace, safe='')}/{path}"
    if tail is not None:
        url += "/" + quote(tail, safe="")
    async with client(node, Waits(sequence_ms=1)) as http:
        answer = await http.get(url, params=params)
    assert answer.status_code in {200, 400, 404, 503}, answer.text
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
ARGS = st.sampled_from(["count", "name", "day", "price", "colour", "at", "ratio", "raw", "x"])


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.dictionaries(ARGS, JSON, max_size=5) | JSON, st.sampled_from(["put", "refuse", "noop"]))
async def test_no_body_breaks_the_server(node: Node, body: Any, command: str) -> None:
    async with client(node) as http:
        answer = await http.post(
            f"{W.format('fuzz')}/commands/{command}",
            content=json.dumps(body),
            headers={"Content-Type": "application/json"},
        )
    assert answer.status_code in {200, 400, 422}, answer.text


async def rows_of(http: httpx.AsyncClient, path: str, **options: Any) -> list[dict[str, Any]]:
    params = {
        name: json.dumps(value) if name == "where" else value for name, value in options.items()
    }
    answer = await http.get(path, params=params)
    assert answer.status_code == 200, answer.json()
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return rows


async def test_a_range_bounds_the_first_key_column_that_is_not_given(
    http: httpx.AsyncClient, filled: str
) -> None:
    view = f"{filled}/views/by_day"
    rows = await rows_of(http, view, **{"day.from": "2013-01-02", "day.to": "2013-01-03"})
    assert {row["day"] for row in rows} == {"2013-01-02", "2013-01-03"}
    rows = await rows_of(http, view, **{"day.to": "2013-01-01"})
    assert {row["day"] for row in rows} == {"2013-01-01"}
    rows = await rows_of(http, view, **{"day": "2013-01-01", "name.from": "a", "name.to": "a"})
    assert {(row["day"], row["name"]) for row in rows} == {("2013-01-01", "a")}
    assert await rows_of(http, view, **{"day.from": "2013-01-03", "day.to": "2013-01-02"}) == []
    rows = await rows_of(http, f"{filled}/records/item", **{"id.from": 65_540, "id.to": 65_541})
    assert [row["id"] for row in rows] == [65_540, 65_541]


async def test_filter_then_order_then_page(http: httpx.AsyncClient, filled: str) -> None:
    view = f"{filled}/views/by_day"
    everything = await rows_of(http, view, limit=1_000)
    where = {"count": {"ge": 5, "lt": 35}, "name": {"in": ["", "a"]}, "day": {"ne": "2013-01-01"}}
    expected = [
        row
        for row in everything
        if 5 <= row["count"] < 35 and row["name"] in {"", "a"} and row["day"] != "2013-01-01"
    ]
    assert 10 < len(expected) < 30
    assert await rows_of(http, view, where=where) == expected
    expected.sort(key=lambda row: (row["name"], -row["count"]))
    options = {"where": where, "order": "name,-count"}
    assert await rows_of(http, view, **options) == expected
    pages: list[dict[str, Any]] = []
    follow: dict[str, str] = {}
    while True:
        answer = await http.get(
            view, params={"where": json.dumps(where), "order": "name,-count", "limit": 4} | follow
        )
        body = answer.json()
        assert len(body["rows"]) <= 4
        pages += body["rows"]
        if body["next"] is None:
            break
        follow = {"after": body["next"]}
    assert pages == expected


async def test_a_type_is_listed_filtered_and_projected(
    http: httpx.AsyncClient, filled: str
) -> None:
    records = f"{filled}/records/item"
    rows = await rows_of(http, records, limit=1_000)
    assert [row["id"] for row in rows] == list(range(65_536, 65_576))
    assert rows[3]["fields"]["count"] == 3
    assert rows[3]["active"] is True
    rows = await rows_of(http, records, where={"price": {"gt": "37.50"}}, keys="price")
    assert [row["fields"] for row in rows] == [{"price": "38.50"}, {"price": "39.50"}]
    rows = await rows_of(http, records, where={"id": 65_538}, order="-id")
    assert [row["id"] for row in rows] == [65_538]
    rows = await rows_of(http, f"{filled}/views/by_day", keys="count,day", limit=1)
    assert list(rows[0]) == ["count", "day"]
    one = await http.get(f"{records}/65537", params={"keys": "count,name"})
    assert one.json()["fields"] == {"count": 1, "name": "a"}
    assert await rows_of(http, f"{filled}/records/till") == []


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/views/by_day", {"where": "count"}),
        ("/views/by_day", {"where": "[]"}),
        ("/views/by_day", {"where": '{"cuont": 1}'}),
        ("/views/by_day", {"where": '{"count": "1"}'}),
        ("/views/by_day", {"where": '{"count": 1.5}'}),
        ("/views/by_day", {"where": '{"count": 9223372036854775808}'}),
        ("/views/by_day", {"where": '{"count": null}'}),
        ("/views/by_day", {"where": '{"count": {}}'}),
        ("/views/by_day", {"where": '{"count": {"gte": 1}}'}),
        ("/views/by_day", {"where": '{"count": {"in": 1}}'}),
        ("/views/by_day", {"where": '{"count": {"in": [1, "2"]}}'}),
        ("/views/by_day", {"where": '{"count": 1, "count": 2}'}),
        ("/views/by_day", {"where": '{"note": {"lt": null}}'}),
        ("/views/by_day", {"where": '{"day": "soon"}'}),
        ("/views/by_day", {"where": '{"count": NaN}'}),
        ("/views/by_day", {"where": '{"count":' + "[" * 9_000}),
        ("/views/by_day", {"order": "cuont"}),
        ("/views/by_day", {"order": ""}),
        ("/views/by_day", {"order": "count,-count"}),
        ("/views/by_day", {"keys": "cuont"}),
        ("/views/by_day", {"keys": "count.deeper"}),
        ("/views/by_day", {"keys": ""}),
        ("/views/by_day", {"day.from": "soon"}),
        ("/views/by_day", {"name.from": "a"}),
        ("/views/by_day", {"day": "2013-01-01", "day.from": "2013-01-01"}),
        ("/views/by_day", {"where": json.dumps({"count": {"in": [1] * 1_001}})}),
        ("/records/item", {"where": '{"day": 1.5}'}),
        ("/records/item", {"where": '{"price": "1.234"}'}),
        ("/records/item", {"inactive": "yes"}),
        ("/records/item", {"order": "nothing"}),
        ("/records/item/65536", {"keys": "nothing"}),
    ],
)
async def test_an_option_that_can_not_be_meant_is_an_error(
    http: httpx.AsyncClient, filled: str, path: str, options: dict[str, str]
) -> None:
    answer = await http.get(filled + path, params=options)
    assert check(answer, 400, "invalid_parameter")["field"] == next(reversed(options))


async def test_a_cursor_is_of_its_query_only(http: httpx.AsyncClient, filled: str) -> None:
    view = f"{filled}/views/by_day"
    for options in ({}, {"order": "count"}):
        first = (await http.get(view, params=options | {"limit": 3})).json()
        assert first["next"]
        other = {"order": "-count", "after": first["next"]}
        check(await http.get(view, params=other), 400, "invalid_parameter")
        more = await http.get(view, params=options | {"limit": 5, "after": first["next"]})
        assert len(more.json()["rows"]) == 5


async def test_a_query_that_would_look_at_too_much_is_refused(
    http: httpx.AsyncClient, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "QUERY_SCAN_MAX", 20)
    view = f"{filled}/views/by_day"
    assert len(await rows_of(http, view, limit=10)) == 10
    body = check(await http.get(view, params={"order": "count"}), 422, "query_too_wide")
    assert "more than 20 rows" in body["detail"]
    check(await http.get(view, params={"where": '{"count": -1}'}), 422, "query_too_wide")
    assert len(await rows_of(http, view, day="2013-01-01", order="count")) == 10
