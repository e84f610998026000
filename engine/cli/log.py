"""`partita log`: archive the event log, trim it, copy it into another application."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from engine import wire
from engine.cli import adapters, output
from engine.cli.client import Json
from engine.cli.copying import Copy, copy_partition, manifests
from engine.cli.snapshot import Partitions, Store, objects_of
from engine.cli.sources import (
    Asked,
    Bootstrap,
    Config,
    Data,
    Folder,
    Source,
    application_of,
    opened,
)
from engine.errors import ConfigError, LogError
from engine.load.sources import read
from engine.log.archive import Archive, archived
from engine.model import Bounds, LogRecord
from engine.partition.snapshots import Snapshots
from engine.partition.trimming import Floor, floor_of, kept_of
from engine.ports import ObjectStore
from engine.settings import Settings
from engine.wire import Kind
from engine.world import SystemRandom

app = typer.Typer(help="Archive, trim and copy the event log.", no_args_is_help=True)

Trim = Callable[[int, int], None]
CODE = "content"  # where the archive keeps extensions' code


@app.command()
def archive(
    application: Folder = None,
    partition: Partitions = None,
    to: Store = None,
    data: Data = None,
    bootstrap_servers: Bootstrap = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Store the events that are not in the archive yet; run it as often as you like."""
    asked = Asked(application, data, bootstrap_servers, config)
    settings = asked.settings()
    with opened(asked) as source:
        objects = objects_of(settings, to, source.name)
        chosen = partition or range(source.partitions)
        rows = [_archive(source, objects, number) for number in chosen]
    output.show(rows, json=json, columns=("partition", "from", "to", "records"))


def _archive(source: Source, objects: ObjectStore, partition: int) -> dict[str, Any]:
    log = source.logs.event_log(partition)
    bounds = log.bounds()
    there = Archive(objects, partition, bounds.topic_id)
    pieces = there.pieces()
    begin = pieces[-1].end if pieces else bounds.begin
    if begin < bounds.begin:
        raise LogError(
            "E1302",
            f"the archive ends at offset {begin}, the log begins at {bounds.begin}",
            "What lies between is gone: archive to another place from here on",
            partition=partition,
        )
    records = read(source.logs, log, Bounds(begin, bounds.end, bounds.topic_id))
    count = archived(_with_code(source, objects, records), there, bounds.end)
    return {"partition": partition, "from": begin, "to": bounds.end, "records": count}


def _with_code(
    source: Source, objects: ObjectStore, records: Iterator[LogRecord]
) -> Iterator[LogRecord]:
    """Yield records, and archive the code of the applications among them first."""
    for record in records:
        head = wire.head(record.value)
        if head is not None and head.kind is Kind.APPLICATION and record.value is not None:
            for module in wire.decode_event(record.value)[1]["modules"]:
                name = module["sha256"].hex()
                data = source.content().get(name)
                if data is None:
                    what = f"the code of extension {module['name']} ({name[:12]}…) is missing"
                    raise LogError("E1306", what, offset=record.offset)
                objects.put(f"{CODE}/{name}", data)
        yield record


