"""An application as the engine runs it: names resolved, tables numbered, schemas parsed.

Built from a folder (`application.folder`) or from an Application record of the log
(`application.record`); both give equal objects for equal content. Immutable.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from engine.limits import CHANGES_MAX, OCCURS_MAX


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
class Pattern:
    """A regular expression as the table of a DFA over code points (`application.patterns`).

    State 0 is dead, state 1 the start. A code point's class is that of the last interval whose
    bound is not above it; the next state is `steps[state * width + class]`.
    """

    text: str
    bounds: tuple[int, ...] = field(repr=False)  # first code point of each interval, from 0 up
    classes: tuple[int, ...] = field(repr=False)  # of each interval
    width: int = field(repr=False)  # how many classes there are
    steps: tuple[int, ...] = field(repr=False)
    accepting: tuple[bool, ...] = field(repr=False)  # by state


@dataclass(slots=True, frozen=True)
class Check:
    """What one field's value must be, bounds inclusive; None = anything. Null is never checked.

    `one_of` holds values as a host has them: symbols and strings as text, or integers.
    """

    field: Field
    minimum: int | float | None = None
    maximum: int | float | None = None
    length: tuple[int, int] | None = None  # code points, bytes, or elements of an array
    pattern: Pattern | None = None
    one_of: tuple[str | int, ...] | None = None


@dataclass(slots=True, frozen=True)
class Reference:
    """A field that holds the id of an active record of one of `targets`; 0 and null are none."""

    field: Field
    targets: tuple[str, ...]


@dataclass(slots=True, frozen=True)
class KeyColumn:
    """A column of a view's key; `kind` is long, date, time, double, string, bytes or boolean."""

    name: str
    kind: str


@dataclass(slots=True, frozen=True)
class Unique:
    """Fields whose values no two active records of a type share within a workspace.

    `number` is its place in the unique index, stable for ever; `columns` say how the fields'
    values are encoded there (`rows.encode_column`), null as its type's zero.
    """

    name: str
    record: str
    number: int
    fields: tuple[Field, ...]
    columns: tuple[KeyColumn, ...]


@dataclass(slots=True, frozen=True)
class RecordType:
    """A kind of record in a workspace. `kind` is configuration, operational, operation, singleton.

    A nested type has a `parent`, and the kind of its document, which is the type `root`.
    """

    name: str
    table: int
    kind: str
    schema: RecordSchema
    checks: tuple[Check, ...] = ()
    parent: str = ""  # "" = a document or a singleton
    root: str = ""  # the document's type; of a document, itself
    children: tuple[str, ...] = ()  # types nested directly below
    occurs: tuple[int, int] = (0, OCCURS_MAX)  # active ones below one parent, of a nested type
    required: tuple[Field, ...] = ()
    references: tuple[Reference, ...] = ()
    uniques: tuple[Unique, ...] = ()
    renamed_from: str = ""


@dataclass(slots=True, frozen=True)
class ViewType:
    """A read model in its counting generation."""

    name: str
    table: int
    generation: int
    schema: RecordSchema
    key: tuple[KeyColumn, ...]
    renamed_from: str = ""


@dataclass(slots=True, frozen=True)
class EntryPoint:
    """A function of an extension."""

    extension: str
    function: str


@dataclass(slots=True, frozen=True)
class CommandType:
    """A command, the schema of its arguments, and who decides it.

    A generic command changes records of the types it names, which the engine does by itself: it
    has no `run`, and its `args` are the engine's own (`application.generic`).
    """

    name: str
    args: RecordSchema
    run: EntryPoint | None
    result: RecordSchema | None = None
    creates: str = ""  # the kind of workspace it makes
    deactivates: bool = False  # afterwards the workspace is gone
    errors: Mapping[str, str] = field(default_factory=dict[str, str])  # code -> default message
    secret: tuple[Field, ...] = ()  # arguments that the log has as their type's zero
    changes_max: int = CHANGES_MAX
    generic: tuple[str, ...] = ()
    renamed_from: str = ""
    off: str = ""  # why it is switched off, or its extension is; "" = it is not


@dataclass(slots=True, frozen=True)
class WorkspaceKind:
    """What a workspace of this kind may hold, take and show."""

    name: str
    records: frozenset[str]
    commands: frozenset[str]
    views: frozenset[str]


@dataclass(slots=True, frozen=True)
class ProjectorType:
    """Who writes a view.

    `on` are pairs: a record type and create, update, activate or deactivate; a command and execute
    or rejected.
    """

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
    """A table number; once given to a record type or a view generation, never to another.

    A renamed type has an entry for each of its names, all with its number. A unique has a number
    of its own kind, not a table: its place in the unique index.
    """

    kind: str  # record, view, unique
    name: str  # of a unique: record.unique
    generation: int  # of a view, from 1; 0 for the others
    table: int


_Part = TypeVar("_Part", RecordType, CommandType)


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
    workspaces: Mapping[str, WorkspaceKind] = field(default_factory=dict[str, WorkspaceKind])
    uniques: Mapping[str, Unique] = field(default_factory=dict[str, Unique])  # by record.unique

    def record(self, name: str) -> RecordType | None:
        """Return a type of record by its name, or by the one it had before, as `command` does."""
        return self.records.get(name) or _renamed(self.records, name)

    def command(self, name: str) -> CommandType | None:
        """Return a command by its name, or by the one it had before: some may be under way."""
        return self.commands.get(name) or _renamed(self.commands, name)

    @property
    def entry_points(self) -> tuple[EntryPoint, ...]:
        """Every function that the manifest names, commands' first."""
        runs = [command.run for command in self.commands.values() if command.run is not None]
        return (*runs, *(projector.run for projector in self.projectors))


def _renamed(parts: Mapping[str, _Part], name: str) -> _Part | None:
    return next((each for each in parts.values() if name and each.renamed_from == name), None)
