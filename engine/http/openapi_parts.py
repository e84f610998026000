"""Parts that the operations of the OpenAPI document share: parameters, responses, problems."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from engine import limits
from engine.application.types import Field, KeyColumn
from engine.errors import CATALOG, Code
from engine.http.criteria import RESERVED
from engine.http.openapi_schemas import COLUMNS, COUNT, Schema, sample, where_schema
from engine.http.problems import MEDIA_TYPE, STATUS, HttpCode, Problem

Codes = dict[str, str]  # code -> an example's detail


def compact(value: Any) -> str:
    """Return a value as JSON in one line."""
    return orjson.dumps(value).decode()


def ref(name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def parameter(
    name: str, where: str, schema: Schema, text: str, *, required: bool = False
) -> dict[str, Any]:
    """Return a parameter."""
    return {
        "name": name,
        "in": where,
        "required": required or where == "path",
        "schema": schema,
        "description": text,
    }


WORKSPACE = parameter(
    "workspace",
    "path",
    {
        "type": "string",
        "minLength": 1,
        "maxLength": limits.WORKSPACE_BYTES_MAX,
        "examples": ["main-street"],
    },
    "The client's key: 1 to 256 bytes of UTF-8, percent-encoded.",
)
MIN_SEQUENCE = parameter(
    "min_sequence",
    "query",
    COUNT,
    "Answer from this sequence of the partition on: read your own writes.",
)
STALE = parameter(
    "stale",
    "query",
    {"const": "ok"},
    "Take the answer of a node that stands by: old, perhaps, but there during a change of owner.",
)
LIMIT = parameter(
    "limit",
    "query",
    {
        "type": "integer",
        "minimum": 1,
        "maximum": limits.QUERY_LIMIT_MAX,
        "default": limits.QUERY_LIMIT_DEFAULT,
    },
    "At most so many entries.",
)
AFTER = parameter(
    "after", "query", {"type": "string"}, "An earlier page's `next`, of the same query."
)
INACTIVE = parameter("inactive", "query", {"type": "boolean"}, "true: inactive records, too.")
LAST_EVENT_ID = parameter(
    "Last-Event-ID",
    "header",
    {"type": "string", "pattern": "^[0-9]{1,18}(-[0-9]{1,10}){0,2}$"},
    "The id of the last event that was taken: go on from there.",
)


def columns(key: Sequence[KeyColumn]) -> list[dict[str, Any]]:
    """Return the parameters of key columns: their values, and bounds of the next one."""
    found: list[dict[str, Any]] = []
    for at, column in enumerate(key):
        if column.name in RESERVED:
            continue
        kind = COLUMNS[column.kind]
        behind = "; needs the columns before it" if at else ""
        one = f"Rows with this key column{behind}."
        found += [
            parameter(column.name, "query", kind, one),
            parameter(f"{column.name}.from", "query", kind, f"From this value on{behind}."),
            parameter(f"{column.name}.to", "query", kind, f"Up to and with this value{behind}."),
        ]
    return found


def where(fields: Mapping[str, Field]) -> dict[str, Any]:
    """Return the parameter of conditions."""
    return {
        "name": "where",
        "in": "query",
        "required": False,
        "description": 'Conditions, all of which must hold: {"count": {"ge": 1}}. Those below one '
        'list or nested type, as {"lines.item": 7, "lines.count": {"ge": 2}}, must hold of one and '
        "the same of its records.",
        "content": {"application/json": {"schema": where_schema(fields)}},
    }


def order(fields: Mapping[str, Field]) -> dict[str, Any]:
    """Return the parameter of an order."""
    names = [name for name, field in fields.items() if field.kind != "array"]
    text = "Fields, separated by commas, - before one turns it round."
    schema: Schema = {"type": "string", "examples": [f"-{name}" for name in names[:1]]}
    return parameter("order", "query", schema if names else {"type": "string"}, text)


def keys(fields: Iterable[str]) -> dict[str, Any]:
    """Return the parameter of a projection."""
    schema: Schema = {"type": "string"}
    listed = list(fields)[:2]
    if listed:
        schema["examples"] = [",".join(listed)]
    text = "What is wanted of each entry, separated by commas; below a list as `lines.item`."
    return parameter("keys", "query", schema, text)


_TEXTS = {
    400: "The request is wrong; `code` and `field` say where.",
    401: "The token is missing or wrong.",
    404: "There is no such thing; `code` says which.",
    409: "It contradicts what is there; `code` says how.",
    410: "It is gone: `code` says what.",
    413: "Too large.",
    415: "The body is not application/json.",
    421: "Without a token, a node on loopback answers for localhost only.",
    422: "The command was rejected, `sequence` says where it is recorded; or a query is too wide.",
    429: "Too much is waiting; try again after Retry-After.",
    500: "A fault inside the engine.",
    503: "Not now; the same request may be tried again after Retry-After.",
}
_ALWAYS: dict[int, Codes] = {
    400: {
        HttpCode.INVALID_PARAMETER: "limit: must be a whole number from 1 to 1000",
        HttpCode.UNKNOWN_PARAMETER: "there is no parameter 'x'",
        HttpCode.INVALID_PATH: "the path is not UTF-8",
        HttpCode.INVALID_HEADER: "Content-Length is not a number",
    },
    401: {HttpCode.UNAUTHORIZED: "the request carries no valid token"},
    421: {HttpCode.UNKNOWN_HOST: "this node answers for localhost only"},
    429: {"E1403": "too many requests are being answered"},
    500: {"E1405": "a fault inside the engine"},
    503: {
        "E1402": "no node is known to own the partition now",
        HttpCode.TIMED_OUT: "no answer within 5000 ms",
    },
}
OF_WORKSPACES: dict[int, Codes] = {
    404: {Code.UNKNOWN_WORKSPACE: "there is no workspace 'main-street'"},
    410: {Code.WORKSPACE_GONE: "the workspace 'main-street' is gone"},
}
OF_QUERIES: dict[int, Codes] = {
    404: {
        **OF_WORKSPACES[404],
        Code.NOT_IN_WORKSPACE: "a workspace of this kind has no such type",
    },
    410: OF_WORKSPACES[410],
    422: {HttpCode.QUERY_TOO_WIDE: "more than 10000 rows would have to be looked at"},
}
OF_STREAMS: dict[int, Codes] = {
    429: {HttpCode.TOO_MANY_SUBSCRIPTIONS: "1000 streams are open on this node"}
}
_REFUSED = (
    *(Code.REQUIRED, Code.CHECK_FAILED, Code.INVALID_REFERENCE, Code.UNIQUE_CHANGED),
    *(Code.TOO_FEW, Code.TOO_MANY, Code.TOO_MANY_CHANGES, Code.INACTIVE_RECORD),
    *(Code.INVALID_ID, Code.UNKNOWN_RECORD, Code.EXPIRED, Code.EXTENSION_TRAPPED),
    *(Code.TIME_EXCEEDED, Code.MEMORY_EXCEEDED, Code.ABI_MISUSED, Code.UNDECLARED_CODE),
    *(Code.SCAN_TOO_WIDE, Code.SWITCHED_OFF, Code.ID_TOO_NEW),
)


def of_commands(errors: Mapping[str, str]) -> dict[int, Codes]:
    """Return the problems of a command, its own declared errors first."""
    found: dict[int, Codes] = {
        400: {
            Code.INVALID_ARGUMENTS: "count: is missing",
            HttpCode.INVALID_BODY: "the body must be a JSON object",
        },
        404: {**OF_QUERIES[404], Code.UNKNOWN_COMMAND: "there is no command 'x'"},
        410: OF_WORKSPACES[410] | {Code.ID_EXPIRED: "it may have been decided long ago"},
        413: {HttpCode.BODY_TOO_LARGE: "the body has more than 262144 bytes"},
        415: {HttpCode.UNSUPPORTED_MEDIA_TYPE: "the body is text/plain"},
        422: {**errors, **{code: code.replace("_", " ") for code in _REFUSED}},
    }
    for code, status in STATUS.items():
        found.setdefault(status, {}).setdefault(code, code.replace("_", " "))
    return found


def responses(success: Mapping[str, Any], *own: Mapping[int, Codes]) -> dict[str, Any]:
    """Return the responses of an operation: those that all have, and its own."""
    answers = dict(success)
    joined: dict[int, Codes] = {}
    for codes in (*own, _ALWAYS):
        for status, listed in codes.items():
            joined.setdefault(status, {}).update(listed)
    for status in sorted(joined):
        if str(status) in answers:
            continue
        answers[str(status)] = _problems(status, joined[status])
    return answers


def _problems(status: int, codes: Codes) -> dict[str, Any]:
    examples = {
        str(code): {"summary": _summary(code), "value": Problem(status, code, detail).body()}
        for code, detail in codes.items()
    }
    text = f"{_TEXTS[status]} Codes: {', '.join(sorted(codes))}."
    if status == 422 and len(codes) > 1:
        text += " An extension may have others, unless its command declares its errors."
    answer: dict[str, Any] = {
        "description": text,
        "content": {MEDIA_TYPE: {"schema": ref("Problem"), "examples": examples}},
    }
    if status in {429, 503}:
        answer["headers"] = {
            "Retry-After": {"schema": {"type": "integer"}, "description": "In seconds."}
        }
    return answer


def _summary(code: str) -> str:
    return CATALOG[code][0] if code in CATALOG else code.replace("_", " ")


def answer(schema: Schema, text: str, components: Mapping[str, Schema]) -> dict[str, Any]:
    """Return a JSON response with an example made from its schema."""
    content = {"schema": schema, "example": sample(schema, components)}
    return {"description": text, "content": {"application/json": content}}


PICTURE_HEADERS: dict[str, Any] = {
    "Partita-Partition": {"schema": COUNT, "description": "The workspace's partition."},
    "Partita-Sequence": {"schema": COUNT, "description": "The sequence of the picture."},
    "Partita-Stale": {
        "schema": {"const": "true"},
        "description": "Only where a node answered that stands by.",
    },
}
