"""The JSON form of Avro values, for HTTP, the command line and JSON commands.

Dates are `YYYY-MM-DD`, timestamps RFC 3339 in UTC, decimals text, bytes base64; what JSON has no
number for (not-a-number, infinity) is text. Strict: nothing is converted that isn't exact.
Ranges and scalar types are checked by the codec, which sees the value next.
"""

import base64
import binascii
import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from engine.application.codec import SchemaMismatch, raise_missing, wrong_type
from engine.application.types import Field

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.date().toordinal()
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z", re.ASCII)
_TIMESTAMP = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(Z|z|[+-]\d{2}:\d{2})\Z", re.ASCII
)
_DECIMAL = re.compile(r"-?\d{1,300}(?:\.\d{1,300})?\Z", re.ASCII)
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_UNITS = {
    "timestamp-millis": (3, timedelta(milliseconds=1)),
    "timestamp-micros": (6, timedelta.resolution),
}


def fresh(default: Any) -> Any:
    """Return a default that its taker may change."""
    return [] if type(default) is list else default


def record_to_json(fields: tuple[Field, ...], value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's JSON object, fields in the schema's order."""
    return {
        field.name: value_to_json(field, value.get(field.name, field.default)) for field in fields
    }


def value_to_json(field: Field, value: Any) -> Any:
    """Return one value as JSON has it."""
    if value is None:
        return None
    if field.logical:
        return _logical_to_json(field, value)
    if field.kind == "array":
        assert field.item is not None
        return [value_to_json(field.item, entry) for entry in value]
    if field.items is not None:
        return record_to_json(field.items.fields, value)
    return _scalar_to_json(value)


def _scalar_to_json(value: Any) -> Any:
    if type(value) is bytes:
        return base64.b64encode(value).decode()
    if type(value) is not float or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _logical_to_json(field: Field, value: Any) -> Any:
    if field.logical == "decimal":
        return _decimal_to_json(field, value)
    try:
        if field.logical == "date":
            return date.fromordinal(value + _EPOCH_DAY).isoformat()
        digits, unit = _UNITS[field.logical]
        moment = (_EPOCH + value * unit).replace(tzinfo=None)
        return moment.isoformat(timespec="milliseconds" if digits == 3 else "microseconds") + "Z"
    except (ValueError, OverflowError):
        # Outside the years 1 to 9999 there is no text for it; the number says it.
        return value


def _decimal_to_json(field: Field, value: bytes) -> str:
    number = int.from_bytes(value, "big", signed=True)
    # Decimal prints numbers of any length; str(int) refuses beyond 4,300 digits.
    digits = format(Decimal(abs(number)), "f").rjust(field.scale + 1, "0")
    sign = "-" if number < 0 else ""
    if not field.scale:
        return sign + digits
    return f"{sign}{digits[: -field.scale]}.{digits[-field.scale :]}"


def record_from_json(fields: tuple[Field, ...], value: object) -> dict[str, Any]:
    """Return the record of a JSON object, complete with defaults; raise SchemaMismatch."""
    if not isinstance(value, dict):
        raise wrong_type("object", value)
    given = cast("dict[str, Any]", value)
    record: dict[str, Any] = {}
    name = ""
    try:
        for field in fields:
            name = field.name
            if name in given:
                record[name] = value_from_json(field, given[name])
            elif field.has_default:
                record[name] = fresh(field.default)
            else:
                raise_missing()
    except SchemaMismatch as mismatch:
        raise mismatch.inside(name) from None
    for unknown in given:
        if unknown not in record:
            raise SchemaMismatch(unknown, "is not a field of the schema")
    return record


def value_from_json(field: Field, value: Any) -> Any:
    """Return one value from its JSON form."""
    if value is None and not field.nullable:
        raise SchemaMismatch("", "must not be null")
    if value is None:
        return None
    if field.logical:
        return _logical_from_json(field, value)
    if field.kind == "array":
        return _array_from_json(field, value)
    if field.items is not None:
        return record_from_json(field.items.fields, value)
    return _scalar_from_json(field, value)


def _scalar_from_json(field: Field, value: Any) -> Any:
    if field.kind in {"bytes", "fixed"}:
        return _bytes_from_json(value)
    if field.kind in {"float", "double"}:
        return _number_from_json(field, value)
    return value


def _number_from_json(field: Field, value: Any) -> Any:
    if type(value) is str and value in _SPECIAL:
        return _SPECIAL[value]
    if type(value) is not int:
        return value
    try:
        return float(value)
    except OverflowError:
        raise SchemaMismatch("", f"is too large for a {field.kind}") from None


def _array_from_json(field: Field, value: Any) -> list[Any]:
    assert field.item is not None
    if type(value) is not list:
        raise wrong_type("array", value)
    entries: list[Any] = []
    for number, entry in enumerate(cast("list[Any]", value)):
        try:
            entries.append(value_from_json(field.item, entry))
        except SchemaMismatch as mismatch:
            raise mismatch.inside(f"[{number}]") from None
    return entries


def _bytes_from_json(value: Any) -> bytes:
    if type(value) is not str:
        raise wrong_type("string of base64", value)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise SchemaMismatch("", "must be base64") from None


def _logical_from_json(field: Field, value: Any) -> Any:
    if type(value) is int and field.logical != "decimal":
        if _logical_to_json(field, value) is value:
            return value
        raise wrong_type(_EXAMPLES[field.logical], value)
    if type(value) is not str:
        raise wrong_type(_EXAMPLES[field.logical], value)
    if field.logical == "decimal":
        return _decimal_from_json(field, value)
    try:
        if field.logical == "date":
            if _DATE.match(value):
                return date.fromisoformat(value).toordinal() - _EPOCH_DAY
        elif match := _TIMESTAMP.match(value):
            return _timestamp(field, match)
    except (ValueError, OverflowError):
        pass
    raise SchemaMismatch("", f"must be a {_EXAMPLES[field.logical]}")


_EXAMPLES = {
    "date": "date such as 2013-01-31",
    "timestamp-millis": "time such as 2013-01-31T05:17:00.000Z",
    "timestamp-micros": "time such as 2013-01-31T05:17:00.000000Z",
    "decimal": "string such as 12.50",
}


def _timestamp(field: Field, match: re.Match[str]) -> int:
    day, clock, fraction, zone = match.groups()
    digits, unit = _UNITS[field.logical]
    fraction = (fraction or "").ljust(digits, "0")
    if fraction[digits:].strip("0"):
        raise SchemaMismatch("", f"has more than {digits} digits of a second")
    zone = "+00:00" if zone in "Zz" else zone
    moment = datetime.fromisoformat(f"{day}T{clock}{zone}")
    return (moment - _EPOCH) // unit + int(fraction[:digits])


def _decimal_from_json(field: Field, value: str) -> bytes:
    if not _DECIMAL.match(value):
        raise SchemaMismatch("", f"must be a {_EXAMPLES['decimal']}")
    whole, _, fraction = value.partition(".")
    if len(fraction.rstrip("0")) > field.scale:
        raise SchemaMismatch("", f"has more than {field.scale} digits behind the point")
    number = int(whole.lstrip("-") + fraction.rstrip("0").ljust(field.scale, "0"))
    if number >= 10**field.precision:
        raise SchemaMismatch("", f"has more than {field.precision} digits")
    number = -number if whole.startswith("-") else number
    size = field.size or (number if number >= 0 else ~number).bit_length() // 8 + 1
    return number.to_bytes(size, "big", signed=True)
