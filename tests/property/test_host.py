"""Random commands, batches, crashes and restarts: one history, however it is cut into pieces."""

import uuid

from host_world import START_MS, World, answers, digests_of, workspaces
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import limits, wire
from engine.model import Batch, Duplicate, Input
from engine.sandbox.guests import load_guests
from engine.sandbox.host_ranges import StoreReader
from engine.sandbox.python import PythonHost
from engine.world import uuid7

NAMES = workspaces(0, 3)
HOSTS = [
    lambda _: PythonHost(load_guests),
    lambda store: PythonHost(load_guests, StoreReader(store)),
]
HOUR_MS = 3_600_000

ARGS = {
    "open": st.fixed_dictionaries({"owner": st.text(max_size=5)}),
    "credit": st.fixed_dictionaries({"amount": st.integers(-3, 600_000)}),
    "debit": st.fixed_dictionaries({"amount": st.integers(0, 9)}),
    "add": st.fixed_dictionaries(
        {
            "name": st.sampled_from(["pen", "ink", "poison", "x\x00y", "é"]),
            "quantity": st.integers(0, 2),
        }
    ),
    "sell": st.fixed_dictionaries({"id": st.integers(limits.ID_FIRST, limits.ID_FIRST + 2)}),
    "retire": st.fixed_dictionaries({"id": st.integers(limits.ID_FIRST, limits.ID_FIRST + 2)}),
    "revive": st.fixed_dictionaries({"id": st.integers(limits.ID_FIRST, limits.ID_FIRST + 2)}),
    "trouble": st.fixed_dictionaries({"kind": st.sampled_from(["raises", "view", "projector"])}),
}


