"""Avro schemas of an application: what is supported, and values in binary and JSON form.

Owns the reading of `.avsc` text into a RecordSchema (FORMATS 7 lists the types). Shape only:
rules such as ranges stand in the manifest. Reads no files.
"""

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import fastavro

from engine.application import codec, forms, resolution
from engine.application.codec import SchemaMismatch
from engine.application.types import Field, RecordSchema
from engine.errors import ApplicationError
from engine.limits import FIELD_BYTES_MAX, FIELDS_MAX, NAME_LENGTH_MAX, SCHEMA_DEPTH_MAX
from engine.wire import HEADER_BYTES, MAGIC, WireError, crc64

__all__ = [
    "SchemaMismatch",
    "decode",
    "encode",
    "encode_named",
    "fingerprint",
    "from_json",
    "parse",
    "split_named",
    "to_json",
    "zero",
]

_SCALARS = frozenset({"boolean", "int", "long", "float", "double", "string", "bytes"})
_LOGICAL = {
    "date": {"int"},
    "timestamp-millis": {"long"},
    "timestamp-micros": {"long"},
    "decimal": {"bytes", "fixed"},
}
_ZEROS: dict[str, Any] = {
    "boolean": False,
    "int": 0,
    "long": 0,
    "float": 0.0,
    "double": 0.0,
    "string": "",
    "bytes": b"",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SUPPORTED = (
    "boolean, int, long, float, double, string, bytes, fixed, enum, date, timestamp-millis, "
    'timestamp-micros, decimal, ["null", T], arrays of records or scalars'
)


def encode(schema: RecordSchema, value: Mapping[str, Any]) -> bytes:
    """Encode a record; raise SchemaMismatch. A missing field takes its default, if it has one."""
    return schema.codec.encode(value)


def decode(schema: RecordSchema, data: bytes, writer: RecordSchema | None = None) -> dict[str, Any]:
    """Decode a record that `writer` (by default `schema` itself) has encoded.

    Raises WireError for damaged bytes, and where `schema` can't read what `writer` writes.
    """
    if writer is None or writer is schema or writer.fingerprint == schema.fingerprint:
        return schema.codec.decode(data)
    resolve = resolution.resolver(writer, schema)
    return resolve(writer.codec.decode(data))


def encode_named(schema: RecordSchema, value: Mapping[str, Any]) -> bytes:
    """Encode a record behind its schema's fingerprint (Avro single-object encoding)."""
    head = MAGIC + schema.fingerprint.to_bytes(8, "little", signed=True)
    return head + schema.codec.encode(value)


def split_named(data: bytes) -> tuple[int, bytes]:
    """Return the writer's fingerprint, and the record as `decode` takes it; raise WireError."""
    if data[: len(MAGIC)] != MAGIC or len(data) < HEADER_BYTES:
        raise WireError("does not begin with C3 01 and the fingerprint of its schema")
    number = int.from_bytes(data[len(MAGIC) : HEADER_BYTES], "little", signed=True)
    return number, data[HEADER_BYTES:]


def zero(schema: RecordSchema) -> dict[str, Any]:
    """Return a new record of defaults and zeros."""
    return {field.name: forms.fresh(field.default) for field in schema.fields}


def to_json(schema: RecordSchema, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as JSON has it: dates and decimals as text, bytes as base64."""
    return forms.record_to_json(schema.fields, value)


def from_json(schema: RecordSchema, value: object) -> dict[str, Any]:
    """Return the record of a JSON object, complete with defaults; raise SchemaMismatch."""
    record = forms.record_from_json(schema.fields, value)
    schema.codec.encode(record)
    return record


def fingerprint(schema: RecordSchema) -> int:
    """Return the CRC-64-AVRO fingerprint: what `args_schema` of a command names."""
    return schema.fingerprint


@functools.lru_cache(maxsize=1_024)  # each partition of a node parses the same ones at its start
def parse(text: str, file: str) -> RecordSchema:
    """Parse the text of an `.avsc` file; raise ApplicationError E1103 that names file and field."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise _error(file, "", f"is not JSON: {fault}") from fault
    if not isinstance(raw, dict) or raw.get("type") != "record":
        raise _error(file, "", "must be one record schema")
    avro = _Parser(file).record(cast("dict[str, Any]", raw), "")
    plain = _without_logical(raw)
    try:
        parsed = fastavro.parse_schema(plain, named_schemas={})
        number = crc64(plain)
    except Exception as fault:  # fastavro raises whatever it meets
        raise _error(file, "", f"is not Avro: {fault}") from fault
    return _schema(avro[0], file, avro[1], text=text, avro=parsed, number=number)


def _schema(
    name: str,
    file: str,
    fields: tuple[Field, ...],
    *,
    text: str = "",
    avro: Any = None,
    number: int = 0,
) -> RecordSchema:
    by_name = {field.name: field for field in fields}
    return RecordSchema(
        name, file, number, text, avro, fields, by_name, codec.compile_codec(fields)
    )


def _error(file: str, field: str, message: str) -> ApplicationError:
    where = {"file": file, "field": field} if field else {"file": file}
    return ApplicationError("E1103", message, **where)


def _without_logical(raw: Any) -> Any:
    """Return the schema without logical types: on the hot path, a date is a number."""
    if isinstance(raw, list):
        return [_without_logical(entry) for entry in cast("list[Any]", raw)]
    if isinstance(raw, dict):
        return {
            key: value if key in {"default", "doc"} else _without_logical(value)
            for key, value in cast("dict[str, Any]", raw).items()
            if key not in {"logicalType", "precision", "scale"}
        }
    return raw


class _Parser:
    """Walks one schema; knows the named types it has met, and those it is still inside of."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.named: dict[str, Any] = {}
        self.open: set[str] = set()

    def record(self, raw: dict[str, Any], path: str) -> tuple[str, tuple[Field, ...]]:
        """Return the name and the fields of a record schema."""
        name = self._declare(raw, path)
        entries = raw.get("fields")
        if not isinstance(entries, list):
            raise _error(self.file, path, "a record must have a list of fields")
        listed = cast("list[Any]", entries)
        if len(listed) > FIELDS_MAX:
            raise _error(self.file, path, f"has {len(listed)} fields; at most {FIELDS_MAX} are")
        if path.count("[]") >= SCHEMA_DEPTH_MAX:
            raise _error(self.file, path, f"is nested more than {SCHEMA_DEPTH_MAX} deep")
        if path and not listed:
            raise _error(self.file, path, "a record in an array must have a field")
        self.open.add(name)
        fields: list[Field] = []
        seen: set[str] = set()
        for entry in listed:
            field = self._field(entry, len(fields), path)
            if field.name in seen:
                raise _error(self.file, self._path(path, field.name), "is there twice")
            seen.add(field.name)
            fields.append(field)
        self.open.discard(name)
        return name, tuple(fields)

    def _declare(self, raw: dict[str, Any], path: str) -> str:
        name = raw.get("name")
        if not isinstance(name, str) or not all(map(_NAME.match, name.split("."))):
            raise _error(self.file, path, f"a {raw.get('type')} must have a name, as Avro names go")
        short = name.rpartition(".")[2]
        if short in self.named:
            raise _error(self.file, path, f"the name {short} is given to two types")
        self.named[short] = raw
        return short

    def _path(self, path: str, name: str) -> str:
        return f"{path}.{name}" if path else name

    def _field(self, entry: Any, ordinal: int, path: str) -> Field:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not _NAME.match(name) or len(name) > NAME_LENGTH_MAX:
            raise _error(self.file, path, f"field {ordinal} must have a name, as Avro names go")
        path = self._path(path, name)
        if "type" not in entry:
            raise _error(self.file, path, "has no type")
        aliases = entry.get("aliases", [])
        if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
            raise _error(self.file, path, "its aliases must be a list of names")
        field = self._type(entry["type"], path)
        default, has_default = field.default, "default" in entry
        if has_default:
            default = self._default(field, entry["default"], path)
        return replace(
            field,
            ordinal=ordinal,
            name=name,
            has_default=has_default,
            default=default,
            aliases=tuple(aliases),
        )

    def _type(self, raw: Any, path: str) -> Field:
        """Return a nameless field of this type."""
        if isinstance(raw, list):
            branches = cast("list[Any]", raw)
            if len(branches) != 2 or branches[0] != "null" or isinstance(branches[1], list):
                raise _error(self.file, path, 'the only supported union is ["null", T]')
            return replace(self._type(branches[1], path), nullable=True, default=None)
        if isinstance(raw, str):
            return self._named(raw, path)
        if not isinstance(raw, dict):
            raise _error(self.file, path, f"has a type that is not Avro: {raw!r}")
        made = cast("dict[str, Any]", raw)
        kind = made.get("type")
        if isinstance(kind, dict | list):
            return self._type(cast("Any", kind), path)
        if kind == "array":
            return self._array(made, path)
        if kind == "record":
            raise _error(self.file, path, "a record is only supported as an array's element")
        if kind in {"fixed", "enum"}:
            self._declare(made, path)
        elif kind not in _SCALARS:
            raise self._unsupported(kind, path)
        return self._scalar(made, path)

    def _named(self, name: str, path: str) -> Field:
        if name in _SCALARS:
            return self._scalar({"type": name}, path)
        raw = self.named.get(name.rpartition(".")[2])
        if raw is None:
            raise self._unsupported(name, path)
        if raw["type"] == "record":
            raise _error(self.file, path, "a record is only supported as an array's element")
        return self._scalar(raw, path)

    def _unsupported(self, kind: object, path: str) -> ApplicationError:
        return _error(self.file, path, f"the type {kind} is not supported; use: {_SUPPORTED}")

    def _array(self, raw: dict[str, Any], path: str) -> Field:
        inner = raw.get("items")
        if isinstance(inner, str) and inner.rpartition(".")[2] in self.named:
            known = self.named[inner.rpartition(".")[2]]
            if known["type"] == "record":
                raise _error(self.file, path, "write the element's record where it is used")
        if isinstance(inner, dict) and cast("dict[str, Any]", inner).get("type") == "record":
            name, fields = self.record(cast("dict[str, Any]", inner), f"{path}[]")
            items = _schema(name, self.file, fields)
            item = _bare("record", items=items)
        else:
            item = self._type(inner, f"{path}[]")
        if item.kind == "array" or item.nullable:
            raise _error(self.file, path, "an array's elements must be records or scalars")
        return _bare("array", items=item.items, item=item)

    def _scalar(self, raw: dict[str, Any], path: str) -> Field:
        kind = cast("str", raw["type"])
        field = _bare(kind)
        if kind == "fixed":
            size = raw.get("size")
            if type(size) is not int or not 1 <= size <= FIELD_BYTES_MAX:
                raise _error(self.file, path, f"a fixed's size must be from 1 to {FIELD_BYTES_MAX}")
            field = replace(field, size=size, default=bytes(size))
        elif kind == "enum":
            field = self._enum(field, raw, path)
        logical = raw.get("logicalType", "")
        if not logical:
            return field
        if kind not in _LOGICAL.get(logical, ()):
            raise _error(self.file, path, f"the logical type {logical} of {kind} is not supported")
        if logical == "decimal":
            return self._decimal(field, raw, path)
        return replace(field, logical=logical)

    def _enum(self, field: Field, raw: dict[str, Any], path: str) -> Field:
        symbols = raw.get("symbols")
        if not isinstance(symbols, list) or not symbols:
            raise _error(self.file, path, "an enum must have symbols")
        listed = cast("list[Any]", symbols)
        if not all(isinstance(symbol, str) and _NAME.match(symbol) for symbol in listed):
            raise _error(self.file, path, "an enum's symbols must be names")
        if len(set(listed)) != len(listed):
            raise _error(self.file, path, "an enum's symbol is there twice")
        fallback = raw.get("default", "")
        if fallback and fallback not in listed:
            raise _error(
                self.file, path, f"the enum's default {fallback} is not one of its symbols"
            )
        return replace(field, symbols=tuple(listed), default=listed[0], symbol_default=fallback)

    def _decimal(self, field: Field, raw: dict[str, Any], path: str) -> Field:
        precision, scale = raw.get("precision"), raw.get("scale", 0)
        if type(precision) is not int or type(scale) is not int or not 0 <= scale <= precision:
            raise _error(self.file, path, "a decimal needs a precision, and a scale from 0 to it")
        if not 1 <= precision <= NAME_LENGTH_MAX:
            raise _error(self.file, path, f"a precision must be from 1 to {NAME_LENGTH_MAX}")
        if field.size and 10**precision > 1 << (8 * field.size - 1):
            raise _error(self.file, path, f"{field.size} bytes can't hold {precision} digits")
        return replace(field, logical="decimal", precision=precision, scale=scale)

    def _default(self, field: Field, value: Any, path: str) -> Any:
        if field.nullable:
            # Avro: a union's default is of its first branch, which is null here.
            if value is not None:
                raise _error(self.file, path, 'the default of ["null", T] must be null')
            return None
        if field.kind in {"bytes", "fixed"}:
            try:
                value = value.encode("latin-1") if isinstance(value, str) else value
            except UnicodeEncodeError as fault:
                raise _error(self.file, path, "its default has a character over U+00FF") from fault
        if field.kind in {"float", "double"} and type(value) is int:
            value = float(value)
        if field.kind == "array" and value != []:
            raise _error(self.file, path, "the default of an array must be []")
        probe = codec.compile_codec((replace(field, name="default"),))
        try:
            probe.encode({"default": value})
        except (SchemaMismatch, WireError) as fault:
            raise _error(self.file, path, f"its {fault}") from fault
        return value


def _bare(kind: str, items: RecordSchema | None = None, item: Field | None = None) -> Field:
    default = [] if kind == "array" else _ZEROS.get(kind)
    return Field(0, "", kind, False, "", False, default, items=items, item=item)
