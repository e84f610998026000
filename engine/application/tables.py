"""Table numbers: what once was given to a record type or a generation of a view stays with it.

A unique has a number in the unique index by the same rules. Numbers are told in the log's
Application record, so that every replica and every later version gives the same ones.
"""

from collections.abc import Mapping, Sequence

from engine.application.sections import Manifest
from engine.application.types import Table
from engine.errors import ApplicationError
from engine.limits import TABLE_MAX, TABLE_RECORDS_FIRST, TABLE_VIEWS_FIRST, UNIQUES_MAX

_SPANS = {
    "record": (TABLE_RECORDS_FIRST, TABLE_VIEWS_FIRST - 1),
    "view": (TABLE_VIEWS_FIRST, TABLE_MAX),
    "unique": (1, UNIQUES_MAX),
}


def number_tables(manifest: Manifest, known: Sequence[Table]) -> tuple[Table, ...]:
    """Return `known`, and an entry for each type, view and unique that has no number, in order.

    What was renamed gets the number of its old name; everything else a new one.
    """
    tables = list(known)
    records = {name: entry.renamed_from or "" for name, entry in manifest.records.items()}
    views = {name: entry.renamed_from or "" for name, entry in manifest.views.items()}
    uniques = {
        f"{name}.{unique}": f"{entry.renamed_from}.{unique}" if entry.renamed_from else ""
        for name, entry in manifest.records.items()
        for unique in entry.unique
    }
    for kind, names in (("record", records), ("view", views), ("unique", uniques)):
        _rename(kind, names, tables)
        for name in names:
            if (kind, name) not in newest(tables):
                generation = 1 if kind == "view" else 0
                tables.append(Table(kind, name, generation, next_table(kind, tables)))
    return tuple(tables)


def _rename(kind: str, names: Mapping[str, str], tables: list[Table]) -> None:
    held = newest(tables)
    for name, before in names.items():
        if before and (kind, name) not in held and (kind, before) in held:
            tables.append(held[kind, before]._replace(name=name))


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
