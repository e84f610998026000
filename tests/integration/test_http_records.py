"""The record model over HTTP: nested documents, generic commands, kinds of workspaces, errors."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from http_world import W, check_problem, client, http_settings, start_node, wait_ready

from engine import limits
from engine.application.folder import load_application
from engine.http import Server, create_app
from engine.node.node import Node

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]


def fields(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "type": "long", "default": 0} for name in names]


def record(name: str, *names: str) -> str:
    return json.dumps({"type": "record", "name": name, "fields": fields(*names)})


# Documents in two levels below a book; a workspace of the kind `desk` has none of them.
MANIFEST = """
application = { name = "library", version = "1.0.0", partitions = 2 }
extensions.library = { python = "library:Library" }
commands.build = { args = "none.avsc", run = "library:build", creates = "library" }
commands.place = { args = "none.avsc", run = "library:build", creates = "desk" }
commands.burn = { args = "none.avsc", run = "library:build", deactivates = true }
commands.write = { generic = ["book", "chapter", "page", "pen"] }
views.inks = { row = "pen.avsc", key = ["at:long"] }
views.pens = { row = "pen.avsc", key = ["at:long"] }
[commands.lend]
args = "none.avsc"
run = "library:lend"
errors = { lent = "It is lent already" }
[workspaces.library]
[workspaces.desk]
records = ["pen"]
commands = ["place", "write", "burn"]
views = ["inks"]
[records]
book = { schema = "book.avsc", kind = "operational", unique = { number = ["number"] } }
chapter = { schema = "book.avsc", parent = "book" }
page = { schema = "book.avsc", parent = "chapter" }
pen = { schema = "pen.avsc", kind = "operational", checks = { ink = { max = 10 } } }
receipt = { schema = "pen.avsc", kind = "operation" }
"""
FILES = {
    "application.toml": MANIFEST,
    "none.avsc": record("None"),
    "book.avsc": record("Book", "number"),
    "pen.avsc": record("Pen", "ink"),
    "library.py": "class Library:\n"
    "    def build(self, call):\n        pass\n"
    "    def lend(self, call):\n        call.reject('lent')\n",
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("library")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    running = start_node(folder / "node", application=load_application(folder))
    wait_ready(running)
    yield running
    running.stop()


@pytest.fixture
async def http(node: Node) -> AsyncIterator[httpx.AsyncClient]:
    async with client(node) as made:
        yield made


async def do(
    http: httpx.AsyncClient, workspace: str, command: str, body: Any = None
) -> dict[str, Any]:
    answer = await http.post(f"{W.format(workspace)}/commands/{command}", json=body or {})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def change(http: httpx.AsyncClient, workspace: str, *changes: Any) -> dict[str, int]:
    ids: dict[str, int] = (await do(http, workspace, "write", {"changes": changes}))["ids"]
    return ids


def made(type_: str, number: int, temporary: int, parent: int = 0) -> dict[str, Any]:
    one: dict[str, Any] = {"op": "create", "type": type_, "id": temporary}
    if parent:
        one["parent"] = parent
    return one | {"fields": {"number": number}}


async def library(http: httpx.AsyncClient, workspace: str) -> dict[str, int]:
    """Make a book of two chapters with pages; return the ids by their temporary ones."""
    await do(http, workspace, "build")
    return await change(
        http,
        workspace,
        made("book", 1, 1),
        made("chapter", 10, 2, 1),
        made("chapter", 20, 3, 1),
        made("page", 11, 4, 2),
        made("page", 12, 5, 2),
        made("page", 21, 6, 3),
    )


async def test_a_generic_command_tells_what_became_of_temporary_ids(
    http: httpx.AsyncClient,
) -> None:
    ids = await library(http, "ids")
    assert sorted(ids) == ["1", "2", "3", "4", "5", "6"]
    assert min(ids.values()) >= limits.ID_FIRST
    events = (await http.get(W.format("ids") + "/events")).json()["events"]
    assert events[-1]["ids"] == ids
    assert events[-1]["args"]["changes"][1] == made("chapter", 10, 2, 1)
    kept = events[-1]["changes"][3]
    assert (kept["type"], kept["root"], kept["parent"]) == ("page", ids["1"], ids["2"])


async def test_a_document_comes_with_what_is_nested_in_it(http: httpx.AsyncClient) -> None:
    ids = await library(http, "nested")
    book = f"{W.format('nested')}/records/book/{ids['1']}"
    body = (await http.get(book)).json()
    chapters = body["children"]["chapter"]
    assert [chapter["fields"]["number"] for chapter in chapters] == [10, 20]
    assert [chapter["id"] for chapter in chapters] == [ids["2"], ids["3"]]
    assert [page["fields"]["number"] for page in chapters[0]["children"]["page"]] == [11, 12]
    assert {page["parent"] for page in chapters[0]["children"]["page"]} == {ids["2"]}
    body = (await http.get(book, params={"keys": "number,chapter.page.number"})).json()
    assert body["fields"] == {"number": 1}
    assert body["children"]["chapter"][0]["fields"] == {}
    assert body["children"]["chapter"][1]["children"]["page"][0]["fields"] == {"number": 21}
    body = (await http.get(book, params={"keys": "number"})).json()
    assert "children" not in body
    body = (await http.get(book, params={"keys": "chapter.number"})).json()
    assert "children" not in body["children"]["chapter"][0]
    answer = await http.get(book, params={"keys": "chapter.pages"})
    assert check_problem(answer, 400, "invalid_parameter")["field"] == "keys"


async def test_nested_records_are_read_and_listed_by_their_document(
    http: httpx.AsyncClient,
) -> None:
    ids = await library(http, "below")
    records = W.format("below") + "/records"
    answer = await http.get(f"{records}/page/{ids['6']}", params={"root": ids["1"]})
    assert answer.json()["parent"] == ids["3"]
    assert check_problem(await http.get(f"{records}/page/{ids['6']}"), 400, "invalid_parameter")[
        "field"
    ]
    check_problem(await http.get(f"{records}/book/{ids['1']}?root=1"), 400, "unknown_parameter")
    rows = (await http.get(f"{records}/page")).json()["rows"]
    assert [row["fields"]["number"] for row in rows] == [11, 12, 21]
    where = json.dumps({"parent": ids["2"]})
    rows = (await http.get(f"{records}/page", params={"root": ids["1"], "where": where})).json()
    assert [row["id"] for row in rows["rows"]] == [ids["4"], ids["5"]]
    rows = (await http.get(f"{records}/book", params={"keys": "number,chapter.number"})).json()
    assert len(rows["rows"][0]["children"]["chapter"]) == 2
    rows = (await http.get(f"{records}/book")).json()["rows"]
    assert "children" not in rows[0]


async def test_what_is_inactive_is_shown_only_if_asked_for(http: httpx.AsyncClient) -> None:
    ids = await library(http, "inactive")
    leave = {"op": "deactivate", "type": "chapter", "id": ids["3"], "root": ids["1"]}
    await change(http, "inactive", leave | {"parent": ids["1"]})
    book = f"{W.format('inactive')}/records/book/{ids['1']}"
    chapters = (await http.get(book)).json()["children"]["chapter"]
    assert [chapter["id"] for chapter in chapters] == [ids["2"]]
    chapters = (await http.get(book, params={"inactive": "true"})).json()["children"]["chapter"]
    assert [chapter["active"] for chapter in chapters] == [True, False]
    rows = (await http.get(W.format("inactive") + "/records/chapter")).json()["rows"]
    assert len(rows) == 1


async def test_too_much_below_a_document_is_refused(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await library(http, "much")
    monkeypatch.setattr(limits, "QUERY_SCAN_MAX", 3)
    book = f"{W.format('much')}/records/book/{ids['1']}"
    check_problem(await http.get(book), 422, "query_too_wide")
    assert (await http.get(book, params={"keys": "number,chapter.number"})).status_code == 200


async def test_conditions_look_into_what_is_nested(http: httpx.AsyncClient) -> None:
    first = await library(http, "within")
    second = await change(
        http,
        "within",
        made("book", 2, 1),
        made("chapter", 10, 2, 1),
        made("page", 21, 3, 2),
        made("book", 3, 4),
    )
    one, two, three = first["1"], second["1"], second["4"]
    records = W.format("within") + "/records"

    async def books(type_: str = "book", **where: Any) -> list[int]:
        params = {"where": json.dumps({name.replace("__", "."): at for name, at in where.items()})}
        answer = await http.get(f"{records}/{type_}", params=params)
        assert answer.status_code == 200, answer.text
        assert all("children" not in row for row in answer.json()["rows"])
        return [row["id"] for row in answer.json()["rows"]]

    assert await books() == [one, two, three]
    assert await books(chapter__number=10) == [one, two]
    assert await books(chapter__number={"ge": 20}) == [one]
    assert await books(chapter__page__number=21) == [one, two]
    assert await books(chapter__page__number=12, number=1) == [one]
    # One and the same chapter has to have both: of the first book, two do.
    assert await books(chapter__number=10, chapter__page__number=21) == [two]
    assert await books(chapter__number=20, chapter__page__number=21) == [one]
    assert await books(chapter__number={"ne": 10}) == [one]
    assert await books(chapter__id=second["2"]) == [two]
    assert await books("chapter", page__number={"in": [11, 21]}) == [
        *(first["2"], first["3"]),
        second["2"],
    ]
    leave = {"op": "deactivate", "type": "chapter", "id": first["3"], "root": one, "parent": one}
    await change(http, "within", leave)
    assert await books(chapter__page__number=21) == [two]
    params = {"where": '{"chapter.page.number": 21}', "inactive": "true"}
    rows = (await http.get(f"{records}/book", params=params)).json()["rows"]
    assert [row["id"] for row in rows] == [one, two]
    for wrong, says in (
        ("chapters.number", "there is no list 'chapters'; lists are: chapter"),
        ("chapter", "name one of its fields, such as chapter."),
        ("chapter.name", "there is no field 'chapter.name'"),
        ("number.x", "there is no list 'number'"),
    ):
        params = {"where": json.dumps({wrong: 1})}
        body = check_problem(
            await http.get(f"{records}/book", params=params), 400, "invalid_parameter"
        )
        assert says in body["detail"]


async def test_a_page_ends_early_where_too_much_is_nested_and_goes_on(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await do(http, "early", "build")
    for number in range(5):
        chapters = (made("chapter", at, at + 2, 1) for at in range(3))
        await change(http, "early", made("book", number, 1), *chapters)
    monkeypatch.setattr(limits, "QUERY_SCAN_MAX", 7)
    seen: list[tuple[int, int]] = []
    params: dict[str, Any] = {"keys": "number,chapter.number"}
    pages = 0
    while True:
        page = (await http.get(W.format("early") + "/records/book", params=params)).json()
        seen += [(row["fields"]["number"], len(row["children"]["chapter"])) for row in page["rows"]]
        pages += 1
        if page["next"] is None:
            break
        params["after"] = page["next"]
    assert seen == [(number, 3) for number in range(5)]
    assert pages == 3


async def test_unknown_and_gone_workspaces_are_told_apart(http: httpx.AsyncClient) -> None:
    reads = ("/records/pen", "/records/pen/1", "/views/pens", "/events")
    for path in reads:
        body = check_problem(await http.get(W.format("nobody") + path), 404, "unknown_workspace")
        assert "build" in body["hint"]
    check_problem(
        await http.post(W.format("nobody") + "/commands/lend", json={}), 404, "unknown_workspace"
    )
    await do(http, "ashes", "build")
    check_problem(
        await http.post(W.format("ashes") + "/commands/build", json={}), 409, "workspace_exists"
    )
    await do(http, "ashes", "burn")
    for path in (*reads, "/views/pens/changes", "/events/changes"):
        check_problem(await http.get(W.format("ashes") + path), 410, "workspace_gone")
    check_problem(
        await http.post(W.format("ashes") + "/commands/lend", json={}), 410, "workspace_gone"
    )


async def test_a_kind_of_workspace_has_its_own_types(http: httpx.AsyncClient) -> None:
    await do(http, "desk", "place")
    await change(http, "desk", {"op": "create", "type": "pen", "id": 1, "fields": {"ink": 1}})
    assert len((await http.get(W.format("desk") + "/records/pen")).json()["rows"]) == 1
    for path in ("/records/book", "/records/book/1", "/views/pens"):
        check_problem(await http.get(W.format("desk") + path), 404, "not_in_workspace")
    check_problem(
        await http.post(W.format("desk") + "/commands/lend", json={}), 404, "not_in_workspace"
    )
    check_problem(await http.get(W.format("desk") + "/records/receipt"), 404, "unknown_record_type")


async def test_rules_are_refused_with_their_codes(http: httpx.AsyncClient) -> None:
    await library(http, "rules")
    write, lend = (W.format("rules") + f"/commands/{name}" for name in ("write", "lend"))

    async def refused(status: int, code: str, *changes: Any) -> dict[str, Any]:
        return check_problem(await http.post(write, json={"changes": changes}), status, code)

    await refused(409, "not_unique", made("book", 1, 1))
    full = {"op": "create", "type": "pen", "fields": {"ink": 11}}
    assert (await refused(422, "check_failed", full))["field"] == "pen.ink"
    await refused(422, "unknown_record", {"op": "update", "type": "pen", "id": 70_000})
    await refused(400, "invalid_arguments", {"op": "create", "type": "pne"})
    await refused(400, "invalid_arguments", {"op": "create", "type": "pen", "fields": {"inc": 1}})
    body = check_problem(await http.post(lend, json={}), 422, "lent")
    assert body["detail"] == "It is lent already"


async def test_a_stream_ends_with_its_workspace(node: Node, http: httpx.AsyncClient) -> None:
    ids = await library(http, "stream")
    server = Server(http_settings(port=0))
    server.start(create_app(node, http_settings(port=0)))
    log, book = "/events/changes", f"/records/book/{ids['1']}/changes"
    async with httpx.AsyncClient(base_url=server.url, timeout=20) as other:
        path = W.format("stream")
        async with other.stream("GET", path + log) as one, other.stream("GET", path + book) as two:
            lines = two.aiter_lines()
            told = [await anext(lines) for _ in range(6)]
            assert '"chapter"' in told[4]
            await do(http, "stream", "burn")
            rest = "\n".join([line async for line in lines])
            assert "workspace_gone" in rest
            text = "\n".join([line async for line in one.aiter_lines()])
            assert text.index('"command":"burn"') < text.index("workspace_gone")
    await asyncio.to_thread(server.stop)


async def test_the_document_describes_nested_records_and_generic_commands(
    http: httpx.AsyncClient,
) -> None:
    ids = await library(http, "described")
    document = (await http.get("/openapi.json")).json()
    paths, components = document["paths"], document["components"]

    def faults(content: dict[str, Any], value: Any) -> list[str]:
        schema = {"components": components, **content["schema"]}
        return [
            str(fault) for fault in jsonschema_rs.Draft202012Validator(schema).iter_errors(value)
        ]

    base = W.format("{workspace}")
    write = paths[base + "/commands/write"]["post"]
    content = write["requestBody"]["content"]["application/json"]
    assert faults(content, {"changes": [made("chapter", 1, 2, 1)]}) == []
    assert faults(content, {"changes": [{"op": "create", "type": "pen", "fields": {"ink": 11}}]})
    assert faults(content, {"changes": [{"op": "create", "type": "receipt"}]})
    for path in (
        f"/records/book/{ids['1']}",
        "/records/book?keys=number,chapter.page.number",
        f"/records/page/{ids['4']}?root={ids['1']}",
        "/records/page",
        "/events",
    ):
        answer = await http.get(W.format("described") + path)
        named = base + re.sub(r"/[0-9]+", "/{id}", path.partition("?")[0])
        described = paths[named]["get"]["responses"]["200"]["content"]["application/json"]
        assert faults(described, answer.json()) == [], path
        assert faults(described, described["example"]) == [], path
    lend = paths[base + "/commands/lend"]["post"]["responses"]["422"]
    examples = lend["content"]["application/problem+json"]["examples"]
    assert examples["lent"]["value"]["detail"] == "It is lent already"
    assert not [path for path in paths if "/records/receipt" in path]
