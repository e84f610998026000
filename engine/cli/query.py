"""`partita record`, `partita view`, `partita partition`: queries through a running node."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from engine.application.rules import RESERVED_COLUMNS
from engine.cli import client, output
from engine.errors import ConfigError

record = typer.Typer(help="Read records.", no_args_is_help=True)
view = typer.Typer(help="Read views.", no_args_is_help=True)
partition = typer.Typer(help="Who owns which partition.", no_args_is_help=True)

MinSequence = Annotated[
    int | None, typer.Option(help="Wait until this sequence is in: read your own writes.")
]


@record.callback()
def _record() -> None:
    """Read records."""


@record.command("get")
def record_get(
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="The record type.")],
    workspace: client.Workspace,
    record_id: Annotated[int, typer.Argument(metavar="ID", help="0 for a singleton.")] = 0,
    min_sequence: MinSequence = None,
    json: client.Json = False,
    url: client.Url = client.URL,
) -> None:
    """Print one record."""
    path = client.path_of("v1", "workspaces", workspace, "records", type_, str(record_id))
    answer = dict(client.get(url, path, min_sequence=min_sequence))
    output.show(answer if json else _flat(answer), json=json)


@view.command("list")
def view_list(json: client.Json = False, url: client.Url = client.URL) -> None:
    """List the views, with the columns of their keys; and what is being built anew here."""
    document = client.get(url, "/openapi.json")
    building = _building(client.get(url, "/v1/partitions"))
    rows: list[dict[str, Any]] = []
    for path, item in document["paths"].items():
        name = path.partition("/views/")[2]
        if name and "/" not in name:
            key = ", ".join(_key_columns(item["get"]))
            rows.append({"view": name, "key": key, "building": building.get(name, [])})
    told = [row | {"building": "; ".join(map(_build_text, row["building"]))} for row in rows]
    columns = ("view", "key", *(["building"] if building else []))
    output.show(rows if json else told, json=json, columns=columns)


def _building(answer: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the builds of each view, with their partitions."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in answer["partitions"]:
        for build in entry.get("builds", []):
            told = {"partition": entry["partition"]} | build
            found.setdefault(build["view"], []).append(told)
    return found


def _build_text(build: dict[str, Any]) -> str:
    where = f"partition {build['partition']}, generation {build['generation']}"
    if build["problem"]:
        return f"{where} failed: {build['problem']}"
    return f"{where}: {build['applied_offset']} of {build['target_offset']}"


_OPTIONS = RESERVED_COLUMNS | {"workspace"}


def _key_columns(operation: dict[str, Any]) -> list[str]:
    names = [parameter.get("name", "") for parameter in operation.get("parameters", [])]
    return [name for name in names if name and name not in _OPTIONS and "." not in name]


@view.command("get")
def view_get(
    name: Annotated[str, typer.Argument(metavar="VIEW", help="The view.")],
    workspace: client.Workspace,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", "-k", help="column=value; the first columns of the key, repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many rows at most.")] = 100,
    after: Annotated[str | None, typer.Option(help="Where the last page ended: `next`.")] = None,
    min_sequence: MinSequence = None,
    json: client.Json = False,
    url: client.Url = client.URL,
) -> None:
    """Print rows of a view."""
    columns = dict(_column(text) for text in key or [])
    path = client.path_of("v1", "workspaces", workspace, "views", name)
    answer = client.get(url, path, limit=limit, after=after, min_sequence=min_sequence, **columns)
    rows: list[dict[str, Any]] = answer["rows"]
    output.show(dict(answer) if json else rows, json=json, columns=tuple(rows[0]) if rows else ())
    if answer.get("next") and not json:
        output.note(f"more rows: --after {answer['next']}")


def _column(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError("E1001", f"{text!r} is not column=value", flag="--key")
    return name, value


@partition.callback()
def _partition() -> None:
    """Who owns which partition."""


@partition.command("list")
def partition_list(json: client.Json = False, url: client.Url = client.URL) -> None:
    """List the partitions, who owns them, and how far they are."""
    answer = client.get(url, "/v1/partitions")
    rows: list[dict[str, Any]] = answer.get("partitions", [])
    columns = [name for name in (rows[0] if rows else {}) if not _nested(rows, name)]
    output.show(dict(answer) if json else rows, json=json, columns=columns)


def _nested(rows: list[dict[str, Any]], name: str) -> bool:
    return any(isinstance(row.get(name), dict | list) for row in rows)


def _flat(answer: dict[str, Any]) -> dict[str, Any]:
    """Return a record with its fields beside what is said about it."""
    fields = answer.pop("fields", {})
    return {**answer, **{f"fields.{name}": value for name, value in fields.items()}}
