"""What the assembly makes a node of."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

from engine.application import Application
from engine.node.gate import Gate
from engine.node.stores import Stores
from engine.partition.replica import Replica
from engine.ports import Clock, Directory, Logs, Membership, Random


def one_thread(name: str) -> Executor:
    """Return a thread for what may block."""
    return ThreadPoolExecutor(1, thread_name_prefix=name)


@dataclass(slots=True, frozen=True)
class Parts:
    """A node's logs, peers, clock and the way to open a replica."""

    name: str
    application: Application
    logs: Logs
    membership: Membership
    directory: Directory
    gate: Gate
    open_replica: Callable[[int], Replica]
    stores: Stores
    clock: Clock
    random: Random
    load: Callable[[], Application]  # from its folder, its code stored; may block, may raise
    standbys: int = 0  # nodes beside its owner that hold each partition ready
    force_deploy: bool = False  # don't wait until every node has loaded it
    http_url: str = ""
    worker: Callable[[str], Executor] = one_thread  # a simulator has no threads
    shared: Callable[[], Mapping[str, int | float]] = dict  # counters of what partitions share
