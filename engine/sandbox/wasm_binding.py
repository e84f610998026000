"""The door into wasmtime that is used: the raw one, or the public one where that doesn't fit.

Both have the names below, and guests do the same behind either. The state host in WASM needs the
raw one, for wasmtime's public functions can't end one run inside a batch: behind the public door
the plain host decides. Which one it is shows when a name is first used: wasmtime takes the
process's signal handlers then, which nobody expects of an import.
"""

import functools
import importlib
from typing import TYPE_CHECKING, Any

import wasmtime

from engine.sandbox.wasm_check import check

if TYPE_CHECKING:
    from engine.sandbox.wasm_raw import Budget, Function, Globals, Memory, define

__all__ = ["Budget", "Function", "Functions", "Globals", "Memory", "define", "fallback"]


def fallback() -> str:
    """Return why the raw door isn't used, "" if it is."""
    return _chosen()[1]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    return getattr(_chosen()[0], name)


@functools.cache
def _chosen() -> tuple[Any, str]:
    try:
        raw = importlib.import_module("engine.sandbox.wasm_raw")
        raw.check()
        check(raw)
    except Exception as fault:  # noqa: BLE001 - whatever doesn't fit, the public door does
        public = importlib.import_module("engine.sandbox.wasm_public")
        return public, f"{type(fault).__name__}: {fault}"
    return raw, ""


class Functions:
    """The functions that an instance exports, each looked up once, behind the door `made` is of."""

    def __init__(self, store: wasmtime.Store, exports: Any, made: "type[Function]") -> None:
        self._made = made
        self._store = store
        self._exports = exports
        self._known: dict[str, Function] = {}

    def named(self, name: str) -> "Function":
        """Return an exported function."""
        known = self._known.get(name)
        if known is None:
            function = self._exports[name]
            assert isinstance(function, wasmtime.Func)
            known = self._known[name] = self._made(self._store, function)
        return known

    def clear(self) -> None:
        """Let go of all, before the store is closed."""
        self._known.clear()
