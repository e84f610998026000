"""What the core needs of the world, on one page. Each promise is tested in tests/contract/.

    begin            position          confirmed            end
      |--- trimmed ---|--- applied -------|--- in flight ----|
      oldest record   next to apply       known to count     next append lands here

Offsets belong to a log; they are dense, start anywhere, and never come back. Nothing here blocks
unless it says so; what is not there yet is asked for again in a later tick.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.model import (
    Batch,
    Bounds,
    Chain,
    Decided,
    Input,
    LogRecord,
    Lookup,
    MembershipChange,
    NodeBeat,
    Position,
    Reply,
    Report,
    Stage,
)

if TYPE_CHECKING:
    from engine.application import Application
    from engine.application.generations import Views

Statistics = Mapping[str, int | float]


class Clock(Protocol):
    """Time. A simulator's clock stands still until it is moved."""

    def now_ms(self) -> int: ...
    def monotonic_ms(self) -> int: ...


class Random(Protocol):
    """Randomness. Equal seeds give equal bytes."""

    def bytes(self, count: int) -> bytes: ...
    def below(self, bound: int) -> int: ...


class CommandLog(Protocol):
    """The commands of one partition, in the order of their log, read by whoever owns it."""

    def bounds(self) -> Bounds:
        """Return what the log holds; may block for a broker's answer (UnavailableError)."""
        ...

    def seek(self, offset: int) -> None:
        """Take from `offset` on. Below the begin, `take` raises LogError E1305."""
        ...

    def take(self, count: int) -> Batch:
        """Return the next records that are there, at most `count`, in order, none twice."""
        ...

    def rest(self) -> None:
        """Stop reading and forget what was read ahead, until the next seek."""
        ...

    def statistics(self) -> Statistics:
        """Return counters; `lag` is how many commands are known to wait."""
        ...


class EventLog(Protocol):
    """The events of one partition. Appended by its owner; read by anybody.

    What `take` or `lookup` returned once, and what a report without error confirmed, stays.
    """

    def bounds(self) -> Bounds:
        """Return what the log holds; may block for a broker's answer (UnavailableError)."""
        ...

    def append(self, keys: Sequence[bytes], values: Sequence[bytes]) -> int:
        """Start appending records in order, behind all earlier appends; return a ticket.

        They land in this order or not at all, and none later than a lost one of the same session
        (R1). Key b"" is none.
        """
        ...

    def reports(self) -> list[Report]:
        """Return what became of appends, in their order; an error means: not known."""
        ...

    def seek(self, offset: int) -> None:
        """Read from `offset` on. Below the begin, `take` raises LogError E1302."""
        ...

    def take(self, count: int) -> Batch:
        """Return the next records that are there, at most `count`, in order, none twice."""
        ...

    def rest(self) -> None:
        """Stop reading and forget what was read ahead, until the next seek."""
        ...

    def lookup(self, offset: int) -> LogRecord | Lookup:
        """Return the record at `offset`; PENDING means it was asked for: call again."""
        ...

    def statistics(self) -> Statistics: ...


class EventReader(Protocol):
    """A second reader of one partition's events, with a place of its own (see EventLog)."""

    def seek(self, offset: int) -> None: ...
    def take(self, count: int) -> Batch: ...
    def rest(self) -> None: ...


class CommandSink(Protocol):
    """Where a gateway publishes commands. The promise ends at the log: nobody has decided yet."""

    def publish(self, partition: int, workspace: bytes, value: bytes) -> int:
        """Start publishing; return a ticket. A full queue raises UnavailableError E1403."""
        ...

    def published(self) -> list[Report]:
        """Return what became of them, in any order."""
        ...


class ReplySink(Protocol):
    """Replies for clients that wait here or on <app>.replies: best effort, errors are counted."""

    def waiting(self, partition: int, ids: Sequence[bytes]) -> Sequence[int]:
        """Return the indexes of those command ids whose reply somebody waits for here."""
        ...

    def send(self, partition: int, reply: Reply) -> None:
        """Send a reply (`partition` is that of the command) to `reply.reply_to`."""
        ...


class Observer(Protocol):
    """Told of each stage a batch has passed; must neither block nor raise."""

    def batch(self, stage: Stage, partition: int, decided: Decided) -> None: ...


class Logs(Protocol):
    """One connection to the logs of one application; made and closed by the assembly."""

    @property
    def commands(self) -> CommandSink: ...
    @property
    def replies(self) -> ReplySink: ...

    def command_log(self, partition: int) -> CommandLog: ...
    def event_log(self, partition: int) -> EventLog: ...
    def history(self, partition: int) -> EventReader: ...

    def wait(self, timeout_ms: int) -> None:
        """Block the shell until a log may have something new, at most `timeout_ms`."""
        ...

    def wake(self) -> None:
        """End a `wait` from another thread."""
        ...

    def statistics(self) -> Statistics: ...
    def close(self) -> None: ...


