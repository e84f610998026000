"""Requests made from our own OpenAPI document, right ones and wrong ones, on a real node.

No answer is one that the document doesn't name: no 5xx but a documented 503, and what is answered
has the media type, headers and schema that are documented.
"""

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from http_world import http_settings, start_node, wait_ready
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema
from test_http_records import FILES

from engine.application.folder import load_application
from engine.http import Server, Waits, create_app

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SEVERAL = settings(
    max_examples=12,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def _uncollected() -> Iterator[None]:
    """Collect no garbage while Hypothesis draws.

    It parses lambdas then, and a CPython without gh-106905 fails where a collection parses too:
    `SystemError: AST constructor recursion depth mismatch`.
    """
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module", params=["shop", "library"])
def url(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp(request.param)
    application = None
    if request.param == "library":
        for name, text in FILES.items():
            (folder / name).write_text(text)
        application = load_application(folder)
    node = start_node(folder / "node", application=application)
    wait_ready(node)
    server = Server(http_settings(port=0))
    # What has not come by then is a documented 503: a sequence of the far future, for one.
    server.start(create_app(node, http_settings(port=0), waits=Waits(sequence_ms=20)))
    _fill(server.url)
    yield server.url
    server.stop()
    node.stop()


def _fill(url: str) -> None:
    """Make something that a request may meet: the document's own examples name it."""
    base = f"{url}/v1/workspaces/main-street/commands"
    httpx.post(f"{base}/build", json={})
    for number in range(5):
        httpx.post(f"{base}/put", json={"count": number, "day": "2026-11-23"})
        book = {"op": "create", "type": "book", "fields": {"number": number}}
        httpx.post(f"{base}/write", json={"changes": [book]})


def _operations(url: str) -> list[Any]:
    """Return all operations but for streams, which don't end, and those that end something."""
    schema: OpenApiSchema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations()]
    return [
        operation
        for operation in found
        if not operation.path.endswith(("/changes", "/commands/burn", "/node/drain"))
    ]


def _ask(url: str, operation: Any, mode: GenerationMode) -> int:
    """Ask for one operation in several ways; return how many."""
    asked = 0

    @SEVERAL
    @given(st.sampled_from(["known", "any"]), operation.as_strategy(generation_mode=mode))
    def ask(workspace: str, case: Any) -> None:
        nonlocal asked
        if workspace == "known" and "workspace" in (case.path_parameters or {}):
            case.path_parameters["workspace"] = "main-street"
        response = case.call(base_url=url)
        assert response.status_code < 500 or response.status_code == 503, response.text
        case.validate_response(response, checks=CHECKS)
        asked += 1

    # Where anything is right, such as a problem's code, nothing wrong can be made.
    with contextlib.suppress(Unsatisfiable):
        ask()
    return asked


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_no_request_has_an_answer_that_is_not_documented(url: str, mode: GenerationMode) -> None:
    asked = 0
    for operation in _operations(url):
        if mode is GenerationMode.POSITIVE or list(operation.iter_parameters()):
            asked += _ask(url, operation, mode)
    assert asked > 50
