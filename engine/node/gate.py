"""The gate: commands that callers of this node wait for, and how many may wait.

Callers come from other threads. Everything here is answered by the shell thread, from confirmed
outcomes only; what becomes of a command after its partition was lost here is not known, and the
caller is told so: trying again with the same id is always safe.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from engine import limits
from engine.errors import UnavailableError
from engine.model import Reply
from engine.ports import CommandSink, ReplySink

Key = tuple[int, bytes]


class Gate:
    """Admits commands up to a bound and hands each waiting caller its reply; a `ReplySink`."""

    def __init__(self, sink: CommandSink, replies: ReplySink) -> None:
        self._sink = sink
        self._replies = replies
        self._lock = threading.Lock()
        self._waiting: dict[Key, list[Future[Reply]]] = defaultdict(list)
        self._publishing: dict[int, tuple[Future[None] | None, Key]] = {}
        self._count = 0
        self.counters = dict.fromkeys(("admitted", "refused", "answered", "abandoned"), 0)

    def submit(
        self, partition: int, workspace: str, command_id: bytes, value: bytes
    ) -> Future[Reply]:
        """Publish a command and return a future of its reply (UnavailableError E1403 when full)."""
        future: Future[Reply] = Future()
        with self._lock:
            self._admit()
            self._waiting[partition, command_id].append(future)
            self._count += 1
            self._publish(partition, workspace, value, None, command_id)
        return future

    def publish(self, partition: int, workspace: str, value: bytes) -> Future[None]:
        """Publish a command and return a future that is done once the log has it."""
        future: Future[None] = Future()
        with self._lock:
            self._admit()
            self._publish(partition, workspace, value, future, b"")
        return future

    def _admit(self) -> None:
        if self._count + len(self._publishing) >= limits.REQUESTS_WAITING_MAX:
            self.counters["refused"] += 1
            raise UnavailableError(
                "E1403",
                f"{limits.REQUESTS_WAITING_MAX} commands are waiting for their outcome here",
                "Try again later with the same Idempotency-Key",
            )
        self.counters["admitted"] += 1

    def _publish(
        self,
        partition: int,
        workspace: str,
        value: bytes,
        future: "Future[None] | None",
        command_id: bytes,
    ) -> None:
        key = (partition, command_id)
        try:
            ticket = self._sink.publish(partition, workspace.encode(), value)
        except UnavailableError:
            self._pop(key)
            raise
        self._publishing[ticket] = (future, key)

    def _pop(self, key: Key) -> "list[Future[Reply]]":
        futures = self._waiting.pop(key, [])
        self._count -= len(futures)
        return futures

    def poll(self) -> bool:
        """Take the reports of published commands; return True if there were any."""
        reports = self._sink.published()
        if not reports:
            return False
        resolved: list[Callable[[], None]] = []
        with self._lock:
            for report in reports:
                future, key = self._publishing.pop(report.ticket, (None, (-1, b"")))
                failed = report.last_offset is None
                if future is not None:
                    resolved.append(_finish_publish(future, failed=failed))
                elif failed:
                    error = _unknown("the broker did not confirm the command in time")
                    resolved += [_fail(waiter, error) for waiter in self._pop(key)]
        for act in resolved:
            act()
        return True

    def waiting(self, partition: int, ids: Sequence[bytes]) -> Sequence[int]:
        """Return the indexes of those command ids whose reply somebody waits for here."""
        if not self._waiting:
            return ()
        with self._lock:
            known = self._waiting
            return [at for at, command_id in enumerate(ids) if (partition, command_id) in known]

    def send(self, partition: int, reply: Reply) -> None:
        """Hand a reply to whoever waits for it here, and to the replies topic if it says so."""
        with self._lock:
            futures = self._pop((partition, reply.command_id))
        for future in futures:
            if future.set_running_or_notify_cancel():
                future.set_result(reply)
        self.counters["answered"] += len(futures)
        if reply.reply_to is not None:
            self._replies.send(partition, reply)

    def forget(self, partition: int, command_id: bytes, future: "Future[Reply]") -> None:
        """Stop waiting: the caller's time is up."""
        with self._lock:
            futures = self._waiting.get((partition, command_id), [])
            if future in futures:
                futures.remove(future)
                self._count -= 1
                if not futures:
                    del self._waiting[partition, command_id]

    def abandon(self, partition: int) -> None:
        """Tell all who wait for a partition that this node no longer decides it."""
        with self._lock:
            keys = [key for key in self._waiting if key[0] == partition]
            futures = [future for key in keys for future in self._pop(key)]
        self.counters["abandoned"] += len(futures)
        for future in futures:
            _fail(future, _unknown("the partition changed its owner"))()

    def statistics(self) -> Mapping[str, int | float]:
        """Return counters and how many wait."""
        return {**self.counters, "waiting": self._count, "publishing": len(self._publishing)}


def _unknown(what: str) -> UnavailableError:
    return UnavailableError(
        "E1402",
        f"{what}; whether the command was decided is not known here",
        "Try again with the same Idempotency-Key: it is decided at most once",
    )


def _fail(future: "Future[Reply]", error: UnavailableError) -> Callable[[], None]:
    def act() -> None:
        if future.set_running_or_notify_cancel():
            future.set_exception(error)

    return act


def _finish_publish(future: "Future[None]", *, failed: bool) -> Callable[[], None]:
    def act() -> None:
        if not future.set_running_or_notify_cancel():
            return
        if failed:
            future.set_exception(_unknown("the broker did not confirm the command in time"))
        else:
            future.set_result(None)

    return act
