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
from engine.application.types import Check, CommandType, Field, RecordSchema, RecordType
from engine.cli import output
from engine.errors import ApplicationError

app = typer.Typer(
    help="Check, show and compare applications.", no_args_is_help=True, rich_markup_mode=None
)

Folder = Annotated[Path, typer.Argument(help="The folder with application.toml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def check(folder: Folder) -> None:
    """Check a manifest, its schemas and its extensions; every error names its file and key."""
    from engine.sandbox.guests import load_guests  # noqa: PLC0415 - compiles, so loads slowly

    application = load_application(folder)
    load_guests(application).close()
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
        "workspaces": {
            kind.name: {
                "records": [name for name in application.records if name in kind.records],
                "commands": [name for name in application.commands if name in kind.commands],
                "views": [name for name in application.views if name in kind.views],
            }
            for kind in application.workspaces.values()
        },
        "records": {name: _record(record) for name, record in application.records.items()},
        "commands": {name: _command(command) for name, command in application.commands.items()},
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


def _record(record: RecordType) -> dict[str, Any]:
    described: dict[str, Any] = {"kind": record.kind, "table": record.table}
    if record.parent:
        described |= {"parent": record.parent, "occurs": list(record.occurs)}
    return described | {
        "schema": _schema(record.schema),
        "required": [field.name for field in record.required],
        "references": {each.field.name: list(each.targets) for each in record.references},
        "unique": {
            unique.name: {
                "number": unique.number,
                "fields": [field.name for field in unique.fields],
            }
            for unique in record.uniques
        },
        "checks": {check.field.name: _check(check) for check in record.checks},
    }


def _check(check: Check) -> dict[str, Any]:
    said: dict[str, Any] = {
        "min": check.minimum,
        "max": check.maximum,
        "length": None if check.length is None else list(check.length),
        "pattern": None if check.pattern is None else check.pattern.text,
        "one_of": None if check.one_of is None else list(check.one_of),
    }
    return {key: value for key, value in said.items() if value is not None}


def _command(command: CommandType) -> dict[str, Any]:
    run = command.run
    return {
        "run": None if run is None else f"{run.extension}:{run.function}",
        "generic": list(command.generic),
        "creates": command.creates or None,
        "deactivates": command.deactivates,
        "args": _schema(command.args),
        "secret": [field.name for field in command.secret],
        "result": None if command.result is None else _schema(command.result),
        "errors": dict(command.errors),
        "changes_max": command.changes_max,
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
    for name, kind in described["workspaces"].items():
        output.line(f"\nworkspace {name}")
        for what, names in kind.items():
            output.line(f"  {what}: {', '.join(names)}")
    for name, record in described["records"].items():
        _print_record(name, record)
    for name, command in described["commands"].items():
        _print_command(name, command)
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


def _print_record(name: str, record: dict[str, Any]) -> None:
    nested = ""
    if "parent" in record:
        least, most = record["occurs"]
        nested = f" in {record['parent']}, {least} to {most}"
    output.line(f"\nrecord {name}{nested} ({record['kind']}, table {record['table']:#06x})")
    _print_fields(record["schema"])
    if record["required"]:
        output.line(f"  required: {', '.join(record['required'])}")
    for field, targets in record["references"].items():
        output.line(f"  reference {field}: {' or '.join(targets)}")
    for unique, entry in record["unique"].items():
        output.line(f"  unique {unique}: {', '.join(entry['fields'])} (number {entry['number']})")
    for field, check in record["checks"].items():
        output.line(f"  check {field}: {', '.join(f'{key} {check[key]}' for key in check)}")


def _print_command(name: str, command: dict[str, Any]) -> None:
    if command["generic"]:
        output.line(f"\ncommand {name}, changes {', '.join(command['generic'])}")
    else:
        output.line(f"\ncommand {name}, decided by {command['run']}")
        _print_fields(command["args"])
    if command["creates"]:
        output.line(f"  makes a workspace: {command['creates']}")
    if command["deactivates"]:
        output.line("  deactivates the workspace")
    if command["secret"]:
        output.line(f"  secret: {', '.join(command['secret'])}")
    if command["result"]:
        output.line(f"  result: {command['result']['file']}")
    for code, text in command["errors"].items():
        output.line(f"  error {code}: {text}")


def _print_fields(schema: dict[str, Any]) -> None:
    for name, text in schema["fields"].items():
        output.line(f"  {name}: {text}")
