"""What clients are told: a reply is a function of the outcome as it lies in the log.

So nobody needs to make replies that nobody waits for, and whoever reads an outcome later, for a
duplicate, tells the same.
"""

from engine import wire
from engine.errors import Code
from engine.model import Duplicate, LogRecord, Lookup, Reply


def reply_of(value: bytes) -> Reply:
    """Return the reply that goes with an outcome's record."""
    outcome = wire.decode_outcome(value)
    return Reply(
        outcome["command_id"],
        outcome["workspace"],
        outcome["sequence"],
        outcome["workspace_sequence"],
        outcome["code"],
        outcome["message"],
        outcome["field"],
        outcome["result"],
    )


def first_outcome(duplicate: Duplicate, found: LogRecord | Lookup) -> Reply:
    """Return the answer to a duplicate: the first outcome, if it is really the same command."""
    reply = Reply(
        duplicate.command_id,
        duplicate.workspace,
        0,
        0,
        Code.ID_EXPIRED,
        "its outcome is no longer in the log; it may have been decided long ago",
        reply_to=duplicate.reply_to,
        duplicate=True,
    )
    if isinstance(found, Lookup):
        return reply
    first = wire.decode_outcome(found.value or b"")
    asked = (duplicate.workspace, duplicate.name, duplicate.args_schema, duplicate.args)
    if asked != (first["workspace"], first["name"], first["args_schema"], first["args"]):
        reply.code = Code.ID_CONFLICT
        reply.message = "this id was used for another command"
        return reply
    reply.sequence = first["sequence"]
    reply.workspace_sequence = first["workspace_sequence"]
    reply.code, reply.message = first["code"], first["message"]
    reply.field, reply.result = first["field"], first["result"]
    return reply
