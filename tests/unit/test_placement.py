"""Nodes of one application on simulated logs: who holds what, who takes over, who hands over."""

from collections.abc import Iterator

import pytest
from replica_world import ReplicaWorld

from engine import limits
from engine.model import MembershipChange, NodeBeat, Phase
from engine.node.liveness import Liveness, ranked
from engine.node.placement import Placement
from engine.partition.replica import Identity, Replica
from engine.simulator.applications import ledger
from engine.wire import Kind

STEP_MS = 10
PARTITION = 0


class Peer:
    """One node as the shell drives it, without threads: beats, looks around, ticks."""

    def __init__(self, cluster: "Cluster", name: str, standbys: int) -> None:
        self.cluster, self.name = cluster, name
        self.process = f"{name}{cluster.now_ms}".encode().ljust(16)
        self.liveness = Liveness(name, self.process, cluster.now_ms)
        self.placement = Placement(name, 1, standbys, self.liveness)
        self.replicas: dict[int, Replica] = {}
        self.beat_at_ms = 0

    @property
    def phase(self) -> Phase | None:
        replica = self.replicas.get(PARTITION)
        return replica.phase if replica else None

    def assign(self) -> None:
        self.placement.follow(MembershipChange(assigned=(PARTITION,)))

    def revoke(self) -> None:
        self.placement.follow(MembershipChange(revoked=(PARTITION,)))

    def step(self) -> None:
        now_ms = self.cluster.now_ms
        if now_ms >= self.beat_at_ms:
            self.beat_at_ms = now_ms + limits.HEARTBEAT_MS
            held = tuple(replica.held() for replica in self.replicas.values())
            application = ledger()
            beat = NodeBeat(
                node=self.name,
                process=self.process,
                engine_version="",
                format=1,
                application=application.version,
                fingerprint=application.fingerprint,
                http=f"http://{self.name}",
                sent_at=now_ms,
                leaving=False,
                draining=self.placement.leaving,
                partitions=held,
            )
            self.liveness.sent(beat, now_ms)
            if not self.cluster.stalled:
                self.cluster.beats[self.name] = beat
        elif self.placement.suspects:
            self.beat_at_ms = min(self.beat_at_ms, now_ms + limits.SUSPECT_BEAT_MS)
        self.liveness.hear(list(self.cluster.beats.values()), now_ms)
        wanted = self.placement.wanted(self.replicas)
        for partition in wanted - self.replicas.keys():
            who = Identity(self.name, partition, ledger())
            self.replicas[partition] = self.cluster.world.opened(who, None)
        self.placement.steer(self.replicas, wanted, now_ms)
        for partition, replica in list(self.replicas.items()):
            before = replica.phase
            replica.tick()
            if replica.phase is not before:
                self.beat_at_ms = 0
            if replica.phase is Phase.CLOSED:
                replica.close()
                del self.replicas[partition]


