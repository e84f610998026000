"""What every handler is given: the node, and the little that HTTP itself keeps.

Owns waiting for the node's futures, always bounded.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from engine import limits
from engine.errors import EngineError, UnavailableError
from engine.http.metrics import NodeMetrics
from engine.http.problems import HttpCode, Problem, from_error
from engine.model import Lookup
from engine.node.api import NodeApi
from engine.partition.reading import PartitionReader
from engine.ports import Clock, Random
from engine.settings import HttpSettings
from engine.telemetry import Slowest
from engine.telemetry.traces import NoTraces, Traces
from engine.world import SystemClock, SystemRandom, uuid7

T = TypeVar("T")


class Json(Response):
    """A JSON response."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode the content."""
        return orjson.dumps(content)


async def called(work: Callable[[], T], *, brief: bool) -> T:
    """Return what `work` returns: at once if it is brief, else from another thread.

    While commands are decided, a thread waits for the interpreter each time that it is woken, and
    a way there and back wakes two. A store's calls keep the interpreter, whoever makes them.
    """
    return work() if brief else await run_in_threadpool(work)


@dataclass(slots=True)
class Waits:
    """How long a request waits; tests make it short."""

    outcome_ms: int = limits.REQUEST_WAIT_MS
    sequence_ms: int = limits.SEQUENCE_WAIT_MS
    heartbeat_ms: int = limits.SUBSCRIPTION_HEARTBEAT_MS
    send_ms: int = limits.SUBSCRIPTION_SEND_MS


@dataclass(slots=True)
class Context:
    """What handlers share."""

    node: NodeApi
    settings: HttpSettings
    metrics: NodeMetrics
    traces: Traces | NoTraces = field(default_factory=NoTraces)
    waits: Waits = field(default_factory=Waits)
    clock: Clock = field(default_factory=SystemClock)
    random: Random = field(default_factory=SystemRandom)
    slowest: Slowest = field(default_factory=Slowest)

    async def wait(self, future: "Future[T]", wait_ms: int, **told: Any) -> T:
        """Return a future's result, or raise the problem that says why there is none.

        Not in time is never "rejected": the command may still be decided, so the problem says
        to ask again. `told` goes into that problem.
        """
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), wait_ms / 1_000)
        except TimeoutError:
            raise Problem(
                503,
                HttpCode.TIMED_OUT,
                f"no answer within {wait_ms} ms",
                "It may still happen: ask again with the same Idempotency-Key",
                **told,
            ) from None
        except EngineError as error:
            problem = self.problem(error)
            problem.more |= told
            raise problem from None

    def ask(self, call: Callable[[], T], **told: Any) -> T:
        """Return what the node answers, or raise the problem of its refusal."""
        try:
            return call()
        except EngineError as error:
            problem = self.problem(error)
            problem.more |= told
            raise problem from None

    async def event(self, partition: int, offset: int | None) -> bytes | None:
        """Return the value of a record of the event log; None if it is gone."""
        if offset is None:
            return None
        asking = self.ask(lambda: self.node.event(partition, offset))
        found = await self.wait(asking, self.waits.sequence_ms, partition=partition)
        return None if isinstance(found, Lookup) else found.value

    async def read(
        self,
        partition: int,
        work: Callable[[PartitionReader], T],
        *,
        stale: bool = False,
        brief: bool = False,
    ) -> T:
        """Return what `work` makes of a consistent picture; off the event loop unless `brief`."""

        def run() -> T:
            reader = self.node.reader(partition, stale=stale)
            try:
                return work(reader)
            finally:
                reader.close()

        try:
            return await called(run, brief=brief)
        except UnavailableError as error:
            error.where.setdefault("partition", partition)
            raise self.problem(error) from None

    async def reach(self, partition: int, sequence: int, *, stale: bool = False) -> None:
        """Wait until the partition has applied `sequence`; a problem if it takes too long."""
        if sequence > 0:
            asking = self.ask(lambda: self.node.wait_sequence(partition, sequence, stale=stale))
            await self.wait(asking, self.waits.sequence_ms, partition=partition)

    def new_id(self) -> str:
        """Return a new command id as text."""
        made = uuid7(self.clock.now_ms(), self.random.bytes(10))
        return str(UUID(bytes=made))

    def problem(self, error: EngineError) -> Problem:
        """Return the problem of an engine error."""
        return from_error(error, self.node.progress())
