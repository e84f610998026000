"""Who may append, and which records count: rules R2-R4 of the log protocol.

`LogState` is the fold of the log's heads, the same for an owner, a replica and an outside reader.
It decodes no outcome beyond its first fields and touches no port.

    Owner      counts iff its epoch is higher than any before (of two equal ones the first wins)
    Outcome    counts iff it is of the current epoch, the next sequence, and names the last one
    any other  counts iff it is of the current epoch and at the current sequence;
               an Application also only if its index is the next one

What doesn't count is superseded: it changes nothing but the position. So nothing in the log can
stop a partition for good, and a zombie's records are void wherever they land.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from engine import __version__, limits, wire
from engine.errors import LogError, StoreError
from engine.model import Chain, Input, Position
from engine.ports import Random
from engine.wire import Kind

EPOCH_RANDOM_BITS = 20


class Verdict(Enum):
    """What a record is to its reader."""

    COUNTS = "counts"
    SUPERSEDED = "superseded"
    ALARM = "alarm"  # superseded, and a sign that a record was lost or a rule is broken


class Judged(NamedTuple):
    """A judged record; `fields` are decoded only for counting records other than outcomes."""

    verdict: Verdict
    kind: Kind | None
    fields: dict[str, Any]


_SUPERSEDED = Judged(Verdict.SUPERSEDED, None, {})


class LogState:
    """Position, epoch, sequence, chain and resume offsets, as of the last judged record."""

    def __init__(self, position: Position | None = None) -> None:
        self.position = position or Position()
        self.claim_id = b""  # of the last counting Owner that was read by this object
        self.owner = ""  # its node
        self.successor: str | None = None  # whom a counting Released has named
        self.superseded = 0
        self.alarms = 0

    def copy(self) -> "LogState":
        """Return an independent copy, to judge ahead of what is applied."""
        other = LogState(self.position.copy())
        other.know(self)
        other.superseded, other.alarms = self.superseded, self.alarms
        return other

    def know(self, other: "LogState") -> None:
        """Take over what the position doesn't say of the last owner."""
        self.claim_id, self.owner, self.successor = other.claim_id, other.owner, other.successor

    def judge(self, offset: int, value: bytes | None, leader_epoch: int = -1) -> Judged:
        """Judge the record at `offset`, which must be the next one, and move the position.

        Raises StoreError E1204 when an owner's claim shows that this state has lost something,
        and LogError E1304 for a counting record that needs a newer engine.
        """
        position = self.position
        assert offset >= position.offset, f"offset {offset} was judged before"
        judged = self._judge(offset, value)
        if judged.verdict is not Verdict.COUNTS:
            self.superseded += 1
            self.alarms += judged.verdict is Verdict.ALARM
        position.offset = offset + 1
        position.leader_epoch = leader_epoch
        position.tail_hash = wire.hash64(value or b"")
        return judged

    def follow(self, offset: int, chain: Chain, leader_epoch: int) -> None:
        """Move on over outcomes that a host has found to count by these very rules.

        `offset` is that of the last one.
        """
        position = self.position
        host = position.host
        assert offset - position.offset + 1 >= chain.count > 0, f"offset {offset} was judged before"
        assert not position.released, "nothing counts behind Released"
        host.sequence += chain.count
        host.previous = position.tail_hash = chain.previous
        self._resume(Input.COMMANDS, chain.resume)
        position.offset = offset + 1
        position.leader_epoch = leader_epoch

    def _judge(self, offset: int, value: bytes | None) -> Judged:
        head = wire.head(value)
        if head is None or value is None:
            return _SUPERSEDED
        if head.kind is Kind.OWNER:
            return self._judge_owner(offset, value, head)
        return self._refused(head) or self._judge_current(offset, value, head)

    def _refused(self, head: wire.Head) -> Judged | None:
        """Return why a record is not of the current epoch at its place, or None if it is."""
        position, host = self.position, self.position.host
        if head.epoch != position.epoch or position.released:
            return _SUPERSEDED
        expected = host.sequence + 1 if head.kind is Kind.OUTCOME else host.sequence
        if head.sequence == expected:
            return None
        return Judged(Verdict.ALARM, head.kind, {}) if head.sequence > expected else _SUPERSEDED

    def _judge_current(self, offset: int, value: bytes, head: wire.Head) -> Judged:
        if head.kind is None:
            return self._judge_unknown(offset, head)
        if head.kind is Kind.OUTCOME:
            return self._judge_outcome(value, head)
        fields = self._decode(value)
        if fields is None:
            return _SUPERSEDED
        if head.kind is Kind.APPLICATION:
            # It moves no sequence, so a copy that lands twice is told by its own number.
            if fields["index"] != self.position.host.application + 1:
                return _SUPERSEDED
            self.position.host.application = fields["index"]
        elif head.kind is Kind.RELEASED:
            self.position.released = True
            self.successor = fields["successor"]
        elif head.kind is Kind.MARK:
            for entry in fields["inputs"]:
                self._resume(entry["input"], entry["offset"])
        return Judged(Verdict.COUNTS, head.kind, fields)

    def _judge_owner(self, offset: int, value: bytes, head: wire.Head) -> Judged:
        position = self.position
        fields = self._decode(value)
        if fields is None or head.epoch <= position.epoch:
            return Judged(Verdict.SUPERSEDED, Kind.OWNER, fields or {})
        if head.sequence > position.host.sequence:
            raise StoreError(
                "E1204",
                f"the owner {fields['node']} claims at sequence {head.sequence}, this replica has "
                f"folded {position.host.sequence}",
                "This replica has lost records: move its folder away to rebuild it",
                offset=offset,
            )
        if fields["format"] > limits.FORMAT:
            raise LogError(
                "E1304",
                f"the log is written in format {fields['format']}, this engine reads "
                f"{limits.FORMAT}",
                "Update the engine",
                offset=offset,
            )
        position.epoch = head.epoch
        position.released = False
        self.successor = None
        position.incarnation = fields["incarnation"]
        if fields["command_topic_id"] != position.command_topic_id:
            position.command_topic_id = fields["command_topic_id"]
            position.resume.pop(Input.COMMANDS, None)
        self.claim_id, self.owner = fields["claim_id"], fields["node"]
        return Judged(Verdict.COUNTS, Kind.OWNER, fields)

    def _judge_outcome(self, value: bytes, head: wire.Head) -> Judged:
        host = self.position.host
        if head.previous != host.previous:
            return Judged(Verdict.ALARM, Kind.OUTCOME, {})
        try:
            source, input_offset = wire.outcome_input(value)
        except (IndexError, wire.WireError):
            return _SUPERSEDED
        host.sequence += 1
        host.previous = wire.hash64(value)
        self._resume(source, input_offset + 1)
        return Judged(Verdict.COUNTS, Kind.OUTCOME, {})

    def _judge_unknown(self, offset: int, head: wire.Head) -> Judged:
        if head.skippable:
            return _SUPERSEDED
        raise LogError(
            "E1304",
            f"a record of an unknown kind at sequence {head.sequence} may not be skipped",
            "Update the engine",
            offset=offset,
        )

    @staticmethod
    def _decode(value: bytes) -> dict[str, Any] | None:
        """Decode a record whose head would count; damage makes it void for every reader alike."""
        try:
            return wire.decode_event(value)[1]
        except wire.WireError:
            return None

    def _resume(self, source: str, offset: int) -> None:
        resume = self.position.resume
        resume[source] = max(resume.get(source, 0), offset)


