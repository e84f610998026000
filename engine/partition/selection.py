"""What a query wants of a view's or a type's rows: a range of keys, conditions, an order, a page.

Owns the comparing of values: each has a rank, bytes that sort as the values do, so conditions,
orders and cursors agree. Parses nothing and reads nothing.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine import limits
from engine.application import rows
from engine.application.types import Field

_LONG = Field(0, "", "long", nullable=False, logical="", has_default=False, default=None)
# Key columns as fields, by their kind.
COLUMN_FIELDS = {
    "long": _LONG,
    "date": replace(_LONG, kind="int", logical="date"),
    "time": replace(_LONG, logical="timestamp-millis"),
    "double": replace(_LONG, kind="double"),
    "string": replace(_LONG, kind="string"),
    "bytes": replace(_LONG, kind="bytes"),
    "boolean": replace(_LONG, kind="boolean"),
}
_FLOAT = struct.Struct(">f")
_INVERTED = bytes(range(255, -1, -1))


class TooWideError(ValueError):
    """A query that would have to look at more rows than one request may."""


def comparable(field: Field) -> bool:
    """Return True for a field whose values have an order."""
    return field.kind not in {"array", "record"}


def rank(field: Field, value: Any) -> bytes:
    """Return bytes that sort as the values of a comparable field do; NaN is above all numbers.

    Text sorts by code points, an enum in the order of its symbols. No rank is another's prefix.
    """
    if field.logical == "decimal":
        bound = 10**field.precision
        number = min(max(int.from_bytes(value, "big", signed=True), -bound), bound)
        return (number + bound).to_bytes((2 * bound).bit_length() // 8 + 1)
    if field.kind in {"float", "double"}:
        number = _FLOAT.unpack(_FLOAT.pack(value))[0] if field.kind == "float" else value
        return rows.encode_double(math.nan if math.isnan(number) else number)
    if field.kind == "string":
        return rows.encode_text(value.encode())
    if field.kind in {"bytes", "fixed"}:
        return rows.encode_text(value)
    if field.kind == "enum":
        return rows.encode_long(field.symbols.index(value))
    return rows.encode_long(int(value))


@dataclass(slots=True, frozen=True)
class Condition:
    """A condition on one field: `in`, `ne`, `lt`, `le`, `gt` or `ge`.

    Operands are ranks, or values where the field has no order; None is null, which is neither
    below nor above anything.
    """

    name: str
    field: Field
    operator: str
    operands: tuple[Any, ...]

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Return True if the row meets the condition."""
        value = row.get(self.name)
        if value is not None and comparable(self.field):
            value = rank(self.field, value)
        if self.operator == "in":
            return value in self.operands
        operand = self.operands[0]
        if self.operator == "ne":
            return value != operand
        if value is None:
            return False
        if self.operator in {"lt", "le"}:
            return value < operand or (self.operator == "le" and value == operand)
        return value > operand or (self.operator == "ge" and value == operand)


@dataclass(slots=True, frozen=True)
class Within:
    """Conditions that some one of the records in a list, or nested below, meets all of."""

    name: str
    where: "tuple[Condition | Within, ...]"

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Return True if one of those in the row meets all conditions."""
        return any(all(each.holds(one) for each in self.where) for one in row.get(self.name) or ())


Tree = dict[str, "Tree"]


def _names(where: "tuple[Condition | Within, ...]") -> Tree:
    return {each.name: _names(each.where) for each in where if isinstance(each, Within)}


@dataclass(slots=True, frozen=True)
class Order:
    """One of the fields that rows are ordered by; null comes before all values."""

    name: str
    field: Field
    descending: bool = False

    def key(self, row: Mapping[str, Any]) -> bytes:
        """Return bytes that sort as this order does; text counts up to a bound."""
        value = row.get(self.name)
        if isinstance(value, str | bytes) and self.field.logical != "decimal":
            value = value[: limits.ORDER_TEXT_MAX]
        key = b"\x00" if value is None else b"\x01" + rank(self.field, value)
        return key.translate(_INVERTED) if self.descending else key


@dataclass(slots=True, frozen=True)
class Selection:
    """A query: first the range of keys, then the conditions, then the order, then the page.

    `low` and `high` bound the key column behind the prefix, both included. `after` is an earlier
    page's `next`.
    """

    prefix: tuple[object, ...] = ()
    low: object = None
    high: object = None
    where: tuple[Condition | Within, ...] = ()
    order: tuple[Order, ...] = ()
    limit: int = limits.QUERY_LIMIT_DEFAULT
    after: bytes | None = None

    @property
    def reads(self) -> bool:
        """Return True if fields must be read to know which rows are wanted, and in which order."""
        return bool(self.where or self.order)

    @property
    def within(self) -> Tree:
        """Return the names of what conditions look into."""
        return _names(self.where)

    def may_want(self, row: Mapping[str, Any]) -> bool:
        """Return True if the row meets every condition on its own fields."""
        return all(each.holds(row) for each in self.where if isinstance(each, Condition))

    def wants(self, row: Mapping[str, Any]) -> bool:
        """Return True if the row meets every condition."""
        return all(each.holds(row) for each in self.where)

    def sort_key(self, row: Mapping[str, Any]) -> bytes:
        """Return bytes that sort as the whole order does."""
        return b"".join(order.key(row) for order in self.order)
