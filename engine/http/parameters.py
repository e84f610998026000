"""What a request says, read strictly: an unknown or mistyped part is an error, never ignored.

Owns paths, query parameters, key columns as text, cursors and bodies. Knows no node.
"""

import base64
import binascii
import math
import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import orjson
from starlette.datastructures import Headers
from starlette.requests import Request

from engine.application import forms
from engine.application.schema import SchemaMismatch
from engine.application.types import Field, KeyColumn
from engine.http.problems import HttpCode, Problem
from engine.limits import (
    HTTP_BODY_BYTES_MAX,
    QUERY_LIMIT_DEFAULT,
    QUERY_LIMIT_MAX,
    WORKSPACE_BYTES_MAX,
)

# A slash inside a segment travels as %2F. Behind the split it is a NUL until `segment` turns it
# back, for a path may hold no NUL of its own.
_SLASH = "\x00"
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_LONG_MIN, _LONG_MAX = -(1 << 63), (1 << 63) - 1

_COLUMN = Field(0, "", "long", nullable=False, logical="", has_default=False, default=None)
_COLUMNS = {
    "long": _COLUMN,
    "date": replace(_COLUMN, kind="int", logical="date"),
    "time": replace(_COLUMN, logical="timestamp-millis"),
    "double": replace(_COLUMN, kind="double"),
    "string": replace(_COLUMN, kind="string"),
    "bytes": replace(_COLUMN, kind="bytes"),
    "boolean": replace(_COLUMN, kind="boolean"),
}


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


def bad(name: str, why: str) -> Problem:
    """Return the problem of a parameter's value."""
    return Problem(400, HttpCode.INVALID_PARAMETER, f"{name}: {why}", field=name)


def integer(name: str, text: str, least: int = _LONG_MIN, most: int = _LONG_MAX) -> int:
    """Return a whole number from text."""
    if _INTEGER.fullmatch(text) is None or not least <= int(text) <= most:
        raise bad(name, f"must be a whole number from {least} to {most}")
    return int(text)


def limit(given: dict[str, str]) -> int:
    """Return how many entries the request wants."""
    text = given.get("limit", str(QUERY_LIMIT_DEFAULT))
    return integer("limit", text, 1, QUERY_LIMIT_MAX)


def key_prefix(columns: tuple[KeyColumn, ...], given: dict[str, str]) -> list[object]:
    """Return the values of a view's first key columns; a gap between them is an error."""
    prefix: list[object] = []
    for at, column in enumerate(columns):
        if column.name not in given:
            for later in columns[at + 1 :]:
                if later.name in given:
                    raise bad(later.name, f"needs {column.name}, which comes before it in the key")
            break
        prefix.append(_column(column, given[column.name]))
    return prefix


def _column(column: KeyColumn, text: str) -> object:
    kind = column.kind
    if kind == "long":
        return integer(column.name, text)
    if kind == "boolean":
        if text not in {"true", "false"}:
            raise bad(column.name, "must be true or false")
        return text == "true"
    if kind == "double":
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise bad(column.name, "must be a number")
        return number
    try:
        return forms.value_from_json(_COLUMNS[kind], text)
    except SchemaMismatch as mismatch:
        raise bad(column.name, mismatch.message) from None


def column_json(kind: str, value: object) -> Any:
    """Return a key column's value as JSON."""
    return forms.value_to_json(_COLUMNS[kind], value)


def cursor_text(cursor: bytes | None) -> str | None:
    """Return a cursor as a parameter's text."""
    return None if cursor is None else base64.urlsafe_b64encode(cursor).decode().rstrip("=")


def cursor(given: dict[str, str]) -> bytes | None:
    """Return the cursor that `after` names."""
    text = given.get("after")
    if text is None:
        return None
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise bad("after", "is not a cursor that a page's `next` has given") from None


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
