"""What HTTP says of the node: health, metrics, who owns what, OpenAPI; and who may ask at all."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from http_world import Bent, client

from engine import limits
from engine.errors import CATALOG
from engine.http import middleware
from engine.http.metrics import NodeMetrics
from engine.model import Phase, Progress
from engine.node.api import Route, Where
from engine.node.node import Node
from engine.store.rocks import RocksStore, StoreMemory
from engine.telemetry.names import METRICS

pytestmark = pytest.mark.anyio


async def test_live_is_live(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health/live")).json() == {"status": "live"}


async def test_ready_once_all_is_owned(http: httpx.AsyncClient) -> None:
    answer = await http.get("/health/ready")
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "ready"
    assert [entry["phase"] for entry in body["partitions"]] == ["owning", "owning"]


async def test_not_ready_shows_progress_and_problems(node: Node) -> None:
    progress = [
        Progress(0, Phase.OWNING, 5, 5, 0.0, None),
        Progress(1, Phase.RECOVERING, 50, 100, 12.34, 4.06),
    ]
    bent = Bent(node, progress=lambda: progress, ready=lambda: False)
    async with client(bent) as http:
        answer = await http.get("/health/ready")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.json()["partitions"][1] == {
        "partition": 1,
        "phase": "recovering",
        "applied_offset": 50,
        "target_offset": 100,
        "records_per_s": 12.3,
        "eta_s": 4.1,
    }
    async with client(Bent(node, problems=lambda: {1: "E1203 …"})) as http:
        answer = await http.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["problems"] == {"1": "E1203 …"}


async def test_the_metrics_page_is_prometheus_text(http: httpx.AsyncClient) -> None:
    await http.post("/v1/workspaces/secret-name/commands/noop", json={})
    await http.get("/v1/workspaces/secret-name/views/one")
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    text = answer.text
    line = re.compile(
        r"[a-z_]+(\{[a-z_]+=\"[^\"]*\"(,[a-z_]+=\"[^\"]*\")*\})? -?[0-9.e+-]+|# (HELP|TYPE) .+"
    )
    assert [row for row in text.splitlines() if not line.fullmatch(row)] == []
    assert 'partita_partition_owned{partition="0"} 1.0' in text
    assert "partita_partition_outcomes_total{" in text
    assert 'route="/v1/workspaces/{workspace}/views/{view}"' in text
    assert "secret-name" not in text


def test_every_statistic_of_a_node_has_a_name(node: Node) -> None:
    named = {(metric.component, metric.key) for metric in METRICS}
    shown = NodeMetrics(node, dict).statistics()
    missing = {
        (component.partition(" ")[0], key)
        for component, counters in shown.items()
        for key in counters
        if component != "slowest_workspaces"  # a list of names, never a label
    } - named
    assert missing == set()


def test_every_statistic_of_a_store_has_a_name(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "store", StoreMemory())
    keys = set(store.statistics())
    store.close()
    assert keys - {metric.key for metric in METRICS if metric.component == "partition"} == set()


def test_metric_names_are_unique_and_speak_one_language() -> None:
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    for name in names:
        assert re.fullmatch(r"partita(_[a-z0-9]+){2,}", name), name
        assert not name.endswith("_total"), "the exporter adds it to counters"


async def test_partitions_say_who_owns_what(node: Node, http: httpx.AsyncClient) -> None:
    for number in range(15):
        await http.post(f"/v1/workspaces/w{number}/commands/noop", json={})
    body = (await http.get("/v1/partitions")).json()
    assert [entry["owner"] for entry in body["partitions"]] == ["here", "here"]
    slowest = body["slowest_workspaces"]
    assert len(slowest) == 10
    assert [entry["duration_ms"] for entry in slowest] == sorted(
        (entry["duration_ms"] for entry in slowest), reverse=True
    )
    routes = {0: Route(Where.THERE, "http://127.0.0.1:1"), 1: Route(Where.NOBODY)}
    async with client(Bent(node, route=routes.__getitem__)) as other:
        entries = (await other.get("/v1/partitions")).json()["partitions"]
    assert (entries[0]["owner"], entries[0]["url"]) == ("there", "http://127.0.0.1:1")
    assert entries[1]["owner"] == "nobody"


async def test_the_index_lists_what_there_is(http: httpx.AsyncClient) -> None:
    body = (await http.get("/")).json()
    assert body["application"] == "shop"
    assert "/v1/workspaces/{workspace}/commands/put" in body["commands"]
    for path in body["more"]:
        assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/health/live/", 404, "not_found"),
        ("GET", "/%FF", 400, "invalid_path"),
        ("GET", "/v1//partitions", 404, "not_found"),
        ("POST", "/health/live", 405, "method_not_allowed"),
        ("DELETE", "/v1/workspaces/w/commands/put", 405, "method_not_allowed"),
        ("PUT", "/v1/workspaces/w/views/one", 405, "method_not_allowed"),
        ("BREW", "/", 405, "method_not_allowed"),
        ("GET", "/health/live?verbose=1", 400, "unknown_parameter"),
        ("GET", "/health/ready?verbose=1", 400, "unknown_parameter"),
        ("GET", "/metrics?name=x", 400, "unknown_parameter"),
        ("GET", "/v1/partitions?x=", 400, "unknown_parameter"),
        ("GET", "/openapi.json?x=1", 400, "unknown_parameter"),
        ("GET", "/?x=1", 400, "unknown_parameter"),
        ("GET", "/problems/E0000", 404, "not_found"),
    ],
)
async def test_unknown_paths_methods_and_parameters(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    if status == 405:
        assert answer.headers["allow"]


async def test_allow_names_all_methods_of_a_path(http: httpx.AsyncClient) -> None:
    answer = await http.delete("/v1/workspaces/w/commands/put")
    assert {method.strip() for method in answer.headers["allow"].split(",")} == {
        "GET",
        "HEAD",
        "POST",
    }


async def test_a_problem_s_type_leads_to_its_page(http: httpx.AsyncClient) -> None:
    problem = (await http.get("/nothing")).json()
    assert (await http.get(problem["type"])).status_code == 200
    for code in CATALOG:
        page = (await http.get(f"/problems/{code}")).json()
        assert page["what_to_do"]


# Who may ask.


async def test_a_token_is_asked_for_everywhere_but_for_probes(node: Node) -> None:
    right = {"Authorization": "Bearer open-sesame"}
    async with client(node, token="open-sesame") as http:
        for path in ("/", "/metrics", "/openapi.json", "/v1/partitions", "/nothing"):
            answer = await http.get(path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["code"] == "unauthorized"
            assert (await http.get(path, headers=right)).status_code in {200, 404}
        for wrong in (
            "Bearer open-sesam",
            "Basic open-sesame",
            "open-sesame",
            "Bearer ",
            "Bearer é",
        ):
            headers = [(b"Authorization", wrong.encode("latin-1"))]
            assert (await http.get("/", headers=headers)).status_code == 401
        assert (await http.get("/", headers={"Authorization": "bearer open-sesame"})).is_success
        for path in ("/health/live", "/health/ready"):
            assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8080", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8080", 421),
        ("", 421),
    ],
)
async def test_a_web_page_can_t_make_up_a_name_for_loopback(
    node: Node, host: str, status: int
) -> None:
    async with client(node) as http:
        assert (await http.get("/", headers={"Host": host})).status_code == status
    async with client(node, token="t") as http:
        headers = {"Host": host, "Authorization": "Bearer t"}
        assert (await http.get("/", headers=headers)).status_code == 200


async def test_too_many_requests_at_once_are_refused(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware.limits, "REQUESTS_WAITING_MAX", 0)
    async with client(node) as http:
        answer = await http.get("/")
        assert (answer.status_code, answer.json()["code"]) == (429, "E1403")
        assert answer.headers["retry-after"]
        assert (await http.get("/health/live")).status_code == 200
    assert limits.REQUESTS_WAITING_MAX == 0


# OpenAPI.


async def test_openapi_is_complete_and_consistent(http: httpx.AsyncClient) -> None:
    answer = await http.get("/openapi.json")
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == "1.0.0"
    text = json.dumps(document)
    for reference in re.findall(r'"\$ref": "([^"]+)"', text):
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        assert isinstance(target, dict)
    operations: list[str] = []
    for path, item in document["paths"].items():
        in_path = set(re.findall(r"\{([^}]+)\}", path))
        for method, operation in item.items():
            assert method in {"get", "post"}
            operations.append(operation["operationId"])
            parameters = operation.get("parameters", [])
            declared = {entry["name"] for entry in parameters if entry["in"] == "path"}
            assert declared == in_path, path
            assert all(entry["required"] for entry in parameters if entry["in"] == "path")
            names = [(entry["in"], entry["name"]) for entry in parameters]
            assert len(names) == len(set(names))
            assert "200" in operation["responses"]
            for response in operation["responses"].values():
                assert response["description"]
    assert len(operations) == len(set(operations))
    workspace = "/v1/workspaces/{workspace}"
    for path in (
        "/commands/put",
        "/commands/{command_id}",
        "/records/item/{id}",
        "/views/by_day",
        "/events",
    ):
        assert workspace + path in document["paths"]


async def test_openapi_says_what_the_arguments_are(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    args = document["components"]["schemas"]["put.args"]
    assert args["required"] == ["count"]
    assert args["additionalProperties"] is False
    assert args["properties"]["day"]["format"] == "date"
    assert args["properties"]["colour"]["enum"] == ["red", "green"]
    assert args["properties"]["at"]["anyOf"][1] == {"type": "null"}
    view = document["paths"]["/v1/workspaces/{workspace}/views/by_day"]["get"]
    names = [entry["name"] for entry in view["parameters"]]
    columns = [name + end for name in ("day", "name", "entry") for end in ("", ".from", ".to")]
    options = ["where", "order", "keys", "limit", "after", "min_sequence", "stale"]
    assert names == ["workspace", *columns, *options]
    where = next(entry for entry in view["parameters"] if entry["name"] == "where")
    conditions = where["content"]["application/json"]["schema"]["properties"]
    assert set(conditions) == {"day", "name", "entry", "count", "note"}


async def test_every_documented_get_answers_as_documented(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    made = (await http.post("/v1/workspaces/w/commands/put", json={"count": 1})).json()
    values = {
        "workspace": "w",
        "command_id": made["command_id"],
        "id": str(made["result"]["id"]),
        "code": "E1001",
    }
    for path, item in document["paths"].items():
        if "get" not in item or "till/" in path or path.endswith("/changes"):
            continue
        answer = await http.get(path.format_map(values))
        assert answer.status_code == 200, path
        content = item["get"]["responses"]["200"]["content"]
        media, described = next(iter(content.items()))
        assert answer.headers["content-type"].startswith(media)
        schema = described["schema"]
        if media == "application/json":
            assert faults(document, schema, answer.json()) == [], path


def faults(document: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    """Return what JSON Schema says against a value."""
    joined = {"components": document["components"], **schema}
    return [str(fault) for fault in jsonschema_rs.Draft202012Validator(joined).iter_errors(value)]


async def test_every_example_is_what_its_schema_describes(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    examples = 0
    for path, item in document["paths"].items():
        for operation in item.values():
            contents = [answer.get("content", {}) for answer in operation["responses"].values()]
            contents.append(operation.get("requestBody", {}).get("content", {}))
            for media, content in (pair for found in contents for pair in found.items()):
                listed = [entry["value"] for entry in content.get("examples", {}).values()]
                if "example" in content:
                    listed.append(content["example"])
                for example in listed:
                    assert faults(document, content["schema"], example) == [], (path, media)
                examples += len(listed)
    assert examples > 100
