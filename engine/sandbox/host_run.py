"""Runs one command's extension and makes its working rows an outcome's changes and result."""

import logging
from typing import Any

from engine.application import rows, schema
from engine.application.types import RecordType
from engine.errors import Code
from engine.sandbox.host_apply import Rejection, context_of, encode_row, run_entry
from engine.sandbox.host_calls import CommandCall, Scope
from engine.sandbox.host_values import Row
from engine.sandbox.session import AbiMisused, Guests
from engine.wire import Change, Outcome

_log = logging.getLogger("engine.extension")
_LEVELS = logging.getLevelNamesMapping()


def run_command(
    scope: Scope, guests: Guests, outcome: Outcome, args: dict[str, Any], next_id: int
) -> list[bytes]:
    """Run a command and fill in what it did; return keys of rows it needs that are not known.

    Raises Rejection.
    """
    command = scope.application.commands[outcome["name"]]
    call = CommandCall(scope, command, args, context_of(outcome), next_id)
    assert command.run is not None, "a generic command"
    time_ms = scope.application.extensions[command.run.extension].time_ms
    run_entry(guests, command.run, call, time_ms)
    if call.missed:
        return call.missed
    for level, text in call.logs:
        _log.log(_LEVELS[level.upper()], "%s: %s", outcome["name"], text)
    if call.rejected is not None:
        raise Rejection(*call.rejected)
    try:
        call.finish()
    except AbiMisused as fault:
        raise Rejection(Code.ABI_MISUSED, str(fault)) from fault
    outcome["changes"] = [_change(row) for row in call.changed]
    result = call.result
    if result is not None and result.changed:
        try:
            outcome["result"] = schema.encode(result.schema, result.values)
        except schema.SchemaMismatch as fault:
            raise Rejection(Code.ABI_MISUSED, f"result: {fault}") from fault
    return []


def _change(row: Row) -> Change:
    """Return the change that a row went through; raise Rejection where a check forbids it."""
    type_ = row.type
    assert isinstance(type_, RecordType)
    _check(type_, row.values)
    if row.created:
        op = "create"
    elif row.active == row.was_active:
        op = "update"
    else:
        op = "activate" if row.active else "deactivate"
    return {
        "type": type_.table,
        "root": row.id,
        "parent": 0,
        "id": row.id,
        "op": op,
        "set": row.touched.to_bytes((len(type_.schema.fields) + 7) // 8, "little"),
        "before": 0 if row.before is None else rows.row_hash(row.key, row.before),
        "body": encode_row(row),
    }


def _check(type_: RecordType, values: dict[str, Any]) -> None:
    for check in type_.checks:
        value = values[check.field.name]
        if value is None:
            continue
        name = f"{type_.name}.{check.field.name}"
        # Written so that a NaN, which compares with nothing, is refused.
        if check.minimum is not None and not value >= check.minimum:
            why = f"{name} would be {value}, at least {check.minimum} is allowed"
            raise Rejection(Code.CHECK_FAILED, why, name)
        if check.maximum is not None and not value <= check.maximum:
            why = f"{name} would be {value}, at most {check.maximum} is allowed"
            raise Rejection(Code.CHECK_FAILED, why, name)
