"""Fixtures that several modules share; a module may have its own of the same name."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from http_world import W, client, start_node, wait_ready

from engine.node.node import Node
from engine.sandbox.sdk.build import build_all
from engine.sandbox.testkit import TestKit


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Yield a node that is ready."""
    running = start_node(tmp_path_factory.mktemp("node"))
    wait_ready(running)
    yield running
    running.stop()


@pytest.fixture(scope="module")
async def http(node: Node) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the node."""
    async with client(node) as made:
        yield made


@pytest.fixture(scope="module")
def built(request: pytest.FixtureRequest) -> Path:
    """Return the module's FOLDER, an application whose extensions are built."""
    folder: Path = request.module.FOLDER
    build_all(folder)
    return folder


@pytest.fixture
def kit(built: Path) -> Iterator[TestKit]:
    """Yield a test kit of the module's application."""
    kit = TestKit(built)
    yield kit
    kit.close()


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
