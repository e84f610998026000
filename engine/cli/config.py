"""`partita config`: the settings in force, and their schema."""

from pathlib import Path
from typing import Annotated

import typer

from engine.cli import output
from engine.cli.client import Json
from engine.settings import load_settings, settings_schema, to_toml
from engine.settings import show as shown

app = typer.Typer(help="Show the settings and their schema.", no_args_is_help=True)


@app.command()
def show(
    config: Annotated[Path | None, typer.Option(help="The settings file.")] = None,
    json: Json = False,
) -> None:
    """Print the settings in force, as TOML; secrets are masked."""
    tree = shown(load_settings(config))
    if json:
        output.line(output.as_json(tree))
    else:
        output.line(to_toml(tree).rstrip())


@app.command()
def schema() -> None:
    """Print the JSON Schema of the settings file."""
    output.line(output.as_json(settings_schema()))
