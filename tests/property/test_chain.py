"""The shortcut of a fold judges exactly as LogState does, and a fold is the same in any pieces."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replica_world import ReplicaWorld

from engine import limits, wire
from engine.application import rows
from engine.assembly import wasm_host
from engine.errors import EngineError
from engine.log.frames import Frames, encode_record
from engine.log.simulated import SimulatedEventLog
from engine.model import Batch, HostState, Input, Phase, Position
from engine.partition.ownership import LogState
from engine.partition.replica import Identity
from engine.simulator.applications import HostName, ledger
from engine.store.memory import MemoryStore
from engine.wire import Kind

Form = Callable[[Batch], Batch]
Take = Callable[[SimulatedEventLog, int], Batch]

EPOCH = 1 << 20
TOPIC = "t"
OUTCOME: dict[str, Any] = {
    "skippable": False,
    "workspace": "w",
    "workspace_sequence": 1,
    "command_id": bytes(16),
    "input": "commands",
    "input_offset": 0,
    "command_time": 1,
    "registered_at": 1,
    "name": "move",
    "application": 1,
    "args_schema": 0,
    "args": b"",
    "code": "",
    "message": "",
    "changes": [],
    "emits": [],
    "timers": [],
}


class Writer:
    """Writes a log in which most records count; `twists` are what the others are."""

    def __init__(self) -> None:
        self.epoch, self.sequence, self.previous, self.offset = EPOCH, 0, 0, 0

    def record(self, twist: str) -> bytes | None:
        self.offset += 1
        if twist == "nothing":
            return None
        if twist == "owner":
            self.epoch += EPOCH
            return self._other(
                Kind.OWNER,
                claim_id=self.offset.to_bytes(16),
                node="n",
                incarnation=1,
                engine_version="0",
                format=1,
                command_topic_id=TOPIC,
            )
        if twist == "mark":
            inputs = [{"input": "commands", "offset": self.offset}]
            times = {"registered_at": 0, "newest_command_time": 0, "dedup_floor": 0}
            return self._other(Kind.MARK, inputs=inputs, emitted_sequence=0, digests=[], **times)
        if twist == "released":
            return self._other(Kind.RELEASED, successor=None)
        return self._outcome(twist)

    def _other(self, kind: Kind, **fields: Any) -> bytes:
        head = {"epoch": self.epoch, "sequence": self.sequence, "previous": self.previous}
        return wire.encode_event(kind, {**head, "skippable": False, **fields})

    def _outcome(self, twist: str) -> bytes:
        fields = {
            **OUTCOME,
            "epoch": self.epoch - (twist == "old epoch") + (twist == "epoch to come"),
            "sequence": self.sequence + 1 + (twist == "gap") - (twist == "again"),
            "previous": self.previous + (twist == "another past"),
            "input": "timer" if twist == "timer" else "commands",
            "input_offset": 0 if twist == "old command" else self.offset,
            "skippable": twist == "skippable",
            "command_id": self.offset.to_bytes(16),
        }
        value = wire.encode_event(Kind.OUTCOME, fields)
        if twist == "cut":
            return value[: 10 + self.offset % 40]
        if twist == "another kind":
            return value[:2] + bytes(8) + value[10:]
        if twist in {"", "timer", "old command", "skippable"}:
            self.sequence += 1
            self.previous = wire.hash64(value)
        return value


TWISTS = (
    *("old epoch", "epoch to come", "gap", "again", "another past", "timer", "old command"),
    *("cut", "another kind", "skippable", "nothing", "owner", "mark", "released"),
)


@pytest.fixture(scope="module")
def host():
    made = wasm_host()
    made.open(0, {1: ledger("wasm")}, Position(host=HostState(application=1)))
    return made


def begun() -> LogState:
    return LogState(Position(epoch=EPOCH, command_topic_id=TOPIC, host=HostState(application=1)))


def told(state: LogState) -> Any:
    return state.position, state.superseded, state.alarms, state.claim_id


def judged(batch: Batch) -> Any:
    state = begun()
    try:
        for record in batch.records():
            state.judge(record.offset, record.value, record.leader_epoch)
    except EngineError as fault:
        return fault.code
    return told(state)


def chained(host: Any, batch: Batch) -> tuple[Any, int]:
    """Go through a batch as the fold does; return also how many records took the shortcut."""
    state, at, quick = begun(), 0, 0
    while at < len(batch):
        place, count = state.position, 0
        if not place.released:
            behind = place.host
            chain = host.chained(batch, at, place.epoch, behind.sequence, behind.previous)
            count = chain.count
            if count:
                state.follow(batch.offsets[at + count - 1], chain, batch.leader_epoch)
        if not count:
            record = batch.record(at)
            try:
                state.judge(record.offset, record.value, record.leader_epoch)
            except EngineError as fault:
                return fault.code, quick
        at, quick = at + max(count, 1), quick + count
    return told(state), quick


def as_it_is(batch: Batch) -> Batch:
    return batch


def as_it_lies(batch: Batch) -> Batch:
    """Return a batch as a log file's reader gives it: no key and no value is cut out."""
    if not batch:
        return batch
    found = Frames(batch.offsets[0])
    rows_ = zip(batch.offsets, batch.times_ms, batch.keys, batch.values, strict=True)
    data = b"".join(
        encode_record(at, time_ms, 0, key or b"", value or b"") for at, time_ms, key, value in rows_
    )
    assert found.read(data, len(batch)) == (len(data), True)
    return replace(found.batch(), leader_epoch=batch.leader_epoch)


