"""What a node may ask of a replica: positions, counters, rows, single records. Changes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.application import Application
from engine.errors import EngineError
from engine.model import BuildProgress, Held, Input, LogRecord, Lookup, Phase, Progress
from engine.partition.deploying import Deploying, Loaded
from engine.partition.processor import Ports, Processor
from engine.partition.progress import RestoreProgress
from engine.partition.recovery import Follower
from engine.ports import PartitionStore

COUNTERS = (
    "claims",
    "lost",
    "takeovers",
    "commands",
    "outcomes",
    "rejected",
    "duplicates",
    "duplicates_unanswered",
)

_ROLES = {
    Phase.OWNING: "owner",
    Phase.RELEASING: "owner",
    Phase.CLAIMING: "claiming",
    Phase.STANDBY: "standby",
}


@dataclass(slots=True, frozen=True)
class Identity:
    """Who runs the replica and what it would deploy."""

    node: str
    partition: int
    application: Application
    accept_lost_commands: bool = False


class Shown:
    """The part of a replica that others look at."""

    def __init__(self, identity: Identity, ports: Ports, store: PartitionStore) -> None:
        self.identity = identity
        self.phase = Phase.RECOVERING
        self.problem: EngineError | None = None
        self.wants = False  # to be handed the partition by its owner
        self.reason = ""  # why it is in this phase, for people
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self._ports = ports
        self._store = store
        self._progress = RestoreProgress(identity.partition, ports.clock)
        self.deploying = Deploying(Loaded(identity.application), ports.clock)
        self._follower: Follower | None = None
        self._processor: Processor | None = None

    @property
    def applications(self) -> Mapping[int, Application]:
        """Return every application its rows may name, by index."""
        return self._follower.applications.by_index if self._follower else {}

    @property
    def serving(self) -> Application | None:
        """Return the application in force with its views as they count; None before the first."""
        return self._follower.serving if self._follower else None

    def slowest(self) -> Mapping[str, int]:
        """Return the workspaces whose commands waited longest lately, in ms."""
        now_ms = self._ports.clock.now_ms()
        return self._processor.slowest.top(now_ms) if self._processor else {}

    @property
    def resume(self) -> int:
        """Return the command offset below which everything is handled and confirmed."""
        if self._follower is None:
            return 0
        return self._follower.ledger.position.resume.get(Input.COMMANDS, 0)

    @property
    def store(self) -> PartitionStore:
        """Return the partition's rows, for reading."""
        return self._store

    def find(self, command_id: bytes) -> int:
        """Return the sequence of a remembered command's outcome, or 0."""
        return self._ports.host.find(command_id)

    def lookup(self, offset: int) -> LogRecord | Lookup:
        """Read one record of the event log back; PENDING means: call again."""
        return self._ports.events.lookup(offset)

    @property
    def confirmed_ms(self) -> int:
        """Return when, on the monotonic clock, a record was last known to count as ours."""
        return self._processor.confirmed_ms if self._processor else 0

    def held(self) -> Held:
        """Return what the node's heartbeat says of this partition: confirmed positions only."""
        position = self._follower.ledger.position if self._follower else None
        return Held(
            self.identity.partition,
            _ROLES.get(self.phase, "restoring"),
            position.epoch if position else 0,
            position.host.sequence if position else 0,
            position.host.application if position else 0,
            self._follower.builder.behind if self._follower else 0,
            self.wants,
        )

    def progress(self) -> Progress:
        """Return how far the replica is."""
        offset = self._follower.ledger.position.offset if self._follower else 0
        return self._progress.report(self.phase, offset)

    def builds(self) -> Sequence[BuildProgress]:
        """Return how far views' new generations are that don't count yet."""
        return self._follower.builder.progress() if self._follower else ()

    def statistics(self) -> Mapping[str, int | float]:
        """Return counters of the replica, its walk, its store, its host and its logs."""
        follower, processor = self._follower, self._processor
        return {
            **self.counters,
            "clock_behind": int(bool(processor and processor.clock_behind)),
            "oldest_command_age_ms": processor.oldest_command_age_ms if processor else 0,
            "superseded": follower.state.superseded if follower else 0,
            "alarms": follower.state.alarms if follower else 0,
            "sequence": self.held().sequence,
            "epoch": self.held().epoch,
            **(follower.ledger.statistics() if follower else {}),
            **(follower.builder.statistics() if follower else {}),
            **{f"host_{name}": value for name, value in self._ports.host.statistics().items()},
            **self._ports.commands.statistics(),
        }
