"""What a node makes of the heartbeats it hears, by its own clock."""

from engine import limits
from engine.model import Held, NodeBeat
from engine.node.api import Where
from engine.node.liveness import Liveness, ranked

BEAT = limits.HEARTBEAT_MS
ME = b"me".ljust(16)


def held(partition: int, role: str, epoch: int = 1, sequence: int = 0, **more: bool) -> Held:
    return Held(partition, role, epoch, sequence, **more)


class Ear:
    """A node that hears what others say; its own beats come back unless it is deaf."""

    def __init__(self, *, listening: bool = True) -> None:
        self.now_ms = 0
        self.liveness = Liveness("me", ME, 0)
        self.beats: dict[str, NodeBeat] = {}
        self.deaf = False
        self.own: tuple[Held, ...] = ()
        if listening:
            self.step()

    def beat(self, node: str, *partitions: Held, process: bytes = b"", **flags: bool):
        return NodeBeat(
            node=node,
            process=process or node.encode().ljust(16),
            engine_version="",
            format=1,
            application="1",
            fingerprint=b"",
            http=f"http://{node}",
            sent_at=1_000_000 + self.now_ms,
            leaving=flags.get("leaving", False),
            draining=flags.get("draining", False),
            partitions=partitions,
        )

    def say(self, node: str, *partitions: Held, **more: bool) -> None:
        self.beats[node] = self.beat(node, *partitions, **more)

    def step(self, passed_ms: int = BEAT) -> None:
        self.now_ms += passed_ms
        own = self.beat("me", *self.own)
        self.liveness.sent(own, self.now_ms)
        if not self.deaf:
            self.beats["me"] = own
        self.liveness.hear([] if self.deaf else list(self.beats.values()), self.now_ms)

    def silence(self, partition: int = 0) -> int | None:
        return self.liveness.standing(partition, self.now_ms, assigned=False).silence_ms

    def deaf_ms(self) -> int:
        return self.liveness.standing(0, self.now_ms, assigned=False).deaf_ms


def test_nobody_is_heard_before_the_own_beat_is_back() -> None:
    ear = Ear(listening=False)
    assert ear.deaf_ms() > 0
    ear.step()
    assert ear.deaf_ms() == 0


def test_an_owner_is_silent_from_its_last_beat_on() -> None:
    ear = Ear()
    for _ in range(8):
        ear.say("a", held(0, "owner"))
        ear.step()
    assert ear.silence() == 0
    for at in range(1, 5):
        ear.step()
        assert ear.silence() == at * BEAT


def test_a_process_that_is_back_under_its_name_but_owns_nothing_is_no_owner() -> None:
    ear = Ear()
    ear.say("a", held(0, "owner"))
    ear.step()
    for _ in range(4):
        ear.beats["a"] = ear.beat("a", held(0, "restoring"), process=b"another".ljust(16))
        ear.step()
    assert ear.silence() == 4 * BEAT


def test_the_process_before_this_one_is_not_heard() -> None:
    ear = Ear(listening=False)
    ear.liveness.hear([ear.beat("me", held(0, "owner"), process=b"old".ljust(16))], 0)
    ear.step()
    assert ear.silence() is None


def test_an_older_epoch_is_no_news() -> None:
    """A zombie that still believes to own does not hide that the owner is silent."""
    ear = Ear()
    ear.say("a", held(0, "owner", epoch=5))
    ear.step()
    for _ in range(4):
        ear.say("z", held(0, "owner", epoch=4))
        ear.step()
    assert ear.silence() == 4 * BEAT
    assert ear.liveness.owner(0) == ("a", 0)


