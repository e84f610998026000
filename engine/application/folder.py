"""An application from its folder: the only part of this layer that reads files.

Nothing outside the folder is read, whatever the manifest names: no absolute path, no `..`, no
symbolic link below the folder, and no more bytes than the limits allow.
"""

import stat
from pathlib import Path

from engine.application.building import Parts, build, schema_files
from engine.application.manifest import MANIFEST_FILE, parse_manifest, wrong
from engine.application.sections import Manifest
from engine.application.types import Application
from engine.errors import ApplicationError
from engine.limits import (
    MANIFEST_BYTES_MAX,
    MODULE_BYTES_MAX,
    OUTCOME_BYTES_MAX,
    SCHEMA_BYTES_MAX,
)


class _Unreadable(Exception):  # noqa: N818  (never leaves this module)
    """Why a file can't be read."""


def load_application(folder: Path) -> Application:
    """Load an application from its folder, tables numbered in order; raise ApplicationError."""
    file = str(folder / MANIFEST_FILE)
    try:
        manifest_text = _read(folder, MANIFEST_FILE, MANIFEST_BYTES_MAX).decode()
    except (_Unreadable, UnicodeDecodeError) as fault:
        raise ApplicationError(
            "E1101", str(fault), "Name the folder of an application", file=file
        ) from fault
    manifest = parse_manifest(manifest_text, file)
    texts = _schema_texts(folder, manifest)
    size = len(manifest_text.encode()) + sum(len(text.encode()) for text in texts.values())
    if size > OUTCOME_BYTES_MAX:
        # All of it goes into one record of the log.
        message = f"manifest and schemas have {size} bytes, at most {OUTCOME_BYTES_MAX} may be"
        raise wrong(file, [("application", message)])
    return build(Parts(manifest_text, texts, _modules(folder, manifest), file))


def _schema_texts(folder: Path, manifest: Manifest) -> dict[str, str]:
    texts: dict[str, str] = {}
    for key, name in schema_files(manifest):
        if name in texts:
            continue
        try:
            texts[name] = _read(folder, name, SCHEMA_BYTES_MAX).decode()
        except (_Unreadable, UnicodeDecodeError) as fault:
            raise ApplicationError(
                "E1103", str(fault), file=folder / MANIFEST_FILE, key=key
            ) from fault
    return texts


def _modules(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    modules: dict[str, bytes] = {}
    for name, entry in manifest.extensions.items():
        target = entry.wasm or f"{(entry.python or '').partition(':')[0]}.py"
        key = "wasm" if entry.wasm else "python"
        try:
            modules[name] = _read(folder, target, MODULE_BYTES_MAX)
        except _Unreadable as fault:
            hint = f"Build it with `partita extension build {folder}`" if entry.wasm else ""
            raise ApplicationError(
                "E1104",
                str(fault),
                hint,
                file=folder / MANIFEST_FILE,
                key=f"extensions.{name}.{key}",
            ) from fault
    return modules


def _read(folder: Path, name: str, bytes_max: int) -> bytes:
    """Return the content of a regular file that really lies in the folder."""
    place = folder
    for part in name.split("/"):
        assert part not in {"", ".", ".."}, "the manifest's pattern for files has refused it"
        place /= part
        if place.is_symlink():
            raise _Unreadable(f"{place} is a symbolic link, which is not followed")
    try:
        status = place.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _Unreadable(f"{place} is not a file")
        with place.open("rb") as source:
            content = source.read(bytes_max + 1)
    except FileNotFoundError:
        raise _Unreadable(f"{place} is missing") from None
    except OSError as fault:
        raise _Unreadable(f"{place} can't be read: {fault.strerror}") from fault
    if len(content) > bytes_max:
        raise _Unreadable(f"{place} has more than {bytes_max} bytes")
    return content
