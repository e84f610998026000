"""A real RocksDB on a disk that is full, or was mounted read-only: told as what it is."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_disk import fill_up, mounted, small_disk

from engine.errors import StoreError
from engine.log.embedded import EmbeddedLogs, EmbeddedSettings
from engine.store.checkpoints import PartitionFolder
from engine.store.rocks import RocksStore, StoreMemory
from engine.world import SystemClock, SystemRandom

SIZE_MIB = 3


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", SIZE_MIB) as place:
        yield place


def written(store: RocksStore, mib: int) -> None:
    """Write so much, in what were batches of outcomes."""
    for batch in range(mib):
        store.write([(b"key %06d %06d" % (batch, at), os.urandom(1_000)) for at in range(1_000)])


def test_a_full_disk_is_told_and_other_stores_go_on(disk: Path, tmp_path: Path) -> None:
    memory = StoreMemory(8 << 20, 4 << 20)
    full, other = RocksStore(disk / "0", memory), RocksStore(tmp_path / "1", memory)
    with pytest.raises(StoreError) as caught:
        written(full, 20 * SIZE_MIB)
    assert caught.value.code == "E1207"
    assert "No space left" in str(caught.value)
    written(other, SIZE_MIB)
    assert other.get(b"key 000000 000000") is not None
    with pytest.raises(StoreError) as again:
        written(full, 1)  # it doesn't go on in silence
    assert again.value.code == "E1207"
    with pytest.raises(StoreError) as copied:
        PartitionFolder(disk, 0, lambda at: RocksStore(at, memory)).checkpoint(full)
    assert copied.value.code == "E1207"
    other.close()


def test_a_disk_that_is_read_only_is_told(disk: Path) -> None:
    memory = StoreMemory(8 << 20, 4 << 20)
    store = RocksStore(disk / "0", memory)
    store.write([(b"key", b"value")])
    store.close()
    assert mounted("mount", "-o", "remount,ro", str(disk))
    with pytest.raises(StoreError) as caught:
        RocksStore(disk / "0", memory)
    assert caught.value.code == "E1207"
    assert "Read-only file system" in str(caught.value)


def test_a_log_that_is_closed_on_a_full_disk_is_opened_again(disk: Path) -> None:
    """That it was closed well can't be written down then: it is opened as after kill -9."""

    def opened() -> EmbeddedLogs:
        return EmbeddedLogs(disk, EmbeddedSettings("full", 1), SystemClock(), SystemRandom())

    logs = opened()
    ballast = fill_up(disk)
    logs.close()
    ballast.unlink()
    again = opened()
    assert again.event_log(0).bounds().end == 0
    again.close()
