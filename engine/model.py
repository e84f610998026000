"""Value types of the walk. No behaviour but what follows from their fields."""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from typing import Generic, TypeVar, overload

T = TypeVar("T")


class Stage(StrEnum):
    """The walk of a batch; also the names of spans, metrics and simulator steps."""

    TAKE = "take"  # what is there, up to the limit
    DECIDE = "decide"  # in the state host: decode, dedupe, run, project, react
    APPEND = "append"  # one log record per outcome; the next batch may start
    CONFIRM = "confirm"  # are they in the log, contiguous with our last append?
    APPLY = "apply"  # one write batch: records, views, dedup, position
    REPLY = "reply"  # only now


class Input(StrEnum):
    """Where a command came from; each input has its own resume offset."""

    COMMANDS = "commands"
    EMITS = "emits"
    TIMER = "timer"


class Phase(StrEnum):
    """A replica's life on a node."""

    RECOVERING = "recovering"  # folding the log up to its end
    STANDBY = "standby"  # folding what another owner writes, ready to claim
    CLAIMING = "claiming"  # own Owner record appended, reading until it is met
    OWNING = "owning"  # the walk
    RELEASING = "releasing"  # taking no more, confirming what is in flight
    CLOSED = "closed"
    STOPPED = "stopped"  # on an error that only a person can mend


OWNS = frozenset({Phase.OWNING, Phase.RELEASING})  # nobody has newer rows than these


class Column(Sequence[T], Generic[T]):
    """A column whose entries are made when somebody wants them."""

    def __init__(self, count: int, entry: Callable[[int], T]) -> None:
        self._count = count
        self._entry = entry

    def __len__(self) -> int:
        """Return how many entries it has."""
        return self._count

    @overload
    def __getitem__(self, at: int) -> T: ...

    @overload
    def __getitem__(self, at: slice) -> list[T]: ...

    def __getitem__(self, at: int | slice) -> T | list[T]:
        """Return an entry, or a list of some."""
        places = range(self._count)[at]
        return self._entry(places) if isinstance(places, int) else list(map(self._entry, places))

    def __iter__(self) -> Iterator[T]:
        """Yield all of them."""
        return map(self._entry, range(self._count))


class Pieces(Column["bytes | None"]):
    """Values where they lie in what was read, with other things between them.

    A host folds nearly all of a log as it lies, so an object for each would be made for nobody.
    """

    def __init__(self, data: bytes, starts: "array[int]", ends: "array[int]") -> None:
        super().__init__(len(starts), lambda at: data[starts[at] : ends[at]])
        self.data = data
        self.starts = starts
        self.ends = ends


@dataclass(slots=True)
class Batch:
    """Records of one log in columns, so that the hot path touches no object per record."""

    offsets: list[int] = field(default_factory=list[int])
    times_ms: Sequence[int] = field(default_factory=list[int])
    keys: Sequence[bytes | None] = field(default_factory=list["bytes | None"])
    values: Sequence[bytes | None] = field(default_factory=list["bytes | None"])
    leader_epoch: int = -1  # of the last record, -1 = unknown

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, offset: int, time_ms: int, key: bytes | None, value: bytes | None) -> None:
        """Append one record to a batch that was made by appending."""
        assert isinstance(self.times_ms, list)
        assert isinstance(self.keys, list)
        assert isinstance(self.values, list)
        self.offsets.append(offset)
        self.times_ms.append(time_ms)
        self.keys.append(key)
        self.values.append(value)

    def first(self, count: int) -> "Batch":
        """Return the first `count` records; the batch itself if it has no more."""
        if count >= len(self):
            return self
        return Batch(
            self.offsets[:count],
            self.times_ms[:count],
            self.keys[:count],
            self.values[:count],
            self.leader_epoch,
        )

    def rest(self, start: int) -> "Batch":
        """Return the records from index `start` on."""
        if start >= len(self):
            return Batch()
        return Batch(
            self.offsets[start:],
            self.times_ms[start:],
            self.keys[start:],
            self.values[start:],
            self.leader_epoch,
        )

    def extend(self, other: "Batch", start: int, end: int) -> None:
        """Append another batch's records from index `start` up to `end`."""
        assert isinstance(self.times_ms, list)
        assert isinstance(self.keys, list)
        assert isinstance(self.values, list)
        self.offsets += other.offsets[start:end]
        self.times_ms += other.times_ms[start:end]
        self.keys += other.keys[start:end]
        self.values += other.values[start:end]

    def record(self, at: int) -> "LogRecord":
        """Return one record."""
        row = self.offsets[at], self.times_ms[at], self.keys[at], self.values[at]
        return LogRecord(*row, self.leader_epoch)

    def records(self) -> "Iterator[LogRecord]":
        """Yield the records one by one, for readers off the hot path."""
        for row in zip(self.offsets, self.times_ms, self.keys, self.values, strict=True):
            yield LogRecord(*row, self.leader_epoch)


@dataclass(slots=True, frozen=True)
class LogRecord:
    """One record as the log holds it; `time_ms` is the log's append time."""

    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    leader_epoch: int = -1


@dataclass(slots=True, frozen=True)
class Bounds:
    """[begin, end): the offsets that a log holds; `topic_id` names this very log."""

    begin: int
    end: int
    topic_id: str


@dataclass(slots=True, frozen=True)
class Report:
    """What became of an append: the offset of its last record, or None with an error."""

    ticket: int
    last_offset: int | None
    error: str = ""


