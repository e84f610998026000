"""The sections of application.toml and the shapes of their values.

Owns what a section can be seen to get wrong by itself. Errors are worded and collected in
`application.manifest`; what sections say about each other is checked in `application.rules`.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from engine.limits import (
    CHANGES_MAX,
    CHOICES_MAX,
    COMMAND_TIME_MS_DEFAULT,
    COMMAND_TIME_MS_MAX,
    FIELD_BYTES_MAX,
    FIELDS_MAX,
    GUEST_MEMORY_KIB_DEFAULT,
    GUEST_MEMORY_KIB_MAX,
    KEY_COLUMNS_MAX,
    MESSAGE_LENGTH_MAX,
    OCCURS_MAX,
    PARTITIONS_MAX,
    PATTERN_LENGTH_MAX,
    TYPES_MAX,
)

COLUMN_KINDS = ("long", "date", "time", "double", "string", "bytes", "boolean")
RECORD_OPERATIONS = ("create", "update", "activate", "deactivate")
COMMAND_OPERATIONS = ("execute", "rejected")

_PATTERNS = {
    "application": (r"[a-z][a-z0-9_-]{0,63}", "lower-case letters, digits, - and _"),
    "name": (r"[a-z][a-z0-9_]{0,63}", "a name of lower-case letters, digits and _"),
    "field": (r"[A-Za-z_]\w{0,254}", "the name of a field"),
    "file": (r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*", "a file of the folder"),
    "function": (r"[a-z][a-z0-9_]{0,63}:[A-Za-z_]\w*", "extension:function"),
    "class": (r"[A-Za-z_]\w*:[A-Za-z_]\w*", "module:Class"),
    "event": (
        rf"[a-z][a-z0-9_]{{0,63}}\.({'|'.join((*RECORD_OPERATIONS, *COMMAND_OPERATIONS))})",
        (
            "record.create, record.update, record.activate, record.deactivate, command.execute or "
            "command.rejected"
        ),
    ),
    "column": (
        rf"[A-Za-z_]\w*:({'|'.join(COLUMN_KINDS)})",
        f"name:kind, with a kind of {', '.join(COLUMN_KINDS)}",
    ),
    "version": (
        r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(-[0-9A-Za-z.-]{1,64})?",
        "a semantic version such as 1.0.0",
    ),
}


def _shaped(shape: str) -> AfterValidator:
    pattern, meaning = _PATTERNS[shape]
    compiled = re.compile(pattern + r"\Z", re.ASCII)

    def check(value: str) -> str:
        if not compiled.match(value):
            raise ValueError(f"must be {meaning}, not {value!r}")
        return value

    return AfterValidator(check)


def _number(value: object) -> object:
    if type(value) not in {int, float} or value != value:  # noqa: PLR0124  (nan is no bound)
        raise ValueError(f"must be a number, not {value!r}")
    return value


def _choice(value: object) -> object:
    if type(value) not in {int, str}:
        raise ValueError(f"must be a text or an integer, not {value!r}")
    return value


def _range(most: int) -> AfterValidator:
    def check(value: list[int]) -> list[int]:
        if len(value) != 2 or not 0 <= value[0] <= value[1] <= most or value[1] == 0:
            raise ValueError(f"must be [least, most], from 0 to {most}, not {value}")
        return value

    return AfterValidator(check)


def _distinct(value: list[Any]) -> list[Any]:
    doubled = sorted({str(entry) for entry in value if value.count(entry) > 1})
    if doubled:
        raise ValueError(f"{doubled[0]} is there twice")
    return value


Name = Annotated[str, _shaped("name")]
FieldName = Annotated[str, _shaped("field")]
File = Annotated[str, _shaped("file")]
Function = Annotated[str, _shaped("function")]
Number = Annotated[Any, BeforeValidator(_number)]
Names = Annotated[list[Name], Field(min_length=1, max_length=TYPES_MAX), AfterValidator(_distinct)]
Fields = Annotated[
    list[FieldName], Field(min_length=1, max_length=FIELDS_MAX), AfterValidator(_distinct)
]
KeyFields = Annotated[
    list[FieldName], Field(min_length=1, max_length=KEY_COLUMNS_MAX), AfterValidator(_distinct)
]
Choices = Annotated[
    list[Annotated[Any, BeforeValidator(_choice)]],
    Field(min_length=1, max_length=CHOICES_MAX),
    AfterValidator(_distinct),
]


class Section(BaseModel):
    """A table of the manifest; unknown keys and values of other types are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ApplicationSection(Section):
    """What the application is called, and how many partitions it has for ever."""

    name: Annotated[str, _shaped("application")]
    version: Annotated[str, _shaped("version")]
    partitions: Annotated[int, Field(ge=1, le=PARTITIONS_MAX)]


class WorkspaceSection(Section):
    """A kind of workspace: what of the application it has; all, where nothing is said."""

    records: Names | None = None
    commands: Names | None = None
    views: Names | None = None


