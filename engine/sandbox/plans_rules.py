"""The rules of an application's records as tables for the state host (host/rules.c, unique.c)."""

import struct
from collections.abc import Callable

from engine.application.types import (
    Application,
    Check,
    Field,
    KeyColumn,
    Pattern,
    RecordType,
    Unique,
)
from engine.sandbox.plans_tables import NONE, Span, Tables

_INTEGERS = frozenset({"int", "long"})
_DOUBLES = frozenset({"float", "double"})
_MIN, _MAX, _LENGTH, _ONE_OF, _PATTERN = 1, 2, 4, 8, 16
_LONG_MIN, _LONG_MAX = -(1 << 63), (1 << 63) - 1
_U_LONG, _U_DOUBLE, _U_TEXT, _U_FIXED, _U_SYMBOL = range(5)


class Rules:
    """Writes the rules of record types."""

    def __init__(
        self,
        application: Application,
        place: Callable[[Field | KeyColumn], tuple[int, int]],
        tables: Tables,
    ) -> None:
        self._application = application
        self._place = place
        self._tables = tables
        self._patterns: list[Pattern] = []

    def is_slow(self, type_: RecordType) -> bool:
        """Tell whether a changed record of this type is left to the slow lane."""
        return not all(_is_plain(check) for check in type_.checks)

    def checks(self, type_: RecordType) -> Span:
        """Write the checks of a record type's fields."""
        plain = [check for check in type_.checks if _is_plain(check)]
        return self._tables.array([self._check(check) for check in plain])

    def required(self, type_: RecordType) -> Span:
        """Write which fields must be set."""
        return self._tables.numbers([field.ordinal for field in type_.required])

    def references(self, type_: RecordType) -> Span:
        """Write which fields refer to what."""
        names = list(self._application.records)
        entries: list[bytes] = []
        for reference in type_.references:
            targets = self._tables.numbers([names.index(name) for name in reference.targets])
            entries.append(struct.pack("<3I", reference.field.ordinal, *targets))
        return self._tables.array(entries)

    def uniques_of(self, type_: RecordType) -> Span:
        """Write the numbers of a record type's uniques."""
        return self._tables.numbers([self.number(self._application, u) for u in type_.uniques])

    def uniques(self) -> Span:
        """Write all uniques."""
        return self._tables.array([self._unique(u) for u in self._application.uniques.values()])

    def patterns(self) -> Span:
        """Write all patterns that the checks written so far name."""
        entries: list[bytes] = []
        for pattern in self._patterns:
            spans = [
                self._tables.numbers(pattern.bounds),
                self._tables.numbers(pattern.classes),
                self._tables.numbers(pattern.steps),
                self._tables.numbers(pattern.accepting),
            ]
            flat = (number for span in spans for number in span)
            entries.append(struct.pack("<10I", *flat, pattern.width, 0))
        return self._tables.array(entries)

    @staticmethod
    def number(application: Application, unique: Unique) -> int:
        """Return a unique's place among those of the application."""
        return next(at for at, each in enumerate(application.uniques.values()) if each is unique)

    def _check(self, check: Check) -> bytes:
        flags, shortest, longest, pattern = 0, 0, 0, 0
        bounds = [0, 0]
        for at, bound in enumerate((check.minimum, check.maximum)):
            if bound is not None:
                flags |= (_MIN, _MAX)[at]
                bounds[at] = _slot(check.field, bound)
        if check.length is not None:
            flags |= _LENGTH
            shortest, longest = (min(length, NONE) for length in check.length)
        choices: Span = (0, 0)
        if check.one_of is not None:
            flags |= _ONE_OF
            choices = self._choices(check.field, check.one_of)
        if check.pattern is not None:
            flags |= _PATTERN
            if check.pattern not in self._patterns:
                self._patterns.append(check.pattern)
            pattern = self._patterns.index(check.pattern)
        ordinal = check.field.ordinal
        lengths = (shortest, longest)
        return struct.pack("<2I2q6I", ordinal, flags, *bounds, *lengths, *choices, pattern, 0)

    def _choices(self, field: Field, choices: tuple[str | int, ...]) -> Span:
        if field.kind == "string":
            return self._tables.array([self._tables.span(str(choice)) for choice in choices])
        numbers = [
            field.symbols.index(choice) if isinstance(choice, str) else choice for choice in choices
        ]
        slots = [number for number in numbers if _LONG_MIN <= number <= _LONG_MAX]
        return self._tables.array([struct.pack("<q", slot) for slot in slots])

    def _unique(self, unique: Unique) -> bytes:
        columns: list[bytes] = []
        for field, column in zip(unique.fields, unique.columns, strict=True):
            kind, symbols = self._column(field, column)
            columns.append(struct.pack("<4I", field.ordinal, kind, *symbols))
        record = list(self._application.records).index(unique.record)
        return struct.pack("<4I", unique.number, record, *self._tables.array(columns))

    def _column(self, field: Field, column: KeyColumn) -> tuple[int, Span]:
        if field.kind == "fixed":
            return _U_FIXED, (0, field.size)
        if field.kind == "enum":
            symbols = [self._tables.span(symbol) for symbol in field.symbols]
            return _U_SYMBOL, self._tables.array(symbols)
        if column.kind in {"string", "bytes"}:
            return _U_TEXT, (0, 0)
        return (_U_DOUBLE if column.kind == "double" else _U_LONG), (0, 0)


def _is_plain(check: Check) -> bool:
    """Tell whether the host's own numbers hold the bounds exactly."""
    bounds = [bound for bound in (check.minimum, check.maximum) if bound is not None]
    if check.field.kind in _DOUBLES:
        return all(abs(bound) <= 1 << 53 for bound in bounds)
    if check.field.kind in _INTEGERS:
        return all(type(bound) is int and _LONG_MIN <= bound <= _LONG_MAX for bound in bounds)
    return not bounds


def _slot(field: Field, bound: float) -> int:
    if field.kind in _DOUBLES:
        return int(struct.unpack("<q", struct.pack("<d", float(bound)))[0])
    return int(bound)
