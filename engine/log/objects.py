"""Named blobs in a folder: each is there whole, or not at all.

Owns the names' rules, those of all stores of objects, and the writing. Must not look into the
blobs. `open_objects` says what an address such as `file:///backup` or `s3://bucket/prefix` means.
"""

import os
import re
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from engine.errors import ConfigError, UnavailableError, unwritable
from engine.limits import NAME_LENGTH_MAX
from engine.log.segments import sync_folder
from engine.ports import ObjectStore

# Parts of letters, digits, dot, dash and underscore; none begins with a dot, so that no name
# leaves the folder, and a half-written file (which does) is never listed.
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_PARTS_MAX = 8


class FolderObjects:
    """An ObjectStore in a folder; slashes in names make folders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise unwritable(folder, fault) from fault

    def put(self, name: str, data: bytes) -> None:
        """Store a blob durably; another one of this name is replaced at once."""
        path = self._path(name)
        made = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            self._make_folder(path.parent)
            with made.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            made.replace(path)
            sync_folder(path.parent)
        except OSError as fault:
            with suppress(OSError):
                made.unlink(missing_ok=True)
            raise unwritable(self._folder, fault) from fault

    def get(self, name: str) -> bytes | None:
        """Return a blob, or None."""
        try:
            return self._path(name).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except OSError as fault:
            raise _away(self._folder, fault) from fault

    def names(self, prefix: str = "") -> list[str]:
        """Return all names that begin with `prefix`, sorted."""
        within = prefix.rpartition("/")[0]
        begin = self._path(within) if within else self._folder
        try:
            if not self._folder.is_dir():
                raise NotADirectoryError("it is gone")
            found = [path for path in begin.rglob("*") if path.is_file()]
        except OSError as fault:
            raise _away(self._folder, fault) from fault
        names = (path.relative_to(self._folder) for path in found)
        return listed((path.as_posix() for path in names), prefix)

    def delete(self, name: str) -> None:
        """Delete a blob, if it is there."""
        path = self._path(name)
        try:
            if path.is_file():
                path.unlink()
                sync_folder(path.parent)
        except FileNotFoundError:
            return  # somebody else was faster
        except OSError as fault:
            raise unwritable(self._folder, fault) from fault

    def _make_folder(self, folder: Path) -> None:
        """Make folders one by one, so that each one's name survives a crash."""
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)

    def _path(self, name: str) -> Path:
        check_name(name)
        return self._folder.joinpath(*name.split("/"))


def listed(names: Iterable[str], prefix: str) -> list[str]:
    """Return the names that begin with `prefix`, sorted; what can't be ours is left out.

    A store keeps files of its own beside the objects: what is only half written, for one.
    """
    return sorted(name for name in names if name.startswith(prefix) and _names_an_object(name))


def _names_an_object(name: str) -> bool:
    parts = name.split("/")
    sound = all(_PART.fullmatch(part) for part in parts)
    return sound and len(parts) <= _PARTS_MAX and len(name) <= NAME_LENGTH_MAX


def check_name(name: str) -> None:
    """Refuse what can't name an object in every store of objects."""
    if not _names_an_object(name):
        raise ConfigError(
            "E1001",
            f"{name[:80]!r} can't name an object",
            f"Use up to {_PARTS_MAX} parts of letters, digits, . - _ with / between them",
        )


def open_objects(url: str, within: str) -> ObjectStore:
    """Return the store of objects at an address, below the name `within`."""
    check_name(within)
    found = urlsplit(url)
    if found.scheme == "file" and not found.netloc and len(found.path) > 1 and not found.query:
        return FolderObjects(Path(unquote(found.path)) / within)
    if found.scheme == "s3" and found.netloc:
        from engine.log.objects_s3 import S3Objects  # noqa: PLC0415 - its client loads slowly

        return S3Objects(url, within)
    raise ConfigError(
        "E1001",
        f"{found.scheme or 'no scheme'}: can't hold objects",
        "Use file:///folder or s3://bucket/prefix?endpoint=http://host:port&region=name",
    )


def _away(folder: Path, fault: OSError) -> UnavailableError:
    hint = "Check the disk or the mount; it is tried again"
    return UnavailableError("E1407", f"{fault.strerror or fault}", hint, folder=folder)
