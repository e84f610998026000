"""An application as the log's Application record tells it, and back.

Owns the table numbers: once given to a record type or to a generation of a view, a number is
never given to another, not even after the type was removed.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from engine.application.building import Parts, build
from engine.application.differences import renames
from engine.application.generations import rebuilt
from engine.application.tables import carried_tables, next_table
from engine.application.types import Application, Table
from engine.errors import ApplicationError, LogError


def numbered(application: Application, previous: Application | None) -> Application:
    """Return the application as it will be in force behind `previous` in the same log."""
    parts = Parts(
        application.manifest,
        application.schema_texts,
        {name: extension.content for name, extension in application.extensions.items()},
        "application.toml",
    )
    if previous is None:
        return build(parts, (), 1)
    tables = carried_tables(previous, application)
    kept = set(renames(previous.views, application.views).values())
    kept -= rebuilt(previous, application)
    for name in application.views:
        generations = [table for table in tables if (table.kind, table.name) == ("view", name)]
        if generations and name not in kept:
            # What is stored, of before it was changed or removed, is not what it will be.
            generation = generations[-1].generation + 1
            tables.append(Table("view", name, generation, next_table("view", tables)))
    return build(parts, tables, previous.index + 1)


def to_record(application: Application, previous: Application | None) -> dict[str, Any]:
    """Return the fields of the Application record that puts `application` in force.

    `previous` is the one in force so far. The head's fields are the caller's.
    """
    made = numbered(application, previous)
    return {
        "index": made.index,
        "version": made.version,
        "fingerprint": made.fingerprint,
        "manifest": made.manifest,
        "tables": [table._asdict() for table in made.tables],
        "schemas": [{"name": name, "text": text} for name, text in made.schema_texts.items()],
        "modules": [
            {"name": name, "sha256": extension.sha256}
            for name, extension in made.extensions.items()
        ],
    }


def from_record(fields: Mapping[str, Any], modules: Mapping[str, bytes]) -> Application:
    """Return the application of an Application record; `modules` by the extension's name.

    Raises LogError E1306 for missing or wrong modules, E1304 for what this engine can't read,
    E1303 where the parts are not what the record's fingerprint was made of.
    """
    index = int(fields["index"])
    for module in fields["modules"]:
        name, content = module["name"], modules.get(module["name"])
        if content is None or hashlib.sha256(content).digest() != module["sha256"]:
            raise LogError(
                "E1306",
                f"the code of extension {name} ({module['sha256'].hex()[:12]}…) of application "
                f"version {fields['version']} is missing or damaged",
            )
    texts = {entry["name"]: entry["text"] for entry in fields["schemas"]}
    named = {module["name"]: modules[module["name"]] for module in fields["modules"]}
    parts = Parts(
        fields["manifest"], texts, named, f"application.toml of version {index} in the log"
    )
    tables = [
        Table(entry["kind"], entry["name"], entry["generation"], entry["table"])
        for entry in fields["tables"]
    ]
    try:
        made = build(parts, tables, index)
    except (ApplicationError, KeyError) as fault:
        raise LogError(
            "E1304",
            f"application {index} of the log is not one this engine can run: {fault}",
            "Update the engine on this node",
        ) from fault
    if made.fingerprint != fields["fingerprint"] or made.tables != tuple(tables):
        raise LogError(
            "E1303", f"the parts of application {index} in the log don't match its fingerprint"
        )
    return made
