"""Recorded commands made fit to be sent again: new ids, no secrets, no stale deadlines."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from engine.load.recording import Recorded
from engine.wire import WireError, decode_command, encode_command
from engine.world import derived_id, uuid7, uuid7_time_ms

_LONG_MAX = (1 << 63) - 1


class Sendable(NamedTuple):
    """A command to send; `command_id` is empty where none can be read, so none is waited for."""

    command_id: bytes
    value: bytes | None
    envelope: dict[str, Any] | None  # of an Avro command
    json: dict[str, Any] | None  # of a JSON command


@dataclass(slots=True, frozen=True)
class Rewriter:
    """Gives commands of one run their new ids, the same one for the same old one.

    `shift_ms` = how much later than recorded they are sent; `same_ids` sends true duplicates.
    """

    run_id: bytes
    started_at_ms: int
    shift_ms: int
    same_ids: bool = False

    def rewrite(self, recorded: Recorded) -> Sendable:
        """Return the command as this run sends it; what can't be read goes out as it is."""
        value = recorded.value
        if value is None:
            return Sendable(b"", None, None, None)
        if value[:1] == b"{":
            return self._json(value)
        try:
            fields: dict[str, Any] = {**decode_command(value)}
        except WireError:
            return Sendable(b"", value, None, None)
        fields["command_id"] = self.new_id(fields["command_id"])
        fields["reply"] = None
        if fields["not_after"] is not None:
            fields["not_after"] = self._later(fields["not_after"])
        return Sendable(fields["command_id"], encode_command(fields), fields, None)

    def _json(self, value: bytes) -> Sendable:
        try:
            fields = orjson.loads(value)
            command_id = self.new_id(uuid.UUID(fields["command_id"]).bytes)
            fields["command_id"] = str(uuid.UUID(bytes=command_id))
            if isinstance(fields.get("not_after"), int):
                fields["not_after"] = self._later(fields["not_after"])
        except (ValueError, TypeError, KeyError, AttributeError):
            return Sendable(b"", value, None, None)
        fields.pop("reply", None)
        return Sendable(command_id, orjson.dumps(fields), None, fields)

    def _later(self, time_ms: int) -> int:
        return min(time_ms + self.shift_ms, _LONG_MAX)

    def new_id(self, old: bytes) -> bytes:
        """Return the id that an old one has in this run; ids with a time keep having one."""
        if self.same_ids:
            return old
        derived = derived_id(self.run_id, old)
        if uuid7_time_ms(old) is None:
            return derived
        return uuid7(self.started_at_ms, derived[:10])


def without_token(value: bytes | None) -> bytes | None:
    """Return a command without its token, which must not get into a file."""
    if value is None:
        return None
    if value[:1] == b"{":
        return _changed(value, _json_without_token)
    return _changed(value, _avro_without_token)


def _changed(value: bytes, change: Callable[[bytes], bytes]) -> bytes:
    try:
        return change(value)
    except (ValueError, AttributeError):  # WireError is a ValueError
        return value


def _json_without_token(value: bytes) -> bytes:
    fields = orjson.loads(value)
    return orjson.dumps(fields) if fields.pop("token", None) is not None else value


def _avro_without_token(value: bytes) -> bytes:
    fields = decode_command(value)
    if fields["token"] is None:
        return value
    return encode_command({**fields, "token": None})
