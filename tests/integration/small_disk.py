"""A file system of a few MiB of its own, where this machine lets us make one."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1 << 20


def mounted(*command: str) -> bool:
    """Return whether a mount, or its end, was allowed."""
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@contextmanager
def small_disk(place: Path, size_mib: int) -> Iterator[Path]:
    """Yield an empty folder on a disk of that size; skip the test where there can't be one."""
    place.mkdir()
    if not mounted("mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(place)):
        pytest.skip("this machine lets nobody mount a file system here")
    try:
        yield place
    finally:
        mounted("umount", "-l", str(place))


def _written(descriptor: int, size: int) -> bool:
    try:
        return os.write(descriptor, bytes(size)) > 0
    except OSError:
        return False


def fill_up(disk: Path) -> Path:
    """Leave no byte to write; return what to delete."""
    ballast = disk / "ballast"
    descriptor = os.open(ballast, os.O_CREAT | os.O_WRONLY)
    try:
        for size in (MIB, 4_096):
            while _written(descriptor, size):
                pass
    finally:
        os.close(descriptor)
    return ballast
