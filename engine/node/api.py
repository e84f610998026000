"""What HTTP, and any other gateway, may ask of a node. Thread-safe, unlike the core below it."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from engine.application import Application
from engine.model import BuildProgress, LogRecord, Lookup, NodeBeat, Progress, Reply
from engine.node.feed import Callback
from engine.node.operations import Operations
from engine.partition.reading import PartitionReader
from engine.partition.snapshots import Manifest


class Where(Enum):
    """Who answers for a partition."""

    HERE = "here"
    THERE = "there"
    NOBODY = "nobody"  # nobody is known to own it at the moment


@dataclass(slots=True, frozen=True)
class Route:
    """Who answers for a partition, and at which base URL if it is another node."""

    where: Where
    url: str = ""


class NodeApi(Protocol):
    """A running node. Futures fail with EngineError; UnavailableError means: try again."""

    @property
    def name(self) -> str:
        """Return the node's name."""
        ...

    @property
    def application(self) -> Application:
        """Return the application as the newest partition here runs it, else the folder's."""
        ...

    @property
    def operations(self) -> Operations:
        """Return what an operator may do to this node."""
        ...

    @property
    def stuck(self) -> bool:
        """Return True while the node has done nothing for so long that only a restart helps."""
        ...

    def serving(self, partition: int) -> Application:
        """Return the application as a partition runs it: its views are those that count there."""
        ...

    def partition_of(self, workspace: str) -> int:
        """Return the partition of a workspace."""
        ...

    def route(self, partition: int) -> Route:
        """Return who answers for a partition now."""
        ...

    def submit(
        self, partition: int, workspace: str, command_id: bytes, value: bytes
    ) -> "Future[Reply]":
        """Publish an encoded command and wait for its reply; only where it is owned.

        Raises UnavailableError E1403 at once when too many wait, E1402 when not owned here.
        """
        ...

    def publish(self, partition: int, workspace: str, value: bytes) -> "Future[None]":
        """Publish an encoded command and wait until the log has it; on any node."""
        ...

    def stands_by(self, partition: int) -> bool:
        """Return True when this node follows a partition's owner: its rows may be stale."""
        ...

    def reader(self, partition: int, *, stale: bool = False) -> PartitionReader:
        """Return a consistent reader of a partition owned here; the caller closes it.

        Raises UnavailableError E1402 while it is not, or in doubt. With `stale` also of one that
        is being restored, or follows its owner.
        """
        ...

    def subscribe(self, partition: int, callback: Callback) -> Callable[[], None]:
        """Call `callback` whenever a partition held here may have moved; return what ends it.

        It is called from another thread, with False when the partition is no longer held here,
        and must neither block nor raise. Raises UnavailableError E1402 while it is not held.
        """
        ...

    def forget(self, partition: int, command_id: bytes, future: "Future[Reply]") -> None:
        """Stop waiting for a reply: the caller's time is up."""
        ...

    def wait_sequence(self, partition: int, sequence: int, *, stale: bool = False) -> "Future[int]":
        """Wait until the partition's applied sequence is at least `sequence`; return it."""
        ...

    def find(self, partition: int, command_id: bytes) -> "Future[int]":
        """Return the sequence of a remembered command's outcome, or 0."""
        ...

    def event(self, partition: int, offset: int) -> "Future[LogRecord | Lookup]":
        """Read one record of the event log back, or Lookup.GONE."""
        ...

    def progress(self) -> Sequence[Progress]:
        """Return one entry per partition held here, the owned ones with phase OWNING."""
        ...

    def builds(self) -> Mapping[int, Sequence[BuildProgress]]:
        """Return how far views' new generations are, by partition; the old ones answer."""
        ...

    def snapshot(self, partition: int) -> "Future[Manifest]":
        """Take a snapshot of a partition owned here."""
        ...

    def problems(self) -> Mapping[int, str]:
        """Return why partitions held here are stopped, by partition."""
        ...

    def ready(self) -> bool:
        """Return True when every partition this node is to serve is served."""
        ...

    def peers(self) -> Sequence[NodeBeat]:
        """Return the nodes that are there, this one included."""
        ...

    def statistics(self) -> Mapping[str, Mapping[str, int | float]]:
        """Return counters by component, such as "partition 3" or "gate"."""
        ...
