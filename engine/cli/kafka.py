"""`partita kafka`: a real local Apache Kafka for trying and testing, from its Maven jars."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from engine.cli import output
from engine.log.kafka import jars
from engine.log.kafka.local import PORT_DEFAULT, Cluster, LocalKafka

app = typer.Typer(
    help="A real local Apache Kafka on 127.0.0.1: up, down, status.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Data = Annotated[Path, typer.Option(help="Folder of the brokers' data and logs.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
DATA_DEFAULT = Path(".partita/kafka")


def _show(cluster: Cluster, kafka: LocalKafka, *, json: bool) -> None:
    rows = [
        {
            "broker": broker.node,
            "address": f"127.0.0.1:{broker.port}",
            "state": "up" if broker.pid else "down",
            "pid": broker.pid or None,
            "log": str(kafka.log_file(broker)),
        }
        for broker in cluster.brokers
    ]
    if json:
        output.show({"bootstrap_servers": cluster.bootstrap_servers, "brokers": rows}, json=True)
    else:
        output.show(rows, json=False, columns=["broker", "address", "state", "pid", "log"])


def _progress() -> jars.Progress | None:
    """Return a progress bar on a terminal, else nothing."""
    if not sys.stderr.isatty():
        return None

    def draw(done: int, total: int) -> None:
        width = 40 * done // max(total, 1)
        end = "\n" if done == total else ""
        mib = f"{done / 2**20:.0f}/{total / 2**20:.0f} MiB"
        sys.stderr.write(f"\rfetching Kafka [{'#' * width:<40}] {mib}{end}")
        sys.stderr.flush()

    return draw


@app.command()
def up(
    brokers: Annotated[int, typer.Option(help="How many brokers: 1 or 3.")] = 1,
    port: Annotated[int, typer.Option(help="First port; 0 takes free ones.")] = PORT_DEFAULT,
    data: Data = DATA_DEFAULT,
    json: Json = False,
) -> None:
    """Start the brokers and wait until they answer; run again, it only checks."""
    kafka = LocalKafka(data)
    cluster = kafka.start(brokers, port, _progress())
    _show(cluster, kafka, json=json)
    if not json:
        output.note(f"ready: --bootstrap-servers {cluster.bootstrap_servers}")


@app.command()
def down(data: Data = DATA_DEFAULT) -> None:
    """Stop the brokers of this folder; their data stays."""
    stopped = LocalKafka(data).stop()
    output.note(f"stopped {stopped} of this folder's brokers" if stopped else "nothing was running")


@app.command()
def status(data: Data = DATA_DEFAULT, json: Json = False) -> None:
    """Show the brokers of this folder; exit 6 unless all are up."""
    kafka = LocalKafka(data)
    cluster = kafka.status()
    if cluster is None:
        output.note(f"no broker was ever started in {data}")
        raise typer.Exit(6)
    _show(cluster, kafka, json=json)
    if not all(broker.pid for broker in cluster.brokers):
        raise typer.Exit(6)
