"""Where an audit, a tap or a reader gets records from: any log that can be read from its begin."""

import time
from collections.abc import Iterator

from engine.errors import UnavailableError
from engine.log.archived import ReadableLog, ReadableLogs
from engine.model import Bounds, LogRecord

_TAKE = 1_000
_WAIT_MS = 100
_SILENCE_S = 30


def read(logs: ReadableLogs, log: ReadableLog, bounds: Bounds) -> Iterator[LogRecord]:
    """Yield the records within `bounds`, waiting for what a broker has but hasn't sent yet."""
    following = bounds.begin
    log.seek(following)
    heard_s = time.monotonic()
    while following < bounds.end:
        batch = log.take(_TAKE)
        for record in batch.records():
            if record.offset >= bounds.end:
                return
            following = record.offset + 1
            yield record
        if batch:
            heard_s = time.monotonic()
        elif time.monotonic() - heard_s > _SILENCE_S:
            what = f"nothing was read for {_SILENCE_S} s at offset {following} of {bounds.end}"
            raise UnavailableError("E1401", what)
        else:
            logs.wait(_WAIT_MS)


def follow(logs: ReadableLogs, log: ReadableLog, begin: int) -> Iterator[LogRecord | None]:
    """Yield records from `begin` on for ever; None = there is none at the moment."""
    log.seek(begin)
    while True:
        batch = log.take(_TAKE)
        yield from batch.records()
        if not batch:
            yield None
            logs.wait(_WAIT_MS)
