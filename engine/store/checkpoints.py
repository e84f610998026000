"""A partition's folders on a node's disk: its store, a checkpoint, and what was moved aside.

    P/               the store
    P.checkpoint/    manifest.json and files/: the store as of some moment, in hard links
    P.restoring/     a store in the making; renamed when it is whole
    P.broken-N/      damaged stores, kept for analysis, a few
    P.room           for a moment: whether so much can be written again
    P.writer         names this disk's copy among the snapshots' writers

Owns these names. Must not decide which of them is used.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from engine import limits
from engine.errors import unwritable
from engine.ports import PartitionStore, Random, StoreView
from engine.store.outside import StoreFiles

_UNNEEDED = ("LOCK", "LOG")  # RocksDB's lock and what it says to people
_WRITER_BYTES = 8


# (name, size, inode, time of change) -> sha256
Hashes = dict[tuple[str, int, int, int], str]


class FolderFiles:
    """The files of a folder. Those of RocksDB never change, so each is hashed once."""

    def __init__(self, folder: Path, hashes: "Hashes | None" = None) -> None:
        self._folder = folder
        self._hashes: Hashes = {} if hashes is None else hashes

    def names(self) -> list[str]:
        """Return the names of all files."""
        files = (path.name for path in self._folder.iterdir() if path.is_file())
        return sorted(name for name in files if not name.startswith(_UNNEEDED))

    def digest(self, name: str) -> tuple[int, str]:
        """Return a file's size and sha256."""
        with (self._folder / name).open("rb") as file:
            state = os.fstat(file.fileno())
            key = (name, state.st_size, state.st_ino, state.st_mtime_ns)
            found = self._hashes.get(key)
            if found is None:
                found = hashlib.file_digest(file, "sha256").hexdigest()
                if name.endswith(".sst"):
                    self._hashes[key] = found
        return state.st_size, found

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        return (self._folder / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Write a file durably."""
        try:
            with (self._folder / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as fault:
            raise unwritable(self._folder, fault) from fault


class PartitionFolder:
    """One partition's folders below a node's data folder."""

    def __init__(
        self, base: Path, partition: int, open_store: Callable[[Path], PartitionStore]
    ) -> None:
        self.store = base / str(partition)
        self._base = base
        self._open = open_store
        self._name = str(partition)
        self._hashes: Hashes = {}

    def _beside(self, what: str) -> Path:
        return self._base / f"{self._name}.{what}"

    def open(self) -> PartitionStore:
        """Open the store, a new one if there is none."""
        return self._open(self.store)

    def try_room(self) -> None:
        """Write as much as a store needs to go on, and delete it; raise E1207 if that fails."""
        path = self._beside("room")
        try:
            FolderFiles(self._base).write(path.name, bytes(limits.ROOM_BYTES))
        finally:
            path.unlink(missing_ok=True)

    def writer(self, random: Random) -> str:
        """Return the name of this disk's copy; it is made with the first question."""
        path = self._beside("writer")
        try:
            if not path.exists():
                self._base.mkdir(parents=True, exist_ok=True)
                FolderFiles(self._base).write(path.name, random.bytes(_WRITER_BYTES).hex().encode())
            return path.read_text("ascii").strip()
        except OSError as fault:
            raise unwritable(path, fault) from fault

    @property
    def copied(self) -> Path:
        """Return where `checkpoint` has put the store's files."""
        return self._beside("checkpoint.new") / "files"

    def checkpoint(self, store: PartitionStore) -> FolderFiles:
        """Copy the store into hard links; the last such copy stays until `keep` says so."""
        self._emptied("checkpoint.new")
        store.checkpoint(self.copied)
        present = {path.stat().st_ino for path in self.copied.glob("*.sst")}
        for key in [key for key in self._hashes if key[2] not in present]:
            del self._hashes[key]
        return FolderFiles(self.copied, self._hashes)

    def _emptied(self, name: str) -> Path:
        folder = self._beside(name)
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        except OSError as fault:
            raise unwritable(folder, fault) from fault
        return folder

    def look(self) -> StoreView:
        """Open the newest copy to read it."""
        return StoreFiles(self.copied)

    def keep(self, manifest: bytes) -> None:
        """Let the newest copy take the older one's place."""
        made, folder = self._beside("checkpoint.new"), self._beside("checkpoint")
        FolderFiles(made).write("manifest.json", manifest)
        try:
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
        except OSError as fault:
            raise unwritable(folder, fault) from fault

    def kept(self) -> tuple[bytes, FolderFiles] | None:
        """Return the checkpoint's manifest and files, if there is one."""
        folder = self._beside("checkpoint")
        try:
            data = (folder / "manifest.json").read_bytes()
        except OSError:
            return None
        return data, FolderFiles(folder / "files")

    def restoring(self) -> FolderFiles:
        """Return an empty folder for a store in the making."""
        return FolderFiles(self._emptied("restoring"))

    def use_restored(self) -> None:
        """Let the store in the making, now whole, take the store's place."""
        try:
            shutil.rmtree(self.store, ignore_errors=True)
            self._beside("restoring").rename(self.store)
        except OSError as fault:
            raise unwritable(self.store, fault) from fault

    def set_aside(self) -> Path:
        """Move a damaged store away; only the newest few of them stay."""
        found = sorted(self._base.glob(f"{self._name}.broken-*"), key=_number)
        target = self._beside(f"broken-{_number(found[-1]) + 1 if found else 1}")
        try:
            self.store.rename(target)
            for old in found[: max(len(found) + 1 - limits.BROKEN_STORES_MAX, 0)]:
                shutil.rmtree(old)
        except OSError as fault:
            raise unwritable(self.store, fault) from fault
        return target


def _number(path: Path) -> int:
    digits = path.name.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0
