"""Plays a recording through a node's HTTP interface: for the embedded log, or to measure HTTP.

Commands of one workspace wait for each other, as their order matters; their latency counts from
when they were due all the same, so waiting shows.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import orjson

from engine.application import Application, schema
from engine.application.types import RecordSchema
from engine.errors import ConfigError
from engine.limits import REPLAY_CONNECTIONS_MAX
from engine.load.recording import Recorded
from engine.load.replay_log import Plan
from engine.load.result import Result
from engine.load.rewrite import Sendable

_BACKLOG_PER_CONNECTION = 128
_RETRY_S = 0.2
_BUSY = frozenset({429, 502, 503, 504})


class Request(NamedTuple):
    """A command as HTTP takes it."""

    workspace: str
    path: str
    body: bytes
    headers: dict[str, str]
    due_ns: int  # 0 = at once: the latency counts from the first sending


class HttpReplay:
    """One run against the HTTP interface of a node.

    Each client serves one request at a time: a pool of connections looks at all of them for each
    request, which would make the replay its own bottleneck.
    """

    def __init__(
        self,
        clients: Sequence[httpx.AsyncClient],
        plan: Plan,
        result: Result,
        application: Application | None,
    ) -> None:
        self._plan = plan
        self._result = result
        self._schemas = _args_schemas(application)
        self._last: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: asyncio.Queue[httpx.AsyncClient] = asyncio.Queue(len(clients))
        for client in clients:
            self._idle.put_nowait(client)
        self._room = asyncio.Semaphore(REPLAY_CONNECTIONS_MAX * _BACKLOG_PER_CONNECTION)

    async def run(
        self, commands: Iterator[Recorded], progress: Callable[[Result], None] = lambda _: None
    ) -> Result:
        """Play all commands; return when the last one is answered or waited for in vain."""
        start_ns = time.perf_counter_ns()
        for index, recorded in enumerate(commands):
            due_ns = start_ns + self._plan.pace.due_ns(index, recorded.time_ms)
            ahead_ns = due_ns - time.perf_counter_ns()
            if ahead_ns > 0:
                await asyncio.sleep(ahead_ns / 1e9)
            await self._room.acquire()
            self._start(recorded, 0 if self._plan.pace.unpaced else due_ns)
            progress(self._result)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._plan.drain_ms / 1_000)
            self._result.missing += len(late)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._result.duration_ms = (time.perf_counter_ns() - start_ns) / 1_000_000
        progress(self._result)
        return self._result

    def _start(self, recorded: Recorded, due_ns: int) -> None:
        sendable = self._plan.rewriter.rewrite(recorded)
        request = self._request(recorded.key, sendable, due_ns)
        if request is None:
            self._result.failed += 1  # HTTP takes well-formed commands only
            self._room.release()
            return
        self._result.sent += 1
        task = asyncio.create_task(self._in_order(request, self._last.get(request.workspace)))
        self._last[request.workspace] = task
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(request.workspace, done))

    def _done(self, workspace: str, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._room.release()
        if self._last.get(workspace) is task:
            del self._last[workspace]

    async def _in_order(self, request: Request, before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await asyncio.wait([before])
        await self._send(request)

    async def _send(self, request: Request) -> None:
        """Send until there is an answer: the same id again is safe, and is what clients do."""
        due_ns, give_up_ns = request.due_ns, 0
        while True:
            client = await self._idle.get()
            due_ns = due_ns or time.perf_counter_ns()
            give_up_ns = give_up_ns or time.perf_counter_ns() + self._plan.drain_ms * 1_000_000
            try:
                response = await client.post(
                    request.path, content=request.body, headers=request.headers
                )
            except httpx.TransportError:
                response = None
            finally:
                self._idle.put_nowait(client)
            if response is not None and response.status_code not in _BUSY:
                self._answer(response, time.perf_counter_ns() - due_ns)
                return
            if time.perf_counter_ns() > give_up_ns:
                self._result.missing += 1
                return
            self._result.retried += 1
            await asyncio.sleep(_RETRY_S)

    def _answer(self, response: httpx.Response, latency_ns: int) -> None:
        try:
            body: dict[str, Any] = response.json()
        except ValueError:
            body = {}
        if response.is_success:
            self._result.answer("", latency_ns)
        elif body.get("sequence"):
            self._result.answer(str(body.get("code", response.status_code)), latency_ns)
        else:
            self._result.refused += 1

    def _request(self, key: bytes | None, sendable: Sendable, due_ns: int) -> Request | None:
        try:
            found = self._arguments(sendable)
            workspace = key.decode() if key else ""
        except ValueError:
            return None
        if not workspace or found is None:
            return None
        name, args, expected = found
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": str(uuid.UUID(bytes=sendable.command_id)),
        }
        if expected is not None:
            headers["Expected-Sequence"] = str(expected)
        path = f"/v1/workspaces/{quote(workspace, safe='')}/commands/{quote(name, safe='')}"
        return Request(workspace, path, orjson.dumps(args), headers, due_ns)

    def _arguments(self, sendable: Sendable) -> tuple[str, Any, int | None] | None:
        if sendable.json is not None:
            fields = sendable.json
            return str(fields.get("name")), fields.get("args"), fields.get("expected_sequence")
        if sendable.envelope is None:
            return None
        fields = sendable.envelope
        args = self._schemas.get(fields["args_schema"])
        if args is None:
            raise ConfigError(
                "E1001",
                f"the schema of the arguments of `{fields['name']}` is not known",
                "Name the application's folder: HTTP takes JSON, the recording holds Avro",
                flag="--application",
            )
        decoded = schema.to_json(args, schema.decode(args, fields["args"]))
        return fields["name"], decoded, fields["expected_sequence"]


def _args_schemas(application: Application | None) -> dict[int, RecordSchema]:
    commands = application.commands.values() if application else ()
    return {command.args.fingerprint: command.args for command in commands}
