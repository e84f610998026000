"""Which logs a word reads: a broker's, or the embedded log's folder. Opens them, never locks."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from engine.application import Application
from engine.cli import adapters
from engine.cli.adapters import Stored
from engine.errors import ConfigError
from engine.log.archived import ReadableLogs
from engine.log.outside import find_logs
from engine.settings import Settings, load_settings

Folder = Annotated[
    Path | None,
    typer.Argument(help="The application's folder; needed with a broker."),
]
Data = Annotated[
    Path | None, typer.Option("--data", help="The data folder of `partita dev`, read only.")
]
Bootstrap = Annotated[
    str | None, typer.Option("--bootstrap-servers", help="The broker's addresses.")
]
Config = Annotated[Path | None, typer.Option("--config", help="The settings file.")]


@dataclass(slots=True, frozen=True)
class Source:
    """Open logs of an application, and what else lies beside them.

    `logs` go on in the archive, if there is one; `plain` are the logs alone. `content` opens the
    store of extensions' code; `stores` are folders with partitions' stores.
    """

    name: str
    partitions: int
    logs: ReadableLogs
    plain: ReadableLogs
    target: str
    application: Application | None
    content: Callable[[], Stored]
    stores: tuple[Path, ...] = ()


@dataclass(slots=True, frozen=True)
class Asked:
    """What the flags say about where the logs are."""

    application: Path | None = None
    data: Path | None = None
    bootstrap_servers: str | None = None
    config: Path | None = None

    def settings(self) -> Settings:
        """Return the settings with these flags over them."""
        log = {"bootstrap_servers": self.bootstrap_servers}
        if self.bootstrap_servers:
            log["kind"] = "kafka"
        elif self.data:
            log["kind"] = "embedded"
        return load_settings(self.config, {"data": self.data, "log": log})


@contextmanager
def opened(asked: Asked) -> Generator[Source, None, None]:
    """Open the logs that the flags, or else the settings, name."""
    settings = asked.settings()
    application = _application(asked.application)
    source = (
        _broker(settings, application)
        if settings.log.kind == "kafka"
        else _files(settings, application)
    )
    if settings.snapshots.url:
        whole = adapters.archived(source.plain, settings.snapshots.url, source.name)
        source = replace(source, logs=whole)
    try:
        yield source
    finally:
        source.logs.close()


def name_of(asked: Asked) -> str:
    """Return the application's name, without connecting to anything."""
    application = _application(asked.application)
    return application.name if application else find_logs(asked.settings().data).application


def _application(folder: Path | None) -> Application | None:
    return None if folder is None else application_of(folder)


def application_of(folder: Path) -> Application:
    """Load the application in a folder."""
    from engine.application.folder import load_application  # noqa: PLC0415 - slow to import

    return load_application(folder)


def _files(settings: Settings, application: Application | None) -> Source:
    logs = find_logs(settings.data)
    if application and (application.name, application.partitions) != (
        logs.application,
        logs.partitions,
    ):
        raise ConfigError(
            "E1001",
            f"the logs in {logs.folder} are of {logs.application} with {logs.partitions} "
            f"partitions, not of {application.name} with {application.partitions}",
            flag="--data",
        )
    beside = logs.folder.parent
    return Source(
        logs.application,
        logs.partitions,
        logs,
        logs,
        str(logs.folder),
        application,
        lambda: adapters.folder_content(beside / "content"),
        (beside / "stores",) if (beside / "stores").is_dir() else (),
    )


def _broker(settings: Settings, application: Application | None) -> Source:
    if application is None:
        raise ConfigError(
            "E1001",
            "a broker holds the topics of many applications",
            "Name the application's folder, such as topology/bank",
        )
    name, partitions = application.name, application.partitions
    logs = adapters.kafka_logs(settings.log, name, partitions)
    target = settings.log.bootstrap_servers
    content = partial(adapters.kafka_content, logs)
    return Source(name, partitions, logs, logs, target, application, content)
