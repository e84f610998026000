"""`partita node`: what an operator asks of a running node."""

import time
from typing import Annotated, Any

import typer

from engine.cli import client, output
from engine.errors import UnavailableError

app = typer.Typer(help="Nodes: list, reload, drain, resume.", no_args_is_help=True)

POLL_S = 0.2
SHOWN = ("node", "engine", "draining", "owned", "application", "loaded")
LISTED = ("node", "url", "engine", "format", "application", "draining", "owned")
_JSON = {"Content-Type": "application/json"}


@app.command("list")
def node_list(json: client.Json = False, url: client.Url = client.URL) -> None:
    """List the nodes that are there, and which version each has loaded."""
    rows: list[dict[str, Any]] = client.get(url, "/v1/partitions").get("nodes", [])
    rows.sort(key=lambda row: str(row.get("node")))
    output.show(rows, json=json, columns=LISTED)
    _tell(client.get(url, "/v1/node"))


@app.command("show")
def node_show(json: client.Json = False, url: client.Url = client.URL) -> None:
    """Show one node: what it has loaded, what waits, whether it drains."""
    _show(client.get(url, "/v1/node"), json=json)


@app.command("reload")
def node_reload(
    force: Annotated[
        bool, typer.Option("--force", help="Don't wait until every node has loaded it.")
    ] = False,
    json: client.Json = False,
    url: client.Url = client.URL,
) -> None:
    """Load the application's folder anew; it comes into force once every node has loaded it."""
    _show(_post(url, "reload", b'{"force": true}' if force else b"{}"), json=json)


@app.command("drain")
def node_drain(
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0, help="Seconds to wait until all is handed over.")
    ] = 60.0,
    json: client.Json = False,
    url: client.Url = client.URL,
) -> None:
    """Have a node hand over every partition and want none, until `node resume` or a restart."""
    state = _post(url, "drain", b"{}")
    deadline_s = time.monotonic() + timeout_s
    told = -1
    while state["owned"]:
        if state["owned"] != told:
            told = state["owned"]
            output.note(f"{told} partitions are still here")
        if time.monotonic() > deadline_s:
            raise UnavailableError(
                "E1408",
                f"{told} partitions were not handed over within {timeout_s:g} s",
                "It goes on: `partita node show` says how far it is",
                node=state["node"],
            )
        time.sleep(POLL_S)
        state = client.get(url, "/v1/node")
    _show(state, json=json)


@app.command("resume")
def node_resume(json: client.Json = False, url: client.Url = client.URL) -> None:
    """Let a drained node serve partitions again."""
    _show(_post(url, "resume", b"{}"), json=json)


def _post(url: str, verb: str, content: bytes) -> client.Answer:
    answer = client.call(url, "POST", f"/v1/node/{verb}", headers=_JSON, content=content)
    if answer.refused:
        client.fail(answer)
    return answer


def _show(state: client.Answer, *, json: bool) -> None:
    output.show(dict(state) if json else {name: state[name] for name in SHOWN}, json=json)
    _tell(state)


def _tell(state: client.Answer) -> None:
    """Say what waits."""
    for partition, reason in state["waiting"].items():
        output.note(f"partition {partition}: {reason}")