class StoreView(Protocol):
    """A consistent picture of a store: it never shows half an outcome, nor a later one."""

    def get(self, key: bytes) -> bytes | None: ...

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows with start <= key < end in (reverse) key order."""
        ...

    def close(self) -> None: ...


class PartitionStore(Protocol):
    """One partition's rows.

    After a crash it is as it was after some earlier `write`: older, never mixed.
    """

    def get(self, key: bytes) -> bytes | None: ...
    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...
    def write(self, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Write all rows or none; None deletes."""
        ...

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Delete all rows with start <= key < end, in a write of its own, without reading them."""
        ...

    def view(self) -> StoreView:
        """Return a consistent picture, usable from any thread until closed.

        Any thread may ask; of a store that was closed: UnavailableError E1402.
        """
        ...

    def flush(self) -> None:
        """Make what was written survive a crash; may run in the background."""
        ...

    def checkpoint(self, folder: Path) -> None:
        """Make `folder`, the store as of some write since this call; any thread, may block.

        Opened as a store it holds exactly that. Writes go on meanwhile.
        """
        ...

    def statistics(self) -> Statistics: ...
    def close(self) -> None:
        """Close within bounded time, flushing if that is quick."""
        ...


class StateHost(Protocol):
    """Decides and folds one partition's batches in memory; knows no log, no store, no clock.

    It holds the rows it was given, what unconfirmed batches changed, and the ids of the dedup
    window. A row it needs and doesn't have is named in `Decided.missing`, a range of rows in
    `missing_prefixes`; the caller provides them (None = there is none) and calls again with the
    commands from `done` on.
    """

    def open(
        self,
        partition: int,
        applications: "Mapping[int, Application]",
        position: Position,
        views: "Views | None" = None,
    ) -> None:
        """Start at a stored position; `applications` by their index, all that rows may name.

        Called again when another application comes into force, or another generation of a view
        counts; the dedup window then stays. `views` None = all of the application in force.
        """
        ...

    def own(self, epoch: int) -> None:
        """Outcomes carry this epoch from here on."""
        ...

    def decide(self, batch: Batch, source: Input, now_ms: int) -> Decided:
        """Decide commands in order; each sees all earlier ones. Never raises for user input."""
        ...

    def fold(self, batch: Batch) -> Decided:
        """Fold counting Outcome and Mark records, confirmed by being read. No budget, no limits.

        Raises EngineError where the log can't be folded by this engine or application.
        """
        ...

    def chained(self, batch: Batch, at: int, epoch: int, sequence: int, previous: int) -> Chain:
        """Return how many records from index `at` on plainly count, behind the outcome named.

        That is: outcomes of commands, of this epoch, each at the next sequence and naming the one
        before (R2). Whoever asks judges all others; a host that never looks returns `Chain()`.
        """
        ...

    def provide(
        self, rows: Mapping[bytes, bytes | None], prefixes: Sequence[bytes] = (), /
    ) -> None:
        """Take rows as stored. Dedup pages (rows.TABLE_PAGES) fill the window.

        Every stored row below one of `prefixes` is among `rows`.
        """
        ...

    def confirm(self, sequence: int) -> None:
        """Outcomes up to `sequence` are applied to the store: their rows may be evicted."""
        ...

    def discard(self) -> None:
        """Forget everything since the last confirmed outcome."""
        ...

    def find(self, command_id: bytes) -> int:
        """Return the sequence of the confirmed outcome of a remembered id, or 0."""
        ...

    def statistics(self) -> Statistics: ...
    def close(self) -> None: ...


class Membership(Protocol):
    """Which partitions the group wants this node to serve. A proposal: the log decides."""

    def poll(self) -> MembershipChange: ...

    def released(self, partition: int) -> None:
        """Say that a revoked partition is let go, so that a waiting group may go on."""
        ...

    def pause(self, *, paused: bool) -> None:
        """Leave the group for the time being, or join it again; saying it twice is harmless.

        Never blocks, and may come from any thread.
        """
        ...

    def decided(self, offsets: Mapping[int, int]) -> None:
        """Take how far the commands of partitions owned here are decided, for lag tools alone."""
        ...

    def close(self) -> None:
        """Leave the group, so that it need not wait for a time-out."""
        ...


class Directory(Protocol):
    """Who is there, and who owns what: heartbeats and the routing table for HTTP."""

    def announce(self, beat: NodeBeat) -> None: ...
    def peers(self) -> Sequence[NodeBeat]:
        """Return the newest beat of every node, this one's too if it came back."""
        ...

    def close(self) -> None: ...


class ObjectStore(Protocol):
    """Named immutable blobs: extension code and schemas; later snapshots and BLOBs."""

    def put(self, name: str, data: bytes) -> None:
        """Store it durably; storing the same again is harmless. May block."""
        ...

    def get(self, name: str) -> bytes | None:
        """Return it, or None. May block."""
        ...

    def names(self, prefix: str = "") -> list[str]: ...
    def delete(self, name: str) -> None: ...
