"""Avro's binary form, put together per schema from plain functions.

Owns which bytes and which values count as right: strict both ways, so that every node decides
alike on the same input. No logical conversion: dates and times stay integers. Knows no JSON and no
schema's text; `wire` compiles the engine's own schemas with it, `application.codec` an
application's.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

Write = Callable[[Any, bytearray], None]
Read = Callable[[bytes, int], tuple[Any, int]]

_FLOAT = struct.Struct("<f")
_DOUBLE = struct.Struct("<d")
# One pattern for every not-a-number, so that equal values have equal bytes.
_FLOAT_NAN = bytes.fromhex("0000c07f")
_DOUBLE_NAN = bytes.fromhex("000000000000f87f")
_RANGES = {"int": (-(1 << 31), (1 << 31) - 1), "long": (-(1 << 63), (1 << 63) - 1)}


class WireError(ValueError):
    """Bytes that are not what they should be; the caller decides what that means."""


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


class Form(NamedTuple):
    """How values of one type are written and read."""

    write: Write
    read: Read


class Member(NamedTuple):
    """A field of a record."""

    name: str
    form: Form
    has_default: bool
    default: Any


def raise_missing() -> NoReturn:
    """Raise the mismatch of a field that is left out although it has no default."""
    raise SchemaMismatch("", "is missing and has no default")


def wrong_type(expected: str, value: object) -> SchemaMismatch:
    """Return the mismatch of a value whose type is not the expected one."""
    article = "an" if expected[0] in "aeiou" else "a"
    return SchemaMismatch("", f"must be {article} {expected}, not {type(value).__name__}")


def decode(form: Form, data: bytes, at: int = 0) -> Any:
    """Return the one value that `data` holds from `at` on; raise WireError."""
    try:
        value, end = form.read(data, at)
    except IndexError as fault:
        raise WireError("cut off") from fault
    if end != len(data):
        raise WireError(f"{len(data) - end} bytes too many")
    return value


def write_long(number: int, out: bytearray) -> None:
    """Append a number of 64 bits."""
    number = (number << 1) ^ (number >> 63)
    while number > 0x7F:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)


def read_long(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at `at` and the index behind it."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at
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


def read_sized(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the bytes at `at`, behind their length, and the index behind them."""
    length = data[at]
    if length < 0x80 and not length & 1:  # as nearly all are
        length, at = length >> 1, at + 1
    else:
        length, at = read_long(data, at)
    end = at + length
    if not at <= end <= len(data):
        raise WireError(f"a length of {length} where {len(data) - at} bytes are left")
    return data[at:end], end


def _write_boolean(value: Any, out: bytearray) -> None:
    if value is not True and value is not False:
        raise wrong_type("boolean", value)
    out.append(value)


def read_boolean(data: bytes, at: int) -> tuple[bool, int]:
    """Return the boolean at `at` and the index behind it."""
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
        number = (value << 1) ^ (value >> 63)
        while number > 0x7F:
            out.append((number & 0x7F) | 0x80)
            number >>= 7
        out.append(number)

    return write


def _read_int(data: bytes, at: int) -> tuple[int, int]:
    number, at = read_long(data, at)
    low, high = _RANGES["int"]
    if not low <= number <= high:
        raise WireError(f"an int of {number}")
    return number, at


def _number(kind: str) -> Form:
    packer, nan = (_FLOAT, _FLOAT_NAN) if kind == "float" else (_DOUBLE, _DOUBLE_NAN)

    def write(value: Any, out: bytearray) -> None:
        if type(value) is not float and type(value) is not int:
            raise wrong_type(kind, value)
        try:
            number = float(value)
            out += packer.pack(number) if number == number else nan  # noqa: PLR0124  (nan != nan)
        except OverflowError:
            raise SchemaMismatch("", f"is too large for a {kind}") from None

    def read(data: bytes, at: int) -> tuple[float, int]:
        end = at + packer.size
        if end > len(data):
            raise WireError("cut off")
        return packer.unpack_from(data, at)[0], end

    return Form(write, read)


def _write_string(value: Any, out: bytearray) -> None:
    if not isinstance(value, str):
        raise wrong_type("string", value)
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise SchemaMismatch("", "has half of a surrogate pair") from None
    write_long(len(data), out)
    out += data


def _read_string(data: bytes, at: int) -> tuple[str, int]:
    text, at = read_sized(data, at)
    try:
        return text.decode(), at
    except UnicodeDecodeError as fault:
        raise WireError("a string that is not UTF-8") from fault


def _write_bytes(value: Any, out: bytearray) -> None:
    if type(value) is not bytes:
        raise wrong_type("bytes value", value)
    write_long(len(value), out)
    out += value


SCALARS: Mapping[str, Form] = {
    "boolean": Form(_write_boolean, read_boolean),
    "int": Form(_integer_writer("int"), _read_int),
    "long": Form(_integer_writer("long"), read_long),
    "float": _number("float"),
    "double": _number("double"),
    "string": Form(_write_string, _read_string),
    "bytes": Form(_write_bytes, read_sized),
}


