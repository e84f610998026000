"""What the calls of commands and of projectors have in common: one application, one command."""

from dataclasses import dataclass
from typing import Any

from engine.application import Application
from engine.errors import Code
from engine.limits import MESSAGE_LENGTH_MAX, SCAN_ROWS_MAX
from engine.sandbox.host_ranges import TooWide, below
from engine.sandbox.host_rows import RowCodec
from engine.sandbox.host_values import (
    CONTEXT,
    UNKNOWN,
    Cell,
    Prefix,
    Row,
    RowSource,
    RuleBroken,
    Unknown,
)
from engine.sandbox.session import ARGS, CONTEXT_HANDLE, Call


@dataclass(slots=True, frozen=True)
class Scope:
    """Where calls work: one application's rows, before the command at hand."""

    application: Application
    codec: RowCodec
    rows: RowSource


class ScopedCall(Call):
    """A call in the workspace of its command."""

    def __init__(
        self, scope: Scope, generation: int, args: dict[str, Any], context: dict[str, Any]
    ) -> None:
        super().__init__(generation)
        self._scope = scope
        self._workspace: str = context["workspace"]
        self._handles: dict[bytes, int] = {}
        self._cells[CONTEXT_HANDLE] = Cell(CONTEXT.fields, context)
        command = scope.application.commands.get(context["name"])
        if command is not None:
            self._cells[ARGS] = Cell(command.args.fields, args)

    def _refused(self, code: Code, message: str, field: str | None = None) -> RuleBroken:
        """Return what ends the call because of a rule; the command is rejected with its code."""
        fault = RuleBroken(code, message[:MESSAGE_LENGTH_MAX], field)
        self.stopped = self.stopped or fault
        return fault

    def _below(
        self,
        name: str,
        prefix: bytes,
        changed: dict[bytes, bytes | None],
        *,
        reverse: bool = False,
        bounded: bool = True,
    ) -> list[tuple[bytes, bytes]] | Unknown:
        """Return the rows below a prefix, or note that they are missing."""
        try:
            found = below(self._scope.rows, prefix, changed, reverse=reverse, bounded=bounded)
        except TooWide:
            raise self._refused(*too_wide(name)) from None
        if found is UNKNOWN:
            self.missed.append(Prefix(prefix))
        return found


def too_wide(name: str) -> tuple[Code, str, str]:
    """Return why a command can't go through a range."""
    why = f"{name} has more than {SCAN_ROWS_MAX} rows in one range, too many for one command"
    return Code.SCAN_TOO_WIDE, why, name


def row_cell(row: Row, *, writable: bool) -> Cell:
    """Return what a handle of a row stands for."""
    return Cell(row.schema.fields, row.values, row, writable=writable)
