"""DECIDE's steps that need nothing but the command and the state: no rows, no extension."""

from typing import Any

from engine.application import Application, rows
from engine.errors import Code
from engine.limits import ID_AHEAD_MS_MAX, ID_FIRST, MESSAGE_LENGTH_MAX
from engine.model import Duplicate, HostState, Input, Reply
from engine.replies import answer_of
from engine.sandbox import host_input
from engine.sandbox.host_apply import Rejection
from engine.sandbox.host_held import IdWindow
from engine.sandbox.host_input import Fault, Request
from engine.wire import Outcome
from engine.world import uuid7_time_ms


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
    workspace: rows.Workspace | None,
    registered_at: int,
    *,
    known: bool,
) -> dict[str, Any]:
    """Return the arguments of a command that may be run; raise Rejection for any other.

    `workspace` None = it has not begun, or (not `known`) nobody knows yet.
    """
    fault = request.fault
    if fault is not None:
        raise Rejection(fault.code, fault.message, fault.field)
    command = application.command(request.name)
    if command is None:
        what = f"{application.name} {application.version} has no command {request.name!r}"
        raise Rejection(Code.UNKNOWN_COMMAND, what)
    if command.off:
        raise Rejection(Code.SWITCHED_OFF, command.off)
    if known:
        _check_workspace(request, application, workspace)
    args = host_input.decode_args(request, application, older)
    if isinstance(args, Fault):
        raise Rejection(args.code, args.message, args.field)
    accepted = workspace.accepted if workspace else 0
    if known and request.expected_sequence not in {None, accepted}:
        what = f"expected {request.expected_sequence}, the workspace is at {accepted}"
        raise Rejection(Code.SEQUENCE_MISMATCH, what)
    if request.not_after is not None and request.not_after < registered_at:
        raise Rejection(Code.EXPIRED, "it was decided after its not_after")
    return args


def _check_workspace(
    request: Request, application: Application, workspace: rows.Workspace | None
) -> None:
    """Check that the workspace takes this command."""
    command, name = application.command(request.name), request.workspace
    assert command is not None
    if workspace is None:
        if application.workspaces and not command.creates:
            what = f"there is no workspace {name!r}; a command that creates one comes first"
            raise Rejection(Code.UNKNOWN_WORKSPACE, what)
        return
    if workspace.status == rows.GONE:
        raise Rejection(Code.WORKSPACE_GONE, f"the workspace {name!r} is gone")
    if command.creates:
        raise Rejection(Code.WORKSPACE_EXISTS, f"there is a workspace {name!r} already")
    if application.workspaces and workspace.kind:
        kind = application.workspaces.get(workspace.kind)
        if kind is None or command.name not in kind.commands:
            what = f"{name!r} is a {workspace.kind}, which has no command {command.name}"
            raise Rejection(Code.NOT_IN_WORKSPACE, what)


def begun(workspace: rows.Workspace | None, application: Application, name: str) -> rows.Workspace:
    """Return a workspace as a command finds it: one that has not begun is what it makes of it."""
    if workspace is not None:
        return workspace
    command = application.command(name)
    return rows.Workspace(0, 0, ID_FIRST, [], command.creates if command else "")


def dedupe(dedup: IdWindow, request: Request, command_time: int) -> Reply | Duplicate | None:
    """Return the answer to a command that needs no outcome (FORMATS 4)."""
    command_id = request.command_id
    id_time = uuid7_time_ms(command_id)
    if id_time is not None:
        if id_time > request.source.time_ms + ID_AHEAD_MS_MAX:
            what = f"the id is from over {ID_AHEAD_MS_MAX // 1_000} s in the future"
            return refusal(request, Code.ID_TOO_NEW, what)
        if id_time <= dedup.floor_at(command_time):
            return refusal(request, Code.ID_EXPIRED, "it may have been decided long ago")
    first = dedup.find(command_id)
    if first:
        return Duplicate(
            first,
            command_id,
            request.workspace,
            request.name,
            request.args_schema,
            request.args,
            request.reply_to,
        )
    if dedup.is_full(command_time):
        return refusal(request, Code.DEDUP_FULL, "too many commands; try again later")
    return None


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


def reply(request: Request, outcome: Outcome) -> Reply | None:
    """Return the answer that goes with an outcome, if the command says where to send it."""
    return None if request.reply_to is None else answer_of(outcome, request.reply_to)


def _bounded(text: str) -> str:
    """Return a text that an outcome can hold, whatever wrote it."""
    return text[:MESSAGE_LENGTH_MAX].encode("utf-8", "replace").decode()
