"""The state hosts that are measured beside each other."""

from collections.abc import Callable

from engine.ports import StateHost
from engine.sandbox.guests import load_guests
from engine.sandbox.hosts import wasm_host
from engine.sandbox.python import PythonHost

HOSTS: dict[str, Callable[[], StateHost]] = {
    "wasm": lambda: wasm_host(load_guests),
    "python": lambda: PythonHost(load_guests),
}