class CheckSection(Section):
    """What a field's value must be; bounds are inclusive."""

    min: Number | None = None
    max: Number | None = None
    length: Annotated[list[int], _range(FIELD_BYTES_MAX)] | None = None
    pattern: Annotated[str, Field(max_length=PATTERN_LENGTH_MAX)] | None = None
    one_of: Choices | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "CheckSection":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        if not self.model_fields_set:
            raise ValueError("must say min, max, length, pattern or one_of")
        return self


class RecordSection(Section):
    """A kind of record: a document, a singleton, or nested in its `parent`."""

    schema_: Annotated[File, Field(alias="schema")]
    kind: Literal["configuration", "operational", "operation", "singleton"] | None = None
    parent: Name | None = None
    occurs: Annotated[list[int], _range(OCCURS_MAX)] | None = None
    required: Fields = []
    references: dict[FieldName, Names] = {}
    unique: dict[Name, KeyFields] = {}
    checks: dict[str, CheckSection] = {}
    renamed_from: Name | None = None

    @model_validator(mode="after")
    def _placed(self) -> "RecordSection":
        if (self.kind is None) == (self.parent is None):
            raise ValueError("must have either a kind, or a parent whose kind it shares")
        if self.occurs is not None and self.parent is None:
            raise ValueError("occurs is for records that have a parent")
        if self.kind == "singleton" and self.unique:
            raise ValueError("a singleton is the only one of its type; it has no unique fields")
        if self.kind == "operation" and self.unique:
            raise ValueError("an operation document is not stored; it has no unique fields")
        return self


# Why something is switched off; empty = it is not.
Reason = Annotated[str, Field(max_length=MESSAGE_LENGTH_MAX)]


class CommandSection(Section):
    """A command: its arguments, who decides it, and what it answers; or a generic one."""

    args: File | None = None
    run: Function | None = None
    result: File | None = None
    creates: Name | None = None
    deactivates: bool = False
    errors: Annotated[
        dict[Name, Annotated[str, Field(min_length=1, max_length=MESSAGE_LENGTH_MAX)]],
        Field(max_length=TYPES_MAX),
    ] = {}
    secret: Fields = []
    changes_max: Annotated[int, Field(ge=1, le=CHANGES_MAX)] = CHANGES_MAX
    generic: Names | None = None
    renamed_from: Name | None = None
    off: Reason = ""

    @model_validator(mode="after")
    def _decided(self) -> "CommandSection":
        if self.creates is not None and self.deactivates:
            raise ValueError("can't make a workspace and deactivate it at once")
        if self.generic is None:
            missing = [key for key in ("args", "run") if getattr(self, key) is None]
            if missing:
                raise ValueError(f"{' and '.join(missing)} missing; only generic ones have none")
            return self
        for key in ("args", "run", "result", "errors", "secret"):
            if key in self.model_fields_set:
                raise ValueError(f"a generic command is decided by the engine; it has no {key}")
        return self


class ViewSection(Section):
    """A read model. No key columns: one row in each workspace."""

    row: File
    key: Annotated[list[Annotated[str, _shaped("column")]], Field(max_length=KEY_COLUMNS_MAX)]
    renamed_from: Name | None = None


class ProjectorSection(Section):
    """Who writes a view, and on what."""

    on: Annotated[list[Annotated[str, _shaped("event")]], Field(min_length=1, max_length=TYPES_MAX)]
    writes: Annotated[list[Name], Field(min_length=1, max_length=TYPES_MAX)]
    run: Function
    revision: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1


class ExtensionSection(Section):
    """User code: either a WASM module or a trusted Python class."""

    wasm: File | None = None
    python: Annotated[str, _shaped("class")] | None = None
    time_ms: Annotated[int, Field(ge=1, le=COMMAND_TIME_MS_MAX)] = COMMAND_TIME_MS_DEFAULT
    memory_kib: Annotated[int, Field(ge=1, le=GUEST_MEMORY_KIB_MAX)] = GUEST_MEMORY_KIB_DEFAULT
    off: Reason = ""

    @model_validator(mode="after")
    def _one_kind(self) -> "ExtensionSection":
        if (self.wasm is None) == (self.python is None):
            raise ValueError("must have either wasm = FILE or python = MODULE:CLASS")
        return self


class Manifest(Section):
    """application.toml."""

    application: ApplicationSection
    workspaces: Annotated[dict[Name, WorkspaceSection], Field(max_length=TYPES_MAX)] = {}
    records: Annotated[dict[Name, RecordSection], Field(max_length=TYPES_MAX)] = {}
    commands: Annotated[dict[Name, CommandSection], Field(max_length=TYPES_MAX)] = {}
    views: Annotated[dict[Name, ViewSection], Field(max_length=TYPES_MAX)] = {}
    projectors: Annotated[dict[Name, ProjectorSection], Field(max_length=TYPES_MAX)] = {}
    extensions: Annotated[dict[Name, ExtensionSection], Field(max_length=TYPES_MAX)] = {}


SECTIONS: dict[str, type[Section]] = {
    "workspaces": WorkspaceSection,
    "records": RecordSection,
    "commands": CommandSection,
    "views": ViewSection,
    "projectors": ProjectorSection,
    "extensions": ExtensionSection,
}
