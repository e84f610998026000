"""When a replica that follows its owner may claim: one pure decision (ARCHITECTURE 4, Liveness).

Owns no clock and no port. What the log said is kept in `Watch`; what the node knows of the other
nodes is told as `Standing`. A wrong suspicion is safe, it only costs a change of owner: whether a
claim counts, the log decides.
"""

from typing import NamedTuple

from engine import limits


class Standing(NamedTuple):
    """What a node knows of the others, as far as one partition goes.

    The default is that of a node without peers: all is assigned to it, and nobody else is there.
    """

    assigned: bool = True  # the group wants the partition served here
    rank: int = 0  # among those that are ready to take it over
    deaf_ms: int = 0  # how long this node's own heartbeats have not come back; 0 = they do
    silence_ms: int | None = None  # of the owner that was heard last; None = nobody was
    watched: bool = False  # that owner was heard more than once
    going: frozenset[str] = frozenset()  # nodes that have said that they leave


class Watch:
    """What the log has said of its owner since this replica stands by."""

    def __init__(self, now_ms: int, wait_ms: int = 0) -> None:
        self.since_ms = now_ms
        self.life_ms: int | None = None  # when somebody else's record was last met that counted
        self.not_before_ms = now_ms + wait_ms
        self.released_ms: int | None = None
        self.successor: str | None = None  # as Released has named it

    def met(self, now_ms: int, *, counted: bool) -> None:
        """Take what a tick of the fold has met."""
        if counted:
            self.life_ms = now_ms

    def released(self, now_ms: int, successor: str | None) -> None:
        """Take that Released is the last word so far."""
        if self.released_ms is None:
            self.released_ms = now_ms
        self.successor = successor

    def owned(self) -> None:
        """Take that an Owner is the last word so far."""
        self.released_ms = None
        self.successor = None


def may_claim(watch: Watch, standing: Standing, node: str, now_ms: int) -> bool:
    """Return True when the replica of `node` is to claim now."""
    if watch.successor == node and watch.released_ms is not None:
        return True
    if now_ms < watch.not_before_ms and watch.successor not in standing.going:
        return False
    silence_ms, patience_ms = _silence_and_patience(watch, standing, now_ms)
    return silence_ms >= patience_ms


def _silence_and_patience(watch: Watch, standing: Standing, now_ms: int) -> tuple[int, int]:
    """Return how long nobody owned the partition as far as is known, and how long to bear that."""
    step_ms = limits.STANDBY_STEP_MS * standing.rank
    if watch.released_ms is not None:
        if watch.successor in standing.going:
            return now_ms - watch.released_ms, step_ms
        at_once = standing.assigned and watch.successor is None
        patience_ms = 0 if at_once else limits.SUCCESSOR_WAIT_MS + step_ms
        return now_ms - watch.released_ms, patience_ms
    quiet_ms = now_ms - (watch.since_ms if watch.life_ms is None else watch.life_ms)
    if standing.deaf_ms:
        # When the heartbeats stall nobody suspects anybody. What is left is the group's word.
        heard_ms = min(quiet_ms, standing.deaf_ms) if standing.assigned else -1
        return heard_ms, limits.GROUP_WAIT_MS
    if watch.life_ms is None and standing.silence_ms is None and standing.assigned:
        return quiet_ms, 0
    if watch.life_ms is None and not standing.watched and not standing.assigned:
        # As when all nodes have just started: the group is about to choose.
        return quiet_ms, limits.GROUP_WAIT_MS + step_ms
    silence_ms = quiet_ms if standing.silence_ms is None else standing.silence_ms
    if watch.life_ms is not None:
        silence_ms = min(quiet_ms, silence_ms)
    return silence_ms, limits.OWNER_SILENCE_MS + step_ms