def fixed(size: int) -> Form:
    """Return the form of exactly `size` bytes."""

    def write(value: Any, out: bytearray) -> None:
        if type(value) is not bytes:
            raise wrong_type("bytes value", value)
        if len(value) != size:
            raise SchemaMismatch("", f"must have {size} bytes, not {len(value)}")
        out += value

    def read(data: bytes, at: int) -> tuple[bytes, int]:
        if at + size > len(data):
            raise WireError("cut off")
        return data[at : at + size], at + size

    return Form(write, read)


def enum(symbols: Sequence[str]) -> Form:
    """Return the form of one of `symbols`."""
    index = {symbol: number for number, symbol in enumerate(symbols)}

    def write(value: Any, out: bytearray) -> None:
        number = index.get(value) if isinstance(value, str) else None
        if number is None:
            raise SchemaMismatch("", f"must be one of {', '.join(symbols)}")
        write_long(number, out)

    def read(data: bytes, at: int) -> tuple[str, int]:
        number, at = read_long(data, at)
        if not 0 <= number < len(symbols):
            raise WireError(f"an enum of {number}")
        return symbols[number], at

    return Form(write, read)


def nullable(form: Form) -> Form:
    """Return the form of null or a value."""
    put, get = form

    def write(value: Any, out: bytearray) -> None:
        if value is None:
            out.append(0)
        else:
            out.append(2)
            put(value, out)

    def read(data: bytes, at: int) -> tuple[Any, int]:
        if data[at] == 0:
            return None, at + 1
        if data[at] == 2:
            return get(data, at + 1)
        branch, at = read_long(data, at)
        if branch == 0:
            return None, at
        if branch != 1:
            raise WireError(f"a union's branch {branch}")
        return get(data, at)

    return Form(write, read)


def _blocks(read_entry: Callable[[bytes, int], int], data: bytes, at: int) -> int:
    """Read an array's or a map's blocks, entry by entry; return the index behind them."""
    while True:
        count, at = read_long(data, at)
        if count == 0:
            return at
        end = None
        if count < 0:  # a block that names its length in bytes
            length, at = read_long(data, at)
            count, end = -count, at + length
        # Every entry takes a byte, so a count that lies ends where the data does.
        for _ in range(count):
            at = read_entry(data, at)
        if end is not None and end != at:
            raise WireError("a block is not as long as it says")


def array(form: Form) -> Form:
    """Return the form of a list of values, each of which takes at least a byte."""
    put, get = form

    def write(value: Any, out: bytearray) -> None:
        if type(value) is not list and type(value) is not tuple:
            raise wrong_type("array", value)
        if value:
            write_long(len(value), out)
        number = 0
        try:
            for number, entry in enumerate(value):  # noqa: B007  (the handler below names it)
                put(entry, out)
        except SchemaMismatch as mismatch:
            raise mismatch.inside(f"[{number}]") from None
        out.append(0)

    def read(data: bytes, at: int) -> tuple[list[Any], int]:
        entries: list[Any] = []
        if data[at] == 0:
            return entries, at + 1

        def one(data: bytes, at: int) -> int:
            entry, at = get(data, at)
            entries.append(entry)
            return at

        return entries, _blocks(one, data, at)

    return Form(write, read)


def mapping(form: Form) -> Form:
    """Return the form of a mapping of strings to values."""
    put, get = form

    def write(value: Any, out: bytearray) -> None:
        if not isinstance(value, Mapping):
            raise wrong_type("map", value)
        if value:
            write_long(len(value), out)
        for key, entry in value.items():
            _write_string(key, out)
            put(entry, out)
        out.append(0)

    def read(data: bytes, at: int) -> tuple[dict[str, Any], int]:
        entries: dict[str, Any] = {}

        def one(data: bytes, at: int) -> int:
            key, at = _read_string(data, at)
            entries[key], at = get(data, at)
            return at

        return entries, _blocks(one, data, at)

    return Form(write, read)


def record(members: Sequence[Member]) -> Form:
    """Return the form of a record: a mapping with no other keys than the members' names."""
    writers = tuple((member.name, member.form.write, member) for member in members)
    readers = tuple((member.name, member.form.read) for member in members)
    names = frozenset(member.name for member in members)

    def write(value: Any, out: bytearray) -> None:
        if not isinstance(value, Mapping):
            raise wrong_type("object", value)
        name, given = "", 0
        try:
            for name, put, member in writers:
                if name in value:
                    given += 1
                    put(value[name], out)
                elif member.has_default:
                    put(member.default, out)
                else:
                    raise_missing()
        except SchemaMismatch as mismatch:
            raise mismatch.inside(name) from None
        if given != len(value):
            unknown = next(str(key) for key in value if key not in names)
            raise SchemaMismatch(unknown, "is not a field of the schema")

    def read(data: bytes, at: int) -> tuple[dict[str, Any], int]:
        value: dict[str, Any] = {}
        for name, get in readers:
            value[name], at = get(data, at)
        return value, at

    return Form(write, read)
