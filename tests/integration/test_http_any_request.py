"""No request breaks the server, whatever it says."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from http_world import W, client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.http import Waits
from engine.node.node import Node

pytestmark = pytest.mark.anyio


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
