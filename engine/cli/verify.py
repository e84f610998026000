"""`partita verify`: does an application keep its promises? Reads topics and stores only."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from engine.audit import Evidence, Finding, Parts, Report, Witness, audit
from engine.audit.report import COLUMNS
from engine.audit.stores import witnesses
from engine.cli import output
from engine.cli.adapters import python_host
from engine.cli.client import Json
from engine.cli.content import Content
from engine.cli.sources import Asked, Bootstrap, Config, Data, Folder, Source, opened
from engine.errors import EngineError
from engine.load.sources import read
from engine.store.memory import MemoryStore

app = typer.Typer(help="Audit topics and stores against the promises.")

SHOWN_MAX = 20
_WAIT_MS = 100


@app.command()
def verify(
    application: Folder = None,
    data: Data = None,
    bootstrap_servers: Bootstrap = None,
    stores: Annotated[
        list[Path] | None,
        typer.Option("--store", help="Also compare a node's data folder; repeatable."),
    ] = None,
    settled: Annotated[
        bool, typer.Option("--settled", help="Nothing runs any more: nothing may be waiting.")
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay/--no-replay", help="Fold the events anew, compare digests.")
    ] = True,
    strict: Annotated[
        bool, typer.Option("--strict", help="Count alarms, which the protocol survives, too.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Audit an application: one outcome per command, in order, gapless, equal digests.

    Exit 1 with E1501 on any difference. Nothing is changed anywhere.
    """
    with opened(Asked(application, data, bootstrap_servers, config)) as source:
        evidence = _evidence(source, [*source.stores, *(stores or [])], replay=replay)
        report = audit(evidence, source.partitions, settled=settled)
    if json:
        output.line(output.as_json(report.as_dict()))
    else:
        output.table(report.rows(), tuple(COLUMNS))
        _explain(report)
    if not report.sound or (strict and report.alarms):
        count = len(report.differences) + (len(report.alarms) if strict else 0)
        hint = "Don't delete anything: the logs are the evidence"
        raise EngineError("E1501", f"{count} differences in {source.name}", hint)


def _evidence(source: Source, stores: list[Path], *, replay: bool) -> Iterator[Evidence]:
    """Yield one partition after the other.

    Stores are looked at first, then the commands' end, then the events' end: so what came
    meanwhile makes nothing look ahead of the log or undecided.
    """
    content = Content(source) if replay else None
    for partition in range(source.partitions):
        found = [one for folder in stores for one in witnesses(folder, partition)]
        commands, events = source.logs.command_log(partition), source.logs.event_log(partition)
        commands_bounds = commands.bounds()
        events_bounds = events.bounds()
        output.note(f"partition {partition}: {events_bounds.end - events_bounds.begin} events")
        yield Evidence(
            partition,
            read(source.logs, commands, commands_bounds),
            read(source.logs, events, events_bounds),
            _parts(source, partition, content, found) if content else None,
        )


def _parts(source: Source, partition: int, content: Content, found: list[Witness]) -> Parts:
    history = source.logs.history(partition)
    wait = partial(source.logs.wait, _WAIT_MS)
    return Parts(python_host, MemoryStore(), content, found, history, wait)


def _explain(report: Report) -> None:
    """Say on stderr what was found, the first ones in words."""
    found = [("difference", one) for one in report.differences]
    found += [("alarm", one) for one in report.alarms]
    for word, finding in found[:SHOWN_MAX]:
        output.note(_sentence(word, finding))
    if len(found) > SHOWN_MAX:
        output.note(f"… and {len(found) - SHOWN_MAX} more: --json lists them")
    if report.sound:
        output.note("every promise holds")


def _sentence(word: str, finding: Finding) -> str:
    place = f"partition {finding.partition}, {finding.log} offset {finding.offset}"
    return f"{word} {finding.kind}: {place}: {finding.what}"
