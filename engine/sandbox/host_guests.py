"""What runs the extensions of an application, and how a run ends badly."""

from typing import TYPE_CHECKING, Protocol

from engine.application.types import EntryPoint
from engine.errors import Code

if TYPE_CHECKING:
    from engine.sandbox.session import Call


class Trapped(Exception):  # noqa: N818 - the established word of WASM
    """An extension's run ended by itself: a trap, a Python exception, too long, too much memory."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class OutOfBounds(Exception):  # noqa: N818 - the guest's fault, and soon its trap
    """A pointer that doesn't lie in the guest's memory."""


class Guests(Protocol):
    """The loaded extensions of one application."""

    def run(self, entry: EntryPoint, call: "Call", time_ms: int | None) -> None:
        """Run an entry to its end. `time_ms` None = no budget (fold).

        Raises Trapped. Lets `CallStopped` through or turns it into Trapped: the caller looks at
        `call.stopped` first either way. Leaves nothing behind that a later call could see.
        """
        ...

    def close(self) -> None:
        """Let go of them."""
        ...
