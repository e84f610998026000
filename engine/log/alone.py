"""Membership and directory of a node that has no peers: every partition is its own."""

from collections.abc import Mapping, Sequence

from engine.model import MembershipChange, NodeBeat


class StaticMembership:
    """All partitions, given once."""

    def __init__(self, partitions: int) -> None:
        self._all = tuple(range(partitions))
        self._paused = False
        self._change = MembershipChange(assigned=self._all)

    def poll(self) -> MembershipChange:
        """Return all partitions once, no change from then on."""
        change, self._change = self._change, MembershipChange()
        return change

    def released(self, partition: int) -> None:
        """Nobody waits for a partition here."""

    def pause(self, *, paused: bool) -> None:
        """Take all partitions back, or give them again."""
        if paused is not self._paused:
            self._paused = paused
            self._change = (
                MembershipChange((), self._all) if paused else MembershipChange(self._all)
            )

    def decided(self, offsets: Mapping[int, int]) -> None:
        """No tool asks for it here."""

    def close(self) -> None:
        """There is no group to leave."""


class StaticDirectory:
    """Knows one node: this one."""

    def __init__(self) -> None:
        self._beat: NodeBeat | None = None

    def announce(self, beat: NodeBeat) -> None:
        """Remember the newest beat."""
        self._beat = beat

    def peers(self) -> Sequence[NodeBeat]:
        """Return this node's newest beat."""
        return [self._beat] if self._beat else []

    def close(self) -> None:
        """There is nothing to close."""
