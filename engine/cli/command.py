"""`partita command`: send commands through a node, list the rejected ones."""

import uuid
from typing import Annotated

import typer

from engine.cli import client, output
from engine.cli.events import rejected
from engine.errors import ConfigError
from engine.world import SystemClock, SystemRandom, uuid7

app = typer.Typer(help="Send commands, list the rejected ones.", no_args_is_help=True)


@app.command()
def send(
    name: Annotated[str, typer.Argument(help="The command.")],
    workspace: client.Workspace,
    arguments: Annotated[str, typer.Option("--json", help="The arguments, as JSON.")] = "{}",
    command_id: Annotated[str, typer.Option("--id", help="Its UUID; the same again is safe.")] = "",
    expected: Annotated[
        int | None,
        typer.Option("--expected-sequence", help="The workspace's last accepted sequence."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the outcome.")] = True,
    url: client.Url = client.URL,
) -> None:
    """Send a command and print what became of it, as JSON; exit 1 if it was not accepted."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": _id(command_id)}
    if expected is not None:
        headers["Expected-Sequence"] = str(expected)
    if not wait:
        headers["Prefer"] = "respond-async"
    path = client.path_of("v1", "workspaces", workspace, "commands", name)
    answer = client.call(url, "POST", path, headers=headers, content=arguments.encode())
    if answer.refused and not answer.get("sequence"):
        client.fail(answer)
    output.line(output.as_json(dict(answer)))
    if answer.refused:
        raise typer.Exit(1)


def _id(text: str) -> str:
    """Return the id to send: a given UUID, or a new one that carries the time."""
    if not text:
        return str(uuid.UUID(bytes=uuid7(SystemClock().now_ms(), SystemRandom().bytes(10))))
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise ConfigError("E1001", f"{text!r} is no UUID", flag="--id") from None


@app.command()
def get(
    command_id: Annotated[str, typer.Argument(help="The command's UUID.")],
    workspace: client.Workspace,
    url: client.Url = client.URL,
) -> None:
    """Print the outcome of a command, as JSON."""
    path = client.path_of("v1", "workspaces", workspace, "commands", _id(command_id))
    output.line(output.as_json(dict(client.get(url, path))))


app.command("list-rejected")(rejected)