@app.command()
def trim(
    application: Folder = None,
    partition: Partitions = None,
    snapshots: Store = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    data: Data = None,
    bootstrap_servers: Bootstrap = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Delete events that are archived and that nothing needs any more.

    They lie below the oldest kept snapshot, below every command id that is remembered, and their
    emits are acknowledged. An embedded log is trimmed while no node has it open.
    """
    asked = Asked(application, data, bootstrap_servers, config)
    settings = asked.settings()
    with opened(asked) as source:
        objects = objects_of(settings, snapshots, source.name)
        chosen = partition or list(range(source.partitions))
        floors = {number: _floor(source, objects, number) for number in chosen}
    if not dry_run and any(floor.offset > begin for begin, floor in floors.values()):
        with _trimmer(settings, source) as delete:
            for number, (_, floor) in floors.items():
                delete(number, floor.offset)
    rows = [
        {"partition": number, "begin": begin, "trimmed_to": floor.offset, "held_by": floor.why}
        for number, (begin, floor) in floors.items()
    ]
    output.show(rows, json=json, columns=("partition", "begin", "trimmed_to", "held_by"))


def _floor(source: Source, objects: ObjectStore, partition: int) -> tuple[int, Floor]:
    """Return where the log begins, and how far it may be trimmed."""
    bounds = source.plain.event_log(partition).bounds()
    present = set(objects.names(f"sst/{partition}/"))
    kept = kept_of(bounds, manifests(Snapshots(objects), partition), present)
    pieces = Archive(objects, partition, bounds.topic_id).pieces()
    whole = bool(pieces) and pieces[0].first <= bounds.begin

    def records(begin: int) -> Iterator[LogRecord]:
        log = source.plain.event_log(partition)
        return read(source.logs, log, Bounds(begin, bounds.end, bounds.topic_id))

    return bounds.begin, floor_of(bounds, kept, pieces[-1].end if whole else 0, records)


@contextmanager
def _trimmer(settings: Settings, source: Source) -> Generator[Trim, None, None]:
    """Yield what trims a partition's events."""
    if settings.log.kind == "kafka":
        yield adapters.kafka_trim(settings.log, source.name)
        return
    logs = adapters.embedded_logs(source.target, source.name, source.partitions)
    try:
        yield lambda partition, before: logs.trim("events", partition, before)
    finally:
        logs.close()


@app.command("copy")
def copy_(
    application: Folder = None,
    to_data: Annotated[
        Path | None, typer.Option("--to-data", help="A data folder for the embedded log.")
    ] = None,
    to_bootstrap_servers: Annotated[
        str | None, typer.Option("--to-bootstrap-servers", help="Another cluster's addresses.")
    ] = None,
    to_topic_prefix: Annotated[
        str | None, typer.Option("--to-topic-prefix", help="Put before the new topics' names.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--until", help="Leave out what came later (UTC).")
    ] = None,
    from_archive: Annotated[
        bool, typer.Option("--from-archive", help="The old log is gone: read its archive alone.")
    ] = False,
    take_snapshots: Annotated[
        bool, typer.Option("--take-snapshots", help="Its snapshots become the copy's, for good.")
    ] = False,
    snapshots: Store = None,
    data: Data = None,
    bootstrap_servers: Bootstrap = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Copy an application's events into new topics or a new folder, as a new incarnation.

    Commands that are not decided yet are copied, too, unless --until leaves them out. The old
    application must not run meanwhile, or what it decides later is not in the copy.
    """
    asked = Asked(application, data, bootstrap_servers, config)
    settings = asked.settings()
    to = _target_settings(settings, to_data, to_bootstrap_servers, to_topic_prefix)
    with from_the_archive(asked, snapshots) if from_archive else opened(asked) as source:
        target, content = adapters.target(to, source.name, source.partitions)
        objects = objects_of(settings, snapshots, source.name) if take_snapshots else None
        until_ms = int(until.replace(tzinfo=UTC).timestamp() * 1_000) if until else None
        copy = Copy(source, target, content, SystemRandom(), objects, until_ms)
        try:
            rows = [copy_partition(copy, number) for number in range(source.partitions)]
        finally:
            target.close()
    output.show(rows, json=json, columns=("partition", "events", "sequence", "commands"))


def _target_settings(
    settings: Settings, data: Path | None, servers: str | None, prefix: str | None
) -> Settings:
    """Return the settings of what is copied to, which must differ from where it comes from."""
    if data is not None:
        log = settings.log.model_copy(update={"kind": "embedded"})
        return settings.model_copy(update={"data": data, "log": log})
    given = {"bootstrap_servers": servers, "topic_prefix": prefix}
    update = {"kind": "kafka", **{name: text for name, text in given.items() if text is not None}}
    log = settings.log.model_copy(update=update)
    if log == settings.log:
        hint = "Name one with --to-data, --to-bootstrap-servers or --to-topic-prefix"
        raise ConfigError("E1001", "the copy needs a place of its own", hint)
    return settings.model_copy(update={"log": log})


@contextmanager
def from_the_archive(asked: Asked, url: str | None) -> Generator[Source, None, None]:
    """Yield an archive as the source: the old cluster is gone."""
    if asked.application is None:
        raise ConfigError("E1001", "an archive alone needs the application's folder")
    known = application_of(asked.application)
    objects = objects_of(asked.settings(), url, known.name)
    logs = adapters.archive_logs(objects)
    code = adapters.Prefixed(objects, CODE)
    yield Source(known.name, known.partitions, logs, logs, "archive", known, lambda: code)
