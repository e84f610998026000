"""`partita bench`: measure this engine on this machine; a case's module loads when it is used.

A table for people, one document with --json. What is measured is in engine/bench.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from engine.cli import output

app = typer.Typer(help="Measure this engine on this machine.", no_args_is_help=True)

RESULTS = Path("loadtest/results")
FOLDER = Path("topology/bank")
Application = Annotated[Path, typer.Option("--application", help="The folder of bank.")]
Log = Annotated[Literal["kafka", "embedded"], typer.Option(help="Which log.")]
Host = Annotated[str | None, typer.Option("--host", help="State host; none = the setting's.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Keep = Annotated[bool, typer.Option("--keep", help="Keep the document in the results' folder.")]
Results = Annotated[Path, typer.Option("--results", help="The folder of results.")]


@app.callback()
def _cases() -> None:
    """Measure this engine on this machine."""


@app.command("machine")
def machine_(json: Json = False) -> None:
    """Show what every figure is measured on."""
    from engine.bench.machine import machine  # noqa: PLC0415 - a case loads when it is used

    output.show(machine(), json=json)


@app.command("host-call")
def host_call(
    host: Annotated[
        list[str] | None, typer.Option(help="State host; repeatable; none = all.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often; the median counts.")] = 9,
    json: Json = False,
    keep: Keep = False,
    results: Results = RESULTS,
) -> None:
    """Measure host calls of an extension, beside a bare call between WASM modules."""
    from engine.bench.host_call import Asked, run  # noqa: PLC0415 - a case loads when it is used
    from engine.bench.hosts import HOSTS  # noqa: PLC0415

    asked = Asked(hosts=tuple(host or HOSTS), rounds=rounds)
    report("host-call", run(asked), json=json, keep=keep, results=results)


@app.command()
def harm(
    host: Annotated[
        list[str] | None, typer.Option(help="State host; repeatable; none = all.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often; the median counts.")] = 5,
    json: Json = False,
    keep: Keep = False,
    results: Results = RESULTS,
) -> None:
    """Measure what commands that trap, or loop without end, cost the good ones beside them."""
    from engine.bench.harm import Harm, run  # noqa: PLC0415 - a case loads when it is used
    from engine.bench.hosts import HOSTS  # noqa: PLC0415

    asked = Harm(hosts=tuple(host or HOSTS), rounds=rounds)
    report("harm", run(asked), json=json, keep=keep, results=results)


@app.command()
def commands(
    log: Log = "kafka",
    count: Annotated[int, typer.Option(min=100, help="How many commands wait.")] = 400_000,
    accounts: Annotated[int, typer.Option(min=1, help="How many accounts.")] = 10_000,
    processes: Annotated[int, typer.Option(min=1, help="How many nodes.")] = 1,
    latency: Annotated[float, typer.Option(min=0, help="Seconds at each rate; 0 = none.")] = 10,
    application: Application = FOLDER,
    host: Host = None,
    json: Json = False,
    keep: Keep = False,
    results: Results = RESULTS,
) -> None:
    """Credits a second, exactly once, beside a bare loop; then latency at 1,000 and 10,000/s."""
    from engine.bench.commands import Asked, run  # noqa: PLC0415 - a case loads when it is used

    asked = Asked(log, host, accounts, count, processes, latency, folder=application)
    report("commands", run(asked), json=json, keep=keep, results=results)


@app.command()
def snapshots(
    state_mb: Annotated[
        list[int] | None, typer.Option(min=1, help="State of a partition; repeatable.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often.")] = 3,
    to: Annotated[
        str, typer.Option("--snapshots", help="file:/// or s3://; none = a folder.")
    ] = "",
    json: Json = False,
    keep: Keep = False,
    results: Results = RESULTS,
) -> None:
    """Checkpoints and snapshots under writes, and restores."""
    from engine.bench.snapshots import Asked, run  # noqa: PLC0415 - a case loads when it is used

    asked = Asked(tuple(state_mb or [100]), rounds, to)
    report("snapshots", run(asked), json=json, keep=keep, results=results)


@app.command()
def failover(
    fault: Annotated[
        list[str] | None, typer.Option(help="kill, term, pause or rolling; repeatable.")
    ] = None,
    standbys: Annotated[int, typer.Option(min=0, help="Standbys of each partition.")] = 1,
    state_mb: Annotated[int, typer.Option(min=1, help="State of all partitions together.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="How often.")] = 20,
    nodes: Annotated[int, typer.Option(min=2, help="How many nodes.")] = 2,
    json: Json = False,
    keep: Keep = False,
    results: Results = RESULTS,
) -> None:
    """How long partitions stand still when their owner is killed, stopped or paused."""
    from engine.bench.failover import Asked, run  # noqa: PLC0415 - a case loads when it is used

    cases = [Asked(one, standbys, state_mb, rounds, nodes) for one in fault or ["kill"]]
    report("failover", run(cases), json=json, keep=keep, results=results)


@app.command()
def replay(
    log: Log = "kafka",
    accounts: Annotated[
        list[int] | None, typer.Option(help="How many accounts; repeatable.")
    ] = None,
    outcomes: Annotated[int, typer.Option(min=100, help="Outcomes in the log.")] = 1_500_000,
    application: Application = FOLDER,
    host: Host = None,
    json: Json = False,
    keep: Keep = False,
    results: Results = RESULTS,
) -> None:
    """Outcomes a second when state and views are rebuilt from the event log, per core."""
    from engine.bench.replay import ACCOUNTS, Asked, run  # noqa: PLC0415 - loads when it is used

    asked = Asked(log, host, accounts or ACCOUNTS, outcomes, application)
    report("replay", run(asked), json=json, keep=keep, results=results)


@app.command()
def growth(
    log: Log = "kafka",
    rows: Annotated[list[int] | None, typer.Option(help="How many rows; repeatable.")] = None,
    count: Annotated[int, typer.Option(min=100, help="How many commands wait.")] = 200_000,
    application: Application = FOLDER,
    host: Host = None,
    json: Json = False,
    keep: Keep = False,
    results: Results = RESULTS,
) -> None:
    """Commands a second at 10 thousand, 1 million and 10 million rows, uniform and Zipf 0.99."""
    from engine.bench.growth import ROWS, Asked, run  # noqa: PLC0415 - loads when it is used

    asked = Asked(log, host, rows or ROWS, count, application)
    report("growth", run(asked), json=json, keep=keep, results=results)


@app.command()
def query(
    rate: Annotated[int, typer.Option(min=1, help="Reads a second.")] = 100,
    commands: Annotated[int, typer.Option(min=1, help="Commands a second meanwhile.")] = 50_000,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long, each.")] = 20,
    accounts: Annotated[int, typer.Option(min=1, help="How many accounts.")] = 10_000,
    application: Application = FOLDER,
    host: Host = None,
    json: Json = False,
    keep: Keep = False,
    results: Results = RESULTS,
) -> None:
    """How long a view read takes, idle and while commands are decided."""
    from engine.bench.query import Asked, run  # noqa: PLC0415 - a case loads when it is used

    asked = Asked(host, rate, commands, seconds, accounts, application)
    report("query", run(asked), json=json, keep=keep, results=results)


@app.command()
def walk(
    log: Log = "kafka",
    count: Annotated[int, typer.Option(min=100, help="How many commands wait.")] = 200_000,
    accounts: Annotated[int, typer.Option(min=1, help="How many accounts.")] = 10_000,
    application: Application = FOLDER,
    host: Annotated[str, typer.Option("--host", help="wasm or python; none: a stand-in.")] = "",
    profile: Annotated[bool, typer.Option("--profile", help="Profile it, to stderr.")] = False,
    json: Json = False,
    keep: Keep = False,
    results: Results = RESULTS,
) -> None:
    """Processor time a command of each stage, by default with a stand-in for the state host."""
    from engine.bench.walk import run  # noqa: PLC0415 - a case loads when it is used

    made = run(log, count, accounts, application, host=host, profile=profile)
    report("walk", made, json=json, keep=keep, results=results)


def report(
    case: str, values: Mapping[str, Any], *, json: bool, keep: bool, results: Path = RESULTS
) -> None:
    """Print what a case has measured, and keep it if asked to."""
    from engine.bench import document  # noqa: PLC0415 - a case loads when it is used

    made = document.document(case, values)
    if keep:
        output.note(f"kept as {document.keep(made, results)}")
    if json:
        output.show(made, json=True)
    else:
        _table(case, made)


def _table(case: str, made: Mapping[str, Any]) -> None:
    """Write lists of rows as tables, everything else as names and values."""
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.table import Table  # noqa: PLC0415

    console = Console(file=sys.stdout, highlight=False)
    machine = made["machine"]
    console.print(f"[bold]partita bench {case}[/bold]  {machine['cpu']}, {machine['cores']} cores")
    plain = {name: value for name, value in made.items() if not isinstance(value, dict | list)}
    lists = {name: value for name, value in made.items() if isinstance(value, list)}
    for name, value in lists.items():
        rows = cast("Sequence[Mapping[str, Any]]", value)
        columns = list(rows[0]) if rows else []
        table = Table(*columns, title=name, title_justify="left")
        for row in rows:
            table.add_row(*(_cell(row.get(column)) for column in columns))
        console.print(table)
    table = Table(show_header=False)
    for name, value in plain.items():
        if name != "bench":
            table.add_row(name, _cell(value))
    console.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 1_000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "-" if value is None else str(value)