def test_while_deaf_no_silence_grows_and_afterwards_all_begin_anew() -> None:
    ear = Ear()
    ear.say("a", held(0, "owner"))
    ear.step()
    ear.deaf = True
    for _ in range(40):
        ear.step()
    assert ear.deaf_ms() > 9_000
    assert ear.silence() == 0
    ear.deaf = False
    ear.step()
    assert ear.deaf_ms() == 0
    assert ear.silence() == 0
    for _ in range(limits.RECONNECT_MS // BEAT):
        ear.step()
        assert (ear.silence() or 0) < limits.OWNER_SILENCE_MS  # it may reach the broker later


def test_a_beat_from_before_a_pause_is_no_proof_of_hearing() -> None:
    """What lay in a socket while the process was stopped says nothing about the others."""
    ear = Ear()
    ear.say("a", held(0, "owner"))
    ear.step()
    late = ear.beat("me")
    ear.liveness.sent(late, ear.now_ms)
    ear.now_ms += 30_000  # stopped
    ear.liveness.hear([*ear.beats.values(), late], ear.now_ms)
    assert ear.deaf_ms() > 0
    assert (ear.silence() or 0) < limits.OWNER_SILENCE_MS


def test_who_was_gone_before_we_were_deaf_is_gone_afterwards() -> None:
    ear = Ear()
    ear.say("a", held(0, "standby"))
    ear.step()
    for _ in range(limits.PEER_GONE_MS // BEAT + 1):
        ear.step()
    ear.deaf = True
    for _ in range(20):
        ear.step()
    ear.deaf = False
    ear.step()
    assert [beat.node for beat in ear.liveness.live(limits.PEER_GONE_MS)] == ["me"]
    assert ear.liveness.successor(0) is None


def test_standbys_are_the_first_by_hash_without_the_owner() -> None:
    ear = Ear()
    nodes = ["me", "a", "b", "c"]
    for partition in range(20):
        ear.say("a", *(held(one, "owner") for one in range(20)))
        ear.say("b")
        ear.say("c")
        ear.step()
        chosen = [node for node in ranked(partition, nodes) if node != "a"][:2]
        stands = ear.liveness.stands_by(partition, 2, already=False)
        assert stands == ("me" in chosen)


def test_a_standby_stays_until_those_chosen_in_its_place_are_ready() -> None:
    ear = Ear()
    partition = next(one for one in range(50) if ranked(one, ["me", "b"]) == ["b", "me"])

    def stays(*said: Held) -> bool:
        ear.say("a", held(partition, "owner"))
        ear.say("b", *said)
        ear.step()
        return ear.liveness.stands_by(partition, 1, already=True)

    assert stays()
    assert stays(held(partition, "restoring"))
    assert not stays(held(partition, "standby"))
    assert not ear.liveness.stands_by(partition, 1, already=False)


def test_rank_counts_only_those_that_are_ready() -> None:
    ear = Ear()
    partition = next(one for one in range(50) if ranked(one, ["me", "b"]) == ["b", "me"])
    ear.say("b", held(partition, "restoring"))
    ear.step()
    assert ear.liveness.standing(partition, ear.now_ms, assigned=False).rank == 0
    ear.say("b", held(partition, "standby"))
    ear.step()
    assert ear.liveness.standing(partition, ear.now_ms, assigned=False).rank == 1


def test_the_successor_is_the_standby_that_is_farthest() -> None:
    ear = Ear()
    ear.own = (held(0, "owner", sequence=12),)
    ear.say("a", held(0, "standby", sequence=9))
    ear.say("b", held(0, "standby", sequence=11), held(1, "standby", wants=True))
    ear.say("c", held(0, "restoring", sequence=12))
    ear.step()
    heir = ear.liveness.successor(0)
    assert heir is not None
    assert heir.node == "b"
    assert ear.liveness.successor(0, asking=True) is None
    asking = ear.liveness.successor(1, asking=True)
    assert asking is not None
    assert asking.node == "b"


def test_who_is_about_to_leave_is_no_successor_and_the_others_know_it() -> None:
    ear = Ear()
    ear.say("near", held(0, "standby", sequence=1))
    ear.say("far", held(0, "standby", sequence=9), draining=True)
    ear.step()
    heir = ear.liveness.successor(0)
    assert heir is not None
    assert heir.node == "near"
    assert ear.liveness.standing(0, ear.now_ms, assigned=False).going == {"far"}


def test_requests_go_to_the_newest_owner_that_is_there() -> None:
    ear = Ear()
    ear.say("a", held(0, "owner", epoch=4))
    ear.say("b", held(0, "owner", epoch=5), held(1, "standby"))
    ear.step()
    assert ear.liveness.route(0).url == "http://b"
    assert ear.liveness.route(1).where is Where.NOBODY
    ear.say("b", leaving=True)
    ear.step()
    assert ear.liveness.route(0).url == "http://a"
