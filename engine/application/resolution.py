"""How a reader's schema reads what another schema has written: Avro's rules, a little narrower.

Narrower because a read must never fail on the data: what could fail on some value (null for a
field that can't be null, bytes that may not be UTF-8) counts as not readable. Names of records,
enums and fixeds don't matter; a field is found by its name, then by its aliases.
"""

from collections.abc import Callable
from typing import Any

from engine.application.types import Field, RecordSchema
from engine.wire import WireError

Convert = Callable[[Any], Any]
Resolve = Callable[[dict[str, Any]], dict[str, Any]]

# How many writers a schema remembers: versions of one application's schema.
_RESOLUTIONS_MAX = 256
_WIDER = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
}


def resolver(writer: RecordSchema, reader: RecordSchema) -> Resolve:
    """Return how a value of `writer` becomes one of `reader`; raise WireError if it can't."""
    known = reader.codec.resolutions.get(writer.fingerprint)
    if known is not None:
        return known
    found = problems(writer, reader)
    if found:
        raise WireError("; ".join(f"{path}: {why}" for path, why in found))
    resolve = _record(writer, reader)
    if len(reader.codec.resolutions) >= _RESOLUTIONS_MAX:
        reader.codec.resolutions.clear()
    reader.codec.resolutions[writer.fingerprint] = resolve
    return resolve


def source_of(field: Field, writer: RecordSchema) -> Field | None:
    """Return the writer's field that a reader's field takes its value from."""
    for name in (field.name, *field.aliases):
        if name in writer.by_name:
            return writer.by_name[name]
    return None


def problems(writer: RecordSchema, reader: RecordSchema) -> list[tuple[str, str]]:
    """Return (field, why) for all that `reader` could not read of what `writer` writes."""
    found: list[tuple[str, str]] = []
    for field in reader.fields:
        source = source_of(field, writer)
        if source is None:
            if not field.has_default:
                found.append((field.name, "is new and has no default"))
            continue
        found += _field_problems(source, field, field.name)
    return found


def _field_problems(source: Field, field: Field, path: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if source.nullable and not field.nullable:
        found.append((path, "can be null in what is stored, but no longer in the schema"))
    if field.kind != source.kind and field.kind not in _WIDER.get(source.kind, ()):
        return [*found, (path, f"{source.kind} can't be read as {field.kind}")]
    if (source.logical, source.scale) != (field.logical, field.scale):
        before, after = source.logical or source.kind, field.logical or field.kind
        found.append((path, f"the meaning of its values changes ({before} to {after})"))
    if field.precision < source.precision:
        found.append((path, "a decimal's precision can't become smaller"))
    if field.kind == "fixed" and field.size != source.size:
        found.append((path, f"a fixed of {source.size} bytes can't be read as {field.size}"))
    if field.kind == "enum" and not field.symbol_default:
        lost = [symbol for symbol in source.symbols if symbol not in field.symbols]
        if lost:
            found.append((path, f"lost {', '.join(lost)}, and the enum has no default"))
    if field.kind == "array" and source.item is not None and field.item is not None:
        found += _field_problems(source.item, field.item, f"{path}[]")
    if field.kind == "record" and source.items is not None and field.items is not None:
        inner = problems(source.items, field.items)
        found += [(f"{path}.{name}", why) for name, why in inner]
    return found


def _record(writer: RecordSchema, reader: RecordSchema) -> Resolve:
    taken: list[tuple[str, str, Convert | None]] = []
    filled: list[tuple[str, Any]] = []
    for field in reader.fields:
        source = source_of(field, writer)
        if source is None:
            filled.append((field.name, field.default))
        else:
            taken.append((field.name, source.name, _converter(source, field)))
    order = [field.name for field in reader.fields]

    def resolve(value: dict[str, Any]) -> dict[str, Any]:
        made = {
            name: value[source] if convert is None else convert(value[source])
            for name, source, convert in taken
        }
        for name, default in filled:
            made[name] = [] if type(default) is list else default
        return {name: made[name] for name in order}

    return resolve


def _converter(source: Field, field: Field) -> Convert | None:
    """Return what to do with a value, or None to keep it."""
    convert: Convert | None = None
    if field.kind in {"float", "double"} and source.kind in {"int", "long"}:
        convert = float
    elif field.kind == "bytes" and source.kind == "string":
        convert = str.encode
    elif field.kind == "enum" and not set(source.symbols) <= set(field.symbols):
        convert = _symbol_converter(frozenset(field.symbols), field.symbol_default)
    elif field.kind == "array" and source.item is not None and field.item is not None:
        convert = _item_converter(_converter(source.item, field.item))
    elif field.kind == "record" and source.items is not None and field.items is not None:
        convert = _record(source.items, field.items)
    if convert is None or not source.nullable:
        return convert
    inner = convert
    return lambda value: None if value is None else inner(value)


def _symbol_converter(symbols: frozenset[str], fallback: str) -> Convert:
    return lambda symbol: symbol if symbol in symbols else fallback


def _item_converter(convert: Convert | None) -> Convert | None:
    if convert is None:
        return None
    inner = convert
    return lambda entries: [inner(entry) for entry in entries]
