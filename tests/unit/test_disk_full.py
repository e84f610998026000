"""A real RocksDB on a disk that is full, or was mounted read-only: told as what it is."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import StoreError
from engine.store.checkpoints import PartitionFolder
from engine.store.rocks import RocksStore, StoreMemory

SIZE_MIB = 3


def mounted(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB of its own, where this machine lets us make one."""
    place = tmp_path / "disk"
    place.mkdir()
    if not mounted("mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(place)):
        pytest.skip("this machine lets nobody mount a file system here")
    yield place
    mounted("umount", "-l", str(place))


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