@st.composite
def commands(draw):
    """Draw records of a command log: (append time, key, value); some are sent twice."""
    world = World(lambda _: PythonHost(load_guests))
    time_ms, found = START_MS, []
    # Ids that are no UUIDv7 are exact for the window at least; how much longer hangs on pages.
    long = draw(st.booleans())
    for number, name in enumerate(draw(st.permutations(NAMES)), 100):
        id_ = uuid7(time_ms, number.to_bytes(10))
        opened = world.command("open", {"owner": name}, command_id=id_)
        found.append((time_ms, name.encode(), opened))
    for number in range(draw(st.integers(1, 25))):
        time_ms += draw(st.sampled_from([0, 0, 1, 500, HOUR_MS // 2, 13 * HOUR_MS * long]))
        kind = draw(st.integers(0, 9))
        if found and kind == 0:
            again = draw(st.sampled_from(found))
            found.append((time_ms, *again[1:]))
            continue
        key = draw(st.sampled_from(NAMES)).encode()
        if kind == 1:
            found.append((time_ms, draw(st.sampled_from([key, b"", None])), draw(st.binary())))
            continue
        name = draw(st.sampled_from(sorted(ARGS)))
        command_id = uuid7(time_ms, number.to_bytes(10))
        if kind == 2 and not long:
            command_id = uuid.UUID(int=number, version=4).bytes
        expected = draw(st.sampled_from([None, None, None, 0, 1]))
        value = world.command(
            name, draw(ARGS[name]), command_id=command_id, expected_sequence=expected
        )
        found.append((time_ms, key, value))
    return found


class Owner(World):
    """Takes a command log by offset, and takes again what it did not confirm."""

    def __init__(self, records, *, reading=False):
        super().__init__(HOSTS[reading])
        self.records = records
        self.taken = self.resume = 0
        self.answers = {}

    def take(self, count):
        batch = Batch()
        for offset in range(self.taken, min(self.taken + count, len(self.records))):
            batch.add(offset, *self.records[offset])
        self.taken += len(batch)
        decided = self.finish(batch, lambda rest: self.host.decide(rest, Input.COMMANDS, START_MS))
        self.flights.append((decided, answers(batch.values, decided), self.taken))

    def confirm(self):
        if self.flights:
            decided, told, taken = self.flights.pop(0)
            for offset, reply in zip(range(self.resume, taken), told, strict=True):
                self.answers[offset] = reply
            self.resume = taken
            if decided.outcomes:
                self.apply(decided, decided.outcomes)
                self.host.confirm(decided.state.sequence)

    def discard(self):
        super().discard()
        self.taken = self.resume

    def restart(self):
        super().restart()
        self.taken = getattr(self, "resume", 0)

    def follow(self, step, count):
        """Go one step of a schedule."""
        if step == "take":
            self.take(count)
        elif step == "confirm":
            for _ in range(count):
                self.confirm()
        else:
            getattr(self, step)()

    def drain(self):
        while self.flights or self.resume < len(self.records):
            self.take(100)
            while self.flights:
                self.confirm()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 8)),
        st.tuples(st.just("confirm"), st.integers(1, 3)),
        st.tuples(st.sampled_from(["discard", "restart"]), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=120, deadline=None)
@given(commands(), STEPS, st.booleans())
def test_batches_misses_discards_and_restarts_change_nothing(records, steps, reading):
    plain = Owner(records, reading=reading)
    for _ in records:
        plain.take(1)
        plain.confirm()

    owner = Owner(records)
    for step, count in steps:
        owner.follow(step, count)
    owner.drain()

    assert owner.log == plain.log
    assert owner.rows() == plain.rows()
    assert owner.ledger.digests == digests_of(owner.rows())
    assert owner.ledger.position.host == plain.ledger.position.host
    assert owner.answers == plain.answers
    check_dedup(owner)


def check_dedup(owner):
    """Check that each id has one outcome, and each duplicate is told the first."""
    outcomes = [wire.decode_outcome(value) for value in owner.log]
    ids = [outcome["command_id"] for outcome in outcomes]
    assert len(set(ids)) == len(ids)
    for answer in owner.answers.values():
        if isinstance(answer, Duplicate):
            assert ids[answer.first_sequence - 1] == answer.command_id
        elif answer.sequence:
            assert ids[answer.sequence - 1] == answer.command_id


@settings(max_examples=120, deadline=None)
@given(commands(), st.lists(st.integers(1, 6), max_size=20), st.sets(st.integers(0, 10)))
def test_fold_equals_decide_byte_for_byte(records, sizes, restarts):
    owner = Owner(records)
    owner.drain()

    replica = World(lambda _: PythonHost(load_guests))
    at = 0
    for number, size in enumerate([*sizes, 1_000]):
        if number in restarts:
            replica.restart()
        if owner.log[at : at + size]:
            replica.fold(owner.log[at : at + size])
        at += size

    assert replica.log == owner.log
    assert replica.rows() == owner.rows()
    assert replica.ledger.digests == owner.ledger.digests
    assert replica.ledger.position.host == owner.ledger.position.host
    for value in owner.log:
        outcome = wire.decode_outcome(value)
        assert replica.host.find(outcome["command_id"]) in {0, outcome["sequence"]}


EDITS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 3), st.binary(max_size=10)), max_size=4
)


@settings(max_examples=200, deadline=None)
@given(st.lists(EDITS, min_size=1, max_size=20), st.booleans())
def test_whatever_is_written_becomes_an_outcome_or_a_refusal(edits, people):
    world = World(HOSTS[0])
    values = []
    for edit in edits:
        value = world.command("open", {"owner": "Ann"}, expected_sequence=2**63 - 1)
        if people:
            command_id = str(uuid.UUID(bytes=world.next_id())).encode()
            value = b'{"command_id": "%s", "name": "open", "args": {"owner": "A"}}' % command_id
        for at, cut, inserted in edit:
            value = value[:at] + inserted + value[at + cut :]
        values.append(value)
    replies = world.send(*values)
    assert len(replies) == len(values)
    for value in world.log:
        wire.decode_outcome(value)
    assert world.ledger.digests == digests_of(world.rows())
