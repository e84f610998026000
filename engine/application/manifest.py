"""The manifest, application.toml: what may stand in it, and every error in it at once.

Owns the file's own rules. Whether it fits the schemas and extensions beside it is said in
`application.building`.
"""

import difflib
import re
import tomllib
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from engine.errors import ApplicationError
from engine.limits import (
    COMMAND_TIME_MS_DEFAULT,
    COMMAND_TIME_MS_MAX,
    GUEST_MEMORY_KIB_DEFAULT,
    GUEST_MEMORY_KIB_MAX,
    KEY_COLUMNS_MAX,
    PARTITIONS_MAX,
    TYPES_MAX,
)

MANIFEST_FILE = "application.toml"
COLUMN_KINDS = ("long", "date", "time", "double", "string", "bytes", "boolean")
RECORD_OPERATIONS = ("create", "update", "activate", "deactivate")

_PATTERNS = {
    "application": (r"[a-z][a-z0-9_-]{0,63}", "lower-case letters, digits, - and _"),
    "name": (r"[a-z][a-z0-9_]{0,63}", "a name of lower-case letters, digits and _"),
    "file": (r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*", "a file of the folder"),
    "function": (r"[a-z][a-z0-9_]{0,63}:[A-Za-z_]\w*", "extension:function"),
    "class": (r"[A-Za-z_]\w*:[A-Za-z_]\w*", "module:Class"),
    "event": (
        rf"[a-z][a-z0-9_]{{0,63}}\.({'|'.join(RECORD_OPERATIONS)}|execute)",
        "record.create, record.update, record.activate, record.deactivate or command.execute",
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


Name = Annotated[str, _shaped("name")]
File = Annotated[str, _shaped("file")]
Function = Annotated[str, _shaped("function")]
Number = Annotated[Any, BeforeValidator(_number)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ApplicationSection(_Section):
    """What the application is called, and how many partitions it has for ever."""

    name: Annotated[str, _shaped("application")]
    version: Annotated[str, _shaped("version")]
    partitions: Annotated[int, Field(ge=1, le=PARTITIONS_MAX)]


class CheckSection(_Section):
    """Bounds on a field, inclusive."""

    min: Number | None = None
    max: Number | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "CheckSection":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class RecordSection(_Section):
    """A kind of record."""

    schema_: Annotated[File, Field(alias="schema")]
    kind: Literal["singleton", "operational"]
    checks: dict[str, CheckSection] = {}


class CommandSection(_Section):
    """A command: its arguments, who decides it, and the shape of its result."""

    args: File
    run: Function
    result: File | None = None


class ViewSection(_Section):
    """A read model. No key columns: one row in each workspace."""

    row: File
    key: Annotated[list[Annotated[str, _shaped("column")]], Field(max_length=KEY_COLUMNS_MAX)]


class ProjectorSection(_Section):
    """Who writes a view, and on what."""

    on: Annotated[list[Annotated[str, _shaped("event")]], Field(min_length=1, max_length=TYPES_MAX)]
    writes: Annotated[list[Name], Field(min_length=1, max_length=TYPES_MAX)]
    run: Function
    revision: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1


class ExtensionSection(_Section):
    """User code: either a WASM module or a trusted Python class."""

    wasm: File | None = None
    python: Annotated[str, _shaped("class")] | None = None
    time_ms: Annotated[int, Field(ge=1, le=COMMAND_TIME_MS_MAX)] = COMMAND_TIME_MS_DEFAULT
    memory_kib: Annotated[int, Field(ge=1, le=GUEST_MEMORY_KIB_MAX)] = GUEST_MEMORY_KIB_DEFAULT

    @model_validator(mode="after")
    def _one_kind(self) -> "ExtensionSection":
        if (self.wasm is None) == (self.python is None):
            raise ValueError("must have either wasm = FILE or python = MODULE:CLASS")
        return self


class Manifest(_Section):
    """application.toml."""

    application: ApplicationSection
    records: Annotated[dict[Name, RecordSection], Field(max_length=TYPES_MAX)] = {}
    commands: Annotated[dict[Name, CommandSection], Field(max_length=TYPES_MAX)] = {}
    views: Annotated[dict[Name, ViewSection], Field(max_length=TYPES_MAX)] = {}
    projectors: Annotated[dict[Name, ProjectorSection], Field(max_length=TYPES_MAX)] = {}
    extensions: Annotated[dict[Name, ExtensionSection], Field(max_length=TYPES_MAX)] = {}


_SECTIONS: dict[str, type[_Section]] = {
    "records": RecordSection,
    "commands": CommandSection,
    "views": ViewSection,
    "projectors": ProjectorSection,
    "extensions": ExtensionSection,
}


def parse_manifest(text: str, file: str = MANIFEST_FILE) -> Manifest:
    """Parse a manifest; raise ApplicationError E1101 (not TOML) or E1102 (all that is wrong)."""
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as fault:
        message, _, place = str(fault).partition(" (at ")
        line = re.match(r"line (\d+)", place)
        where = {"line": line[1]} if line else {}
        raise ApplicationError(
            "E1101", f"not TOML: {message}", "Mend that line", file=file, **where
        ) from fault
    try:
        return Manifest.model_validate(raw)
    except ValidationError as fault:
        raise wrong(file, [_problem(error) for error in fault.errors()]) from fault


def wrong(file: str, problems: list[tuple[str, str]]) -> ApplicationError:
    """Return the error E1102 for (key, what is wrong) pairs, all of them at once."""
    assert problems
    if len(problems) == 1:
        key, message = problems[0]
        return ApplicationError("E1102", message, file=file, key=key)
    lines = "\n".join(f"  {key}: {message}" for key, message in problems)
    return ApplicationError("E1102", f"\n{lines}\nThese are {len(problems)} errors", file=file)


def did_you_mean(name: str, known: list[str]) -> str:
    """Return a hint at the known name that `name` resembles, or all of them if they are few."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(known)}" if 0 < len(known) <= 8 else ""


def _problem(error: Any) -> tuple[str, str]:
    """Return (key, what is wrong) of one of pydantic's errors."""
    path = [part for part in error["loc"] if part != "[key]"]
    key = ".".join(str(part) for part in path)
    if error["type"] == "extra_forbidden":
        return key, f"unknown key{did_you_mean(str(path[-1]), _known(path))}"
    if error["type"] == "missing":
        return key, "is missing"
    message = cast("str", error["msg"]).removeprefix("Value error, ")
    message = message.replace("Input should be", "must be")
    if error["type"] == "value_error" or isinstance(error["input"], dict):
        return key, message
    return key, f"{message}, not {error['input']!r}"


def _known(path: list[Any]) -> list[str]:
    """Return the keys that are allowed beside the last one of `path`."""
    section: type[_Section] = Manifest
    if len(path) == 2 and path[0] == "application":
        section = ApplicationSection
    elif len(path) == 3:
        section = _SECTIONS.get(path[0], Manifest)
    elif len(path) == 5:
        section = CheckSection
    return [info.alias or name for name, info in section.model_fields.items()]
