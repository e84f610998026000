"""What a request says, read strictly: an unknown or mistyped part is an error, never ignored.

Owns paths, query parameters, key columns as text, and bodies. Knows no node.
"""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import orjson
from starlette.datastructures import Headers
from starlette.requests import Request

from engine.application import forms
from engine.application.schema import SchemaMismatch
from engine.application.types import KeyColumn
from engine.http.problems import HttpCode, Problem
from engine.limits import (
    HTTP_BODY_BYTES_MAX,
    QUERY_LIMIT_DEFAULT,
    QUERY_LIMIT_MAX,
    WORKSPACE_BYTES_MAX,
)
from engine.partition.selection import COLUMN_FIELDS

# A slash inside a segment travels as %2F. Behind the split it is a NUL until `segment` turns it
# back, for a path may hold no NUL of its own.
_SLASH = "\x00"
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_LONG_MIN, _LONG_MAX = -(1 << 63), (1 << 63) - 1


def routing_path(raw_path: bytes) -> str:
    """Return the path to route by: decoded strictly, segment by segment."""
    try:
        parts = [unquote_to_bytes(part).decode() for part in raw_path.split(b"/")]
    except UnicodeDecodeError:
        raise Problem(400, HttpCode.INVALID_PATH, "the path is not UTF-8") from None
    if any(_SLASH in part for part in parts):
        raise Problem(400, HttpCode.INVALID_PATH, "the path has a NUL")
    return "/".join(part.replace("/", _SLASH) for part in parts)


def segment(request: Request, name: str) -> str:
    """Return a path parameter as the client meant it."""
    return str(request.path_params[name]).replace(_SLASH, "/")


def workspace_of(request: Request) -> str:
    """Return the request's workspace."""
    workspace = segment(request, "workspace")
    if not 1 <= len(workspace.encode()) <= WORKSPACE_BYTES_MAX:
        raise Problem(
            400,
            HttpCode.INVALID_WORKSPACE,
            f"a workspace is 1 to {WORKSPACE_BYTES_MAX} bytes of UTF-8",
        )
    return workspace


def query(request: Request, allowed: Collection[str] = ()) -> dict[str, str]:
    """Return the query parameters; an unknown or repeated one is an error."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in allowed:
            known = f"Parameters are: {', '.join(allowed)}" if allowed else "It takes none"
            raise Problem(400, HttpCode.UNKNOWN_PARAMETER, f"there is no parameter {name!r}", known)
        if name in given:
            raise bad(name, "is given twice")
        given[name] = value
    return given


def allows_stale(request: Request) -> bool:
    """Return True when the client takes an answer of a node that only stands by."""
    given = request.query_params.get("stale")
    if given not in {None, "ok"}:
        raise bad("stale", "takes the value ok")
    return given is not None


def bad(name: str, why: str) -> Problem:
    """Return the problem of a parameter's value."""
    return Problem(400, HttpCode.INVALID_PARAMETER, f"{name}: {why}", field=name)


def integer(name: str, text: str, least: int = _LONG_MIN, most: int = _LONG_MAX) -> int:
    """Return a whole number from text."""
    if _INTEGER.fullmatch(text) is None or not least <= int(text) <= most:
        raise bad(name, f"must be a whole number from {least} to {most}")
    return int(text)


def limit(given: Mapping[str, str]) -> int:
    """Return how many entries the request wants."""
    text = given.get("limit", str(QUERY_LIMIT_DEFAULT))
    return integer("limit", text, 1, QUERY_LIMIT_MAX)


def boolean(name: str, text: str) -> bool:
    """Return a truth value from text."""
    if text not in {"true", "false"}:
        raise bad(name, "must be true or false")
    return text == "true"


def column_value(column: KeyColumn, text: str, name: str = "") -> object:
    """Return a key column's value from text; `name` is the parameter, by default the column."""
    kind, name = column.kind, name or column.name
    if kind == "long":
        return integer(name, text)
    if kind == "boolean":
        return boolean(name, text)
    if kind == "double":
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise bad(name, "must be a number")
        return number
    try:
        return forms.value_from_json(COLUMN_FIELDS[kind], text)
    except SchemaMismatch as mismatch:
        raise bad(name, mismatch.message) from None


def check_media_type(headers: Headers) -> None:
    """Refuse a body that doesn't say it is JSON: browsers can send others without asking."""
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Problem(
            415,
            HttpCode.UNSUPPORTED_MEDIA_TYPE,
            f"the body is {media or 'of no named type'}",
            "Send Content-Type: application/json",
            {"Accept": "application/json"},
        )


async def body_bytes(request: Request) -> bytes:
    """Return the body, never more than the bound in memory."""
    declared = request.headers.get("content-length", "0")
    if not declared.isascii() or not declared.isdigit() or len(declared) > 19:
        raise Problem(400, HttpCode.INVALID_HEADER, "Content-Length is not a number")
    taken = bytearray()
    if int(declared) <= HTTP_BODY_BYTES_MAX:
        async for part in request.stream():
            taken += part
            if len(taken) > HTTP_BODY_BYTES_MAX:
                break
        else:
            return bytes(taken)
    raise Problem(
        413, HttpCode.BODY_TOO_LARGE, f"the body has more than {HTTP_BODY_BYTES_MAX} bytes"
    )


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a body; an empty body is an empty object."""
    try:
        value = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as fault:
        raise Problem(400, HttpCode.INVALID_BODY, f"the body is not JSON: {fault}") from None
    if not isinstance(value, dict):
        raise Problem(400, HttpCode.INVALID_BODY, "the body must be a JSON object")
    return cast("dict[str, Any]", value)
