"""The state hosts that are measured beside each other."""

from collections.abc import Callable

from engine.ports import StateHost
from engine.sandbox.guests import load_guests
from engine.sandbox.python import PythonHost
from engine.sandbox.wasm_host import WasmHost

HOSTS: dict[str, Callable[[], StateHost]] = {
    "wasm": lambda: WasmHost(load_guests),
    "python": lambda: PythonHost(load_guests),
}
