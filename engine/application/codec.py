"""An application's record schemas compiled to functions: which Avro form each field has.

The bytes themselves are `engine.avro`'s. No logical conversion: dates and times stay integers.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from engine import avro
from engine.application.types import Codec, Field
from engine.avro import Form, Member, SchemaMismatch, raise_missing, wrong_type

__all__ = ["SchemaMismatch", "compile_codec", "raise_missing", "wrong_type"]


def compile_codec(fields: Iterable[Field]) -> Codec:
    """Compile the functions that encode and decode a record with these fields."""
    form = _record(fields)
    write = form.write

    def encode(value: Mapping[str, Any]) -> bytes:
        out = bytearray()
        write(value, out)
        return bytes(out)

    def decode(data: bytes) -> dict[str, Any]:
        return avro.decode(form, data)

    return Codec(encode, decode, {})


def _record(fields: Iterable[Field]) -> Form:
    return avro.record(
        [Member(field.name, _form(field), field.has_default, field.default) for field in fields]
    )


def _form(field: Field) -> Form:
    form = _plain(field)
    return avro.nullable(form) if field.nullable else form


def _plain(field: Field) -> Form:
    if field.kind == "fixed":
        return avro.fixed(field.size)
    if field.kind == "enum":
        return avro.enum(field.symbols)
    if field.kind == "array":
        assert field.item is not None
        return avro.array(_form(field.item))
    if field.kind == "record":
        assert field.items is not None
        return _record(field.items.fields)
    return avro.SCALARS[field.kind]
