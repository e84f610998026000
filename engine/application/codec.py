"""Avro's binary form of a record, compiled once per schema to plain functions.

Owns which bytes and which values count as right: strict both ways, so that every host decides
alike on the same input. No logical conversion: dates and times stay integers. Knows no JSON.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from engine.application.types import Codec, Field
from engine.wire import WireError

Write = Callable[[Any, bytearray], None]
Read = Callable[[bytes, int], tuple[Any, int]]

_FLOAT = struct.Struct("<f")
_DOUBLE = struct.Struct("<d")
# One pattern for every not-a-number, so that equal values have equal bytes.
_FLOAT_NAN = bytes.fromhex("0000c07f")
_DOUBLE_NAN = bytes.fromhex("000000000000f87f")
_RANGES = {"int": (-(1 << 31), (1 << 31) - 1), "long": (-(1 << 63), (1 << 63) - 1)}


class SchemaMismatch(ValueError):  # noqa: N818  (it names what happened, as the codes do)
    """A value that its schema doesn't allow; `field` is the path to it, as `lines[2].price`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message

    def inside(self, outer: str) -> "SchemaMismatch":
        """Return the same, seen from the record or array around it."""
        joint = "." if self.field and not self.field.startswith("[") else ""
        return SchemaMismatch(f"{outer}{joint}{self.field}", self.message)


def raise_missing() -> NoReturn:
    """Raise the mismatch of a field that is left out although it has no default."""
    raise SchemaMismatch("", "is missing and has no default")


def wrong_type(expected: str, value: object) -> SchemaMismatch:
    """Return the mismatch of a value whose type is not the expected one."""
    article = "an" if expected[0] in "aeiou" else "a"
    return SchemaMismatch("", f"must be {article} {expected}, not {type(value).__name__}")


def compile_codec(fields: Iterable[Field]) -> Codec:
    """Compile the functions that encode and decode a record with these fields."""
    fields = tuple(fields)
    write, read = _record_writer(fields), _record_reader(fields)

    def encode(value: Mapping[str, Any]) -> bytes:
        out = bytearray()
        write(value, out)
        return bytes(out)

    def decode(data: bytes) -> dict[str, Any]:
        try:
            value, end = read(data, 0)
        except IndexError as fault:
            raise WireError("cut off") from fault
        if end != len(data):
            raise WireError(f"{len(data) - end} bytes too many")
        return value

    return Codec(encode, decode, {})


def _write_long(number: int, out: bytearray) -> None:
    number = (number << 1) ^ (number >> 63)
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)


