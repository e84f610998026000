"""An application as tables for the state host in WASM: its image (host/image.h names each struct).

Owns the layout of the image and which parts of an application the fast lane may not touch. Shapes
are told apart by identity, as everywhere in the sandbox: types that share a schema share a shape.
Knows no memory and no host: an image is bytes whose offsets count from their begin.
"""

import functools
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine import wire
from engine.application.types import (
    Application,
    CommandType,
    Extension,
    Field,
    KeyColumn,
    ProjectorType,
    RecordSchema,
    RecordType,
    ViewType,
)
from engine.errors import Code
from engine.limits import TABLE_RECORDS_FIRST
from engine.sandbox import abi
from engine.sandbox.host_values import CONTEXT
from engine.sandbox.plans_rules import Rules
from engine.sandbox.plans_tables import NONE, Span, Tables

_MAGIC = 0x31544150
_KINDS = (
    "boolean",
    "int",
    "long",
    "float",
    "double",
    "string",
    "bytes",
    "fixed",
    "enum",
    "array",
    "record",
)
_KIND = {name: number for number, name in enumerate(_KINDS)} | {"date": 2, "time": 2}
_ACCESS = {"i64": 0, "f64": 1, "bytes": 2, "array": 3}
_RECORD_KINDS = {"singleton": 1, "operation": 2}
_OPS = ("create", "update", "activate", "deactivate")
_HEAD = struct.Struct("<8I2q24I")
DIGESTS_OWN = 3  # workspaces, their logs, the unique index: before those of types and views

Events = Mapping[tuple[str, str], Sequence[ProjectorType]]
Guests = Mapping[str, tuple[Extension, abi.Description, abi.Resolved]]


@functools.cache
def _fingerprint(name: str) -> int:
    """Return what records of one of the engine's own schemas begin with."""
    return wire.crc64(json.loads(wire.schema_text(name)))


