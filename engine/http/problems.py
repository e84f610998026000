"""Errors over HTTP: RFC 9457 problems with our codes, and which status each code has.

Owns the form of every response that is not a success. A problem says what and what to do; it
never carries a stack trace.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from engine.errors import CATALOG, Code, EngineError, UnavailableError
from engine.model import BuildProgress, Phase, Progress

RETRY_AFTER_S = 1
RETRY_AFTER_MAX_S = 60
MEDIA_TYPE = "application/problem+json"


class HttpCode(StrEnum):
    """Codes of requests that are wrong before any command or query begins."""

    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNAUTHORIZED = "unauthorized"
    UNKNOWN_HOST = "unknown_host"
    INVALID_PATH = "invalid_path"
    INVALID_WORKSPACE = "invalid_workspace"
    INVALID_PARAMETER = "invalid_parameter"
    UNKNOWN_PARAMETER = "unknown_parameter"
    INVALID_HEADER = "invalid_header"
    INVALID_BODY = "invalid_body"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNKNOWN_RECORD_TYPE = "unknown_record_type"
    UNKNOWN_RECORD = "unknown_record"
    UNKNOWN_VIEW = "unknown_view"
    QUERY_TOO_WIDE = "query_too_wide"
    TOO_MANY_SUBSCRIPTIONS = "too_many_subscriptions"
    UNKNOWN_COMMAND_ID = "unknown_command_id"
    GONE = "gone"
    TIMED_OUT = "timed_out"


# What became of a command -> status. Any other code, an extension's own too: 422.
STATUS: Mapping[str, int] = {
    Code.UNKNOWN_COMMAND: 404,
    Code.UNKNOWN_WORKSPACE: 404,
    Code.NOT_IN_WORKSPACE: 404,
    Code.WORKSPACE_EXISTS: 409,
    Code.WORKSPACE_GONE: 410,
    Code.NOT_UNIQUE: 409,
    Code.SEQUENCE_MISMATCH: 409,
    Code.ID_CONFLICT: 409,
    Code.ID_EXPIRED: 410,
    Code.TOO_LARGE: 413,
    Code.OUTCOME_TOO_LARGE: 413,
    Code.DEDUP_FULL: 429,
}
_RETRY = frozenset({429, 503})


class Problem(Exception):  # noqa: N818 - named as RFC 9457 names it
    """A response that is not a success."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        self.headers = dict(headers or {})
        self.more = {name: value for name, value in more.items() if value is not None}

    def body(self) -> dict[str, Any]:
        """Return its JSON object."""
        title = CATALOG[self.code][0] if self.code in CATALOG else _phrase(self.status)
        body: dict[str, Any] = {
            "type": f"/problems/{self.code}",
            "title": title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.hint:
            body["hint"] = self.hint
        return body | self.more

    def response(self) -> Response:
        """Return it as a response."""
        if self.status in _RETRY:
            self.headers.setdefault("Retry-After", str(RETRY_AFTER_S))
        content = orjson.dumps(self.body(), default=str)
        return Response(content, self.status, self.headers, MEDIA_TYPE)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def from_error(error: EngineError, progress: Iterable[Progress] = ()) -> Problem:
    """Return the problem of an engine error; while a partition restores, with its progress."""
    where: dict[str, Any] = {name: value for name, value in error.where.items() if name in _WHERE}
    if not isinstance(error, UnavailableError):
        return Problem(500, error.code, error.message, error.hint, None, **where)
    status = 429 if error.code == "E1403" else 503
    hint = error.hint or CATALOG[error.code][2]
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    for entry in progress:
        if entry.partition == where.get("partition") and entry.phase is not Phase.OWNING:
            where["progress"] = progress_json(entry)
            if entry.eta_s is not None:
                wait_s = min(max(round(entry.eta_s), RETRY_AFTER_S), RETRY_AFTER_MAX_S)
                headers = {"Retry-After": str(wait_s)}
    return Problem(status, error.code, error.message, hint, headers, **where)


_WHERE = frozenset({"partition", "offset", "sequence", "node"})


def progress_json(entry: Progress) -> dict[str, Any]:
    """Return a restore's progress as /health/ready and problems show it."""
    return {
        "partition": entry.partition,
        "phase": entry.phase.value,
        "applied_offset": entry.applied_offset,
        "target_offset": entry.target_offset,
        "records_per_s": round(entry.records_per_s, 1),
        "eta_s": None if entry.eta_s is None else round(entry.eta_s, 1),
    }


def build_json(build: BuildProgress) -> dict[str, Any]:
    """Return a new generation's progress as /v1/partitions shows it."""
    return {
        "view": build.view,
        "generation": build.generation,
        "applied_offset": build.applied_offset,
        "target_offset": build.target_offset,
        "records_per_s": round(build.records_per_s, 1),
        "eta_s": None if build.eta_s is None else round(build.eta_s, 1),
        "problem": build.problem or None,
    }


def explain(code: str) -> dict[str, Any] | None:
    """Return the page behind a problem's `type`, or None for a code that is not the engine's."""
    if code in CATALOG:
        title, why, what = CATALOG[code]
        return {"code": code, "title": title, "why": why, "what_to_do": what}
    known = {entry.value for entry in (*HttpCode, *Code)}
    if code in known:
        return {"code": code, "title": code.replace("_", " "), "status": STATUS.get(code)}
    return None
