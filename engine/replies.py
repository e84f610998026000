"""What clients are told: a reply is a function of the outcome as it lies in the log.

So nobody needs to make replies that nobody waits for, and whoever reads an outcome later, for a
duplicate, tells the same.
"""

from engine import wire
from engine.errors import Code
from engine.model import Duplicate, LogRecord, Lookup, Reply, ReplyTo


def reply_of(value: bytes) -> Reply:
    """Return the reply that goes with an outcome's record."""
    return answer_of(wire.decode_outcome(value))


def answer_of(outcome: wire.Outcome, reply_to: ReplyTo | None = None) -> Reply:
    """Return the reply that goes with an outcome, and where it is sent to."""
    return Reply(
        outcome["command_id"],
        outcome["workspace"],
        outcome["sequence"],
        outcome["workspace_sequence"],
        outcome["code"],
        outcome["message"],
        outcome["field"],
        outcome["result"],
        reply_to=reply_to,
    )


def first_outcome(duplicate: Duplicate, found: LogRecord | Lookup) -> Reply:
    """Return the answer to a duplicate: the first outcome, if it is really the same command."""
    if isinstance(found, Lookup):
        what = "its outcome is no longer in the log; it may have been decided long ago"
        return _refused(duplicate, Code.ID_EXPIRED, what)
    first = wire.decode_outcome(found.value or b"")
    asked = (duplicate.workspace, duplicate.name, duplicate.args_schema, duplicate.args)
    if asked != (first["workspace"], first["name"], first["args_schema"], first["args"]):
        return _refused(duplicate, Code.ID_CONFLICT, "this id was used for another command")
    reply = answer_of(first, duplicate.reply_to)
    reply.duplicate = True
    return reply


def _refused(duplicate: Duplicate, code: Code, message: str) -> Reply:
    return Reply(
        duplicate.command_id,
        duplicate.workspace,
        0,
        0,
        code,
        message,
        reply_to=duplicate.reply_to,
        duplicate=True,
    )
