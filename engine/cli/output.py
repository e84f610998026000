"""How the command line speaks: data on stdout, everything else on stderr.

Owns tables, JSON and notes. It knows nothing of the engine; colours follow NO_COLOR and whether
stderr is a terminal.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

Row = Mapping[str, Any]


def coloured() -> bool:
    """Return whether stderr may carry colours."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def note(text: str) -> None:
    """Say something that is not data."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def fault(text: str) -> None:
    """Say that something is wrong, in red where that shows."""
    note(f"\x1b[31m{text}\x1b[0m" if coloured() else text)


def _plain(value: Any) -> Any:
    """Return what JSON can't hold as text: bytes as hex, everything else by its name."""
    return value.hex() if isinstance(value, bytes) else str(value)


def as_json(value: Any, *, indent: bool = True) -> str:
    """Return JSON text with sorted keys where a person reads it."""
    option = orjson.OPT_INDENT_2 if indent else 0
    return orjson.dumps(value, default=_plain, option=option | orjson.OPT_NON_STR_KEYS).decode()


def line(text: str) -> None:
    """Write one line of data at once, so that a pipe sees it when it happens."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3f}"
    if isinstance(value, dict | list):
        return as_json(value, indent=False)
    return str(value).replace("\n", " ")


def table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Write rows as an aligned table; numbers to the right. No rows: only a note."""
    if not rows:
        note("nothing to show")
        return
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [
        max(len(column), *(len(row[at]) for row in cells)) for at, column in enumerate(columns)
    ]
    right = [
        all(isinstance(row.get(column), int | float | None) for row in rows) for column in columns
    ]
    line(_aligned([column.upper() for column in columns], widths, right))
    for row in cells:
        line(_aligned(row, widths, right))


def _aligned(cells: Iterable[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    parts = [
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(parts).rstrip()


def pairs(values: Row) -> None:
    """Write names and values below each other."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        line(f"{name.ljust(width)}  {_cell(value)}".rstrip())


def show(value: Any, *, json: bool, columns: Sequence[str] = ()) -> None:
    """Write data as JSON or for people: a list as a table, a mapping as pairs."""
    if json:
        line(as_json(value))
    elif isinstance(value, list):
        table(value, columns)
    else:
        pairs(value)
