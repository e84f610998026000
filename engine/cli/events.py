"""`partita events`: what became of commands, read from the event log itself.

Only what counts is shown: records of an owner that was replaced are left out, as every replica
leaves them out. That takes reading from the log's begin, but decodes only what is shown.
"""

from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from engine import wire
from engine.application import Application
from engine.audit.reading import counting
from engine.cli import output
from engine.cli.client import Json
from engine.cli.sources import Asked, Bootstrap, Config, Data, Folder, Source, opened
from engine.errors import ConfigError
from engine.http.outcomes import outcome_json
from engine.load.sources import follow, read
from engine.model import LogRecord
from engine.partition.ownership import LogState
from engine.wire import Kind

app = typer.Typer(help="Look into the event log.", no_args_is_help=True)

Partitions = Annotated[
    list[int] | None, typer.Option("--partition", "-p", help="Only this one; repeatable.")
]


class Decoder:
    """Turns counting records into JSON, by the applications that the log itself carries."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._applications: dict[int, Application] = {}

    def note(self, kind: Kind, record: LogRecord) -> None:
        """Remember an application that came into force."""
        if kind is Kind.APPLICATION and record.value is not None:
            fields = wire.decode_event(record.value)[1]
            self._applications[fields["index"]] = _schemas(fields)

    def show(self, kind: Kind, record: LogRecord) -> dict[str, Any]:
        """Return a record as JSON shows it."""
        assert record.value is not None
        shown: dict[str, Any] = {"offset": record.offset, "kind": kind.value}
        if kind is Kind.OUTCOME:
            outcome = wire.decode_outcome(record.value)
            return shown | outcome_json(self._partition, outcome, self._applications.get)
        fields = wire.decode_event(record.value)[1]
        for name in ("manifest", "schemas", "fingerprint"):
            fields.pop(name, None)
        return shown | {"partition": self._partition} | fields


def _schemas(fields: dict[str, Any]) -> Application:
    """Return an application of the log as far as reading needs it: without its code."""
    from engine.application.building import Parts, Table, build  # noqa: PLC0415 - slow to import

    texts = {entry["name"]: entry["text"] for entry in fields["schemas"]}
    without = {module["name"]: b"" for module in fields["modules"]}
    parts = Parts(fields["manifest"], texts, without, f"application {fields['index']} of the log")
    tables = [
        Table(entry["kind"], entry["name"], entry["generation"], entry["table"])
        for entry in fields["tables"]
    ]
    return build(parts, tables, fields["index"])


def _line(shown: dict[str, Any]) -> str:
    """Return a record as one line for people."""
    place = f"{shown['partition']}/{shown['sequence']}@{shown['offset']}"
    if shown["kind"] != Kind.OUTCOME:
        return f"{place}  -- {shown['kind']} (epoch {shown['epoch']})"
    what = f"{shown['workspace']}  {shown['command']} {output.as_json(shown['args'], indent=False)}"
    if shown["code"]:
        return f"{place}  {what}  REJECTED {shown['code']} {shown.get('message', '')}".rstrip()
    changes = ", ".join(f"{one['op']} {one['type']}/{one['id']}" for one in shown["changes"])
    return f"{place}  {what}  {changes}".rstrip()


def _write(shown: dict[str, Any], *, json: bool) -> None:
    output.line(output.as_json(shown, indent=False) if json else _line(shown))


def _chosen(source: Source, partitions: list[int] | None) -> list[int]:
    for partition in partitions or []:
        if not 0 <= partition < source.partitions:
            what = f"{source.name} has partitions 0 to {source.partitions - 1}, not {partition}"
            raise ConfigError("E1001", what, flag="--partition")
    return partitions or list(range(source.partitions))


def _shown(
    source: Source, partition: int, state: LogState, decoder: Decoder
) -> Iterator[tuple[Kind, LogRecord]]:
    """Yield what counts of a partition's present log."""
    log = source.logs.event_log(partition)
    for kind, record in counting(read(source.logs, log, log.bounds()), state):
        decoder.note(kind, record)
        yield kind, record


