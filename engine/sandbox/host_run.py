"""Runs one command and makes its working rows an outcome's changes and result."""

import logging
from typing import Any

from engine.application import rows, schema
from engine.application.types import CommandType, RecordType
from engine.errors import Code
from engine.sandbox.host_apply import Rejection, context_of, encode_row, run_entry
from engine.sandbox.host_calls import CommandCall
from engine.sandbox.host_generic import GenericRun
from engine.sandbox.host_guests import Guests
from engine.sandbox.host_rules import Rules
from engine.sandbox.host_scope import Scope
from engine.sandbox.host_values import AbiMisused, Missed, Row, RuleBroken
from engine.wire import Change, Outcome

_log = logging.getLogger("engine.extension")
_LEVELS = logging.getLevelNamesMapping()


def run_command(
    scope: Scope,
    guests: Guests,
    outcome: Outcome,
    args: dict[str, Any],
    workspace: rows.Workspace,
) -> list[bytes]:
    """Run a command and fill in what it did; return keys of rows it needs that are not known.

    Raises Rejection.
    """
    command = scope.application.command(outcome["name"])
    assert command is not None
    context = {**context_of(outcome), "name": command.name}
    call = CommandCall(scope, command, args, context, workspace)
    if command.run is None:
        outcome["result"] = _run_generic(scope, call, command, args)
    else:
        time_ms = scope.application.extensions[command.run.extension].time_ms
        run_entry(guests, command.run, call, time_ms)
    if call.missed:
        return call.missed
    for level, text in call.logs:
        _log.log(_LEVELS[level.upper()], "%s: %s", outcome["name"], text)
    if call.rejected is not None:
        raise Rejection(*call.rejected)
    rules = Rules(scope, outcome["workspace"], call)
    try:
        rules.check()
    except Rejection:
        if not rules.missed:
            raise
    if rules.missed:
        return rules.missed
    outcome["changes"] = [_change(row) for row in call.changed]
    result = call.result
    if result is not None and result.changed:
        try:
            outcome["result"] = schema.encode(result.schema, result.values)
        except schema.SchemaMismatch as fault:
            raise Rejection(Code.ABI_MISUSED, f"result: {fault}") from fault
    return []


def _run_generic(
    scope: Scope, call: CommandCall, command: CommandType, args: dict[str, Any]
) -> bytes | None:
    try:
        return GenericRun(scope, call, command).run(args)
    except RuleBroken as fault:
        raise Rejection(fault.code, fault.message, fault.field) from None
    except AbiMisused as fault:
        raise Rejection(Code.INVALID_ARGUMENTS, str(fault)) from None
    except Missed:
        return None


def _change(row: Row) -> Change:
    """Return the change that a row went through."""
    type_ = row.type
    assert isinstance(type_, RecordType)
    if row.created:
        op = "create"
    elif row.active == row.was_active:
        op = "update"
    else:
        op = "activate" if row.active else "deactivate"
    return {
        "type": type_.table,
        "root": row.root,
        "parent": row.parent,
        "id": row.id,
        "op": op,
        "set": row.touched.to_bytes((len(type_.schema.fields) + 7) // 8, "little"),
        "before": 0 if row.before is None else rows.row_hash(row.key, row.before),
        "body": encode_row(row),
    }
