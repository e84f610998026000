"""Stores read from outside, while a node may hold and write them: what is safe on its disk.

Takes no lock and changes nothing. A node's newest writes are in its memory, so such a picture is
as of the last flush: older than the node, and whole.
"""

from collections.abc import Iterator
from pathlib import Path

from rocksdict import AccessType, Options, Rdict

from engine.audit.replay import Witness, witness_of
from engine.errors import StoreError

_DEPTH_MAX = 5


class StoreFiles:
    """A `StoreView` of a RocksDB folder."""

    def __init__(self, folder: Path) -> None:
        try:
            options = Options(raw_mode=True)
            self._rows = Rdict(str(folder), options, access_type=AccessType.read_only())
        except Exception as fault:  # rocksdict raises nothing narrower
            raise StoreError("E1202", f"can't be read: {fault}", folder=folder) from fault

    def get(self, key: bytes) -> bytes | None:
        """Return a row."""
        return self._rows.get(key)

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield rows with start <= key < end; forward only, which is all an audit needs."""
        assert not reverse
        rows = self._rows.iter()
        rows.seek(start)
        while rows.valid() and (key := rows.key()) < end:
            yield key, rows.value()
            rows.next()

    def close(self) -> None:
        """Close the files."""
        self._rows.close()


def find_stores(folder: Path, partition: int) -> list[Path]:
    """Return the stores of a partition at or below a node's data folder."""
    name = str(partition)
    found = [folder] if folder.name == name and _is_store(folder) else []
    level = [folder]
    for _ in range(_DEPTH_MAX):
        level = [path for one in level for path in sorted(one.iterdir()) if path.is_dir()]
        level = [path for path in level if not path.is_symlink()]
        found += [path for path in level if path.name == name and _is_store(path)]
        level = [path for path in level if not _is_store(path)]
    return found


def _is_store(path: Path) -> bool:
    return (path / "CURRENT").is_file()


def witnesses(folder: Path, partition: int) -> Iterator[Witness]:
    """Yield what each store of a partition at or below a folder says."""
    for path in find_stores(folder, partition):
        store = StoreFiles(path)
        try:
            yield witness_of(str(path), store)
        finally:
            store.close()
