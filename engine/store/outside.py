"""A store's files read from outside, while a node may hold and write them.

Takes no lock and changes nothing. A node's newest writes are in its memory, so this picture is as
of the last flush: older than the node, and whole.
"""

from collections.abc import Iterator
from pathlib import Path

from rocksdict import AccessType, Options, Rdict

from engine.errors import StoreError


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