@dataclass(slots=True, frozen=True)
class Claim:
    """An Owner record of ours on its way: found again by its random id, never by node name."""

    epoch: int
    claim_id: bytes
    value: bytes


def make_claim(
    state: LogState,
    node: str,
    command_topic_id: str,
    random: Random,
    *,
    format_: int = limits.FORMAT,
) -> Claim:
    """Return a claim with an epoch higher than any read (R4), to write in a format from then on."""
    position = state.position
    counter = (position.epoch >> EPOCH_RANDOM_BITS) + 1
    epoch = (counter << EPOCH_RANDOM_BITS) | random.below(1 << EPOCH_RANDOM_BITS)
    claim_id = random.bytes(16)
    value = wire.encode_event(
        Kind.OWNER,
        {
            "epoch": epoch,
            "sequence": position.host.sequence,
            "previous": position.host.previous,
            "skippable": False,
            "claim_id": claim_id,
            "node": node,
            "incarnation": position.incarnation or epoch,
            "engine_version": __version__,
            "format": format_,
            "command_topic_id": command_topic_id,
        },
    )
    return Claim(epoch, claim_id, value)


def head_fields(state: LogState) -> dict[str, Any]:
    """Return the first fields of a record other than an outcome, at the current sequence."""
    position = state.position
    return {
        "epoch": position.epoch,
        "sequence": position.host.sequence,
        "previous": position.host.previous,
        "skippable": False,
    }
