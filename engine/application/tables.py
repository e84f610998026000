"""Table numbers: what once was given to a record type or a generation of a view stays with it.

A unique has a number in the unique index by the same rules. Numbers are told in the log's
Application record, so that every replica and every later version gives the same ones.
"""

from collections.abc import Sequence

from engine.application.differences import renames
from engine.application.sections import Manifest
from engine.application.types import Application, Table
from engine.errors import ApplicationError
from engine.limits import TABLE_MAX, TABLE_RECORDS_FIRST, TABLE_VIEWS_FIRST, UNIQUES_MAX

_SPANS = {
    "record": (TABLE_RECORDS_FIRST, TABLE_VIEWS_FIRST - 1),
    "view": (TABLE_VIEWS_FIRST, TABLE_MAX),
    "unique": (1, UNIQUES_MAX),
}


def number_tables(manifest: Manifest, known: Sequence[Table]) -> tuple[Table, ...]:
    """Return `known`, and an entry for each type, view and unique that has no number, in order."""
    tables = list(known)
    uniques = [
        f"{name}.{unique}" for name, entry in manifest.records.items() for unique in entry.unique
    ]
    for kind, names in (
        ("record", list(manifest.records)),
        ("view", list(manifest.views)),
        ("unique", uniques),
    ):
        held = newest(tables)
        for name in names:
            if (kind, name) not in held:
                generation = 1 if kind == "view" else 0
                tables.append(Table(kind, name, generation, next_table(kind, tables)))
    return tuple(tables)


def carried_tables(previous: Application, application: Application) -> list[Table]:
    """Return the tables given so far, with those of renamed parts under their new names too."""
    tables = list(previous.tables)
    held = newest(tables)
    records = renames(previous.records, application.records)
    pairs = [("record", before, after) for before, after in records.items()]
    pairs += [
        ("view", before, after)
        for before, after in renames(previous.views, application.views).items()
    ]
    pairs += [
        ("unique", f"{before}.{unique.name}", f"{after}.{unique.name}")
        for before, after in records.items()
        for unique in application.records[after].uniques
    ]
    for kind, before, after in pairs:
        if before != after and (kind, before) in held:
            tables.append(held[kind, before]._replace(name=after))
    return tables


def newest(tables: Sequence[Table]) -> dict[tuple[str, str], Table]:
    """Return the entry in use of each (kind, name): the last one listed.

    A name whose number has gone to another name holds none any more.
    """
    owners = {(table.kind, table.table): table.name for table in tables}
    return {
        (table.kind, table.name): table
        for table in tables
        if owners[table.kind, table.table] == table.name
    }


def next_table(kind: str, tables: Sequence[Table]) -> int:
    """Return the first number of a kind that was never given."""
    first, last = _SPANS[kind]
    number = max((table.table + 1 for table in tables if table.kind == kind), default=first)
    if number > last:
        raise ApplicationError("E1102", f"all numbers of {kind}s are used up")
    return number
