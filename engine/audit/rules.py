"""The rule of which records count (ARCHITECTURE R2), written a second time on purpose.

An audit that asked the owner's own judge would share its faults. This one is as plain as it can
be; a property test keeps both in agreement on logs that neither has seen.
"""

from dataclasses import dataclass
from enum import Enum

from engine.audit.report import Alarm
from engine.wire import Head, Kind, WireError, decode_event, hash64, head, outcome_input


class Ruling(Enum):
    """What a record is to a reader of the log."""

    COUNTS = "counts"
    SUPERSEDED = "superseded"  # changes nothing
    LOST_TAIL = "lost_tail"  # an Owner that has read more than this log has
    UNKNOWN = "unknown"  # counts, and only a newer engine knows what it is


@dataclass(slots=True)
class Rule:
    """Where a reader stands: epoch, sequence and the hash of the last counting outcome."""

    epoch: int = 0
    sequence: int = 0
    previous: int = 0
    released: bool = False
    application: int = 0

    def read(self, value: bytes | None) -> tuple[Ruling, Head | None, Alarm | None]:
        """Rule on the next record of the log, and move on if it counts."""
        found = head(value)
        if value is None or found is None:
            return Ruling.SUPERSEDED, None, Alarm.FOREIGN
        if found.kind is Kind.OWNER:
            return self._owner(value, found), found, None
        if found.epoch != self.epoch:
            return Ruling.SUPERSEDED, found, None
        if self.released:
            return Ruling.SUPERSEDED, found, Alarm.AFTER_RELEASE
        step = 1 if found.kind is Kind.OUTCOME else 0
        if found.sequence != self.sequence + step:
            above = found.sequence > self.sequence + step
            return Ruling.SUPERSEDED, found, Alarm.GAP if above else None
        alarm = Alarm.CHAIN if found.previous != self.previous else None
        return self._current(value, found, alarm), found, alarm

    def _current(self, value: bytes, found: Head, alarm: Alarm | None) -> Ruling:
        """Rule on a record of the current epoch at its place."""
        if found.kind is None:
            return Ruling.SUPERSEDED if found.skippable else Ruling.UNKNOWN
        if found.kind is Kind.OUTCOME:
            if alarm or not _has_input(value):
                return Ruling.SUPERSEDED
            self.sequence, self.previous = found.sequence, hash64(value)
        elif not _whole(value):
            return Ruling.SUPERSEDED
        elif found.kind is Kind.APPLICATION:
            index = decode_event(value)[1]["index"]
            if index != self.application + 1:
                return Ruling.SUPERSEDED
            self.application = index
        self.released = found.kind is Kind.RELEASED
        return Ruling.COUNTS

    def _owner(self, value: bytes, found: Head) -> Ruling:
        if found.epoch <= self.epoch or not _whole(value):
            return Ruling.SUPERSEDED
        if found.sequence > self.sequence:
            return Ruling.LOST_TAIL
        self.epoch, self.released = found.epoch, False
        return Ruling.COUNTS


def _whole(value: bytes) -> bool:
    try:
        decode_event(value)
    except WireError:
        return False
    return True


def _has_input(value: bytes) -> bool:
    try:
        outcome_input(value)
    except (IndexError, WireError):
        return False
    return True
