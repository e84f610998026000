"""The options of a query, read strictly: key columns, ranges, conditions, order, page.

Owns their grammar. An unknown, mistyped or contradicting option is an error, never ignored.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

from engine import limits, wire
from engine.application import forms
from engine.application.codec import SchemaMismatch, compile_codec
from engine.application.types import Field, KeyColumn
from engine.http.parameters import bad, column_value, limit
from engine.partition.selection import (
    COLUMN_FIELDS,
    Condition,
    Order,
    Selection,
    Within,
    comparable,
    rank,
)

MIN_SEQUENCE = "min_sequence"
STALE = "stale"
FRESHNESS = (MIN_SEQUENCE, STALE)
PAGING = ("limit", "after")
RESERVED = ("where", "order", "keys", *PAGING, *FRESHNESS, "inactive")
OPERATORS = ("in", "ne", "lt", "le", "gt", "ge")
_FROM, _TO = ".from", ".to"
_IDENTITY_BYTES = 8

Fields = Mapping[str, Field]


class Known(NamedTuple):
    """What conditions may name: fields, and below a list or a nested type those of its records."""

    fields: Fields
    below: "Mapping[str, Known]"

    def paths(self, before: str = "") -> dict[str, Field]:
        """Return all that a condition may name, such as `number` and `lines.item`."""
        found = {before + name: field for name, field in self.fields.items()}
        for name, known_ in self.below.items():
            found |= known_.paths(f"{before}{name}.")
        return found


def known(
    columns: Sequence[KeyColumn], fields: Fields, below: Mapping[str, Known] | None = None
) -> Known:
    """Return what conditions may name; a field hides a column, or a nested type, of its name."""
    found = {column.name: COLUMN_FIELDS[column.kind] for column in columns} | dict(fields)
    nested = {name: inner for name, inner in (below or {}).items() if name not in found}
    lists = {name: known((), field.items.by_name) for name, field in fields.items() if field.items}
    return Known(found, nested | lists)


def column_names(columns: Sequence[KeyColumn]) -> list[str]:
    """Return the parameters that key columns give; a column named as an option has none."""
    names = [column.name for column in columns if column.name not in RESERVED]
    return [name + ending for name in names for ending in ("", _FROM, _TO)]


def selection(given: Mapping[str, str], columns: Sequence[KeyColumn], named: Known) -> Selection:
    """Return what a query wants, of rows with these key columns and with what they know."""
    prefix = _prefix(columns, given)
    low, high = _bounds(columns, len(prefix), given)
    return Selection(
        prefix,
        low,
        high,
        _where(given["where"], named) if "where" in given else (),
        _order(given["order"], named.fields) if "order" in given else (),
        limit(given),
        _cursor(given),
    )


def _prefix(columns: Sequence[KeyColumn], given: Mapping[str, str]) -> tuple[object, ...]:
    """Return the values of the first key columns; a gap between them is an error."""
    prefix: list[object] = []
    for at, column in enumerate(columns):
        if column.name not in given or column.name in RESERVED:
            for later in columns[at + 1 :]:
                if later.name in given and later.name not in RESERVED:
                    raise bad(later.name, f"needs {column.name}, which comes before it in the key")
            break
        prefix.append(column_value(column, given[column.name]))
    return tuple(prefix)


def _bounds(
    columns: Sequence[KeyColumn], at: int, given: Mapping[str, str]
) -> tuple[object | None, object | None]:
    """Return the bounds of the first key column behind the prefix; others have none."""
    for number, column in enumerate(columns):
        for name in (column.name + _FROM, column.name + _TO):
            if name in given and number < at:
                raise bad(name, f"{column.name} is given already")
            if name in given and number > at:
                raise bad(name, f"needs {columns[at].name}, which comes before it in the key")
    if at == len(columns):
        return None, None
    column = columns[at]
    low, high = (
        column_value(column, given[column.name + ending], column.name + ending)
        if column.name + ending in given
        else None
        for ending in (_FROM, _TO)
    )
    return low, high


def _identity(given: Mapping[str, str]) -> bytes:
    """Return what a query and the cursors it gives have in common."""
    kept = sorted((name, given[name]) for name in given if name not in (*PAGING, *FRESHNESS))
    return wire.hash64(repr(kept).encode("utf-8", "replace")).to_bytes(_IDENTITY_BYTES, signed=True)


def cursor_text(given: Mapping[str, str], place: bytes | None) -> str | None:
    """Return the cursor of a page that ends at `place`."""
    if place is None:
        return None
    return base64.urlsafe_b64encode(_identity(given) + place).decode().rstrip("=")


def _cursor(given: Mapping[str, str]) -> bytes | None:
    text = given.get("after")
    if text is None:
        return None
    try:
        cursor = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise bad("after", "is not a cursor that a page's `next` has given") from None
    if cursor[:_IDENTITY_BYTES] != _identity(given):
        raise bad("after", "the cursor is not of this query; only limit may differ")
    return cursor[_IDENTITY_BYTES:]


def _where(text: str, named: Known) -> tuple[Condition | Within, ...]:
    conditions: list[tuple[list[str], Condition]] = []
    for path, value in _object(text).items():
        field = _field(path, named)
        wanted = value if isinstance(value, dict) else {"in": [value]}
        if not wanted:
            raise bad("where", f"{path}: a condition is a value, or has {_listed(OPERATORS)}")
        *above, name = path.split(".")
        conditions += [
            (above, replace(_condition(path, field, str(operator), operand), name=name))
            for operator, operand in cast("dict[str, Any]", wanted).items()
        ]
    if len(conditions) > limits.QUERY_CONDITIONS_MAX:
        raise bad("where", f"has more than {limits.QUERY_CONDITIONS_MAX} conditions")
    return _together(conditions)


def _together(conditions: list[tuple[list[str], Condition]]) -> tuple[Condition | Within, ...]:
    """Return conditions, those below one name as what one and the same record must meet."""
    own = [condition for above, condition in conditions if not above]
    below: dict[str, list[tuple[list[str], Condition]]] = {}
    for above, condition in conditions:
        if above:
            below.setdefault(above[0], []).append((above[1:], condition))
    return (*own, *(Within(name, _together(inner)) for name, inner in below.items()))


def _field(path: str, named: Known) -> Field:
    *above, name = path.split(".")
    for each in above:
        if each not in named.below:
            there = _listed(list(named.below)) or "none"
            raise bad("where", f"{path}: there is no list {each!r}; lists are: {there}")
        named = named.below[each]
    if name in named.below and name not in named.fields:
        first = next(iter(named.below[name].fields), "id")
        raise bad("where", f"{path}: is nested; name one of its fields, such as {path}.{first}")
    if name not in named.fields:
        raise bad("where", f"there is no field {path!r}; fields are: {_listed(named.fields)}")
    return named.fields[name]


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as fault:
        raise bad("where", f"is not JSON: {fault}") from None
    if not isinstance(value, dict):
        raise bad("where", 'must be a JSON object such as {"count": {"ge": 1}}')
    return cast("dict[str, Any]", value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f'{text} is written "{text}"')


def _condition(name: str, field: Field, operator: str, operand: Any) -> Condition:
    if operator not in OPERATORS:
        raise bad("where", f"{name}: there is no {operator!r}; use {_listed(OPERATORS)}")
    if operator == "in":
        if not isinstance(operand, list):
            raise bad("where", f"{name}: in takes a list")
        values = cast("list[Any]", operand)
        if len(values) > limits.QUERY_OPERANDS_MAX:
            raise bad("where", f"{name}: in takes at most {limits.QUERY_OPERANDS_MAX} values")
        take = _operand(name, field)
        return Condition(name, field, operator, tuple(take(value) for value in values))
    if operator != "ne" and not comparable(field):
        raise bad("where", f"{name}: a list has no order; use ne, in, or a value")
    if operator != "ne" and operand is None:
        raise bad("where", f"{name}: null has no order; use ne, in, or null itself")
    return Condition(name, field, operator, (_operand(name, field)(operand),))


def _operand(name: str, field: Field) -> Callable[[Any], Any]:
    """Return what reads one operand: the codec knows which values a field can have."""
    encode = compile_codec((field,)).encode

    def take(value: Any) -> Any:
        try:
            found = forms.value_from_json(field, value)
            encode({field.name: found})
        except SchemaMismatch as mismatch:
            raise bad("where", f"{name}: {mismatch.message}") from None
        return found if found is None or not comparable(field) else rank(field, found)

    return take


def _order(text: str, fields: Fields) -> tuple[Order, ...]:
    orders: list[Order] = []
    for entry in text.split(","):
        name = entry.removeprefix("-")
        field = _known("order", name, fields)
        if not comparable(field):
            raise bad("order", f"{name}: a list has no order")
        if any(order.name == name for order in orders):
            raise bad("order", f"{name} is there twice")
        orders.append(Order(name, field, entry != name))
    if len(orders) > limits.ORDER_COLUMNS_MAX:
        raise bad("order", f"takes at most {limits.ORDER_COLUMNS_MAX} fields")
    return tuple(orders)


def _known(option: str, name: str, fields: Fields) -> Field:
    if name not in fields:
        raise bad(option, f"there is no field {name!r}; fields are: {_listed(fields)}")
    return fields[name]


def _listed(names: "Sequence[str] | Fields") -> str:
    return ", ".join(names)
