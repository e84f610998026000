"""The bytes of an image: tables, texts and numbers, each at an offset from the image's begin."""

import struct
from collections.abc import Sequence

NONE = 0xFFFFFFFF
Span = tuple[int, int]  # offset, number of entries


class Tables:
    """Grows behind a head of a known size; everything begins at a multiple of 8."""

    def __init__(self, head_bytes: int) -> None:
        assert head_bytes % 8 == 0
        self._start = head_bytes
        self._body = bytearray()
        self._texts: dict[bytes, Span] = {}

    def put(self, data: bytes) -> int:
        """Append bytes; return their offset."""
        at = self._start + len(self._body)
        self._body += data + bytes(-len(data) % 8)
        return at

    def array(self, entries: Sequence[bytes]) -> Span:
        """Append entries of one size."""
        assert len({len(entry) for entry in entries}) <= 1
        return self.put(b"".join(entries)), len(entries)

    def numbers(self, numbers: Sequence[int]) -> Span:
        """Append numbers of 32 bits."""
        return self.put(struct.pack(f"<{len(numbers)}I", *numbers)), len(numbers)

    def text(self, text: str | bytes) -> Span:
        """Append bytes, if they aren't there; a span of them counts bytes."""
        data = text.encode() if isinstance(text, str) else text
        if data not in self._texts:
            self._texts[data] = (self.put(data), len(data))
        return self._texts[data]

    def span(self, text: str) -> bytes:
        """Return the entry that names a text."""
        return struct.pack("<2I", *self.text(text))

    def body(self) -> bytes:
        """Return all that was appended."""
        return bytes(self._body)
