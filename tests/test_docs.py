"""The documents don't rot: what they show is run, what they list is generated, links exist.

`sh` and `python` blocks of a page run in order in one shell, in a scratch folder that looks like a
clone; a `text` block behind one is what it prints, where `…` stands for anything. A block behind a
line that is a file's name in backquotes is that file. Ports are replaced by free ones.

    .venv/bin/python tests/test_docs.py      writes the generated tables anew
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from engine import limits
from engine.cli.rejections import REJECTIONS
from engine.errors import CATALOG, REFUSALS
from engine.http.problems import STATUS, HttpCode
from engine.sandbox.abi import IMPORTS
from engine.settings import settings_schema
from engine.telemetry.names import METRICS

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        ROOT / "schemas" / "README.md",
        *(ROOT / "engine" / "docs").glob("*.md"),
    ]
)
PORTS = (8080, 8081, 8082, 9092)
SHELL_S = 240
FENCE = re.compile(r"^```(.*)$")
FILE_NAME = re.compile(r"^`([\w.-]+(?:/[\w.-]+)+)`:?$")
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
SECTION = re.compile(r"<!-- begin (\w+) -->\n(.*?)<!-- end \1 -->", re.DOTALL)


class Block(NamedTuple):
    """A fenced block: what its fence says, its text, and the file's name in the line before."""

    line: int
    info: str
    text: str
    file: str


def blocks_of(page: Path) -> list[Block]:
    found: list[Block] = []
    before, info, begin, taken = "", None, 0, list[str]()
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = FENCE.match(line)
        if info is None and fence:
            info, begin, taken = fence[1], number, []
        elif info is not None and fence:
            name = FILE_NAME.match(before)
            found.append(Block(begin, info, "\n".join(taken) + "\n", name[1] if name else ""))
            info, before = None, ""
        elif info is not None:
            taken.append(line)
        elif line.strip():
            before = line.strip()
    assert info is None, f"{page.name}: the block of line {begin} has no end"
    return found


def is_run(block: Block, flavour: str) -> bool:
    return not block.file and block.info in ({"sh kafka"} if flavour else {"sh", "python"})


def executed() -> Iterator[object]:
    for page in PAGES:
        for flavour in ("", "kafka"):
            if any(is_run(block, flavour) for block in blocks_of(page)):
                marks = [pytest.mark.kafka] if flavour else []
                name = f"{page.stem}-{flavour}" if flavour else page.stem
                yield pytest.param(page, flavour, id=name, marks=marks)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder that looks like a clone after `make install`, and may be written to."""
    folder = tmp_path / "partita"
    folder.mkdir()
    for path in ROOT.iterdir():
        if path.name not in {".git", ".partita", ".venv", "topology"}:
            (folder / path.name).symlink_to(path)
    shutil.copytree(ROOT / "topology", folder / "topology")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def on_ports(text: str, ports: dict[int, int]) -> str:
    return re.sub(r"\b(8080|8081|8082|9092)\b", lambda found: str(ports[int(found[0])]), text)


def script_of(page: Path, flavour: str, clone: Path, ports: dict[int, int]) -> str:
    """Return a page's blocks as one script; what each prints ends with a line of its own."""
    lines = ["set -eo pipefail", "trap 'kill $(jobs -p) 2> trap.log || true; wait' EXIT"]
    for block in blocks_of(page):
        text = block.text.replace("partita kafka up", f"partita kafka up --port {ports[9092]}")
        text = on_ports(text, ports)
        if block.file:
            target = clone / block.file
            lines += [f"mkdir -p {target.parent}", f"cat > {target} <<'END-OF-FILE'"]
            lines += [text + "END-OF-FILE"]
        elif is_run(block, flavour):
            if block.info == "python":
                text = f"python - <<'END-OF-BLOCK'\n{text}END-OF-BLOCK\n"
            lines += [text, f"echo '<<< {block.line}'"]
    return "\n".join(lines) + "\n"


def pattern_of(shown: str) -> "re.Pattern[str]":
    return re.compile(".*?".join(re.escape(part) for part in shown.strip().split("…")), re.DOTALL)