@given(
    twists=st.lists(st.sampled_from(("", "", "", "", *TWISTS)), max_size=40), gap=st.integers(0, 1)
)
def test_the_shortcut_judges_as_the_rules_do(host: Any, twists: list[str], gap: int) -> None:
    writer, batch = Writer(), Batch(leader_epoch=3)
    for at, twist in enumerate(twists):
        batch.add(at * (1 + gap), 0, None, writer.record(twist))
    assert chained(host, batch)[0] == judged(batch)
    if not gap:
        lying = as_it_lies(batch)
        assert chained(host, lying) == (judged(lying), chained(host, batch)[1])


def test_a_run_of_plain_outcomes_takes_it_as_a_whole(host: Any) -> None:
    writer, batch = Writer(), Batch()
    for at in range(100):
        batch.add(at, 0, None, writer.record("mark" if at == 50 else ""))
    (position, *_), quick = chained(host, batch)
    assert quick == 99
    assert position.resume == {Input.COMMANDS: 101}


class World(ReplicaWorld):
    """Replicas of the ledger, on either host."""

    def replica(self, host: HostName, store: MemoryStore | None = None, node: str = "n") -> Any:
        made = wasm_host() if host == "wasm" else None
        return self.opened(Identity(node, 0, ledger(host)), store, host=made)


def stored(store: MemoryStore) -> tuple[dict[bytes, bytes], list[bytes], Any]:
    """Return all rows but those that depend on paging, the ids in their order, and the position."""
    view = store.view()
    found = dict(view.scan(b"", b"\xff\xff\xff"))
    view.close()
    pages = [rows.decode_page(k, v) for k, v in found.items() if rows.table_of(k) == 2]
    position = wire.decode_position(found[rows.POSITION_KEY])
    plain = {k: v for k, v in found.items() if rows.table_of(k) not in rows.LOCAL_TABLES}
    return plain, [id_ for page in pages for id_ in page.ids], position


def taking(take: Take, form: Form) -> Take:
    """Return a log's `take` that gives batches in another form."""
    return lambda log, count: form(take(log, count))


@pytest.mark.parametrize("host", ["python", "wasm"])
def test_a_fold_is_the_same_in_any_pieces(host: HostName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MARK_OUTCOMES", 7)
    world, owned = World(), MemoryStore()
    owner = world.replica(host, owned)
    world.until(owner, Phase.OWNING)
    zombie = world.replica(host, node="m")
    for amount in range(60):
        world.move(amount % 5, workspace=f"w{amount % 3}")
        world.settle(owner, steps=2)
    world.until(zombie, Phase.OWNING)
    for amount in range(30):
        world.move(amount)
        world.settle(owner, zombie, steps=2)
    folded = []
    take = SimulatedEventLog.take
    for most, form in product((1, 3, 10, 1_000), (as_it_is, as_it_lies)):
        monkeypatch.setattr(SimulatedEventLog, "take", taking(take, form))
        monkeypatch.setattr(limits, "FOLD_RECORDS_MAX", most)
        monkeypatch.setattr(limits, "FOLD_CHAINED_MAX", most)
        store = MemoryStore()
        follower = world.replica(host, store, node="f")
        while follower.phase is Phase.RECOVERING:
            follower.tick()
        folded.append(stored(store))
    assert len(folded[0][1]) == 90
    assert folded.count(folded[0]) == len(folded)
