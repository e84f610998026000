"""`partita app`: look at an application's folder without running it.

What was asked for goes to stdout, everything else to stderr. Knows no log and no node.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.application import Application
from engine.application.compat import diff
from engine.application.folder import load_application
from engine.application.types import Field, RecordSchema
from engine.cli import output
from engine.errors import ApplicationError

app = typer.Typer(
    help="Check, show and compare applications.", no_args_is_help=True, rich_markup_mode=None
)

Folder = Annotated[Path, typer.Argument(help="The folder with application.toml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def check(folder: Folder) -> None:
    """Check a manifest and its schemas; every error names its file and key."""
    application = load_application(folder)
    counts = ", ".join(
        f"{len(entries)} {what}"
        for what, entries in (
            ("records", application.records),
            ("commands", application.commands),
            ("views", application.views),
            ("projectors", application.projectors),
            ("extensions", application.extensions),
        )
    )
    output.line(f"{application.name} {application.version} is right: {counts}")


@app.command()
def show(folder: Folder, as_json: AsJson = False) -> None:
    """Show what an application consists of."""
    application = load_application(folder)
    described = describe(application)
    if as_json:
        output.show(described, json=True)
    else:
        _print_application(described)


@app.command("diff")
def diff_(
    old: Annotated[Path, typer.Argument(help="The folder in force.")],
    new: Annotated[Path, typer.Argument(help="The folder that shall follow.")],
    as_json: AsJson = False,
) -> None:
    """Say what a change does, and whether it may be deployed; exit status 3 if not."""
    before, after = load_application(old), load_application(new)
    changes = diff(before, after)
    listed = [dataclasses.asdict(entry) for entry in changes.entries]
    if as_json:
        output.show({"deployable": changes.deployable, "changes": listed}, json=True)
    elif listed:
        output.show(listed, json=False, columns=["verdict", "what", "where", "why"])
    else:
        output.line("no difference")
    if not changes.deployable:
        count = len(changes.obstacles)
        raise ApplicationError(
            "E1105",
            f"{count} change{'s stand' if count > 1 else ' stands'} against {after.version}",
            file=new / "application.toml",
        )


def describe(application: Application) -> dict[str, Any]:
    """Return an application as plain data."""
    return {
        "name": application.name,
        "version": application.version,
        "partitions": application.partitions,
        "fingerprint": application.fingerprint.hex(),
        "records": {
            name: {
                "kind": record.kind,
                "table": record.table,
                "schema": _schema(record.schema),
                "checks": {
                    check.field.name: {"min": check.minimum, "max": check.maximum}
                    for check in record.checks
                },
            }
            for name, record in application.records.items()
        },
        "commands": {
            name: {
                "run": f"{command.run.extension}:{command.run.function}",
                "args": _schema(command.args),
                "result": None if command.result is None else _schema(command.result),
            }
            for name, command in application.commands.items()
        },
        "views": {
            name: {
                "table": view.table,
                "key": [f"{column.name}:{column.kind}" for column in view.key],
                "row": _schema(view.schema),
            }
            for name, view in application.views.items()
        },
        "projectors": {
            projector.name: {
                "on": [".".join(pair) for pair in projector.on],
                "writes": list(projector.writes),
                "run": f"{projector.run.extension}:{projector.run.function}",
                "revision": projector.revision,
            }
            for projector in application.projectors
        },
        "extensions": {
            name: {
                "kind": extension.kind,
                "target": extension.target,
                "bytes": len(extension.content),
                "sha256": extension.sha256.hex(),
                "time_ms": extension.time_ms,
                "memory_kib": extension.memory_kib,
            }
            for name, extension in application.extensions.items()
        },
    }


def _schema(schema: RecordSchema) -> dict[str, Any]:
    fields = {field.name: _type(field) for field in schema.fields}
    # As hexadecimal, since a reader of JSON may hold numbers of 53 bits only.
    number = f"{schema.fingerprint & ((1 << 64) - 1):016x}"
    return {"file": schema.file, "fingerprint": number, "fields": fields}


def _type(field: Field) -> str:
    text = field.logical or field.kind
    if field.logical == "decimal":
        text = f"decimal({field.precision}, {field.scale})"
    elif field.kind == "fixed":
        text = f"fixed({field.size})"
    elif field.kind == "enum":
        text = " | ".join(field.symbols)
    elif field.kind == "array" and field.item is not None:
        text = f"array of {_type(field.item)}"
    elif field.items is not None:
        inner = ", ".join(f"{entry.name}: {_type(entry)}" for entry in field.items.fields)
        text = f"{{{inner}}}"
    return f"{text}?" if field.nullable else text


def _print_application(described: dict[str, Any]) -> None:
    output.line(f"{described['name']} {described['version']}, {described['partitions']} partitions")
    output.line(f"fingerprint {described['fingerprint']}")
    for name, record in described["records"].items():
        output.line(f"\nrecord {name} ({record['kind']}, table {record['table']:#06x})")
        _print_fields(record["schema"])
        for field, bounds in record["checks"].items():
            low, high = bounds["min"], bounds["max"]
            limits = [f"min {low}"] * (low is not None) + [f"max {high}"] * (high is not None)
            output.line(f"  check {field}: {', '.join(limits)}")
    for name, command in described["commands"].items():
        output.line(f"\ncommand {name}, decided by {command['run']}")
        _print_fields(command["args"])
    for name, view in described["views"].items():
        output.line(
            f"\nview {name} by {', '.join(view['key']) or 'workspace'} (table {view['table']:#06x})"
        )
        _print_fields(view["row"])
    for name, projector in described["projectors"].items():
        on, writes = ", ".join(projector["on"]), ", ".join(projector["writes"])
        output.line(f"\nprojector {name}: {on} -> {writes}, revision {projector['revision']}")
    for name, extension in described["extensions"].items():
        output.line(f"\nextension {name}: {extension['target']}, {extension['bytes']} bytes")


def _print_fields(schema: dict[str, Any]) -> None:
    for name, text in schema["fields"].items():
        output.line(f"  {name}: {text}")