@pytest.mark.parametrize(("page", "flavour"), list(executed()))
def test_what_a_page_shows_runs_and_prints_what_it_says(
    page: Path, flavour: str, clone: Path
) -> None:
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    variables = {name: text for name, text in os.environ.items() if "PARTITA" not in name}
    variables |= {
        "PARTITA__HTTP__PORT": str(ports[8080]),
        "PARTITA__LOG__BOOTSTRAP_SERVERS": f"127.0.0.1:{ports[9092]}",
        "PARTITA_URL": f"http://127.0.0.1:{ports[8080]}",
        "PATH": f"{sys.prefix}/bin:{variables['PATH']}",
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }
    with (clone / "stdout").open("w+") as out, (clone / "stderr").open("w+") as err:
        done = subprocess.run(
            ["bash", "-c", script_of(page, flavour, clone, ports)],
            cwd=clone,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            timeout=SHELL_S,
            check=False,
        )
    printed, said = (clone / "stdout").read_text(), (clone / "stderr").read_text()
    if flavour and done.returncode:
        partita = Path(sys.prefix) / "bin" / "partita"
        subprocess.run([partita, "kafka", "down"], cwd=clone, env=variables, check=False)
    logs = "".join(f"\n{path.name}: {path.read_text()[-2_000:]}" for path in clone.glob("*.log"))
    assert done.returncode == 0, f"{page.name}: {printed}\n{said}{logs}"
    parts = re.split(r"^<<< (\d+)\n", printed, flags=re.MULTILINE)
    results = {int(line): text for text, line in zip(parts[::2], parts[1::2], strict=False)}
    previous: Block | None = None
    for block in blocks_of(page):
        if block.info == "text" and previous is not None and is_run(previous, flavour):
            found = results[previous.line].strip()
            assert pattern_of(on_ports(block.text, ports)).fullmatch(found), (
                f"{page.name}, line {block.line}: this was printed:\n{found}"
            )
        previous = block


