"""Who waits for changes of which workspace, and waking them.

However many subscribe to a partition, it is looked at once after it has moved, and only those
whose workspace has something new are woken. Bounded in number; used from one event loop.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from engine import limits
from engine.errors import EngineError
from engine.http.context import Context
from engine.http.problems import HttpCode, Problem
from engine.partition.reading import PartitionReader


class Subscription:
    """One client's wish to hear of a workspace."""

    def __init__(self, workspace: str) -> None:
        self.workspace = workspace
        self.ended = False
        self._news = asyncio.Event()

    def wake(self, *, ended: bool = False) -> None:
        """Say that there may be news, or that there will be none."""
        self.ended = self.ended or ended
        self._news.set()

    async def news(self, wait_ms: int) -> bool:
        """Wait until there may be news; False if the time was up. Wakings add up to one."""
        try:
            await asyncio.wait_for(self._news.wait(), wait_ms / 1_000)
        except TimeoutError:
            return False
        self._news.clear()
        return True


# What must be another for there to be news: the workspace's last outcome, or where views lie.
_Mark = tuple[int, tuple[int, ...]]


class _Watch:
    """A partition that is listened to."""

    def __init__(self) -> None:
        self.subscriptions: set[Subscription] = set()
        self.newest: dict[str, _Mark] = {}
        self.moved = asyncio.Event()
        self.told = False
        self.end: Callable[[], None] = _nothing
        self.looking: asyncio.Task[None] | None = None


def _nothing() -> None:
    """End nothing."""


class Hub:
    """All subscriptions of this node."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._watches: dict[int, _Watch] = {}
        self._by_workspace: Counter[str] = Counter()
        self._closed = False

    def admit(self, workspace: str) -> None:
        """Count a subscription; a problem if there are too many."""
        counters = self._context.metrics
        most = limits.SUBSCRIPTIONS_MAX
        most_here = limits.SUBSCRIPTIONS_PER_WORKSPACE_MAX
        if counters.subscriptions >= most:
            why = f"{most} streams are open on this node"
        elif self._by_workspace[workspace] >= most_here:
            why = f"{most_here} streams of this workspace are open"
        else:
            counters.subscriptions += 1
            self._by_workspace[workspace] += 1
            return
        raise Problem(429, HttpCode.TOO_MANY_SUBSCRIPTIONS, why, "Close one, or try again later")

    def leave(self, workspace: str) -> None:
        """Count one less."""
        self._context.metrics.subscriptions -= 1
        self._by_workspace[workspace] -= 1
        if not self._by_workspace[workspace]:
            del self._by_workspace[workspace]

    def open(self, partition: int, workspace: str) -> Subscription:
        """Return a subscription that is woken from now on."""
        watch = self._watches.get(partition)
        if watch is None:
            watch = self._listen(partition)
        subscription = Subscription(workspace)
        watch.subscriptions.add(subscription)
        if self._closed:
            subscription.wake(ended=True)
        return subscription

    def close(self, partition: int, subscription: Subscription) -> None:
        """Wake it no more."""
        watch = self._watches.get(partition)
        if watch is None or subscription not in watch.subscriptions:
            return
        watch.subscriptions.discard(subscription)
        if not watch.subscriptions:
            self._drop(partition, watch)

    def end(self) -> None:
        """End all subscriptions: the server is stopping."""
        self._closed = True
        for partition, watch in list(self._watches.items()):
            self._lose(partition, watch)

    def _listen(self, partition: int) -> _Watch:
        watch, loop = _Watch(), asyncio.get_running_loop()

        def told(held: bool) -> None:  # noqa: FBT001 - the feed's callback has one argument
            # Called by the node's shell thread. What is told already need not be told again.
            if held and watch.told:
                return
            watch.told = True
            act = watch.moved.set if held else lambda: self._lose(partition, watch)
            if not loop.is_closed():
                loop.call_soon_threadsafe(act)

        watch.end = self._context.ask(lambda: self._context.node.subscribe(partition, told))
        watch.looking = asyncio.create_task(self._look(partition, watch))
        self._watches[partition] = watch
        return watch

    async def _look(self, partition: int, watch: _Watch) -> None:
        """Look at a partition after it has moved, for all its subscriptions at once."""
        while True:
            await watch.moved.wait()
            # In this order: what is told from here on is looked at next time.
            watch.moved.clear()
            watch.told = False
            names = {subscription.workspace for subscription in watch.subscriptions}
            try:
                newest = await self._context.read(partition, _newest(names))
            except (Problem, EngineError):
                self._lose(partition, watch)
                return
            for subscription in list(watch.subscriptions):
                name = subscription.workspace
                if name in newest and newest[name] != watch.newest.get(name):
                    subscription.wake()
            watch.newest = newest
            await asyncio.sleep(limits.SUBSCRIPTION_PAUSE_MS / 1_000)

    def _lose(self, partition: int, watch: _Watch) -> None:
        for subscription in list(watch.subscriptions):
            subscription.wake(ended=True)
        watch.subscriptions.clear()
        self._drop(partition, watch)

    def _drop(self, partition: int, watch: _Watch) -> None:
        if self._watches.get(partition) is watch:
            del self._watches[partition]
        watch.end()
        if watch.looking is not None:
            watch.looking.cancel()


def _newest(names: set[str]) -> Callable[[PartitionReader], dict[str, _Mark]]:
    def read(reader: PartitionReader) -> dict[str, _Mark]:
        application = reader.application
        tables = tuple(view.table for view in application.views.values()) if application else ()
        return {name: (reader.last_sequence(name), tables) for name in names}

    return read
