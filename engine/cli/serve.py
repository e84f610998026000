"""`partita serve`: a node of an application; start it twice and they share the partitions."""

from pathlib import Path
from typing import Annotated, Any

import typer

from engine.cli.running import run_until_stopped
from engine.settings import load_settings

app = typer.Typer(rich_markup_mode=None)


@app.command()
def serve(
    folder: Annotated[Path, typer.Argument(help="The application's folder.")],
    bootstrap_servers: Annotated[
        str | None, typer.Option(help="Kafka's addresses; makes Kafka the log.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of this node's stores.")] = None,
    node: Annotated[str | None, typer.Option(help="This node's name, unique.")] = None,
    http: Annotated[str | None, typer.Option(help="HOST:PORT; port 0 takes a free one.")] = None,
    standbys: Annotated[
        int | None, typer.Option(help="Nodes that hold each partition ready to take it over.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="State host: python or wasm.")] = None,
    topic_prefix: Annotated[str | None, typer.Option(help="Put before topic names.")] = None,
    properties: Annotated[
        Path | None, typer.Option(help="File of librdkafka properties (TLS, SASL).")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let others reach HTTP without a token.")
    ] = False,
    force_deploy: Annotated[
        bool,
        typer.Option(
            "--force-deploy", help="Deploy without waiting until every node has loaded it."
        ),
    ] = False,
    accept_lost_commands: Annotated[
        bool,
        typer.Option(
            "--accept-lost-commands", help="Go on where commands expired undecided (E1305)."
        ),
    ] = False,
    config: Annotated[Path | None, typer.Option(help="Settings file.")] = None,
) -> None:
    """Run a node until SIGTERM, which hands its partitions over first."""
    from engine.assembly import parse_address  # noqa: PLC0415 - loads everything

    address = parse_address(http)
    if insecure:
        address["insecure"] = True
    log = {
        "kind": "kafka" if bootstrap_servers else None,
        "bootstrap_servers": bootstrap_servers,
        "topic_prefix": topic_prefix,
        "properties_file": properties,
    }
    flags: dict[str, Any] = {
        "data": data,
        "node": node,
        "standbys": standbys,
        "host": host,
        "http": address,
        "log": log,
    }
    if force_deploy:
        flags["force_deploy"] = True
    settings = load_settings(config, flags)
    run_until_stopped(
        settings, folder, accept_lost_commands=accept_lost_commands, log_format="json"
    )