def test_a_difference_in_what_is_printed_is_found() -> None:
    assert pattern_of('{"sequence":4,…}').fullmatch('{"sequence":4,"rows":[]}')
    assert not pattern_of('{"sequence":4,…}').fullmatch('{"sequence":5,"rows":[]}')


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text()
    for target in LINK.findall(text):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
    for name in re.findall(r"`((?:engine|tests|loadtest|schemas|docker|topology)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_rules_that_comments_name_are_on_a_page() -> None:
    page = (ROOT / "engine" / "docs" / "design.md").read_text()
    pattern = re.compile(r"\b(?:ARCHITECTURE|PROTOCOL) ([RD]\d+)|\b(FORMATS \d)|[^\w]R(\d)\b")
    for path in sorted((ROOT / "engine").rglob("*.py")):
        for rule, format_, short in pattern.findall(path.read_text()):
            name = rule or format_ or f"R{short}"
            assert re.search(rf"\*\*{name}\b", page), f"{path.name} names {name}"


def test_every_schema_is_listed() -> None:
    page = (ROOT / "schemas" / "README.md").read_text()
    for path in (ROOT / "schemas").glob("*.avsc"):
        assert f"]({path.name})" in page, path.name


def test_the_partitioner_that_clients_are_told_is_ours() -> None:
    from engine.wire import partition_of  # noqa: PLC0415 - only here

    page = ROOT / "engine" / "docs" / "clients.md"
    (block,) = [one for one in blocks_of(page) if "def murmur2" in one.text]
    told: dict[str, Callable[[bytes, int], int]] = {}
    exec(block.text, told)
    for number in range(500):
        key = (f"key {number} " + "é" * (number % 5))[: 1 + number % 17].encode()
        assert told["partition_of"](key, 7) == partition_of(key, 7)


def test_clients_are_told_every_field_of_the_envelope() -> None:
    text = (ROOT / "engine" / "docs" / "clients.md").read_text()
    for name in ("command", "reply"):
        schema = json.loads((ROOT / "schemas" / f"{name}.avsc").read_text())
        for field in schema["fields"]:
            assert f"| `{field['name']}` |" in text, f"{name}: {field['name']}"


# Generated tables.


def table(head: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [str(cell).replace("|", "\\|").replace("\n", " ") for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def errors() -> str:
    parts = [
        f"### {code}: {title}\n\n{why}\n\n**What to do:** {what}\n"
        for code, (title, why, what) in CATALOG.items()
    ]
    return "\n" + "\n".join(parts)


def rejections() -> str:
    return table(
        ("code", "HTTP", "why", "what to do"),
        (
            (f"`{code}`", STATUS.get(code, 422), why, what)
            for code, (why, what) in REJECTIONS.items()
            if code not in REFUSALS
        ),
    )


def refusals() -> str:
    return table(
        ("code", "HTTP", "why", "what to do"),
        (
            (f"`{code}`", STATUS.get(code, 422), why, what)
            for code, (why, what) in REJECTIONS.items()
            if code in REFUSALS
        ),
    )


def http() -> str:
    return ", ".join(f"`{code.value}`" for code in HttpCode) + "\n"


def metrics() -> str:
    def shown(name: str, *, counter: bool) -> str:
        return f"`{name}_total`" if counter and not name.endswith("_total") else f"`{name}`"

    return table(
        ("metric", "kind", "meaning"),
        (
            (
                shown(metric.name, counter=metric.counter),
                "counter" if metric.counter else "gauge",
                metric.text,
            )
            for metric in METRICS
        ),
    )


def settings() -> str:
    schema = settings_schema()

    def rows(properties: dict[str, dict[str, object]], prefix: str) -> Iterator[tuple[str, ...]]:
        for name, entry in properties.items():
            group = re.search(r"#/\$defs/(\w+)", json.dumps(entry))
            if group:
                yield from rows(schema["$defs"][group[1]]["properties"], f"{prefix}{name}.")
                continue
            path = f"{prefix}{name}"
            variable = "PARTITA__" + path.replace(".", "__").upper()
            default = entry.get("default")
            shown = "" if default is None else f"`{json.dumps(default)}`"
            yield f"`{path}`", f"`{variable}`", shown, str(entry["description"])

    return table(("setting", "variable", "default", "meaning"), rows(schema["properties"], ""))


def abi() -> str:
    return table(
        ("import of `partita1`", "takes", "gives"),
        (
            (f"`{name}`", " ".join(kind.params), " ".join(kind.results))
            for name, kind in IMPORTS.items()
        ),
    )


BOUNDS = {
    "COMMAND_TIME_MS_DEFAULT": "time of one command, unless `time_ms` says otherwise",
    "COMMAND_TIME_MS_MAX": "the most that `time_ms` may say",
    "GUEST_MEMORY_KIB_DEFAULT": "memory of an extension, unless `memory_kib` says otherwise",
    "GUEST_MEMORY_KIB_MAX": "the most that `memory_kib` may say",
    "CHANGES_MAX": "records that one command changes",
    "VIEW_ROWS_MAX": "view rows that one command's projectors write",
    "HANDLES_MAX": "handles of one call",
    "FIELD_BYTES_MAX": "a field of text or bytes",
    "ROW_BYTES_MAX": "a record or view row",
    "OUTCOME_BYTES_MAX": "an outcome with all its changes",
    "CODE_LENGTH_MAX": "the code of a rejection",
    "MESSAGE_LENGTH_MAX": "the text of a rejection, or a line of log",
    "LOGS_MAX": "lines of log of one command",
    "KEY_COLUMNS_MAX": "columns of a view's key",
    "TYPES_MAX": "records, commands, views, projectors, extensions: each",
    "PARTITIONS_MAX": "partitions",
    "MODULE_BYTES_MAX": "a WASM module",
}


def bounds() -> str:
    return table(
        ("bound", "value", "of what"),
        ((f"`{name}`", f"{getattr(limits, name):,}", what) for name, what in BOUNDS.items()),
    )


SECTIONS: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (errors, rejections, refusals, http, metrics, settings, abi, bounds)
}


def generated(text: str) -> str:
    def make(found: "re.Match[str]") -> str:
        name = found[1]
        return f"<!-- begin {name} -->\n{SECTIONS[name]()}<!-- end {name} -->"

    return SECTION.sub(make, text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_tables_are_up_to_date(page: Path) -> None:
    text = page.read_text()
    assert text == generated(text), "run .venv/bin/python tests/test_docs.py"


def test_every_table_is_on_a_page() -> None:
    found = [name for page in PAGES for name, _ in SECTION.findall(page.read_text())]
    assert sorted(found) == sorted(SECTIONS)


if __name__ == "__main__":
    for each in PAGES:
        each.write_text(generated(each.read_text()))
