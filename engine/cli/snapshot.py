"""`partita snapshot`: take, list, check and restore snapshots of partitions."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.audit import PartitionReport, Parts
from engine.audit.replay import Replay
from engine.cli import adapters, client, output
from engine.cli.client import Json
from engine.cli.content import Content
from engine.cli.sources import Asked, Bootstrap, Config, Data, Folder, Source, name_of, opened
from engine.errors import ConfigError, EngineError, StoreError
from engine.load.sources import read
from engine.model import Bounds, LogRecord, Position
from engine.partition.ledger import position_of
from engine.partition.ownership import LogState
from engine.partition.snapshots import Manifest, Snapshots, partitions_of, sequence_of
from engine.ports import ObjectStore, PartitionStore
from engine.settings import Settings

app = typer.Typer(help="Take, list, check and restore snapshots.", no_args_is_help=True)

Store = Annotated[
    str | None,
    typer.Option("--snapshots", help="Where snapshots lie, instead of the setting snapshots.url."),
]
Partitions = Annotated[
    list[int] | None, typer.Option("--partition", "-p", help="Only this one; repeatable.")
]
_WAIT_MS = 100
_DAMAGED_SHOWN = 20


def objects_of(settings: Settings, url: str | None, name: str) -> ObjectStore:
    """Return the store of an application's snapshots and archive."""
    address = url or settings.snapshots.url
    if not address:
        hint = "Set snapshots.url, or name one with --snapshots file:///folder"
        raise ConfigError("E1001", "there is no store of snapshots", hint)
    return adapters.objects(address, name)


@app.command()
def create(partition: Partitions = None, json: Json = False, url: client.Url = client.URL) -> None:
    """Take a snapshot of each partition now, each on the node that owns it."""
    rows: list[dict[str, Any]] = []
    for entry in client.get(url, "/v1/partitions").get("partitions", []):
        number = entry["partition"]
        if partition and number not in partition:
            continue
        owner = entry.get("url") or url
        path = client.path_of("v1", "partitions", str(number), "snapshot")
        answer = client.call(owner, "POST", path)
        if answer.refused:
            client.fail(answer)
        rows.append(dict(answer))
    columns = ("partition", "sequence", "epoch", "offset", "size_bytes", "snapshot")
    output.show(rows, json=json, columns=columns)