def _read_long(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    at += 1
    number = byte & 0x7F
    shift = 7
    while byte > 0x7F:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70:
            raise WireError("a number of more than 10 bytes")
    if number >> 64:
        raise WireError("a number of more than 64 bits")
    return (number >> 1) ^ -(number & 1), at


def _read_sized(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = _read_long(data, at)
    if not 0 <= length <= len(data) - at:
        raise WireError(f"a length of {length} where {len(data) - at} bytes are left")
    return data[at : at + length], at + length


def _write_boolean(value: Any, out: bytearray) -> None:
    if value is not True and value is not False:
        raise wrong_type("boolean", value)
    out.append(value)


def _read_boolean(data: bytes, at: int) -> tuple[bool, int]:
    if data[at] > 1:
        raise WireError(f"a boolean of {data[at]}")
    return data[at] == 1, at + 1


def _integer_writer(kind: str) -> Write:
    low, high = _RANGES[kind]

    def write(value: Any, out: bytearray) -> None:
        if type(value) is not int:
            raise wrong_type(kind, value)
        if not low <= value <= high:
            raise SchemaMismatch("", f"must be from {low} to {high}")
        _write_long(value, out)

    return write


def _read_int(data: bytes, at: int) -> tuple[int, int]:
    number, at = _read_long(data, at)
    low, high = _RANGES["int"]
    if not low <= number <= high:
        raise WireError(f"an int of {number}")
    return number, at


def _number_writer(kind: str) -> Write:
    packer, nan = (_FLOAT, _FLOAT_NAN) if kind == "float" else (_DOUBLE, _DOUBLE_NAN)

    def write(value: Any, out: bytearray) -> None:
        if type(value) is not float and type(value) is not int:
            raise wrong_type(kind, value)
        try:
            number = float(value)
            out += packer.pack(number) if number == number else nan  # noqa: PLR0124  (nan != nan)
        except OverflowError:
            raise SchemaMismatch("", f"is too large for a {kind}") from None

    return write


def _number_reader(kind: str) -> Read:
    packer = _FLOAT if kind == "float" else _DOUBLE

    def read(data: bytes, at: int) -> tuple[float, int]:
        end = at + packer.size
        if end > len(data):
            raise WireError("cut off")
        return packer.unpack_from(data, at)[0], end

    return read


def _write_string(value: Any, out: bytearray) -> None:
    if type(value) is not str:
        raise wrong_type("string", value)
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise SchemaMismatch("", "has half of a surrogate pair") from None
    _write_long(len(data), out)
    out += data


def _read_string(data: bytes, at: int) -> tuple[str, int]:
    text, at = _read_sized(data, at)
    try:
        return text.decode(), at
    except UnicodeDecodeError as fault:
        raise WireError("a string that is not UTF-8") from fault


def _write_bytes(value: Any, out: bytearray) -> None:
    if type(value) is not bytes:
        raise wrong_type("bytes value", value)
    _write_long(len(value), out)
    out += value


def _fixed_writer(size: int) -> Write:
    def write(value: Any, out: bytearray) -> None:
        if type(value) is not bytes:
            raise wrong_type("bytes value", value)
        if len(value) != size:
            raise SchemaMismatch("", f"must have {size} bytes, not {len(value)}")
        out += value

    return write


def _fixed_reader(size: int) -> Read:
    def read(data: bytes, at: int) -> tuple[bytes, int]:
        if at + size > len(data):
            raise WireError("cut off")
        return data[at : at + size], at + size

    return read


def _enum_writer(symbols: tuple[str, ...]) -> Write:
    index = {symbol: number for number, symbol in enumerate(symbols)}

    def write(value: Any, out: bytearray) -> None:
        number = index.get(value) if type(value) is str else None
        if number is None:
            raise SchemaMismatch("", f"must be one of {', '.join(symbols)}")
        _write_long(number, out)

    return write


def _enum_reader(symbols: tuple[str, ...]) -> Read:
    def read(data: bytes, at: int) -> tuple[str, int]:
        number, at = _read_long(data, at)
        if not 0 <= number < len(symbols):
            raise WireError(f"an enum of {number}")
        return symbols[number], at

    return read


def _array_writer(item: Field) -> Write:
    put = _writer(item)

    def write(value: Any, out: bytearray) -> None:
        if type(value) is not list and type(value) is not tuple:
            raise wrong_type("array", value)
        if value:
            _write_long(len(value), out)
        number = 0
        try:
            for number, entry in enumerate(value):  # noqa: B007  (the handler below names it)
                put(entry, out)
        except SchemaMismatch as mismatch:
            raise mismatch.inside(f"[{number}]") from None
        out.append(0)

    return write


def _array_reader(item: Field) -> Read:
    get = _reader(item)

    def read(data: bytes, at: int) -> tuple[list[Any], int]:
        entries: list[Any] = []
        while True:
            count, at = _read_long(data, at)
            if count == 0:
                return entries, at
            end = None
            if count < 0:  # a block that names its length in bytes
                length, at = _read_long(data, at)
                count, end = -count, at + length
            # Every element takes a byte, so a count that lies ends where the data does.
            for _ in range(count):
                entry, at = get(data, at)
                entries.append(entry)
            if end is not None and end != at:
                raise WireError("an array's block is not as long as it says")

    return read


def _record_writer(fields: tuple[Field, ...]) -> Write:
    plan = tuple((field.name, _writer(field), field) for field in fields)
    names = frozenset(field.name for field in fields)

    def write(value: Any, out: bytearray) -> None:
        if not isinstance(value, Mapping):
            raise wrong_type("object", value)
        name, given = "", 0
        try:
            for name, put, field in plan:
                if name in value:
                    given += 1
                    put(value[name], out)
                elif field.has_default:
                    put(field.default, out)
                else:
                    raise_missing()
        except SchemaMismatch as mismatch:
            raise mismatch.inside(name) from None
        if given != len(value):
            unknown = next(str(key) for key in value if key not in names)
            raise SchemaMismatch(unknown, "is not a field of the schema")

    return write


def _record_reader(fields: tuple[Field, ...]) -> Read:
    plan = tuple((field.name, _reader(field)) for field in fields)

    def read(data: bytes, at: int) -> tuple[dict[str, Any], int]:
        value: dict[str, Any] = {}
        for name, get in plan:
            value[name], at = get(data, at)
        return value, at

    return read


def _writer(field: Field) -> Write:
    put = _plain_writer(field)
    if not field.nullable:
        return put

    def write(value: Any, out: bytearray) -> None:
        if value is None:
            out.append(0)
        else:
            out.append(2)
            put(value, out)

    return write


def _reader(field: Field) -> Read:
    get = _plain_reader(field)
    if not field.nullable:
        return get

    def read(data: bytes, at: int) -> tuple[Any, int]:
        branch, at = _read_long(data, at)
        if branch == 0:
            return None, at
        if branch != 1:
            raise WireError(f"a union's branch {branch}")
        return get(data, at)

    return read


_WRITERS: dict[str, Write] = {
    "boolean": _write_boolean,
    "int": _integer_writer("int"),
    "long": _integer_writer("long"),
    "float": _number_writer("float"),
    "double": _number_writer("double"),
    "string": _write_string,
    "bytes": _write_bytes,
}
_READERS: dict[str, Read] = {
    "boolean": _read_boolean,
    "int": _read_int,
    "long": _read_long,
    "float": _number_reader("float"),
    "double": _number_reader("double"),
    "string": _read_string,
    "bytes": _read_sized,
}


def _plain_writer(field: Field) -> Write:
    if field.kind == "fixed":
        return _fixed_writer(field.size)
    if field.kind == "enum":
        return _enum_writer(field.symbols)
    if field.kind == "array":
        assert field.item is not None
        return _array_writer(field.item)
    if field.kind == "record":
        assert field.items is not None
        return _record_writer(field.items.fields)
    return _WRITERS[field.kind]


def _plain_reader(field: Field) -> Read:
    if field.kind == "fixed":
        return _fixed_reader(field.size)
    if field.kind == "enum":
        return _enum_reader(field.symbols)
    if field.kind == "array":
        assert field.item is not None
        return _array_reader(field.item)
    if field.kind == "record":
        assert field.items is not None
        return _record_reader(field.items.fields)
    return _READERS[field.kind]