@app.command()
def tail(
    application: Folder = None,
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="The last so many.")] = 10,
    partition: Partitions = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also claims, marks and the like, not only outcomes.")
    ] = False,
    go_on: Annotated[bool, typer.Option("--follow", "-f", help="Go on as events come.")] = False,
    json: Json = False,
    data: Data = None,
    bootstrap_servers: Bootstrap = None,
    config: Config = None,
) -> None:
    """Print the last outcomes of each partition; JSON is one line each."""
    with opened(Asked(application, data, bootstrap_servers, config)) as source:
        followed: list[_Followed] = []
        for number in _chosen(source, partition):
            state, decoder = LogState(), Decoder(number)
            last: deque[tuple[Kind, LogRecord]] = deque(maxlen=count)
            for kind, record in _shown(source, number, state, decoder):
                if everything or kind is Kind.OUTCOME:
                    last.append((kind, record))
            for kind, record in last:
                _write(decoder.show(kind, record), json=json)
            followed.append(_Followed(source, number, state, decoder))
        while go_on:
            for one in followed:
                for kind, record in one.news():
                    if everything or kind is Kind.OUTCOME:
                        _write(one.decoder.show(kind, record), json=json)


class _Followed:
    """A partition whose events are shown as they come."""

    def __init__(self, source: Source, partition: int, state: LogState, decoder: Decoder) -> None:
        log = source.logs.event_log(partition)
        self.decoder = decoder
        self._state = state
        self._records = follow(source.logs, log, state.position.offset)

    def news(self) -> Iterator[tuple[Kind, LogRecord]]:
        """Yield what has come and counts, until there is nothing more at the moment."""
        batch = iter(lambda: next(self._records), None)
        for kind, record in counting((one for one in batch if one), self._state):
            self.decoder.note(kind, record)
            yield kind, record


@app.command()
def show(
    partition: Annotated[int, typer.Argument(help="The partition.")],
    place: Annotated[str, typer.Argument(help="A sequence, or @OFFSET.")],
    application: Folder = None,
    data: Data = None,
    bootstrap_servers: Bootstrap = None,
    config: Config = None,
) -> None:
    """Print one event in full, as JSON."""
    offset = place.removeprefix("@")
    if not offset.isdecimal():
        raise ConfigError("E1001", f"{place!r} is neither a sequence nor @OFFSET")
    wanted, by_offset = int(offset), place.startswith("@")
    with opened(Asked(application, data, bootstrap_servers, config)) as source:
        (number,) = _chosen(source, [partition])
        decoder = Decoder(number)
        for kind, record in _shown(source, number, LogState(), decoder):
            head = wire.head(record.value)
            found = record.offset if by_offset else head.sequence if head else -1
            if found == wanted and (by_offset or kind is Kind.OUTCOME):
                output.line(output.as_json(decoder.show(kind, record)))
                return
            if found > wanted:
                break
    why = "superseded, or not there" if by_offset else "no such outcome"
    output.fault(f"partition {partition}, {place}: {why}")
    raise typer.Exit(1)


@app.command("rejected")
def rejected(
    application: Folder = None,
    code: Annotated[str, typer.Option("--code", help="Only these.")] = "",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="At most so many.")] = 100,
    summary: Annotated[bool, typer.Option("--summary", help="Only how many of each code.")] = False,
    partition: Partitions = None,
    json: Json = False,
    data: Data = None,
    bootstrap_servers: Bootstrap = None,
    config: Config = None,
) -> None:
    """List rejected outcomes by their code, the newest last."""
    counts: dict[str, int] = {}
    last: deque[dict[str, Any]] = deque(maxlen=count)
    with opened(Asked(application, data, bootstrap_servers, config)) as source:
        for number in _chosen(source, partition):
            decoder = Decoder(number)
            for kind, record in _shown(source, number, LogState(), decoder):
                if kind is not Kind.OUTCOME or record.value is None:
                    continue
                found = wire.decode_outcome(record.value)["code"]
                if not found or (code and found != code):
                    continue
                counts[found] = counts.get(found, 0) + 1
                if not summary:
                    last.append(decoder.show(kind, record))
    if summary:
        rows = [{"code": name, "count": counts[name]} for name in sorted(counts)]
        output.show(rows, json=json, columns=("code", "count"))
        return
    rows = sorted(last, key=lambda shown: (shown["code"], shown["partition"], shown["sequence"]))
    columns = ("code", "partition", "sequence", "workspace", "command", "args", "message")
    output.show(rows, json=json, columns=columns)
    if sum(counts.values()) > len(rows):
        output.note(f"{sum(counts.values()) - len(rows)} older ones are not shown: --count")
