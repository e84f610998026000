"""An application as the engine runs it: names resolved, tables numbered, schemas parsed.

Built from a folder (`application.folder`) or from an Application record of the log
(`application.record`); both give equal objects for equal content. Immutable.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(slots=True, frozen=True)
class Field:
    """One field of a record schema. `kind` is what the ABI checks an access against."""

    ordinal: int
    name: str
    kind: str  # boolean int long float double string bytes fixed enum array record
    nullable: bool
    logical: str  # "" or date, timestamp-millis, timestamp-micros, decimal
    has_default: bool
    default: Any  # what an unset field reads as: the schema's default, else the type's zero
    symbols: tuple[str, ...] = ()  # of an enum
    size: int = 0  # of a fixed
    items: "RecordSchema | None" = None  # of an array of records
    item: "Field | None" = None  # of any array: its element; kind "record" with `items` set
    aliases: tuple[str, ...] = ()  # names that older writers used
    precision: int = 0  # of a decimal
    scale: int = 0  # of a decimal
    symbol_default: str = ""  # of an enum: what a writer's unknown symbol is read as


@dataclass(slots=True, frozen=True)
class Codec:
    """A schema compiled to functions between a record's value and its Avro bytes.

    `resolutions` holds, by writer fingerprint, how other writers' values are read.
    """

    encode: Callable[[Mapping[str, Any]], bytes]
    decode: Callable[[bytes], dict[str, Any]]
    resolutions: dict[int, Callable[[dict[str, Any]], dict[str, Any]]]


@dataclass(slots=True, frozen=True)
class RecordSchema:
    """A parsed Avro record schema: `avro` is what fastavro takes."""

    name: str
    file: str
    fingerprint: int
    text: str
    avro: Any
    fields: tuple[Field, ...]
    by_name: Mapping[str, Field]
    codec: Codec = field(compare=False, repr=False)


@dataclass(slots=True, frozen=True)
class Check:
    """Bounds on one field's value, inclusive; None = unbounded."""

    field: Field
    minimum: int | float | None = None
    maximum: int | float | None = None


@dataclass(slots=True, frozen=True)
class RecordType:
    """A kind of record in a workspace. `kind` is singleton or operational."""

    name: str
    table: int
    kind: str
    schema: RecordSchema
    checks: tuple[Check, ...] = ()


@dataclass(slots=True, frozen=True)
class KeyColumn:
    """A column of a view's key; `kind` is long, date, time, double, string, bytes or boolean."""

    name: str
    kind: str


@dataclass(slots=True, frozen=True)
class ViewType:
    """A read model in its counting generation."""

    name: str
    table: int
    generation: int
    schema: RecordSchema
    key: tuple[KeyColumn, ...]


@dataclass(slots=True, frozen=True)
class EntryPoint:
    """A function of an extension."""

    extension: str
    function: str


@dataclass(slots=True, frozen=True)
class CommandType:
    """A command, the schema of its arguments, and who decides it."""

    name: str
    args: RecordSchema
    run: EntryPoint
    result: RecordSchema | None = None


@dataclass(slots=True, frozen=True)
class ProjectorType:
    """Who writes a view. `on` are pairs (record type or command, create|update|... or execute)."""

    name: str
    on: tuple[tuple[str, str], ...]
    writes: tuple[str, ...]
    run: EntryPoint
    revision: int


@dataclass(slots=True, frozen=True)
class Extension:
    """User code: a WASM module, or a trusted Python class `module:Class` of the folder."""

    name: str
    kind: str  # wasm, python
    target: str  # the file, or module:Class
    content: bytes  # the module, or the Python source
    sha256: bytes
    time_ms: int
    memory_kib: int


class Table(NamedTuple):
    """A table number; once given to a record type or a view generation, never to another."""

    kind: str  # record, view
    name: str
    generation: int  # of a view, from 1; 0 for a record type
    table: int


@dataclass(slots=True, frozen=True)
class Application:
    """Everything a state host, a query or an audit needs to know of an application."""

    name: str
    version: str
    partitions: int
    fingerprint: bytes  # sha256 over manifest, schemas and modules
    index: int  # of its Application record, 0 = not in a log yet
    manifest: str
    schema_texts: Mapping[str, str]
    records: Mapping[str, RecordType]
    commands: Mapping[str, CommandType]
    views: Mapping[str, ViewType]
    projectors: tuple[ProjectorType, ...]
    extensions: Mapping[str, Extension]
    record_tables: Mapping[int, RecordType] = field(default_factory=dict[int, RecordType])
    view_tables: Mapping[int, ViewType] = field(default_factory=dict[int, ViewType])
    tables: tuple[Table, ...] = ()  # every table ever given, those of removed types too
