"""Pages of rows: filter, then order, then page.

A page is found as the keys of its rows, so that it takes little memory however wide they are; who
wants the rows reads them one by one from the same picture. Knows neither records nor views.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from engine import limits
from engine.application import rows
from engine.partition.selection import Selection, TooWideError
from engine.ports import StoreView


class CursorError(ValueError):
    """A cursor that no page of this query has given."""


class Scope:
    """What one query looks at: inactive records too, and how many rows are left to it."""

    def __init__(self, *, inactive: bool = False) -> None:
        self.inactive = inactive
        self._rows = limits.QUERY_SCAN_MAX
        self._bytes = limits.QUERY_SCAN_BYTES_MAX

    def take(self, size_bytes: int) -> None:
        """Count a row; raises TooWideError for the first one too many."""
        self._rows -= 1
        self._bytes -= size_bytes
        if self._rows < 0 or self._bytes < 0:
            looked_at = limits.QUERY_SCAN_MAX - self._rows - 1
            raise TooWideError(f"more than {looked_at} rows would have to be looked at")


class Found(NamedTuple):
    """A page's rows: their keys behind the workspace, and their places in the order."""

    keys: list[bytes]
    places: list[bytes]
    more: bool

    @property
    def next(self) -> bytes | None:
        """Return where the next page begins behind; None = there is none."""
        return self.places[-1] if self.more else None


# What an order needs to know of a row; None for one that is not wanted.
Look = Callable[[bytes, bytes, Scope], "bytes | None"]


def find(
    view: StoreView,
    base: bytes,
    kinds: Sequence[str],
    selection: Selection,
    look: Look,
    scope: Scope,
) -> Found:
    """Return a page of the rows below `base` whose key columns are of these kinds.

    Raises CursorError for an `after` outside of the selection, TooWideError where too many rows
    would have to be looked at.
    """
    start, end = _range(base, kinds, selection)
    after, ordered = selection.after, bool(selection.order)
    if after is not None and not ordered:
        if not start <= base + after < end:
            raise CursorError("the cursor is not of this query")
        start = base + after + b"\x00"

    def wanted() -> Iterator[tuple[bytes, bytes]]:
        for key, value in view.scan(start, end):
            # What is not read is not kept either: only its number counts.
            scope.take(len(value) if selection.reads else 0)
            order = look(key, value, scope)
            if order is None:
                continue
            place = order + key[len(base) :]
            if not ordered or after is None or place > after:
                yield place, key[len(base) :]

    most = selection.limit + 1
    found = heapq.nsmallest(most, wanted()) if ordered else list(islice(wanted(), most))
    page = found[: selection.limit]
    return Found([key for _, key in page], [place for place, _ in page], len(found) == most)


def _range(base: bytes, kinds: Sequence[str], selection: Selection) -> tuple[bytes, bytes]:
    """Return the first key of a selection and the first behind it."""
    values = selection.prefix
    encoded = [rows.encode_column(kind, at) for kind, at in zip(kinds, values, strict=False)]
    start = base + b"".join(encoded)
    end = rows.prefix_end(start)
    if selection.high is not None:
        end = rows.prefix_end(start + rows.encode_column(kinds[len(values)], selection.high))
    if selection.low is not None:
        start += rows.encode_column(kinds[len(values)], selection.low)
    return start, end