@app.command("list")
def list_(
    application: Folder = None,
    partition: Partitions = None,
    snapshots: Store = None,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """List the snapshots there are, the newest first."""
    asked = Asked(application, data, None, config)
    objects = objects_of(asked.settings(), snapshots, name_of(asked))
    store, now_s = Snapshots(objects), time.time()
    rows = [
        _row(name, manifest, now_s)
        for number in partition or partitions_of(objects)
        for name, manifest, _ in _loaded(store, number)
    ]
    columns = ("partition", "sequence", "epoch", "offset", "age_s", "files", "size_bytes", "engine")
    output.show(rows, json=json, columns=columns)


def _loaded(store: Snapshots, partition: int) -> Iterator[tuple[str, Manifest | None, str]]:
    for name in store.names(partition):
        try:
            yield name, store.load(name), ""
        except StoreError as fault:
            yield name, None, fault.message


def _row(name: str, manifest: Manifest | None, now_s: float) -> dict[str, Any]:
    if manifest is None:
        return {"partition": name.split("/")[1], "sequence": sequence_of(name), "engine": "damaged"}
    return {
        "partition": manifest.partition,
        "sequence": manifest.sequence,
        "epoch": manifest.epoch,
        "offset": manifest.offset,
        "age_s": round(now_s - manifest.created_at_ms / 1_000),
        "files": len(manifest.files),
        "size_bytes": manifest.size_bytes,
        "engine": manifest.engine_version,
        "snapshot": name,
    }


@app.command()
def verify(
    application: Folder = None,
    partition: Partitions = None,
    snapshots: Store = None,
    data: Data = None,
    config: Config = None,
) -> None:
    """Read every snapshot whole and compare checksums; exit 4 with E1208 if one is damaged."""
    asked = Asked(application, data, None, config)
    objects = objects_of(asked.settings(), snapshots, name_of(asked))
    store, damaged, sound = Snapshots(objects), 0, 0
    for number in partition or partitions_of(objects):
        for name, manifest, problem in _loaded(store, number):
            found = (
                [problem] if manifest is None else [one.message for one in store.verify(manifest)]
            )
            for what in found[:_DAMAGED_SHOWN]:
                output.fault(f"{name}: {what}")
            damaged += bool(found)
            sound += not found
    output.note(f"{sound} snapshots are sound, {damaged} are damaged")
    if damaged:
        raise StoreError("E1208", f"{damaged} of {sound + damaged} snapshots are damaged")


@app.command()
def restore(
    to: Annotated[Path, typer.Option("--to", help="A new folder, which becomes read-only.")],
    application: Folder = None,
    sequence: Annotated[
        int | None, typer.Option(help="The last outcome to have; needs one --partition.")
    ] = None,
    partition: Partitions = None,
    snapshots: Store = None,
    data: Data = None,
    bootstrap_servers: Bootstrap = None,
    config: Config = None,
) -> None:
    """Make partitions as they were at a sequence, or are now, in a folder of their own.

    The newest snapshot before it and the log behind that one; without snapshots the log alone.
    Nothing else is changed. `partita verify --store` reads it.
    """
    if sequence is not None and len(partition or ()) != 1:
        raise ConfigError("E1001", "a sequence is one partition's: name it with --partition")
    if to.exists() and any(to.iterdir()):
        raise ConfigError("E1001", f"{to} is not empty", flag="--to")
    asked = Asked(application, data, bootstrap_servers, config)
    settings = asked.settings()
    with opened(asked) as source:
        store = None
        if snapshots or settings.snapshots.url:
            store = Snapshots(objects_of(settings, snapshots, source.name))
        for number in partition or range(source.partitions):
            _restore(source, store, to / str(number), number, sequence)
    for path in sorted(to.rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)


def _restore(
    source: Source, snapshots: Snapshots | None, folder: Path, partition: int, sequence: int | None
) -> None:
    """Write a store and fold the log behind it; the rows are counted anew at the end."""
    log = source.logs.event_log(partition)
    bounds = log.bounds()
    _fetch(snapshots, folder, partition, bounds, sequence)
    store = adapters.store(folder)
    try:
        position = position_of(store) or Position(offset=bounds.begin)
        records = read(source.logs, log, Bounds(position.offset, bounds.end, bounds.topic_id))
        report = _fold(source, store, partition, _until(records, position, sequence), bounds.begin)
        if report.differences:
            first = report.differences[0]
            raise EngineError("E1501", f"{first.kind}: {first.what}", partition=partition)
        reached = position_of(store)
        found = reached.host.sequence if reached else 0
    finally:
        store.close()
    if sequence is not None and found != sequence:
        what = f"the log has no outcome {sequence} that counts; it got to {found}"
        raise ConfigError("E1001", what, partition=partition)
    output.note(f"partition {partition}: sequence {found} in {folder}")


def _fetch(
    snapshots: Snapshots | None, folder: Path, partition: int, bounds: Bounds, sequence: int | None
) -> None:
    """Write the newest sound snapshot that is not behind the sequence, if there is one."""
    for name in snapshots.names(partition) if snapshots else ():
        if sequence is not None and sequence_of(name) > sequence:
            continue
        assert snapshots is not None
        try:
            manifest = snapshots.load(name)
            if manifest.topic_id != bounds.topic_id or manifest.offset > bounds.end:
                output.note(f"{name} is of another log")
                continue
            snapshots.restore(manifest, adapters.new_files(folder))
        except StoreError as fault:
            output.note(f"{name} is passed over: {fault.message}")
        else:
            return
    adapters.new_files(folder)


def _until(
    records: Iterator[LogRecord], position: Position, sequence: int | None
) -> Iterator[LogRecord]:
    """Yield records until the outcome of that sequence has counted."""
    state = LogState(position.copy())
    for record in records:
        if sequence is not None and state.position.host.sequence >= sequence:
            return
        state.judge(record.offset, record.value, record.leader_epoch)
        yield record


def _fold(
    source: Source, store: PartitionStore, partition: int, records: Iterator[LogRecord], begin: int
) -> PartitionReport:
    history, wait = source.logs.history(partition), partial(source.logs.wait, _WAIT_MS)
    parts = Parts(adapters.python_host, store, Content(source), [], history, wait, begin)
    report = PartitionReport(partition)
    replay = Replay(report, parts)
    for record in records:
        replay.read(record)
    replay.finish()
    return report
