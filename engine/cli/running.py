"""Running a node in the foreground: signals, the first lines it says, and `--watch`."""

import signal
import threading
from pathlib import Path
from typing import Any, Literal

from engine.assembly import Engine, settle_process
from engine.cli import output
from engine.cli.progress import RestoreShown
from engine.errors import EngineError, UnavailableError
from engine.model import Phase
from engine.settings import Settings
from engine.telemetry.logs import configure_logs

WATCH_S = 0.5
READY_S = 0.1
WATCHED = (".toml", ".avsc", ".wasm", ".py", ".c")


class Signals:
    """What the process was told: SIGINT or SIGTERM to stop, SIGHUP to load the folder anew.

    A second signal to stop, or one before the node has started, doesn't wait for anything.
    """

    def __init__(self) -> None:
        self._woken = threading.Event()
        self._reload = False
        self.stopping = False
        self.started = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        elif self.stopping or not self.started:
            raise KeyboardInterrupt
        else:
            self.stopping = True
        self._woken.set()

    def wait(self, timeout_s: float | None) -> None:
        """Return when a signal has come, or after a while."""
        self._woken.wait(timeout_s)
        self._woken.clear()

    def reload(self) -> bool:
        """Return whether to load the folder anew; once per request."""
        asked, self._reload = self._reload, False
        return asked


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
    signals = Signals()
    try:
        engine = Engine(settings, folder, accept_lost_commands=accept_lost_commands)
        signals.started = True
    except KeyboardInterrupt:
        output.note("stopped before it had started")
        return
    settle_process()
    engine.start()
    _greet(engine, signals)
    seen = _changes(folder)
    while not signals.stopping:
        if signals.reload() or (watch and _changes(folder) != seen):
            _reload(engine, folder, build=watch)
            seen = _changes(folder)
        signals.wait(WATCH_S if watch else None)
    _stop(engine)


def _stop(engine: Engine) -> None:
    """Hand every partition over, telling how many are left, and leave. Bounded by the node."""
    told = engine.node.operations.owned()
    output.note(f"stopping: handing {told} partitions over")
    ending = threading.Thread(target=engine.stop, name="partita-stop", daemon=True)
    ending.start()
    while ending.is_alive():
        ending.join(READY_S)
        left = engine.node.operations.owned()
        if left != told:
            told = left
            output.note(f"  {left} left" if left else "  all handed over")
    if told:
        hint = "The next owner claims them without; nothing is lost"
        raise UnavailableError("E1408", f"{told} partitions were not released in time", hint)


def _greet(engine: Engine, signals: Signals) -> None:
    """Wait until everything is served, showing how far a restore is, and say where to look."""
    problems: dict[int, str] = {}
    with RestoreShown() as shown:
        while not signals.stopping and not engine.node.ready():
            shown.show(engine.node.progress())
            for partition, problem in engine.node.problems().items():
                if problems.get(partition) != problem:
                    output.fault(f"partition {partition}: {problem}")
                    problems[partition] = problem
            if _all_settled(engine):
                break
            signals.wait(READY_S)
    url, application = engine.server.url, engine.node.operations.loaded.application
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


def _reload(engine: Engine, folder: Path, *, build: bool) -> None:
    """Load the edited application, to come into force; or say why not, and go on."""
    try:
        if build:
            _build(folder)
        application = engine.node.operations.reload()
    except EngineError as error:
        output.fault(f"not reloaded: {error}")
        return
    output.note(f"reloading: version {application.version}")


def _build(folder: Path) -> None:
    """Build extensions whose source is newer than their module."""
    sources = list(folder.glob("*.c"))
    modules = list(folder.rglob("*.wasm"))
    oldest = min((path.stat().st_mtime_ns for path in modules), default=0)
    if any(path.stat().st_mtime_ns > oldest for path in sources):
        from engine.sandbox.sdk.build import build_all  # noqa: PLC0415 - an author's tool

        build_all(folder)
