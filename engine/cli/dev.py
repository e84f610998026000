"""`partita dev`: an application on this machine, without a broker."""

from pathlib import Path
from typing import Annotated

import typer

from engine.cli import output
from engine.cli.running import run_until_stopped
from engine.settings import load_settings

app = typer.Typer(rich_markup_mode=None)


@app.command()
def dev(
    folder: Annotated[Path, typer.Argument(help="The application's folder.")],
    data: Annotated[Path | None, typer.Option(help="Folder of logs and stores.")] = None,
    http: Annotated[str | None, typer.Option(help="HOST:PORT; port 0 takes a free one.")] = None,
    host: Annotated[str | None, typer.Option(help="State host: python or wasm.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Reload an edited application.")] = False,
    config: Annotated[Path | None, typer.Option(help="Settings file.")] = None,
) -> None:
    """Run an application with the embedded log; Ctrl-C stops it, its data stays."""
    from engine.assembly import parse_address  # noqa: PLC0415 - loads everything

    log, address = {"kind": "embedded"}, parse_address(http)
    flags = {"data": data, "host": host, "log": log, "http": address}
    settings = load_settings(config, flags)
    output.note(f"data in {settings.data.resolve()}")
    run_until_stopped(settings, folder, watch=watch, log_format="console")
