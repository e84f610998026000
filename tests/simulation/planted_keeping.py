"""Planted bugs in what keeps state safe: copies, restores, the archive and what is trimmed.

Like planted.py, each is the shipped code with one rule taken out; seeds find them.
"""

from collections.abc import Callable
from typing import Any

import pytest

from engine.node import stores
from engine.partition import restoring, snapshots, trimming
from engine.partition.trimming import Floor

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]


def what_is_damaged_is_opened_again(patch: Patch) -> None:
    """A store in which a row can't be read stays where it is."""
    patch.setattr(stores, "SET_ASIDE", frozenset[str]())


def a_copys_checksums_are_not_looked_at(patch: Patch) -> None:
    """What a manifest names is used as it is."""

    def believed(_name: str, _file: Any, data: bytes | None) -> bytes | None:
        return data

    patch.setattr(snapshots, "check_file", believed)
    patch.setattr(restoring, "check_file", believed)


def what_is_not_archived_is_trimmed(patch: Patch) -> None:
    """The oldest snapshot alone says how far the log may be trimmed."""
    ceiling = trimming.ceiling

    def high(begin: int, kept: Any, archived_end: int) -> Floor:
        del archived_end
        return ceiling(begin, kept, 1 << 62)

    patch.setattr(trimming, "ceiling", high)
