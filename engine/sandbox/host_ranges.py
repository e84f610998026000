"""Ranges of rows: stored ones with what was changed since laid over them, in key order.

Knows neither commands nor views. A range is all rows below a prefix of their keys.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Protocol

from sortedcontainers import SortedDict

from engine.application import rows
from engine.limits import SCAN_ROWS_MAX
from engine.ports import PartitionStore
from engine.sandbox.host_values import UNKNOWN, RowSource, Unknown

Pair = tuple[bytes, bytes]


class TooWide(Exception):  # noqa: N818 - it becomes a rejected outcome, which is no error
    """A range has more rows than a command may go through."""


class Reader(Protocol):
    """Stored rows, for a host that reads them by itself."""

    def get(self, key: bytes, /) -> bytes | None:
        """Return a stored row, None where there is none."""
        ...

    def scan(self, prefix: bytes, *, reverse: bool = False) -> Iterator[Pair]:
        """Yield the stored rows below a prefix, in (reverse) key order."""
        ...


class StoreReader:
    """Reads a partition's store."""

    def __init__(self, store: PartitionStore) -> None:
        self._store = store
        self.get = store.get

    def scan(self, prefix: bytes, *, reverse: bool = False) -> Iterator[Pair]:
        """Yield the stored rows below a prefix, in (reverse) key order."""
        with closing(self._store.view()) as view:
            yield from view.scan(prefix, rows.prefix_end(prefix), reverse=reverse)


class DictReader:
    """Reads rows that are held in a sorted dictionary."""

    def __init__(self, held: SortedDict) -> None:
        self._held = held
        self.get = held.get

    def scan(self, prefix: bytes, *, reverse: bool = False) -> Iterator[Pair]:
        """Yield the rows below a prefix, in (reverse) key order."""
        end = rows.prefix_end(prefix)
        for key in self._held.irange(prefix, end, inclusive=(True, False), reverse=reverse):
            yield key, self._held[key]


def overlaid(
    stored: Iterable[Pair], changed: Mapping[bytes, bytes | None], *, reverse: bool = False
) -> Iterator[Pair]:
    """Yield stored rows with changed ones (None = removed) over them, in (reverse) key order."""
    waiting = sorted(changed, reverse=not reverse)  # the next one is the last
    for key, value in stored:
        while waiting and (waiting[-1] > key if reverse else waiting[-1] < key):
            yield from _present(changed, waiting.pop())
        if waiting and waiting[-1] == key:
            yield from _present(changed, waiting.pop())
        else:
            yield key, value
    while waiting:
        yield from _present(changed, waiting.pop())


def _present(changed: Mapping[bytes, bytes | None], key: bytes) -> Iterator[Pair]:
    value = changed[key]
    if value is not None:
        yield key, value


def below(
    source: RowSource,
    prefix: bytes,
    changed: Mapping[bytes, bytes | None],
    *,
    reverse: bool = False,
    bounded: bool = True,
) -> list[Pair] | Unknown:
    """Return the rows below a prefix with a command's own changes over them.

    Raises TooWide where there are more than a command may go through. That bound decides commands
    only: what has been decided is folded without it.
    """
    stored = source.scan(prefix, reverse=reverse)
    if stored is UNKNOWN:
        return UNKNOWN
    found: list[Pair] = []
    with closing(stored):
        for pair in overlaid(stored, changed, reverse=reverse):
            if bounded and len(found) >= SCAN_ROWS_MAX:
                raise TooWide
            found.append(pair)
    return found
