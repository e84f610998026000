"""What a query selects: ranges, filters, order, paging, projection; and which can not be meant."""

import json
from typing import Any

import httpx
import pytest
from http_world import check_problem

from engine import limits

pytestmark = pytest.mark.anyio


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
    assert check_problem(answer, 400, "invalid_parameter")["field"] == next(reversed(options))


async def test_a_cursor_is_of_its_query_only(http: httpx.AsyncClient, filled: str) -> None:
    view = f"{filled}/views/by_day"
    for options in ({}, {"order": "count"}):
        first = (await http.get(view, params=options | {"limit": 3})).json()
        assert first["next"]
        other = {"order": "-count", "after": first["next"]}
        check_problem(await http.get(view, params=other), 400, "invalid_parameter")
        more = await http.get(view, params=options | {"limit": 5, "after": first["next"]})
        assert len(more.json()["rows"]) == 5


async def test_a_query_that_would_look_at_too_much_is_refused(
    http: httpx.AsyncClient, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "QUERY_SCAN_MAX", 20)
    view = f"{filled}/views/by_day"
    assert len(await rows_of(http, view, limit=10)) == 10
    body = check_problem(await http.get(view, params={"order": "count"}), 422, "query_too_wide")
    assert "more than 20 rows" in body["detail"]
    check_problem(await http.get(view, params={"where": '{"count": -1}'}), 422, "query_too_wide")
    assert len(await rows_of(http, view, day="2013-01-01", order="count")) == 10
