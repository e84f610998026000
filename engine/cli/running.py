"""Running a node in the foreground: signals, the first lines it says, and `--watch`."""

import signal
import threading
from pathlib import Path
from typing import Any, Literal

from engine.application import Application
from engine.application.compat import diff
from engine.application.folder import load_application
from engine.assembly import Engine
from engine.cli import output
from engine.cli.progress import RestoreShown
from engine.errors import EngineError
from engine.model import Phase
from engine.sandbox.guests import load_guests
from engine.settings import Settings
from engine.telemetry.logs import configure_logs

WATCH_S = 0.5
READY_S = 0.1
WATCHED = (".toml", ".avsc", ".wasm", ".py", ".c")


def run_until_stopped(
    settings: Settings,
    folder: Path,
    *,
    watch: bool = False,
    accept_lost_commands: bool = False,
    log_format: Literal["json", "console"],
) -> None:
    """Run a node until SIGINT or SIGTERM; a second signal doesn't wait for anything."""
    style = log_format if settings.log_format == "auto" else settings.log_format
    configure_logs(style, settings.log_level)
    stop = threading.Event()

    started = False

    def on_signal(_number: int, _frame: Any) -> None:
        if stop.is_set() or not started:
            raise KeyboardInterrupt
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    try:
        engine = Engine(settings, folder, accept_lost_commands=accept_lost_commands)
        started = True
    except KeyboardInterrupt:
        output.note("stopped before it had started")
        return
    engine.start()
    _greet(engine, stop)
    seen = _changes(folder)
    while not stop.wait(WATCH_S if watch else None):
        now = _changes(folder)
        if now != seen:
            seen = now
            reloaded = _reload(engine, settings, folder)
            if reloaded is not engine:
                engine = reloaded
                _greet(engine, stop)
            seen = _changes(folder)
    output.note("stopping: handing partitions over")
    engine.stop()


def _greet(engine: Engine, stop: threading.Event) -> None:
    """Wait until everything is served, showing how far a restore is, and say where to look."""
    problems: dict[int, str] = {}
    with RestoreShown() as shown:
        while not stop.is_set() and not engine.node.ready():
            shown.show(engine.node.progress())
            for partition, problem in engine.node.problems().items():
                if problems.get(partition) != problem:
                    output.fault(f"partition {partition}: {problem}")
                    problems[partition] = problem
            if _all_settled(engine):
                break
            stop.wait(READY_S)
    url, application = engine.server.url, engine.application
    output.note(f"{application.name} {application.version} on {url}")
    output.note(f"  commands  POST {url}/v1/workspaces/WORKSPACE/commands/COMMAND")
    output.note(f"  views     GET  {url}/v1/workspaces/WORKSPACE/views/VIEW")
    output.note(f"  more      {url}/openapi.json  {url}/health/ready  {url}/metrics")


def _all_settled(engine: Engine) -> bool:
    """Return True when every partition here is served, or waits for a person."""
    stopped = engine.node.problems()
    return bool(stopped) and all(
        each.phase is Phase.OWNING or each.partition in stopped for each in engine.node.progress()
    )


def _changes(folder: Path) -> dict[str, int]:
    """Return when each of the application's files was changed last."""
    return {
        str(path): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.suffix in WATCHED and path.is_file()
    }


def _reload(engine: Engine, settings: Settings, folder: Path) -> Engine:
    """Put the edited application in force, if it may be; else say why not and go on."""
    try:
        edited = _rebuilt(folder)
        changes = diff(engine.node.application, edited)
        if not changes.deployable:
            output.note("not reloaded:")
            for entry in changes.entries:
                output.note(f"  {entry}")
            return engine
        load_guests(edited).close()  # before anything is stopped for it
    except EngineError as error:
        output.fault(f"not reloaded: {error}")
        return engine
    output.note(f"reloading: version {edited.version}")
    # A free port was taken once: whoever knows the address finds the new version there.
    http = settings.http.model_copy(update={"port": engine.server.port})
    engine.stop()
    reloaded = Engine(settings.model_copy(update={"http": http}), folder)
    reloaded.start()
    return reloaded


def _rebuilt(folder: Path) -> Application:
    """Build extensions whose source is newer than their module, and load the application."""
    sources = list(folder.glob("*.c"))
    modules = list(folder.rglob("*.wasm"))
    oldest = min((path.stat().st_mtime_ns for path in modules), default=0)
    if any(path.stat().st_mtime_ns > oldest for path in sources):
        from engine.sandbox.sdk.build import build_all  # noqa: PLC0415 - an author's tool

        build_all(folder)
    return load_application(folder)
