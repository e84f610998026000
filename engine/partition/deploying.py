"""What an owner writes between two batches: an application (R10), or the Switch to a built view.

Each changes what the host runs. So the walk stands still until nothing is in flight, the record is
appended, and the log is read until the record is met: it says whether it counts, or who was faster.
Appends nothing and knows no other node; it is told what they have loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass

from engine import limits, wire
from engine.application import Application
from engine.application.compat import diff
from engine.partition.ownership import LogState, head_fields
from engine.partition.processor import Processor
from engine.partition.recovery import Follower
from engine.ports import Clock
from engine.wire import Kind


@dataclass(slots=True, frozen=True)
class Loaded:
    """What this node has loaded, and which live nodes have not."""

    application: Application
    lacking: tuple[str, ...] = ()
    force: bool = False  # don't wait for them
    format: int = limits.FORMAT  # the lowest of the live nodes'


class Deploying:
    """Says when an owner is to write such a record, and when its own reader has met it."""

    def __init__(self, loaded: Loaded, clock: Clock) -> None:
        self.loaded = loaded
        self.behind: tuple[str, ...] = ()  # standbys that have not built what waits
        self.reason = ""  # why what is loaded is not in force, for people
        self._clock = clock
        self._compared: tuple[bytes, bytes] | None = None  # whose difference is known
        self._deployable = False
        self._met: Callable[[Follower], bool] | None = None
        self._paused_at_ms = 0  # when the walk began to wait for a build

    @property
    def underway(self) -> bool:
        """Return True while such a record is on its way."""
        return self._met is not None

    def forget(self) -> None:
        """Begin anew: what became of the record on its way, the fold says."""
        self._met = None

    def met(self, follower: Follower) -> bool:
        """Return True once the reader has met the record, which counted."""
        if self._met is None or not self._met(follower):
            return False
        self._met = None
        return True

    def at_claim(self, follower: Follower) -> bytes | None:
        """Return the record to write before anything is decided, or None."""
        return self._application(follower, follower.state) if self._due(follower) else None

    def between(self, follower: Follower, processor: Processor) -> bytes | None:
        """Return the record to write now; let the walk take no more while one is about to be."""
        due = self._due(follower)
        # A standby that lacks the build would have to finish it before it could take over.
        projector = None if due or self.behind else follower.builder.nearly()
        processor.taking = not due and (projector is None or not self._may_pause())
        if not processor.quiet:
            return None
        if due:
            return self._application(follower, processor.confirmed)
        offset = follower.ledger.position.offset
        if projector is None or not follower.builder.complete(projector.name, offset):
            return None
        application = follower.applications.newest()
        assert application is not None
        view = application.views[projector.writes[0]]
        fields = {"view": view.name, "generation": view.generation}
        self._met = lambda reader: not reader.builder.builds(projector.name)
        head = head_fields(processor.confirmed)
        return wire.encode_event(Kind.SWITCH, {**head, **fields})

    def _application(self, follower: Follower, state: LogState) -> bytes:
        value = follower.applications.record(self.loaded.application, state)
        newest = follower.applications.newest()
        index = newest.index if newest else 0
        # Only an owner of this epoch can have written the next one, and that is us.
        self._met = lambda reader: max(reader.applications.by_index, default=0) > index
        return value

    def _due(self, follower: Follower) -> bool:
        """Return True when what is loaded is to come into force now."""
        newest, mine = follower.applications.newest(), self.loaded.application
        if newest is None:
            return True
        if newest.fingerprint == mine.fingerprint:
            self.reason = ""
            return False
        pair = (newest.fingerprint, mine.fingerprint)
        if self._compared != pair:
            self._compared = pair
            self._deployable = diff(newest, mine).deployable
        if not self._deployable:
            self.reason = f"runs version {newest.version} as the log says, not {mine.version}"
            return False
        if self.loaded.lacking and not self.loaded.force:
            lacking = ", ".join(self.loaded.lacking)
            self.reason = (
                f"version {mine.version} waits until these nodes have loaded it: {lacking}"
            )
            return False
        return True

    def _may_pause(self) -> bool:
        """Return whether the walk may wait for a build; clients don't wait for one that hangs."""
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._paused_at_ms > 2 * limits.BUILD_PAUSE_MS_MAX:
            self._paused_at_ms = now_ms
        return now_ms - self._paused_at_ms <= limits.BUILD_PAUSE_MS_MAX
