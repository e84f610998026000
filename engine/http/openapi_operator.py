"""The part of the OpenAPI document about operating a node."""

from collections.abc import Mapping
from typing import Any

from engine.http.openapi_parts import Codes, answer, responses
from engine.http.openapi_schemas import COUNT, TEXT, Schema, obj
from engine.http.problems import HttpCode

WAITING: Schema = {"type": "object", "additionalProperties": TEXT}
_NODE = obj(
    {
        "node": TEXT,
        "engine": TEXT,
        "format": COUNT,
        "draining": {"type": "boolean"},
        "owned": COUNT,
        "application": TEXT,
        "loaded": TEXT,
        "fingerprint": TEXT,
        "lacking": {"type": "array", "items": TEXT},
        "waiting": WAITING,
    }
)
_FORCE: Schema = {
    "type": "object",
    "properties": {"force": {"type": "boolean", "default": False}},
    "additionalProperties": False,
}
_EMPTY: Schema = {"type": "object", "additionalProperties": False}
_BODIES: dict[int, Codes] = {
    400: {HttpCode.INVALID_BODY: "the body must be a JSON object"},
    413: {HttpCode.BODY_TOO_LARGE: "the body has more than 262144 bytes"},
    415: {HttpCode.UNSUPPORTED_MEDIA_TYPE: "the body is text/plain"},
}
_FOLDERS: dict[int, Codes] = {
    409: {
        "E1101": "application.toml is missing",
        "E1102": "application.version: must be a semantic version",
        "E1103": "credit.avsc is missing",
        "E1104": "bank.wasm is missing",
        "E1105": "the version must be higher than 1.0.0, not 1.0.0",
    },
    503: {"E1401": "the content topic did not take an extension's code"},
}


def operator_paths(components: Mapping[str, Schema]) -> dict[str, Any]:
    """Return the paths below /v1/node."""
    done = answer(_NODE, "The node as it is now.", components)

    def post(name: str, text: str, body: Schema, *own: dict[int, Codes]) -> dict[str, Any]:
        return {
            "post": {
                "operationId": f"{name}_node",
                "summary": text,
                "tags": ["node"],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": body, "example": {}}},
                },
                "responses": responses({"200": done}, _BODIES, *own),
            }
        }

    show = {
        "operationId": "node",
        "summary": "What this node has loaded, what waits, whether it drains",
        "tags": ["node"],
        "responses": responses({"200": done}),
    }
    reload_ = "Load the application's folder anew; it comes into force once every node has it"
    drain = "Let go of every partition, and want none; it goes on behind the answer"
    return {
        "/v1/node": {"get": show},
        "/v1/node/reload": post("reload", reload_, _FORCE, _FOLDERS),
        "/v1/node/drain": post("drain", drain, _EMPTY),
        "/v1/node/resume": post("resume", "Serve partitions again", _EMPTY),
    }
