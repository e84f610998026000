"""All extensions of one application, WASM and builtin Python, behind one `Guests`."""

from engine.application import Application
from engine.application.types import EntryPoint
from engine.sandbox.builtin import BuiltinGuests
from engine.sandbox.host_guests import Guests
from engine.sandbox.session import Call
from engine.sandbox.wasm import WasmGuests


class MixedGuests:
    """Hands each run to the guests of the extension's kind."""

    def __init__(self, application: Application) -> None:
        self._kinds = {name: found.kind for name, found in application.extensions.items()}
        self._guests: dict[str, Guests] = {
            "wasm": WasmGuests(application),
            "python": BuiltinGuests(application),
        }

    def run(self, entry: EntryPoint, call: Call, time_ms: int | None) -> None:
        """Run an entry to its end; see `Guests.run`."""
        self._guests[self._kinds[entry.extension]].run(entry, call, time_ms)

    def close(self) -> None:
        """Let go of all instances."""
        for guests in self._guests.values():
            guests.close()


def load_guests(application: Application) -> Guests:
    """Return the guests of an application; raise ApplicationError E1104 where one can't be."""
    kinds = {extension.kind for extension in application.extensions.values()}
    if kinds == {"python"}:
        return BuiltinGuests(application)
    return WasmGuests(application) if kinds == {"wasm"} else MixedGuests(application)
