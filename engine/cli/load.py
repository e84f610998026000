"""`partita load`: record real traffic, replay it open loop, report what was measured."""

import asyncio
import contextlib
import ssl
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from engine.application import Application
from engine.cli import client, output
from engine.cli.adapters import kafka_logs
from engine.cli.sources import Asked, Bootstrap, Config, Data, Folder, opened
from engine.errors import ConfigError
from engine.limits import REPLAY_CONNECTIONS_MAX
from engine.load.pace import parse_pace
from engine.load.recording import Recording, open_recording
from engine.load.replay_log import Plan
from engine.load.result import COLUMNS, Result, read_result, report, write_result
from engine.load.rewrite import Rewriter
from engine.load.tap import Tap, Until
from engine.world import SystemClock, SystemRandom

app = typer.Typer(help="Record, replay and report real traffic.", no_args_is_help=True)

RESULTS = Path("loadtest/results")
Results = Annotated[Path, typer.Option("--results", help="The folder of results.")]


@app.command()
def record(
    file: Annotated[Path, typer.Argument(help="The recording to write.")],
    application: Folder = None,
    from_begin: Annotated[
        bool, typer.Option("--from-begin", help="From the first command the log still has.")
    ] = False,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop at the log's present end; else at Ctrl-C.")
    ] = False,
    count: Annotated[int, typer.Option(min=0, help="Stop after so many; 0 = never.")] = 0,
    seconds: Annotated[float, typer.Option(min=0, help="Stop after so long; 0 = never.")] = 0,
    json: client.Json = False,
    data: Data = None,
    bootstrap_servers: Bootstrap = None,
    config: Config = None,
) -> None:
    """Tap an application's commands into a file. Tokens are left out."""
    made = file.with_name(file.name + ".part")
    deadline_s = time.monotonic() + seconds if seconds else float("inf")
    until = Until(count, until_end, lambda: time.monotonic() > deadline_s)
    with opened(Asked(application, data, bootstrap_servers, config)) as source:
        tap = Tap(source.logs, source.name, source.partitions)
        try:
            with made.open("wb") as out:
                if not (until_end or count or seconds):
                    output.note(f"recording {source.name} from {source.target}; Ctrl-C ends it")
                tap.run(out, until, from_begin=from_begin)
        except OSError as fault:
            raise ConfigError("E1001", f"can't be written: {fault.strerror}", file=made) from fault
        except KeyboardInterrupt:
            output.note("")
        made.replace(file)
    recording = open_recording(file)
    shown = {
        "file": str(file),
        "application": recording.header.application,
        "commands": recording.count,
        "seconds": recording.duration_ms / 1_000,
    }
    output.show(shown, json=json)


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="The recording.")],
    application: Annotated[
        Path | None,
        typer.Option("--application", "-a", help="The application's folder: for its schemas."),
    ] = None,
    rate: Annotated[str, typer.Option(help="1x (as recorded), 10x, 2000/s, or max.")] = "1x",
    same_ids: Annotated[
        bool, typer.Option("--same-ids", help="Keep the command ids: send true duplicates.")
    ] = False,
    drain: Annotated[float, typer.Option(min=0, help="Seconds to wait for the last ones.")] = 30,
    results: Results = RESULTS,
    json: client.Json = False,
    url: client.Url = client.URL,
    bootstrap_servers: Bootstrap = None,
    config: Config = None,
) -> None:
    """Play a recording open loop: through HTTP, or with --bootstrap-servers through the broker.

    Latency counts from when a command was due until its outcome could be read.
    """
    pace = parse_pace(rate)
    recording = open_recording(file)
    now_ms = SystemClock().now_ms()
    run_id = SystemRandom().bytes(16)
    shift_ms = now_ms - recording.header.started_at_ms
    rewriter = Rewriter(run_id, now_ms, shift_ms, same_ids)
    plan = Plan(pace, rewriter, int(drain * 1_000))
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.UUID(bytes=run_id).hex[:6]}"
    target = bootstrap_servers or url
    result = Result(name, file.name, target, pace.text, now_ms)
    progress = _progress(recording)
    if bootstrap_servers:
        asked = Asked(application, None, bootstrap_servers, config)
        _through_broker(asked, recording, plan, result, progress)
    else:
        asyncio.run(_through_http(url, application, recording, plan, result, progress))
    path = write_result(result, results)
    output.note(f"written to {path}")
    output.show(result.as_dict() if json else [result.row()], json=json, columns=COLUMNS)


Progress = Callable[[Result], None]


def _progress(recording: Recording) -> Progress:
    """Return what says about once a second how far a replay is, if somebody looks."""
    told_s = time.monotonic()

    def tell(result: Result) -> None:
        nonlocal told_s
        if sys.stderr.isatty() and time.monotonic() - told_s >= 1:
            told_s = time.monotonic()
            output.note(f"sent {result.sent} of {recording.count}, answered {result.answered}")

    return tell


def _through_broker(
    asked: Asked, recording: Recording, plan: Plan, result: Result, progress: Progress
) -> None:
    from engine.application.folder import load_application  # noqa: PLC0415 - slow to import
    from engine.load.replay_log import LogReplay  # noqa: PLC0415

    if asked.application is None:
        what = "a broker holds the topics of many applications"
        raise ConfigError("E1001", what, "Name the folder", flag="--application")
    application = load_application(asked.application)
    settings = asked.settings()
    logs = kafka_logs(settings.log, application.name, application.partitions)
    try:
        LogReplay(logs, application.partitions, plan, result).run(recording.commands(), progress)
    finally:
        logs.close()


async def _through_http(
    url: str,
    folder: Path | None,
    recording: Recording,
    plan: Plan,
    result: Result,
    progress: Progress,
) -> None:
    import httpx  # noqa: PLC0415 - it loads slowly

    from engine.load.replay_http import HttpReplay  # noqa: PLC0415

    application: Application | None = None
    if folder is not None:
        from engine.application.folder import load_application  # noqa: PLC0415 - slow to import

        application = load_application(folder)
    client.call(url, "GET", "/health/live")  # nobody there: say so at once, not per command
    tls, headers = ssl.create_default_context(), client.headers_of()
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=url, timeout=client.TIMEOUT_S, headers=headers, verify=tls
                )
            )
            for _ in range(REPLAY_CONNECTIONS_MAX)
        ]
        replay = HttpReplay(clients, plan, result, application)
        await replay.run(recording.commands(), progress)


@app.command("report")
def report_(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Results; none = all of the folder.")
    ] = None,
    results: Results = RESULTS,
    json: client.Json = False,
) -> None:
    """Print throughput, latency percentiles and what went wrong, a line per run."""
    paths = files or sorted(results.glob("[0-9]*.json"))  # a bench names its own by case
    rows = report(read_result(path) for path in paths)
    output.show(rows, json=json, columns=COLUMNS)
