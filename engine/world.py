"""The one door for time, randomness and ids. Everything else is handed a `Clock` and a `Random`.

Nothing else in the engine calls `time`, `random`, `uuid` or `os.urandom` (tests/test_tidy.py).
"""

import os
import random
import time
import uuid


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Return milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Return milliseconds that never go back, from an arbitrary start."""
        return time.monotonic_ns() // 1_000_000

    def sleep_ms(self, duration_ms: float) -> None:
        """Block the calling thread; only shells around the core may."""
        time.sleep(duration_ms / 1_000)


class SystemRandom:
    """The operating system's randomness."""

    def bytes(self, count: int) -> bytes:
        """Return `count` random bytes."""
        return os.urandom(count)

    def below(self, bound: int) -> int:
        """Return a number in [0, bound)."""
        return int.from_bytes(os.urandom(8)) % bound


def uuid7(now_ms: int, random: bytes) -> bytes:
    """Return a version 7 UUID (RFC 9562) from a time and 10 random bytes."""
    body = bytearray(now_ms.to_bytes(6) + random[:10])
    body[6] = 0x70 | (body[6] & 0x0F)
    body[8] = 0x80 | (body[8] & 0x3F)
    return bytes(body)


def uuid7_time_ms(command_id: bytes) -> int | None:
    """Return the time inside a version 7 UUID, or None for any other id."""
    if command_id[6] >> 4 == 7 and command_id[8] >> 6 == 2:
        return int.from_bytes(command_id[:6])
    return None


def derived_id(*parts: bytes) -> bytes:
    """Return a version 5 UUID that is a function of `parts` alone."""
    joined = b"".join(len(part).to_bytes(4) + part for part in parts)
    return uuid.uuid5(uuid.NAMESPACE_OID, joined.hex()).bytes


class SeededRandom:
    """Randomness for simulators and load: equal seeds give equal bytes."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable is the point

    def bytes(self, count: int) -> bytes:
        """Return `count` bytes."""
        return self._random.randbytes(count)

    def below(self, bound: int) -> int:
        """Return a number in [0, bound)."""
        return self._random.randrange(bound)
