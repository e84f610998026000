"""`partita extension`: build, check and list the extensions of an application's folder.

What was asked for goes to stdout, everything else to stderr. Knows no log and no node.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from engine.application import Application
from engine.application.folder import load_application
from engine.cli import output
from engine.sandbox import wasm
from engine.sandbox.guests import load_guests
from engine.sandbox.sdk.build import build_all
from engine.sandbox.sdk.generate import entries

app = typer.Typer(
    help="Build, check and list extensions.", no_args_is_help=True, rich_markup_mode=None
)

Folder = Annotated[Path, typer.Argument(help="The folder with application.toml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def build(folder: Folder) -> None:
    """Compile the extensions in C; needs `pip install partita[author]`."""
    built = build_all(folder)
    for path in built:
        output.line(f"{path}  {path.stat().st_size} bytes")
    if not built:
        output.note("this application has no WASM extension: nothing to build")


@app.command()
def check(folder: Folder) -> None:
    """Load the extensions as a node would: names, types, imports, start."""
    application = load_application(folder)
    load_guests(application).close()
    names = ", ".join(application.extensions) or "none"
    output.line(f"{application.name} {application.version}: extensions are right: {names}")


@app.command("list")
def list_(folder: Folder, as_json: AsJson = False) -> None:
    """List the extensions, what each consists of, and what it may use."""
    listed = describe(load_application(folder))
    columns = ["name", "kind", "file", "bytes", "entries", "time_ms", "memory_kib"]
    output.show(listed, json=as_json, columns=columns)


def describe(application: Application) -> list[dict[str, Any]]:
    """Return one row per extension; `entries` are the functions that the manifest names."""
    loaded = {guest.name: guest for guest in wasm.check(application)}
    rows: list[dict[str, Any]] = []
    for name, extension in application.extensions.items():
        row: dict[str, Any] = {
            "name": name,
            "kind": extension.kind,
            "file": extension.target,
            "bytes": len(extension.content),
            "sha256": extension.sha256.hex(),
            "entries": " ".join(entries(application, extension)),
            "time_ms": extension.time_ms,
            "memory_kib": extension.memory_kib,
        }
        if name in loaded:
            row["memory_bytes"] = loaded[name].memory_bytes
        rows.append(row)
    return rows