class Shapes:
    """The shapes of all schemas and keys, and where each field lies."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._numbers: dict[int, int] = {}
        self._made: list[bytes] = []
        self._kept: list[object] = []  # whose identity is a key above
        self._places: dict[int, tuple[int, int]] = {}

    def of(self, schema: RecordSchema) -> int:
        """Return the number of a schema's shape."""
        return self._number(schema.fields)

    def key(self, columns: tuple[KeyColumn, ...]) -> int:
        """Return the number of the shape that a view's key has."""
        return self._number(columns)

    def ref(self, field: Field | KeyColumn) -> bytes:
        """Return what a guest's ordinal means."""
        shape, number = self._places[id(field)]
        access = _ACCESS[abi.ACCESS[field.kind]]
        is_column = isinstance(field, KeyColumn)
        nullable = isinstance(field, Field) and field.nullable
        typed = shape << 2 | access
        kind = _KIND[field.kind]
        return struct.pack("<IIH4BH", typed, shape, number, access, kind, nullable, is_column, 0)

    def place(self, field: Field | KeyColumn) -> tuple[int, int]:
        """Return the shape of a field, and its number there."""
        return self._places[id(field)]

    def table(self) -> Span:
        """Write the table of shapes."""
        return self._tables.array(self._made)

    def _number(self, fields: tuple[Field, ...] | tuple[KeyColumn, ...]) -> int:
        known = self._numbers.get(id(fields))
        if known is not None:
            return known
        number = self._numbers[id(fields)] = len(self._made)
        self._kept.append(fields)
        self._made.append(b"")
        for at, field in enumerate(fields):
            self._places[id(field)] = (number, at)
            self._kept.append(field)
        span = self._tables.array([self._field(field) for field in fields])
        self._made[number] = struct.pack("<4I", *span, max(1, (len(fields) + 63) // 64), 0)
        return number

    def _field(self, field: Field | KeyColumn) -> bytes:
        kind = _KIND[field.kind]
        access = _ACCESS.get(abi.ACCESS.get(field.kind, ""), 4)
        if isinstance(field, KeyColumn):
            return struct.pack("<4B3Iq", kind, access, 0, 0, 0, 0, 0, 0)
        size, item, records = field.size, 0, 0
        if field.kind == "enum":
            size = len(field.symbols)
        if field.kind == "array":
            assert field.item is not None
            records = field.items is not None
            item = self.of(field.items) if field.items else self._number((field.item,))
        null = field.default is None
        zero = 0 if null else self._zero(field)
        return struct.pack("<4B3Iq", kind, access, field.nullable, null, size, item, records, zero)

    def _zero(self, field: Field) -> int:
        value: Any = field.default
        if field.kind == "array":
            return 0
        if field.kind == "enum":
            return field.symbols.index(value)
        if field.kind in {"float", "double"}:
            return int(struct.unpack("<q", struct.pack("<d", float(value)))[0])
        if isinstance(value, str | bytes):
            at, length = self._tables.text(value)
            return length << 32 | at
        return int(value)


class Maker:
    """Makes one image."""

    def __init__(
        self, application: Application, known: Mapping[int, Application], events: Events
    ) -> None:
        self._application = application
        self._known = known
        self._events = events
        self._tables = Tables(_HEAD.size)
        self.shapes = Shapes(self._tables)
        self._commands = list(application.commands.values())
        self._records = list(application.records.values())
        self._views = list(application.views.values())
        self._projectors: list[ProjectorType] = []
        for listed in events.values():
            self._projectors += [one for one in listed if one not in self._projectors]

    def image(self, partition: int, guests: Guests) -> bytes:
        """Return the image; `guests` are the ones that the fast lane can run."""
        application, tables = self._application, self._tables
        numbers = {name: number for number, name in enumerate(guests)}
        for schema in self._schemas():
            self.shapes.of(schema)
        for view in self._views:
            self.shapes.key(view.key)
        rules = Rules(application, self.shapes.place, tables)
        entries = {
            (name, entry): at
            for name, (_, description, _) in guests.items()
            for at, entry in enumerate(description.entries)
        }
        commands = [self._command(command, numbers, entries) for command in self._commands]
        projectors = [self._projector(one, numbers, entries) for one in self._projectors]
        records = [self._record(at, type_, rules) for at, type_ in enumerate(self._records)]
        views = [self._view(at, view) for at, view in enumerate(self._views)]
        spans = [
            tables.array(records),
            tables.array(views),
            tables.array(commands),
            tables.array(projectors),
            tables.array([self._guest(*guest) for guest in guests.values()]),
            rules.uniques(),
            rules.patterns(),
            tables.array(self._kinds()),
            tables.array(self._names()),
            self._by_table(),
            tables.array([tables.span(code.value) for code in Code]),
        ]
        context = self.shapes.of(CONTEXT)
        spans.insert(0, self.shapes.table())
        body = tables.body()
        head = _HEAD.pack(
            _MAGIC,
            _HEAD.size + len(body),
            application.index,
            partition,
            application.partitions,
            context,
            DIGESTS_OWN + len(self._records) + len(self._views),
            0,
            _fingerprint("command"),
            _fingerprint("outcome"),
            *(number for span in spans for number in span),
        )
        return head + body

    def _schemas(self) -> Iterable[RecordSchema]:
        yield CONTEXT
        yield from (type_.schema for type_ in self._records)
        yield from (view.schema for view in self._views)
        for command in self._commands:
            yield command.args
            if command.result is not None:
                yield command.result

    def _readable(self, table: int, schema: RecordSchema) -> Span:
        """Say which other applications write rows of a table in this very shape."""
        found: list[int] = []
        for index, other in self._known.items():
            type_ = other.record_tables.get(table) or other.view_tables.get(table)
            same = type_ is not None and type_.schema.fingerprint == schema.fingerprint
            if same and index != self._application.index:
                found.append(index)
        return self._tables.numbers(found)

    def _record(self, at: int, type_: RecordType, rules: Rules) -> bytes:
        names = list(self._application.records)
        events = [self._on(type_.name, op) for op in _OPS]
        spans = [
            self._tables.text(type_.name),
            rules.checks(type_),
            rules.required(type_),
            rules.references(type_),
            rules.uniques_of(type_),
            self._tables.numbers([names.index(child) for child in type_.children]),
            self._readable(type_.table, type_.schema),
            *events,
        ]
        return struct.pack(
            "<10I22I",
            type_.table,
            self.shapes.of(type_.schema),
            _RECORD_KINDS.get(type_.kind, 0),
            names.index(type_.parent) if type_.parent else NONE,
            names.index(type_.root) if type_.root in names else NONE,
            DIGESTS_OWN + at,
            *type_.occurs,
            rules.is_slow(type_),
            0,
            *(number for span in spans for number in span),
        )

    def _view(self, at: int, view: ViewType) -> bytes:
        return struct.pack(
            "<8I",
            view.table,
            self.shapes.of(view.schema),
            self.shapes.key(view.key),
            DIGESTS_OWN + len(self._records) + at,
            *self._tables.text(view.name),
            *self._readable(view.table, view.schema),
        )

    def _on(self, source: str, operation: str) -> Span:
        listed = self._events.get((source, operation), ())
        return self._tables.numbers([self._projectors.index(one) for one in listed])

    def _command(
        self,
        command: CommandType,
        numbers: Mapping[str, int],
        entries: Mapping[tuple[str, str], int],
    ) -> bytes:
        tables, run = self._tables, command.run
        errors = [
            struct.pack("<4I", *tables.text(code), *tables.text(message))
            for code, message in command.errors.items()
        ]
        spans = [
            tables.text(command.name),
            tables.array(errors),
            self._on(command.name, "execute"),
            self._on(command.name, "rejected"),
            tables.text(command.creates),
        ]
        runs = run is not None and run.extension in numbers
        return struct.pack(
            "<10Iq8I",
            *(number for span in spans for number in span),
            command.args.fingerprint,
            self.shapes.of(command.args),
            NONE if command.result is None else self.shapes.of(command.result),
            numbers[run.extension] if run is not None and runs else 0,
            entries[run.extension, run.function] if run is not None and runs else 0,
            command.changes_max,
            not runs or bool(command.secret) or bool(command.off),
            command.deactivates,
            0,
        )

    def _projector(
        self,
        projector: ProjectorType,
        numbers: Mapping[str, int],
        entries: Mapping[tuple[str, str], int],
    ) -> bytes:
        names = list(self._application.views)
        run = projector.run
        return struct.pack(
            "<4I",
            numbers[run.extension],
            entries[run.extension, run.function],
            *self._tables.numbers([names.index(view) for view in projector.writes]),
        )

    def _guest(
        self, extension: Extension, description: abi.Description, resolved: abi.Resolved
    ) -> bytes:
        assert len(description.fields) == len(resolved.fields)
        tables = self._tables
        spans = [
            tables.array([self.shapes.ref(field) for field in resolved.fields]),
            tables.array([self._plan(plan) for plan in resolved.plans]),
            tables.numbers([self._records.index(type_) for type_ in resolved.records]),
            tables.numbers([self._views.index(view) for view in resolved.views]),
            tables.numbers([Rules.number(self._application, each) for each in resolved.uniques]),
        ]
        flat = (number for span in spans for number in span)
        return struct.pack("<12I", *flat, extension.time_ms, 0)

    def _plan(self, plan: abi.Plan) -> bytes:
        shape, _ = self.shapes.place(plan.fields[0])
        refs = self._tables.array([self.shapes.ref(field) for field in plan.fields])
        return struct.pack("<4I", *refs, shape, plan.size_bytes)

    def _kinds(self) -> list[bytes]:
        found: list[bytes] = []
        for kind in self._application.workspaces.values():
            spans = [
                self._tables.text(kind.name),
                self._bits(list(self._application.records), kind.records),
                self._bits(list(self._application.commands), kind.commands),
                self._bits(list(self._application.views), kind.views),
            ]
            found.append(struct.pack("<8I", *(number for span in spans for number in span)))
        return found

    def _bits(self, names: Sequence[str], chosen: frozenset[str]) -> Span:
        bits = sum(1 << at for at, name in enumerate(names) if name in chosen)
        return self._tables.text(bits.to_bytes(len(names) // 8 + 1, "little"))

    def _names(self) -> list[bytes]:
        """Return the commands by name, and the names that some had before."""
        found: dict[bytes, tuple[int, bool]] = {}
        for number, command in enumerate(self._commands):
            if command.renamed_from:
                found.setdefault(command.renamed_from.encode(), (number, True))
        for number, command in enumerate(self._commands):
            found[command.name.encode()] = (number, False)
        return [
            struct.pack("<4I", *self._tables.text(name), *found[name]) for name in sorted(found)
        ]

    def _by_table(self) -> Span:
        by_table = {type_.table: at for at, type_ in enumerate(self._records)}
        most = max(by_table, default=TABLE_RECORDS_FIRST - 1)
        return self._tables.numbers(
            [by_table.get(table, NONE) for table in range(TABLE_RECORDS_FIRST, most + 1)]
        )


def make_image(
    application: Application,
    known: Mapping[int, Application],
    events: Events,
    partition: int,
    guests: Guests,
) -> bytes:
    """Return the image of the application in force."""
    return Maker(application, known, events).image(partition, guests)


def digest_tables(application: Application) -> list[int]:
    """Return the table of each digest, in the order in which the host counts them."""
    types = [type_.table for type_ in application.records.values()]
    return [5, 6, 7, *types, *(view.table for view in application.views.values())]
