"""The page that shows the API, in a real browser where one is installed: it loads and can ask."""

import asyncio
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from http_world import http_settings, start_node, wait_ready

from engine.http import Server, create_app

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), "")
PAGE = Path(__file__).parents[2] / "engine/http/docs.html"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    node = start_node(tmp_path_factory.mktemp("node"))
    wait_ready(node)
    server = Server(http_settings(port=0))
    server.start(create_app(node, http_settings(port=0)))
    yield server.url
    server.stop()
    node.stop()


def test_the_page_loads_nothing_from_elsewhere(url: str) -> None:
    answer = httpx.get(url + "/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert re.findall(r"https?://|src=|href=", PAGE.read_text()) == []


@pytest.mark.anyio
@pytest.mark.skipif(not BROWSER, reason="needs Chromium")
async def test_a_browser_shows_every_operation(url: str, tmp_path: Path) -> None:
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    running = await asyncio.create_subprocess_exec(
        BROWSER,
        *options,
        "--virtual-time-budget=5000",
        "--dump-dom",
        url + "/docs",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(90):
            page, errors = await running.communicate()
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    dom = page.decode()
    async with httpx.AsyncClient() as http:
        document = (await http.get(url + "/openapi.json")).json()
    wanted = [
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
    ]
    assert 'data-loaded="true"' in dom, errors.decode()[-2_000:]
    assert sorted(re.findall(r'<details id="([^"]+)"', dom)) == sorted(wanted)
