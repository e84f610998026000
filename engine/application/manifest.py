"""The manifest, application.toml: reads it, and tells every error in it at once.

Owns the words of its errors. What its sections may hold is said in `application.sections`;
whether it fits the schemas and extensions beside it, in `application.building`.
"""

import difflib
import re
import tomllib
from typing import Any, cast

from pydantic import ValidationError

from engine.application.sections import (
    SECTIONS,
    ApplicationSection,
    CheckSection,
    Manifest,
    Section,
)
from engine.errors import ApplicationError

MANIFEST_FILE = "application.toml"


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
    section: type[Section] = Manifest
    if len(path) == 2 and path[0] == "application":
        section = ApplicationSection
    elif len(path) == 3:
        section = SECTIONS.get(path[0], Manifest)
    elif len(path) == 5:
        section = CheckSection
    return [info.alias or name for name, info in section.model_fields.items()]
