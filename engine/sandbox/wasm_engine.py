"""The process's wasmtime engines: what a module may use, and the clock that ends endless loops.

There are two, alike but for the stack: deciding has a bound, and folding has twice as much, so that
what was decided somewhere folds everywhere. Compiled modules are shared by all partitions.
"""

import functools
import importlib
import threading
from typing import Any

import wasmtime

from engine.limits import EPOCH_TICK_MS, GUEST_STACK_BYTES, MODULES_COMPILED_MAX

# A table can't be changed without reference types and bulk memory, and a data segment can't be
# dropped, so memory and globals are all the state a guest has.
_FORBIDDEN = (
    "wasm_threads",
    "wasm_relaxed_simd",
    "wasm_bulk_memory",
    "wasm_reference_types",
    "wasm_gc",
    "wasm_function_references",
    "wasm_multi_memory",
    "wasm_memory64",
    "wasm_tail_call",
    "wasm_exceptions",
    "wasm_stack_switching",
    "wasm_wide_arithmetic",
)
_IDLE_TICKS = 100


class Ticker:
    """A thread that moves the engines' epochs on while anybody runs a guest."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._awake = threading.Event()
        self._engines: list[wasmtime.Engine] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, engine: wasmtime.Engine) -> None:
        """Move this engine's epoch on from now on."""
        self._engines.append(engine)

    def enter(self, runner: int) -> None:
        """Say that a guest runs; `runner` is any number that is the runner's own."""
        self._running.add(runner)
        if not self._awake.is_set():
            self._start()

    def leave(self, runner: int) -> None:
        """Say that it runs no more."""
        self._running.discard(runner)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._tick, name="epochs", daemon=True)
                self._thread.start()
        self._awake.set()

    def _tick(self) -> None:
        pause = threading.Event()  # never set: a wait for the length of a tick
        idle = 0
        while self._awake.wait():
            pause.wait(EPOCH_TICK_MS / 1_000)
            for engine in self._engines:
                engine.increment_epoch()
            idle = 0 if self._running else idle + 1
            if idle >= _IDLE_TICKS:
                idle = 0
                self._awake.clear()
                if self._running:  # somebody entered between the two lines above
                    self._awake.set()


TICKER = Ticker()


def _strict(config: wasmtime.Config) -> None:
    """NaNs are alike on all machines, and modules are all there is."""
    config.cranelift_nan_canonicalization = True
    # What wants features that are forbidden here, and has no property: plain functions of the C
    # interface, in every version whose components have these features.
    internals: Any = importlib.import_module("wasmtime._bindings")
    for feature in ("async", "async_stackful", "map"):
        setter = getattr(internals, f"wasmtime_config_wasm_component_model_{feature}_set", None)
        if setter is not None:
            setter(config.ptr(), False)
    config.wasm_component_model = False


@functools.cache
def engine(*, fold: bool) -> wasmtime.Engine:
    """Return the engine for deciding or for folding."""
    config = wasmtime.Config()
    _strict(config)
    for feature in _FORBIDDEN:
        setattr(config, feature, False)
    config.wasm_custom_page_sizes = True
    config.epoch_interruption = True
    config.max_wasm_stack = GUEST_STACK_BYTES * (2 if fold else 1)
    made = wasmtime.Engine(config)
    TICKER.add(made)
    return made


@functools.cache
def host_engine() -> wasmtime.Engine:
    """Return the engine of state hosts and of the guests beside them.

    A guest has been compiled by a stricter engine before, so it doesn't use what this one allows.
    """
    config = wasmtime.Config()
    _strict(config)
    config.wasm_custom_page_sizes = True
    config.wasm_multi_memory = True
    config.epoch_interruption = True
    config.max_wasm_stack = GUEST_STACK_BYTES
    made = wasmtime.Engine(config)
    TICKER.add(made)
    return made


def assembled(text: str) -> bytes:
    """Return the module that WebAssembly's text format stands for."""
    return bytes(wasmtime.wat2wasm(text))


@functools.lru_cache(maxsize=MODULES_COMPILED_MAX)
def host_compiled(content: bytes) -> wasmtime.Module:
    """Compile a module to run beside a state host."""
    return wasmtime.Module(host_engine(), content)


@functools.lru_cache(maxsize=MODULES_COMPILED_MAX)
def compiled(content: bytes, *, fold: bool) -> wasmtime.Module:
    """Compile a module; raise WasmtimeError for one that is invalid or uses what is forbidden."""
    return wasmtime.Module(engine(fold=fold), content)
