"""DECIDE's steps that need nothing but the command and the state: no rows, no extension."""

from typing import Any

from engine.application import Application, rows
from engine.errors import Code
from engine.limits import MESSAGE_LENGTH_MAX
from engine.model import HostState, Input, Reply
from engine.sandbox import host_input
from engine.sandbox.host_apply import Rejection
from engine.sandbox.host_input import Fault, Request
from engine.wire import Outcome


def begin(
    request: Request, state: HostState, epoch: int, command_time: int, now_ms: int
) -> Outcome:
    """Return the outcome as far as it is known before the command is run."""
    return {
        "epoch": epoch,
        "sequence": state.sequence + 1,
        "previous": state.previous,
        "skippable": False,
        "workspace": request.workspace,
        "workspace_sequence": 0,
        "command_id": request.command_id,
        "input": Input.COMMANDS.value,
        "input_offset": request.source.offset,
        "command_time": command_time,
        "registered_at": max(now_ms, state.registered_at),
        "name": request.name,
        "application": state.application,
        "args_schema": request.args_schema,
        "args": request.args,
        "code": "",
        "message": "",
        "field": None,
        "changes": [],
        "emits": [],
        "timers": [],
        "result": None,
        "principal": request.principal,
        "source": None,
        "traceparent": request.traceparent,
    }


def check(
    request: Request,
    application: Application,
    older: list[Application],
    accepted: int | None,
    registered_at: int,
) -> dict[str, Any]:
    """Return the arguments of a command that may be run; raise Rejection for any other.

    `accepted` is the workspace's last accepted sequence, None = not known yet.
    """
    fault = request.fault
    if fault is not None:
        raise Rejection(fault.code, fault.message, fault.field)
    if request.name not in application.commands:
        what = f"{application.name} {application.version} has no command {request.name!r}"
        raise Rejection(Code.UNKNOWN_COMMAND, what)
    args = host_input.decode_args(request, application, older)
    if isinstance(args, Fault):
        raise Rejection(args.code, args.message, args.field)
    if accepted is not None and request.expected_sequence not in {None, accepted}:
        what = f"expected {request.expected_sequence}, the workspace is at {accepted}"
        raise Rejection(Code.SEQUENCE_MISMATCH, what)
    if request.not_after is not None and request.not_after < registered_at:
        raise Rejection(Code.EXPIRED, "it was decided after its not_after")
    return args


def reject(outcome: Outcome, workspace: rows.Workspace | None, why: Rejection) -> None:
    """Make an outcome a rejected one; before its first accepted one a workspace has no row."""
    outcome["workspace_sequence"] = workspace.last + 1 if workspace else 0
    outcome["code"] = str(why.code)
    outcome["message"] = _bounded(why.message)
    outcome["field"] = None if why.field is None else _bounded(why.field)
    outcome["changes"], outcome["result"] = [], None


def refusal(request: Request, code: Code, message: str) -> Reply:
    """Return the answer to a command that is refused: no outcome, no record."""
    return Reply(
        request.command_id,
        request.workspace,
        0,
        0,
        code,
        message,
        reply_to=request.reply_to,
    )


def reply(request: Request, outcome: Outcome) -> Reply:
    """Return the answer that goes with an outcome."""
    return Reply(
        outcome["command_id"],
        outcome["workspace"],
        outcome["sequence"],
        outcome["workspace_sequence"],
        outcome["code"],
        outcome["message"],
        outcome["field"],
        outcome["result"],
        reply_to=request.reply_to,
    )


def _bounded(text: str) -> str:
    """Return a text that an outcome can hold, whatever wrote it."""
    return text[:MESSAGE_LENGTH_MAX].encode("utf-8", "replace").decode()
