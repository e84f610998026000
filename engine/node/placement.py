"""Which partitions a node holds, and what it does about each: the group proposes, this converges.

Pure, like `Liveness`: the shell and the simulator tell it the time, the group's changes and the
beats, and it steers their replicas. A partition that the group has moved stays with its owner until
the node it was moved to has caught up and asks for it.
"""

from collections.abc import Mapping

from engine import limits
from engine.model import OWNS, MembershipChange, Phase
from engine.node.liveness import Liveness
from engine.partition.replica import Replica

HOLDS_LOG = OWNS | {Phase.CLAIMING}
TOLD = frozenset({Phase.RECOVERING, Phase.STANDBY, Phase.CLAIMING, Phase.RELEASING})

Replicas = Mapping[int, Replica]


class Placement:
    """What one node is to hold; `leaving` hands everything over and holds nothing."""

    def __init__(self, node: str, partitions: int, standbys: int, liveness: Liveness) -> None:
        self.assigned: set[int] = set()
        self.leaving = False
        self.suspects = False  # an owner that this node stands by for seems to be silent
        self._node = node
        self._partitions = partitions
        self._standbys = standbys
        self._liveness = liveness
        self._leaving_ms: int | None = None  # since when
        self._asking: int | None = None
        self._asked_ms: int | None = None

    def follow(self, change: MembershipChange) -> None:
        """Take what the group proposes."""
        self.assigned.update(change.assigned)
        self.assigned.difference_update(change.revoked)

    def wanted(self, replicas: Replicas) -> set[int]:
        """Return the partitions to hold a replica of."""
        if self.leaving:
            return set()
        wanted = set(self.assigned)
        for partition in range(self._partitions):
            replica = replicas.get(partition)
            phase = replica.phase if replica else None
            if phase in HOLDS_LOG or (
                self._standbys
                and partition not in wanted
                and self._stands_by(partition, already=phase is Phase.STANDBY)
            ):
                wanted.add(partition)
        return wanted

    def _stands_by(self, partition: int, *, already: bool) -> bool:
        owner = self._liveness.owner(partition)
        if already and owner is not None and owner[0] == self._node:
            return True  # handed over a moment ago; who has it now was not heard yet
        return self._liveness.stands_by(partition, self._standbys, already=already)

    def steer(self, replicas: Replicas, wanted: set[int], now_ms: int) -> None:
        """Tell every replica what it needs to know, and let go of what is not wanted here."""
        self.suspects = False
        if not self.leaving:
            self._leaving_ms = None
        elif self._leaving_ms is None:
            self._leaving_ms = now_ms
        for partition, replica in replicas.items():
            if replica.phase in TOLD:
                replica.standing = self._liveness.standing(
                    partition, now_ms, assigned=partition in self.assigned
                )
                self.suspects |= (
                    limits.SUSPECT_MS <= (replica.standing.silence_ms or 0) < limits.PEER_GONE_MS
                )
            if replica.phase is Phase.OWNING:
                self._hand_over(partition, replica, now_ms)
            elif partition not in wanted:
                replica.release()
        self._ask(replicas, now_ms)

    def _hand_over(self, partition: int, replica: Replica, now_ms: int) -> None:
        """Release to the best standby when leaving, or to the one that the group has chosen."""
        newer = self._liveness.newer_owner(partition, replica.held().epoch)
        if newer is not None:
            replica.superseded(newer)
        elif self.leaving:
            heir = self._liveness.successor(partition)
            if heir is not None or not self._heir_may_come(now_ms):
                replica.release(heir.node if heir else None)
        elif partition not in self.assigned:
            heir = self._liveness.successor(partition, asking=True)
            if heir and replica.held().sequence - heir.sequence <= limits.MOVE_LAG_MAX:
                replica.release(heir.node, stay=True)

    def _heir_may_come(self, now_ms: int) -> bool:
        """Return True while going on costs clients less than a partition without an owner would."""
        since_ms = now_ms - (now_ms if self._leaving_ms is None else self._leaving_ms)
        return bool(self._standbys and self._liveness.others()) and since_ms < limits.HEIR_WAIT_MS

    def _ask(self, replicas: Replicas, now_ms: int) -> None:
        """Ask for one partition at a time, seldom: a change of owner costs its clients a moment."""
        asking = self._asking
        since_ms = limits.MOVE_INTERVAL_MS if self._asked_ms is None else now_ms - self._asked_ms
        if asking is not None:
            given_up = since_ms >= limits.GROUP_WAIT_MS
            if given_up or not self._may_ask(asking, replicas):
                self._asking = asking = None
        if asking is None and since_ms >= limits.BALANCE_INTERVAL_MS:
            for partition in sorted(self.assigned):
                if self._may_ask(partition, replicas) and (
                    since_ms >= limits.MOVE_INTERVAL_MS or self._balances(partition, replicas)
                ):
                    self._asking, self._asked_ms = partition, now_ms
                    break
        for partition, replica in replicas.items():
            replica.wants = partition == self._asking

    def _may_ask(self, partition: int, replicas: Replicas) -> bool:
        """Return True when a partition of the group's choice is another's, and could be ours."""
        replica, owner = replicas.get(partition), self._liveness.owner(partition)
        if partition not in self.assigned or replica is None or owner is None:
            return False
        behind = owner[1] - replica.held().sequence
        return (
            replica.phase is Phase.STANDBY
            and owner[0] != self._node
            and behind <= limits.MOVE_LAG_MAX
        )

    def _balances(self, partition: int, replicas: Replicas) -> bool:
        """Return True when a move makes the nodes' shares more equal: that can't go on for ever."""
        owner = self._liveness.owner(partition)
        ours = sum(replica.phase is Phase.OWNING for replica in replicas.values())
        return owner is not None and self._liveness.owned_by(owner[0]) >= ours + 2
