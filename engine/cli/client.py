"""HTTP as the command line uses it: one node's address, its token, its problems as errors."""

from collections.abc import Mapping
from typing import Annotated, Any, cast
from urllib.parse import quote

import typer

from engine.cli import output
from engine.errors import CATALOG, EngineError, UnavailableError
from engine.settings import load_settings

TIMEOUT_S = 60

Url = Annotated[
    str, typer.Option("--url", envvar="PARTITA_URL", help="Base URL of a running node.")
]
URL = "http://127.0.0.1:8080"
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Workspace = Annotated[str, typer.Option("--workspace", "-w", help="The workspace.")]


class Answer(dict[str, Any]):
    """A response's body, and its status."""

    status: int = 0

    @property
    def refused(self) -> bool:
        """Return whether it is a problem."""
        return self.status >= 400


def path_of(*parts: str) -> str:
    """Return a path of segments, each of which may hold any character."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def headers_of() -> dict[str, str]:
    """Return the headers every request carries: the token from the settings, if there is one."""
    token = load_settings().http.token
    return {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}


def call(
    url: str,
    method: str,
    path: str,
    *,
    params: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
) -> Answer:
    """Ask the node; raise UnavailableError E1406 if nobody answers."""
    import httpx  # noqa: PLC0415 - it loads slowly, and most words don't need it

    given = {name: value for name, value in (params or {}).items() if value is not None}
    try:
        with httpx.Client(base_url=url, headers=headers_of(), timeout=TIMEOUT_S) as client:
            response = client.request(
                method, path, params=given, headers=dict(headers or {}), content=content
            )
    except (httpx.TransportError, httpx.InvalidURL) as fault:
        hint = "Start a node with `partita dev FOLDER`, or name its address with --url"
        raise UnavailableError("E1406", f"no answer: {fault}", hint, url=url) from fault
    answer = Answer(_body(response.content))
    answer.status = response.status_code
    return answer


def _body(content: bytes) -> dict[str, Any]:
    import orjson  # noqa: PLC0415 - see above

    try:
        body = orjson.loads(content)
    except ValueError:
        return {"detail": content[:1_000].decode(errors="replace")}
    return cast("dict[str, Any]", body) if isinstance(body, dict) else {"items": body}


def get(url: str, path: str, **params: Any) -> Answer:
    """Query the node; a problem ends the command with its text."""
    answer = call(url, "GET", path, params=params)
    if answer.refused:
        fail(answer)
    return answer


def fail(answer: Answer) -> None:
    """End the command with a problem: the engine's own codes as errors, others with status 1."""
    code = str(answer.get("code", answer.status))
    detail = str(answer.get("detail", "the node refused the request"))
    hint = str(answer.get("hint", ""))
    if code in CATALOG:
        kind = UnavailableError if code.startswith("E14") else EngineError
        raise kind(code, detail, hint)
    output.fault(f"{code}: {'. '.join(part.rstrip('.') for part in (detail, hint) if part)}")
    raise typer.Exit(1)
