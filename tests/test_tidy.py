"""Style as a test: what a linter can't say."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "engine").rglob("*.py"))
ALL_SOURCES = SOURCES + sorted(
    path for folder in ("tests", "loadtest", "topology") for path in (ROOT / folder).rglob("*.py")
)
C_SOURCES = sorted(
    path
    for folder in ("engine", "tests", "topology")
    for ending in ("*.c", "*.h")
    for path in (ROOT / folder).rglob(ending)
    if "build" not in path.parts  # what `partita extension build` has made
)
LINES_MAX = 400
# Longer than that; nothing joins this list.
LONGER = {
    "tests/integration/test_kafka_logs.py": 429,
    "tests/simulation/planted.py": 471,
}
FUNCTION_LINES_MAX = 70

# What enters only at `world.py`, the adapters and the shells around the core; and what to use.
BANNED = {
    r"\btime\.(time|monotonic|sleep|perf_counter|time_ns|monotonic_ns)\(": "a Clock",
    r"^import random|^from random": "a Random",
    r"\buuid4\(": "world.uuid7",
    r"\bdatetime\.(now|utcnow|today)\(": "a Clock",
    r"\bos\.urandom\(": "a Random",
    r"\bthreading\.Thread\(": "the shell (node, adapters)",
    r"\basyncio\.sleep\(": "the shell (http, load)",
    r"\bos\.environ\b": "Settings",
}
SHELLS = (
    "world.py",
    "settings.py",
    "log/",
    "store/",
    "sandbox/",
    "node/",
    "http/",
    "cli/",
    "load/",
    "bench/",
    "telemetry/",
)
PROSE = re.compile(r"\b(TODO|FIXME|XXX)\b")
# What a bench puts beside the engine is written in the bare packages.
WRAPPERS = {
    "obstore": ("engine/log/objects_s3.py",),
    "confluent_kafka": ("engine/log/kafka", "engine/bench"),
    "rocksdict": ("engine/store",),
    "wasmtime": ("engine/sandbox", "engine/bench"),
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_module_says_what_it_is_for_and_its_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "a module begins with what it owns"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", ALL_SOURCES + C_SOURCES, ids=relative)
def test_a_module_is_not_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGER.get(relative(path), LINES_MAX)


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_nondeterminism_enters_at_one_door(path: Path) -> None:
    name = path.relative_to(ROOT / "engine").as_posix()
    if name.startswith(SHELLS) and name != "load/__init__.py":
        return
    text = path.read_text()
    for pattern, instead in BANNED.items():
        found = re.search(pattern, text, re.MULTILINE)
        assert not found, f"{found and found.group()}: use {instead}"


@pytest.mark.parametrize("path", ALL_SOURCES, ids=relative)
def test_nothing_is_left_unfinished(path: Path) -> None:
    if path == Path(__file__):
        return
    assert not PROSE.search(path.read_text())


@pytest.mark.parametrize(("package", "folders"), WRAPPERS.items())
def test_each_package_of_the_world_has_one_adapter(package: str, folders: tuple[str, ...]) -> None:
    pattern = re.compile(rf"^\s*(import|from) {package}\b", re.MULTILINE)
    users = [relative(path) for path in SOURCES if pattern.search(path.read_text())]
    assert [user for user in users if not user.startswith(folders)] == []
