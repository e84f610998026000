"""Finds the stores of a partition in nodes' data folders, and hears them as witnesses."""

from collections.abc import Iterator
from pathlib import Path

from engine.audit.replay import Witness, witness_of
from engine.store.outside import StoreFiles

_DEPTH_MAX = 5


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