class Lookup(Enum):
    """Why a random read has no record to give."""

    PENDING = "pending"  # asked for; ask again
    GONE = "gone"  # below the log's begin, or beyond its end


@dataclass(slots=True, frozen=True)
class ReplyTo:
    """A client's place on the replies topic."""

    partition: int
    correlation: bytes


@dataclass(slots=True)
class Reply:
    """What a client is told. `sequence` 0 means a refusal: there is no outcome."""

    command_id: bytes
    workspace: str
    sequence: int
    workspace_sequence: int
    code: str  # "" = accepted
    message: str = ""
    field: str | None = None
    result: bytes | None = None
    duplicate: bool = False
    reply_to: ReplyTo | None = None


@dataclass(slots=True)
class Duplicate:
    """A command whose id was decided before: the first outcome is read back, then compared."""

    first_sequence: int
    command_id: bytes
    workspace: str
    name: str
    args_schema: int
    args: bytes
    reply_to: ReplyTo | None = None


@dataclass(slots=True)
class HostState:
    """What the fold knows besides rows and the log position; stored with them."""

    sequence: int = 0
    previous: int = 0
    registered_at: int = 0
    newest_command_time: int = 0
    dedup_floor: int = 0
    emitted_sequence: int = 0
    application: int = 0


@dataclass(slots=True, frozen=True)
class Chain:
    """How far a batch goes on as the log's chain: outcomes that plainly count, one by one.

    `previous` is the hash of the last of them, `resume` the highest offset of a command that they
    were decided from, plus one.
    """

    count: int = 0
    previous: int = 0
    resume: int = 0


@dataclass(slots=True)
class Decided:
    """What a state host made of a batch (FORMATS 6), outcome by outcome.

    A fold returns no `outcomes` and no `workspaces`: whoever asked has them. `done` commands (or
    records) are finished; the rest waits for the rows in `missing` and for all rows below
    `missing_prefixes`. `ids` and `times` are those of the outcomes, for the dedup page.
    `digests` are differences to add, modulo 2**64; `marks` what they were at each Mark that was
    folded. `state` is the state after the last outcome.

    `replies` are refusals, duplicates, and the replies of outcomes whose command names a place to
    send them to. All others are made from the outcome (replies.py), if anybody waits.
    """

    outcomes: list[bytes] = field(default_factory=list[bytes])
    workspaces: list[bytes] = field(default_factory=list[bytes])
    ids: list[bytes] = field(default_factory=list[bytes])
    command_times: list[int] = field(default_factory=list[int])
    rows: Mapping[bytes, bytes | None] = field(default_factory=dict["bytes", "bytes | None"])
    digests: dict[int, int] = field(default_factory=dict[int, int])
    marks: list[dict[int, int]] = field(default_factory=list[dict[int, int]])
    replies: list[Reply | Duplicate] = field(default_factory=list["Reply | Duplicate"])
    emits: list[bytes] = field(default_factory=list[bytes])
    missing: list[bytes] = field(default_factory=list[bytes])
    missing_prefixes: list[bytes] = field(default_factory=list[bytes])
    done: int = 0
    rejected: int = 0  # how many of the outcomes are rejections
    state: HostState = field(default_factory=HostState)


@dataclass(slots=True)
class Position:
    """Where a store stands in its log (schemas/position.avsc says each field)."""

    topic_id: str = ""
    offset: int = 0
    leader_epoch: int = -1
    tail_hash: int = 0
    epoch: int = 0
    incarnation: int = 0
    command_topic_id: str = ""
    released: bool = False
    resume: dict[str, int] = field(default_factory=dict[str, int])
    host: HostState = field(default_factory=HostState)
    digests: dict[int, int] = field(default_factory=dict[int, int])

    def copy(self) -> "Position":
        """Return an independent copy."""
        return replace(
            self,
            resume=dict(self.resume),
            digests=dict(self.digests),
            host=replace(self.host),
        )


@dataclass(slots=True, frozen=True)
class Progress:
    """How far a restore is; read by the CLI bar, /health/ready, metrics and logs alike."""

    partition: int
    phase: Phase
    applied_offset: int
    target_offset: int
    records_per_s: float
    eta_s: float | None


@dataclass(slots=True, frozen=True)
class BuildProgress:
    """How far a view's new generation is. The old one answers until it counts."""

    view: str
    generation: int
    applied_offset: int
    target_offset: int
    records_per_s: float
    eta_s: float | None
    problem: str = ""  # why it failed; a higher version can replace it


@dataclass(slots=True, frozen=True)
class Held:
    """A partition that a node holds, as its heartbeat tells it."""

    partition: int
    role: str  # owner, claiming, standby, restoring
    epoch: int
    sequence: int
    application: int = 0  # index of the one in force there
    unbuilt: int = 0  # records that its new generations of views lack
    wants: bool = False  # asks its owner for a hand-over


@dataclass(slots=True, frozen=True)
class NodeBeat:
    """A node's heartbeat (schemas/node.avsc)."""

    node: str
    process: bytes
    engine_version: str
    format: int
    application: str
    fingerprint: bytes
    http: str
    sent_at: int
    leaving: bool
    draining: bool = False  # it holds no partition and wants none
    partitions: tuple[Held, ...] = ()


@dataclass(slots=True, frozen=True)
class MembershipChange:
    """What the group gave and took since the last poll; `lost` means taken without asking."""

    assigned: tuple[int, ...] = ()
    revoked: tuple[int, ...] = ()
    lost: bool = False
