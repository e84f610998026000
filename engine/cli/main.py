"""The `partita` command: which words there are, and what happens to their errors.

Each word's module is imported only when the word is used, so `partita version` doesn't pay for a
broker's client, and a broken module breaks only its own word.
"""

import importlib
import sys
import traceback
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
import typer.core

from engine.cli import output
from engine.errors import EngineError


class Word(NamedTuple):
    """One word of the command line: where its typer app lives, and its line in the help."""

    module: str
    attribute: str
    help: str


WORDS = {
    "dev": Word("engine.cli.dev", "app", "Run an application on this machine, without a broker."),
    "serve": Word("engine.cli.serve", "app", "Run a node of an application."),
    "node": Word("engine.cli.node", "app", "Nodes: list, reload, drain, resume."),
    "app": Word("engine.cli.app", "app", "Check, show and compare applications."),
    "extension": Word("engine.cli.extension", "app", "Build, check and list extensions."),
    "kafka": Word("engine.cli.kafka", "app", "A real local Apache Kafka: up, down, status."),
    "command": Word("engine.cli.command", "app", "Send commands, list the rejected ones."),
    "events": Word("engine.cli.events", "app", "Look into the event log."),
    "record": Word("engine.cli.query", "record", "Read records."),
    "view": Word("engine.cli.query", "view", "Read views."),
    "partition": Word("engine.cli.query", "partition", "Who owns which partition."),
    "load": Word("engine.cli.load", "app", "Record, replay and report real traffic."),
    "log": Word("engine.cli.log", "app", "Archive, trim and copy the event log."),
    "snapshot": Word("engine.cli.snapshot", "app", "Take, list, check and restore snapshots."),
    "verify": Word("engine.cli.verify", "app", "Audit topics and stores against the promises."),
    "bench": Word("engine.cli.bench", "app", "Measure this engine on this machine."),
    "simulate": Word("engine.cli.simulate", "app", "Run a simulated cluster from one seed."),
    "config": Word("engine.cli.config", "app", "Show the settings and their schema."),
    "openapi": Word("engine.cli.info", "openapi", "Write an application's OpenAPI document."),
    "explain": Word("engine.cli.info", "explain", "Explain an error or rejection code."),
    "doctor": Word("engine.cli.info", "doctor", "Check what this machine has and lacks."),
    "version": Word("engine.cli.info", "version", "Print the versions in use."),
}

COMPLETION = frozenset({"install_completion", "show_completion"})


def _stub(name: str, word: Word) -> typer.core.TyperCommand:
    return typer.core.TyperCommand(name, help=word.help, rich_markup_mode=None)


class LazyGroup(typer.core.TyperGroup):
    """The words as stubs, of which only the one that is used gets loaded."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, word in WORDS.items():
            self.commands[name] = _stub(name, word)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the real command behind the stub that the arguments name."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, _load(str(name)), rest

    def invoke(self, ctx: Any) -> Any:
        """Run the word; an EngineError becomes one line and its exit status."""
        try:
            return super().invoke(ctx)
        except EngineError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            output.fault(str(error))
            raise typer.Exit(error.exit_status) from error


def _load(name: str) -> Any:
    word = WORDS[name]
    try:
        module = importlib.import_module(word.module)
    except ModuleNotFoundError as fault:
        if fault.name != word.module:
            raise
        output.fault(f"`partita {name}` is not part of this installation")
        raise typer.Exit(2) from fault
    command = typer.main.get_command(getattr(module, word.attribute))
    command.name = name
    # Completion is installed once, for the whole; help looks alike, whatever a module asked for.
    command.params = [param for param in command.params if param.name not in COMPLETION]
    return _plain(command)


def _plain(command: Any) -> Any:
    command.rich_markup_mode = None
    for child in getattr(command, "commands", {}).values():
        _plain(child)
    return command


app = typer.Typer(
    cls=LazyGroup,
    name="partita",
    help="An event-sourcing engine on a message broker: exactly one outcome per command.",
    epilog="Data goes to stdout, everything else to stderr. Most words take --json.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Hold the flags of all words; LazyGroup.invoke reads `debug`."""
    del debug


def main() -> NoReturn:
    """Run the command line; Ctrl-C ends it with 130, as shells expect."""
    try:
        typer.main.get_command(app).main(prog_name="partita")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
