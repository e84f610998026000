"""What the ledger does for a host that misses rows: how often it is called, and that it ends."""

import pytest

from engine import limits
from engine.model import Batch, Decided, HostState
from engine.partition.ledger import Ledger
from engine.store.memory import MemoryStore


class ChainHost:
    """Each command walks a chain of rows from its own key on; those behind it are guesses."""

    def __init__(self, *, guesses_right):
        self.known = {}
        self.guesses_right = guesses_right
        self.runs = self.calls = 0
        self.widths = []

    def provide(self, rows, prefixes=()):
        self.known.update(rows)

    def step(self, batch):
        self.calls += 1
        self.widths.append(len(batch))
        decided = Decided(state=HostState())
        for value in batch.values:
            self.runs += 1
            missed = self.walk(value)
            if missed is not None and (self.guesses_right or not decided.missing):
                decided.missing.append(missed)
            elif not decided.missing:
                decided.done += 1
        return decided

    def walk(self, key):
        while key in self.known:
            key = self.known[key]
            if key is None:
                return None
        return key


def stored(chains, length):
    """Return a ledger whose store holds chains of rows, and a batch with a command for each."""
    store, batch = MemoryStore(), Batch()
    for chain in range(chains):
        keys = [f"{chain}:{at}".encode() for at in range(length)]
        store.write(list(zip(keys, [*keys[1:], b"end"], strict=True)))
        batch.add(chain, 0, b"w", keys[0])
    return Ledger(store), batch


def test_many_commands_miss_together():
    ledger, batch = stored(50, 1)
    host = ChainHost(guesses_right=True)
    assert ledger.finish(batch, host, host.step).done == 50
    assert host.calls <= limits.MISS_PASSES_MAX
    assert host.widths[:2] == [50, 50]


@pytest.mark.parametrize("length", [1, 9])
def test_the_work_grows_with_the_batch_and_not_with_its_square(length):
    runs = {}
    for chains in (20, 200):
        ledger, batch = stored(chains, length)
        host = ChainHost(guesses_right=False)
        assert ledger.finish(batch, host, host.step).done == chains
        assert set(host.widths[limits.MISS_PASSES_MAX :]) == {1}
        runs[chains] = host.runs
    assert runs[200] < 11 * runs[20]


def test_a_host_that_asks_for_what_it_was_given_is_found_out():
    ledger, batch = stored(1, 1)
    host = ChainHost(guesses_right=False)
    host.provide = lambda rows, prefixes=(): None
    with pytest.raises(AssertionError, match="not been given"):
        ledger.finish(batch, host, host.step)
    assert host.calls == 2