class Cluster:
    """Nodes that hear each other through one row a node."""

    def __init__(self, *names: str, standbys: int = 1) -> None:
        self.world = ReplicaWorld()
        self.beats: dict[str, NodeBeat] = {}
        self.stalled = False
        self.standbys = standbys
        self.nodes: dict[str, Peer] = {}
        for name in names:
            self.start(name)

    @property
    def now_ms(self) -> int:
        return self.world.clock.time_ms

    def start(self, name: str) -> Peer:
        self.nodes[name] = Peer(self, name, self.standbys)
        return self.nodes[name]

    def run(self, duration_ms: int) -> None:
        for _ in range(duration_ms // STEP_MS):
            self.world.clock.time_ms += STEP_MS
            for node in list(self.nodes.values()):
                node.step()
            self.world.broker.step()

    def until(self, node: Peer, phase: Phase) -> int:
        """Run until a node's replica is in a phase; return how long that took."""
        begun_ms = self.now_ms
        for _ in range(9_000):
            if node.phase is phase:
                return self.now_ms - begun_ms
            self.run(STEP_MS)
        raise AssertionError(f"{node.name} is {node.phase}, not {phase}")

    def owners(self) -> int:
        return self.world.kinds().count(Kind.OWNER)

    def owning(self) -> list[str]:
        return [node.name for node in self.nodes.values() if node.phase is Phase.OWNING]


def by_rank(names: str) -> Iterator[str]:
    return iter(ranked(PARTITION, names.split()))


@pytest.fixture
def three() -> tuple[Cluster, Peer, Peer, Peer]:
    """Return a cluster whose owner, standby and third node are settled."""
    first, second, third = by_rank("a b c")
    cluster = Cluster("a", "b", "c", standbys=1)
    owner, standby, other = cluster.nodes[third], cluster.nodes[first], cluster.nodes[second]
    owner.assign()
    cluster.until(owner, Phase.OWNING)
    cluster.until(standby, Phase.STANDBY)
    cluster.run(1_000)
    return cluster, owner, standby, other


def test_the_first_by_hash_stands_by_and_nobody_else_holds_it(three) -> None:
    cluster, owner, standby, other = three
    assert (owner.phase, standby.phase, other.phase) == (Phase.OWNING, Phase.STANDBY, None)
    assert cluster.owners() == 1


def test_a_dead_owner_is_replaced_without_the_group(three) -> None:
    cluster, owner, standby, other = three
    del cluster.nodes[owner.name]
    took_ms = cluster.until(standby, Phase.OWNING)
    assert took_ms <= limits.OWNER_SILENCE_MS + 100
    cluster.run(2_000)
    assert other.phase is Phase.STANDBY


def test_with_its_standby_dead_too_the_next_one_takes_over(three) -> None:
    cluster, owner, standby, other = three
    cluster.nodes.pop(standby.name)
    cluster.run(limits.PEER_GONE_MS + 2_000)
    assert other.phase is Phase.STANDBY
    del cluster.nodes[owner.name]
    assert cluster.until(other, Phase.OWNING) <= limits.OWNER_SILENCE_MS + 100


def test_when_the_heartbeats_stall_nothing_changes_hands(three) -> None:
    cluster, owner, standby, _ = three
    cluster.stalled = True
    cluster.run(60_000)
    cluster.stalled = False
    cluster.run(10_000)
    assert cluster.owning() == [owner.name]
    assert standby.phase is Phase.STANDBY
    assert cluster.owners() == 1


def test_who_leaves_hands_over_to_its_standby_at_once(three) -> None:
    cluster, owner, standby, _ = three
    owner.placement.leaving = True
    assert cluster.until(standby, Phase.OWNING) <= 10 * STEP_MS
    assert owner.phase is None
    kinds = cluster.world.kinds()
    assert kinds[-2:] == [Kind.RELEASED, Kind.OWNER]


def test_who_leaves_goes_on_until_a_standby_that_starts_is_ready() -> None:
    cluster = Cluster("a")
    owner = cluster.nodes["a"]
    owner.assign()
    cluster.until(owner, Phase.OWNING)
    started = cluster.start("b")
    cluster.run(STEP_MS)
    cluster.stalled = True  # its first beat was heard, that it is ready was not
    owner.placement.leaving = True
    cluster.run(20 * STEP_MS)
    assert (owner.phase, started.phase) == (Phase.OWNING, Phase.STANDBY)
    cluster.stalled = False
    assert cluster.until(started, Phase.OWNING) <= limits.HEARTBEAT_MS + 10 * STEP_MS
    released = [kind for kind in cluster.world.kinds() if kind is Kind.RELEASED]
    assert released == [Kind.RELEASED]
    assert cluster.owners() == 2


def test_who_leaves_waits_for_nobody_if_alone_and_never_for_ever() -> None:
    for others, most_ms in (((), 5 * STEP_MS), (("idle",), limits.HEIR_WAIT_MS + 10 * STEP_MS)):
        cluster = Cluster("a")
        owner = cluster.nodes["a"]
        for name in others:
            cluster.nodes[name] = Peer(cluster, name, 0)  # it stands by for nothing
        owner.assign()
        cluster.until(owner, Phase.OWNING)
        cluster.run(1_000)
        owner.placement.leaving = True
        cluster.run(most_ms)
        assert owner.phase is None
        assert cluster.world.kinds()[-1] is Kind.RELEASED


def test_a_partition_given_to_a_node_that_leaves_comes_back_at_once() -> None:
    cluster = Cluster("a", "b")
    owner, heir = cluster.nodes["a"], cluster.nodes["b"]
    owner.assign()
    cluster.until(heir, Phase.STANDBY)
    cluster.run(1_000)
    owner.revoke()
    heir.assign()
    cluster.until(owner, Phase.RELEASING)
    heir.placement.leaving = True
    assert cluster.until(owner, Phase.OWNING) < limits.SUCCESSOR_WAIT_MS
    assert heir.phase is None


def test_the_group_moves_a_partition_only_to_whom_has_caught_up_and_once(three) -> None:
    cluster, owner, standby, other = three
    owner.revoke()
    other.assign()
    cluster.run(STEP_MS)
    assert owner.phase is Phase.OWNING
    cluster.until(other, Phase.OWNING)
    assert cluster.owners() == 2
    cluster.run(120_000)
    assert cluster.owning() == [other.name]
    assert cluster.owners() == 2
    assert standby.phase is Phase.STANDBY
    assert owner.phase is None


def test_a_group_that_cant_make_up_its_mind_costs_a_move_a_minute(three) -> None:
    cluster, owner, _, other = three
    minutes = 5
    for _ in range(minutes * 6):
        owner.revoke()
        other.assign()
        cluster.run(5_000)
        other.revoke()
        owner.assign()
        cluster.run(5_000)
    assert cluster.owners() <= 2 + 2 * minutes


def test_without_standbys_the_groups_word_alone_moves_it() -> None:
    cluster = Cluster("a", "b", standbys=0)
    first, second = cluster.nodes["a"], cluster.nodes["b"]
    first.assign()
    cluster.until(first, Phase.OWNING)
    cluster.run(2_000)
    assert second.phase is None
    del cluster.nodes["a"]
    cluster.run(6_000)
    assert second.phase is None
    second.assign()
    assert cluster.until(second, Phase.OWNING) <= 200


def test_who_is_released_to_and_dies_is_replaced(three) -> None:
    cluster, owner, standby, other = three
    other.assign()
    cluster.run(2_000)
    assert other.phase is Phase.STANDBY
    owner.placement.leaving = True
    owner.step()
    cluster.world.broker.step()
    heir = standby if owner.liveness.successor(0).node == standby.name else other
    left = other if heir is standby else standby
    del cluster.nodes[heir.name]
    took_ms = cluster.until(left, Phase.OWNING)
    assert took_ms >= limits.SUCCESSOR_WAIT_MS
    assert took_ms <= limits.SUCCESSOR_WAIT_MS + limits.STANDBY_STEP_MS + 100


def test_a_paused_owner_comes_back_as_a_standby_or_not_at_all(three) -> None:
    cluster, owner, standby, _ = three
    del cluster.nodes[owner.name]
    owner.revoke()
    cluster.until(standby, Phase.OWNING)
    cluster.run(3_000)
    cluster.nodes[owner.name] = owner
    cluster.world.move(5)
    cluster.run(5_000)
    assert owner.phase is not Phase.OWNING
    assert cluster.owning() == [standby.name]
    assert [reply.sequence for reply in cluster.world.replies] == [1]


def test_an_idle_zombie_hears_that_it_is_replaced(three) -> None:
    """Nothing to append tells it; what it answers to queries would be old for ever."""
    cluster, owner, standby, _ = three
    del cluster.nodes[owner.name]
    owner.revoke()
    cluster.until(standby, Phase.OWNING)
    cluster.run(3_000)
    cluster.nodes[owner.name] = owner
    assert owner.phase is Phase.OWNING
    cluster.run(2 * STEP_MS)
    assert owner.phase is not Phase.OWNING
