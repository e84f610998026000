"""Who is there, who owns what, who stands by: judged from heartbeats by this node's own clock.

Pure: fed with beats and a monotonic time, by the shell and by the simulator alike. A node is silent
only as long as our own beats come back: what stalls the heartbeats must make nobody a suspect.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from engine import limits, wire
from engine.model import Held, NodeBeat
from engine.node.api import Route, Where
from engine.partition.standby import Standing
from engine.ports import Directory

_SENT_MAX = 16
_READY = frozenset({"standby", "claiming"})
_OWNS = frozenset({"owner", "claiming"})


class Heir(NamedTuple):
    """A node that stands by for a partition, and how far it is."""

    sequence: int
    node: str


@dataclass(slots=True)
class _Peer:
    """The newest beat of a node."""

    beat: NodeBeat
    heard_ms: int
    held: dict[int, Held]


@dataclass(slots=True)
class _Owner:
    """Who was last heard to own a partition."""

    node: str
    epoch: int
    heard_ms: int
    times: int = 1


class Liveness:
    """What a node has heard of all nodes, itself included."""

    def __init__(self, node: str, process: bytes, now_ms: int) -> None:
        self._node = node
        self._process = process
        self._peers: dict[str, _Peer] = {}
        self._owners: dict[int, _Owner] = {}
        self._sent: deque[tuple[int, int]] = deque(maxlen=_SENT_MAX)  # newest beats
        self._back_ms = now_ms  # when the newest that is back was sent
        self._deaf_since_ms: int | None = now_ms

    def sent(self, beat: NodeBeat, now_ms: int) -> None:
        """Note an own beat, to be known again when it comes back."""
        self._sent.append((beat.sent_at, now_ms))

    def hear(self, beats: Iterable[NodeBeat], now_ms: int) -> None:
        """Take the newest beat of every node."""
        for beat in beats:
            known = self._peers.get(beat.node)
            if beat.node == self._node and beat.process != self._process:
                continue  # said by the process before this one
            if known is None or _mark(known.beat) != _mark(beat):
                self._hear(beat, now_ms)
        self._listen(now_ms)

    def _hear(self, beat: NodeBeat, now_ms: int) -> None:
        held = {one.partition: one for one in beat.partitions}
        self._peers[beat.node] = _Peer(beat, now_ms, held)
        if len(self._peers) > limits.NODES_MAX:
            del self._peers[min(self._peers, key=lambda name: self._peers[name].heard_ms)]
        if beat.node == self._node:
            self._came_back(beat.sent_at)
        for one in beat.partitions:
            if one.role in _OWNS:
                self._owned(beat.node, one, now_ms)

    def _owned(self, node: str, held: Held, now_ms: int) -> None:
        known = self._owners.get(held.partition)
        if known is None or held.epoch > known.epoch:
            self._owners[held.partition] = _Owner(node, held.epoch, now_ms)
        elif known.node == node and held.epoch == known.epoch:
            known.heard_ms = now_ms
            known.times += 1

    def _came_back(self, sent_at: int) -> None:
        for mark, sent_ms in list(self._sent):  # another thread may be sending
            if mark == sent_at:
                self._back_ms = sent_ms

    def _listen(self, now_ms: int) -> None:
        """Notice when our own beats stay away, and when they are back."""
        since_ms = self._deaf_since_ms
        if now_ms - self._back_ms > limits.HEARING_MS:
            self._deaf_since_ms = self._back_ms if since_ms is None else since_ms
        elif since_ms is not None and self._back_ms > since_ms:
            self._deaf_since_ms = None
            self._resume(since_ms, now_ms)

    def _resume(self, since_ms: int, now_ms: int) -> None:
        """Don't count as silence what could not be heard; others may be back a little later."""
        deaf_ms = now_ms - since_ms
        for peer in self._peers.values():
            peer.heard_ms = min(peer.heard_ms + deaf_ms, now_ms)
        for owner in self._owners.values():
            if since_ms - owner.heard_ms < limits.OWNER_SILENCE_MS:
                owner.heard_ms = now_ms + min(deaf_ms, limits.RECONNECT_MS)

    def deaf_ms(self, now_ms: int) -> int:
        """Return for how long our own beats have not come back; 0 = they do."""
        self._listen(now_ms)
        return 0 if self._deaf_since_ms is None else max(now_ms - self._deaf_since_ms, 1)

    def unheard_ms(self, directory: Directory, now_ms: int) -> int:
        """Return the age of our newest beat that came back; 0 while nobody else is there.

        For other threads: it doesn't wait for the shell to listen.
        """
        if len(self._peers) <= 1:
            return 0
        back_ms = self._back_ms
        if now_ms - back_ms > limits.HEARING_MS:
            own = {beat.sent_at for beat in directory.peers() if beat.process == self._process}
            back_ms = max([at for mark, at in list(self._sent) if mark in own], default=back_ms)
        return now_ms - back_ms

    def live(self, silence_ms: int = limits.PEER_SILENCE_MS) -> Sequence[NodeBeat]:
        """Return the nodes that are there: heard lately, and not about to leave."""
        return [peer.beat for peer in self._heard(silence_ms)]

    def others(self) -> bool:
        """Return whether another node is there that may stand by."""
        return any(beat.node != self._node and not beat.draining for beat in self.live())

    def _heard(self, silence_ms: int) -> list[_Peer]:
        return [
            peer
            for peer in list(self._peers.values())  # callers from other threads read along
            if not peer.beat.leaving and self._silence_ms(peer.heard_ms) <= silence_ms
        ]

    def _silence_ms(self, heard_ms: int) -> int:
        """Return how long nothing was heard although we could hear.

        That is known only up to the newest own beat that is back: what others had said before it
        would have come before it.
        """
        until_ms = self._back_ms if self._deaf_since_ms is None else self._deaf_since_ms
        return max(until_ms - heard_ms, 0)

    def route(self, partition: int) -> Route:
        """Return the other node with the newest ownership of a partition."""
        best_epoch, url = -1, ""
        for peer in self._heard(limits.PEER_SILENCE_MS):
            held = peer.held.get(partition)
            if held is None or held.role != "owner" or not peer.beat.http:
                continue
            if peer.beat.node != self._node and held.epoch > best_epoch:
                best_epoch, url = held.epoch, peer.beat.http
        return Route(Where.THERE, url) if url else Route(Where.NOBODY)

    def standing(self, partition: int, now_ms: int, *, assigned: bool) -> Standing:
        """Return what is known for the decision to claim a partition."""
        owner = self._owners.get(partition)
        silence_ms = None
        if owner is not None and owner.node != self._node:
            silence_ms = self._silence_ms(owner.heard_ms)
        return Standing(
            assigned,
            self._ready(partition).index(self._node),
            self.deaf_ms(now_ms),
            silence_ms,
            owner is not None and owner.times > 1,
            frozenset(
                name
                for name, peer in list(self._peers.items())
                if peer.beat.draining or peer.beat.leaving
            ),
        )

    def _ready(self, partition: int) -> list[str]:
        """Return the nodes that could take a partition over, first the first; with this one."""
        ready = {self._node}
        for peer in self._heard(limits.PEER_SILENCE_MS):
            held = peer.held.get(partition)
            if held is not None and held.role in _READY:
                ready.add(peer.beat.node)
        return ranked(partition, ready)

    def owner(self, partition: int) -> tuple[str, int] | None:
        """Return the node that was last heard to own a partition, and how far it is there."""
        owner = self._owners.get(partition)
        if owner is None:
            return None
        held = self._peers[owner.node].held.get(partition) if owner.node in self._peers else None
        return owner.node, held.sequence if held else 0

    def newer_owner(self, partition: int, epoch: int) -> str | None:
        """Return who owns a partition in a newer epoch than this one, if anybody said so."""
        owner = self._owners.get(partition)
        newer = owner is not None and owner.epoch > epoch and owner.node != self._node
        return owner.node if owner is not None and newer else None

    def owned_by(self, node: str) -> int:
        """Return how many partitions a node says it owns."""
        peer = self._peers.get(node)
        return sum(held.role == "owner" for held in peer.held.values()) if peer else 0

    def stands_by(self, partition: int, standbys: int, *, already: bool) -> bool:
        """Return True when this node is to hold a standby of a partition.

        Who holds one `already` keeps it until those that are to hold one are ready.
        """
        owner = self._owners.get(partition)
        heard = self._heard(limits.PEER_GONE_MS)
        present = {peer.beat.node for peer in heard if not peer.beat.draining}
        present.add(self._node)
        if owner is not None:
            present.discard(owner.node)
        chosen = ranked(partition, present)[:standbys]
        if self._node in chosen:
            return True
        ready = sum(
            (held := self._peers[name].held.get(partition)) is not None and held.role in _READY
            for name in chosen
        )
        return already and ready < standbys

    def successor(self, partition: int, *, asking: bool = False) -> Heir | None:
        """Return the standby that is nearest to the owner; only one that asks, if so asked."""
        best: Heir | None = None
        for peer in self._heard(limits.PEER_SILENCE_MS):
            held = peer.held.get(partition)
            if held is None or held.role not in _READY or peer.beat.node == self._node:
                continue
            if peer.beat.draining or (asking and not held.wants):
                continue
            heir = Heir(held.sequence, peer.beat.node)
            best = heir if best is None else max(best, heir)
        return best


def ranked(partition: int, nodes: Collection[str]) -> list[str]:
    """Return nodes in the order of their rendezvous hash with a partition."""
    tail = partition.to_bytes(4)
    return sorted(nodes, key=lambda node: (wire.hash64(node.encode() + tail), node))


def _mark(beat: NodeBeat) -> tuple[bytes, int, bool]:
    return beat.process, beat.sent_at, beat.leaving
