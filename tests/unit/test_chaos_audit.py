"""The chaos runs' auditor finds each way in which a promise could be broken."""

import pytest
import xxhash

from loadtest.chaos_audit import Partition, Record, judge, longest_gaps
from loadtest.chaos_load import Answer, Book, Sent
from loadtest.plain_client import Codec

ACCOUNT = "plain-1"
TRAFFIC = [("open", 0), ("credit", 70), ("debit", 50), ("debit", 50), ("credit", 5)]
CODES = ["", "", "", "insufficient_funds", ""]
COMMAND, OUTCOME, OWNER, RELEASED = (
    Codec(name) for name in ("command", "outcome", "owner", "released")
)


class Scene:
    """One partition's log in which every promise holds, to be damaged."""

    def __init__(self) -> None:
        self.book, self.commands, self.events = Book(), [], []
        self.epoch, self.sequence, self.previous = 0, 0, 0
        self.own(1 << 20, "first")
        for at, (name, amount) in enumerate(TRAFFIC):
            self.send(at, name, amount)
            self.decide(at, name, CODES[at])

    def send(self, at: int, name: str, amount: int) -> None:
        self.book.write(ident(at), Sent(ACCOUNT, name, amount, 0.0))
        self.command(at, name)

    def command(self, at: int, name: str) -> None:
        fields = {"command_id": ident(at), "name": name, "args_schema": 0, "args": b""}
        self.commands.append(COMMAND.encode(fields))

    def own(self, epoch: int, node: str) -> None:
        self.epoch = epoch
        fields = {
            **self.head(0),
            "claim_id": bytes(16),
            "node": node,
            "incarnation": 1,
            "engine_version": "",
            "format": 1,
            "command_topic_id": "",
        }
        self.events.append(OWNER.encode(fields))

    def release(self) -> None:
        self.events.append(RELEASED.encode({**self.head(0), "successor": None}))

    def head(self, step: int) -> dict[str, object]:
        place = {"epoch": self.epoch, "sequence": self.sequence + step}
        return {**place, "previous": self.previous, "skippable": False}

    def decide(self, at: int, name: str, code: str, *, answer: bool = True) -> None:
        empty = {"changes": [], "emits": [], "timers": []}
        fields = {
            **self.head(1),
            **empty,
            "workspace": ACCOUNT,
            "workspace_sequence": self.sequence + 1,
            "command_id": ident(at),
            "input": "commands",
            "input_offset": at,
            "command_time": 0,
            "registered_at": 0,
            "name": name,
            "application": 1,
            "args_schema": 0,
            "args": b"",
            "code": code,
            "message": "",
        }
        value = OUTCOME.encode(fields)
        self.sequence += 1
        self.previous = xxhash.xxh64_intdigest(value)
        self.previous -= 2**64 if self.previous >= 2**63 else 0
        self.events.append(value)
        if answer:
            self.book.answered(ident(at), Answer(0, self.sequence, self.sequence, code))

    def faults(self) -> list[str]:
        events, commands = (
            [(0, Record(at, at * 1_000, b"", value)) for at, value in enumerate(values)]
            for values in (self.events, self.commands)
        )
        return [*self.book.faults, *judge(self.book, events, commands).faults]


def ident(at: int) -> bytes:
    return bytes([at]) * 16


def test_nothing_is_found_where_every_promise_holds() -> None:
    scene = Scene()
    assert scene.faults() == []


def test_duplicates_zombies_and_changes_of_owner_are_no_faults() -> None:
    scene = Scene()
    scene.command(1, "credit")  # asked again
    kept = scene.epoch, scene.sequence, scene.previous
    scene.own(2 << 20, "second")
    scene.epoch, zombie = kept[0], len(scene.events)
    scene.decide(1, "credit", "", answer=False)  # of the old epoch
    scene.epoch, scene.sequence, scene.previous = 2 << 20, kept[1], kept[2]
    scene.release()
    scene.decide(2, "debit", "", answer=False)  # behind the own Released
    assert len(scene.events) == zombie + 3
    assert scene.faults() == []


def lost(scene: Scene) -> None:
    scene.send(9, "credit", 1)


def doubled(scene: Scene) -> None:
    scene.decide(1, "credit", "", answer=False)


def reordered(scene: Scene) -> None:
    scene.commands[1], scene.commands[2] = scene.commands[2], scene.commands[1]


def wrong(scene: Scene) -> None:
    scene.send(5, "debit", 1_000)
    scene.decide(5, "debit", "")


def answered_otherwise(scene: Scene) -> None:
    scene.book.sent[ident(4)].answer = Answer(0, 4, 4, "")


def answered_twice_differently(scene: Scene) -> None:
    scene.book.answered(ident(4), Answer(0, 5, 5, "not_open"))


def refused(scene: Scene) -> None:
    scene.book.answered(ident(4), Answer(0, 0, 0, "id_expired"))


def unanswered(scene: Scene) -> None:
    scene.book.sent[ident(4)].answer = None


def tail_lost(scene: Scene) -> None:
    del scene.events[-1]


def chain_broken(scene: Scene) -> None:
    scene.previous += 1
    scene.send(5, "credit", 1)
    scene.decide(5, "credit", "")


@pytest.mark.parametrize(
    "damage",
    [
        lost,
        doubled,
        reordered,
        wrong,
        answered_otherwise,
        answered_twice_differently,
        refused,
        unanswered,
        tail_lost,
        chain_broken,
    ],
)
def test_a_broken_promise_is_found(damage) -> None:
    scene = Scene()
    damage(scene)
    assert scene.faults() != []


def test_a_pause_belongs_to_the_fault_it_began_with() -> None:
    scene = Scene()
    events = [(0, Record(at, at * 1_000, b"", value)) for at, value in enumerate(scene.events)]
    made = judge(scene.book, events, [])
    times = [outcome.time_ms for outcome in made.partitions[0].outcomes]
    assert times == [1_000, 2_000, 3_000, 4_000, 5_000]
    outcomes = [
        one._replace(time_ms=at)
        for one, at in zip(
            made.partitions[0].outcomes, [1_000, 2_000, 9_000, 9_100, 12_000], strict=True
        )
    ]
    made.partitions = {0: Partition(outcomes)}
    assert longest_gaps(made, [(0.0, 1.5), (1.5, 8.0), (8.0, 10.0)]) == [
        1.0,
        7.0,
        pytest.approx(2.9),
    ]
