"""Which node answers for a partition: what the heartbeats say, judged by our own clock."""

from collections.abc import Sequence

from engine import limits
from engine.model import NodeBeat
from engine.node.api import Route, Where
from engine.ports import Clock


class RoutingTable:
    """The newest beat of each node, and when it last changed as seen from here."""

    def __init__(self, node: str, clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._seen: dict[str, tuple[tuple[bytes, int], int]] = {}
        self._live: dict[str, NodeBeat] = {}

    def update(self, peers: Sequence[NodeBeat]) -> None:
        """Take the newest beats; a node that has not sent a new one for a while is not there."""
        now_ms = self._clock.monotonic_ms()
        live: dict[str, NodeBeat] = {}
        for beat in peers:
            mark = (beat.process, beat.sent_at)
            known = self._seen.get(beat.node)
            if known is None or known[0] != mark:
                self._seen[beat.node] = (mark, now_ms)
            elif now_ms - known[1] > limits.PEER_SILENCE_MS:
                continue
            if not beat.leaving:
                live[beat.node] = beat
        self._live = live

    def live(self) -> Sequence[NodeBeat]:
        """Return the nodes that are there."""
        return list(self._live.values())

    def route(self, partition: int) -> Route:
        """Return the other node with the newest ownership of a partition."""
        best_epoch, url = -1, ""
        for beat in self._live.values():
            if beat.node == self._node or not beat.http:
                continue
            for held in beat.partitions:
                if held.partition == partition and held.role == "owner" and held.epoch > best_epoch:
                    best_epoch, url = held.epoch, beat.http
        return Route(Where.THERE, url) if url else Route(Where.NOBODY)
