"""What Membership and Directory promise, on every implementation."""

from dataclasses import replace

from engine.model import Held, NodeBeat


def beat(node, sent_at, *held, leaving=False):
    return NodeBeat(
        node=node,
        process=node.encode().ljust(16),
        engine_version="0.1.0",
        format=1,
        application="1.0.0",
        fingerprint=b"\1" * 32,
        http="http://127.0.0.1:8080",
        sent_at=sent_at,
        leaving=leaving,
        partitions=held,
    )


def test_who_is_alone_gets_every_partition_and_hears_of_each_once(peers):
    given = []

    def all_given():
        change = peers.membership.poll()
        assert not change.revoked
        given.extend(change.assigned)
        return len(given) >= peers.partitions

    peers.settle(all_given)
    assert sorted(given) == list(range(peers.partitions))
    for _ in range(5):
        change = peers.membership.poll()
        assert (change.assigned, change.revoked, change.lost) == ((), (), False)


def test_letting_go_of_what_nobody_asked_for_is_harmless(peers):
    peers.settle(lambda: peers.membership.poll().assigned)
    peers.membership.released(0)
    peers.membership.released(0)
    assert not peers.membership.poll().revoked


def test_nobody_is_there_before_the_first_beat(peers):
    assert list(peers.directory.peers()) == []


def test_an_own_beat_comes_back_as_it_was_sent(peers):
    own = beat("n", 5, Held(0, "owner", 7 << 20, 12), Held(3, "standby", 8 << 20, 4, wants=True))
    peers.directory.announce(own)
    peers.settle(lambda: list(peers.directory.peers()) == [own])


def test_of_each_node_only_the_newest_beat_is_known(peers):
    for at in range(20):
        peers.directory.announce(beat("n", at, Held(0, "claiming", at, at)))
    newest = beat("n", 19, Held(0, "claiming", 19, 19))
    peers.settle(lambda: list(peers.directory.peers()) == [newest])
    assert len(peers.directory.peers()) == 1
    gone = replace(newest, sent_at=20, leaving=True, partitions=())
    peers.directory.announce(gone)
    peers.settle(lambda: list(peers.directory.peers()) == [gone])
