"""The folder of the embedded logs: who holds it, what it belongs to, how it was left.

Owns the lock and the small files beside the segments. Must not read or write records.
"""

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import cast

from engine.errors import LogError, StoreError, unwritable
from engine.log.segments import SegmentLog, sync_folder
from engine.ports import Random

_FORMAT = 1
_KINDS = ("commands", "events")


def write_file(path: Path, data: bytes) -> None:
    """Put a file there whole, and safe from a crash, or not at all."""
    made = path.with_name(path.name + ".new")
    with made.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)
    sync_folder(path.parent)


class FolderLock:
    """Held by one process at a time; the system lets go of it when that process ends."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as fault:
            raise unwritable(folder, fault) from fault
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 20, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise StoreError(
                "E1201",
                f"process {holder or '(unknown)'} has it open",
                "Stop that process, or choose another folder with --data",
                folder=folder,
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let another process have it."""
        os.close(self._descriptor)


class LogFolder:
    """The logs in a locked folder, opened and checked."""

    def __init__(
        self, folder: Path, application: str, partitions: int, segment_bytes: int, random: Random
    ) -> None:
        self._folder = folder
        self.cut_bytes = 0  # what the last crash had torn
        self.logs: dict[str, list[SegmentLog]] = {}
        topic_ids = self._topic_ids(application, partitions, random)
        names = {kind: [f"{kind}-{p}" for p in range(partitions)] for kind in _KINDS}
        closed = self._closed(names["commands"] + names["events"])
        try:
            for kind in _KINDS:
                opened = self.logs.setdefault(kind, [])
                for name in names[kind]:
                    at = closed[name] if closed else None
                    opened.append(SegmentLog(folder / name, topic_ids[kind], segment_bytes, at))
                    self.cut_bytes += opened[-1].cut_bytes
        except LogError:
            self._close_all()
            raise
        if closed is not None:
            (folder / "closed.json").unlink()
            sync_folder(folder)

    def close(self, *, clean: bool) -> None:
        """Close all logs; `clean` says that no write had failed."""
        ends = {log.folder.name: (log.end, log.size) for log in self._all()}
        self._close_all()
        if clean:
            # On a full disk that can't be said: the next start looks at the ends, as after a crash.
            with suppress(OSError):
                write_file(self._folder / "closed.json", json.dumps(ends).encode())

    def _all(self) -> list[SegmentLog]:
        return [log for logs in self.logs.values() for log in logs]

    def _close_all(self) -> None:
        for log in self._all():
            log.close()

    def _topic_ids(self, application: str, partitions: int, random: Random) -> dict[str, str]:
        """Read what the folder is for, or write it into a new one."""
        path = self._folder / "meta.json"
        if not path.exists():
            if any(self._folder.glob("*-*/*.log")):
                raise LogError("E1303", "meta.json is missing beside the logs", file=path)
            topic_ids = {kind: random.bytes(16).hex() for kind in _KINDS}
            meta = {
                "format": _FORMAT,
                "application": application,
                "partitions": partitions,
                "topic_ids": topic_ids,
            }
            write_file(path, json.dumps(meta, indent=2).encode() + b"\n")
            return topic_ids
        try:
            meta = json.loads(path.read_bytes())
            found = (str(meta["application"]), int(meta["partitions"]))
            topic_ids = {kind: bytes.fromhex(meta["topic_ids"][kind]).hex() for kind in _KINDS}
            format_ = int(meta["format"])
        except (ValueError, KeyError, TypeError) as fault:
            raise LogError("E1303", f"meta.json can't be read: {fault}", file=path) from fault
        if format_ != _FORMAT:
            what = f"a folder of format {format_}, this engine reads {_FORMAT}"
            raise LogError("E1304", what, file=path)
        for name, has, wanted in zip(
            ("application", "partitions"), found, (application, partitions), strict=True
        ):
            if has != wanted:
                raise LogError(
                    "E1301",
                    f"the logs have {name} {has}, the application says {wanted}",
                    "Choose another folder with --data; partitions never change",
                    folder=self._folder,
                )
        return topic_ids

    def _closed(self, names: list[str]) -> dict[str, tuple[int, int]] | None:
        """Return where each log ended when all were closed in peace: then nothing is torn."""
        path = self._folder / "closed.json"
        if not path.exists():
            return None
        try:
            ends = cast("dict[str, list[int]]", json.loads(path.read_bytes()))
            return {name: (int(ends[name][0]), int(ends[name][1])) for name in names}
        except (ValueError, TypeError, LookupError) as fault:
            raise LogError("E1303", f"closed.json can't be read: {fault}", file=path) from fault
