"""A simulated disk's damaged blocks: met where they are read, and copied along unnoticed."""

import pytest

from engine.errors import StoreError
from engine.store.memory import MemoryStore

ROWS = [(b"%d" % number, b"v%d" % number) for number in range(6)]


def damaged() -> MemoryStore:
    """Return a store whose rows 2 and 3 can't be read."""
    store = MemoryStore()
    store.write(ROWS)
    store.flush()
    assert store.damage(2, 2) == 2
    return store


def unreadable(store: MemoryStore) -> list[bytes]:
    found: list[bytes] = []
    for key, value in ROWS:
        try:
            assert store.get(key) == value
        except StoreError:
            found.append(key)
    return found


def test_a_damaged_row_is_met_by_whoever_reads_it() -> None:
    store = damaged()
    assert unreadable(store) == [b"2", b"3"]
    assert store.get_many([b"1", b"4"]) == [b"v1", b"v4"]
    with pytest.raises(StoreError, match="E1202"):
        store.get_many([b"1", b"2"])
    view = store.view()
    assert list(view.scan(b"4", b"9")) == ROWS[4:]
    with pytest.raises(StoreError):
        list(view.scan(b"0", b"9"))


def test_what_is_not_flushed_lies_in_no_block_and_what_is_written_anew_in_another() -> None:
    store = MemoryStore()
    store.write(ROWS)
    assert store.damage(0, 6) == 0
    store = damaged()
    store.write([ROWS[2]])
    assert unreadable(store) == [b"3"]


def test_copies_and_the_next_process_have_the_damage_too() -> None:
    store = damaged()
    copy = MemoryStore.of(b"".join(store.images()))
    assert unreadable(copy) == [b"2", b"3"]
    again = store.crash()
    assert unreadable(again) == [b"2", b"3"]
    again.close()
    assert unreadable(again.reopen()) == [b"2", b"3"]
