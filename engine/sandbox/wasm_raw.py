"""The raw door into wasmtime: calls in both directions without a conversion per value.

wasmtime's Python binding turns each argument into an object and back: 9.3 us for a host call and
6.7 us for a call into the guest, measured; through its C functions for unchecked calls it is
0.3 us and 0.9 us. They take arguments as an array of 16-byte slots and trust the caller to know the
types; ours come from the ABI's table, against which a module's imports are checked at load.

All use of the binding's C structures and private attributes is in this file, written for the
version that pyproject.toml pins. Engine, module, linker and store are public objects. Where the
binding is another, `wasm_binding` takes the public door, `wasm_public`.
"""

import ctypes
import importlib
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import wasmtime

from engine.sandbox.host_guests import OutOfBounds

# Typed as Any: the binding's internals have no stubs.
_C: Any = importlib.import_module("wasmtime._bindings")

VERSION = "50.0.1"
ARGUMENTS_MAX = 6
SLOT_BYTES = 16
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t
)
_NO_FINALIZER: Any = ctypes.CFUNCTYPE(None, ctypes.c_void_p)()
_SLOT_ADDRESSES_MAX = 4_096
_CONTINUE = 0  # WASMTIME_UPDATE_DEADLINE_CONTINUE

# A slot is 16 bytes, of which an i64 or f64 takes the first 8 and an i32 the first 4: argument i
# lies at index 2 * i. Results replace the arguments, from slot 0 on.
_Slots = ctypes.c_int64 * (2 * ARGUMENTS_MAX)


def _bare(name: str) -> Any:
    """Return a C function without the Python function that the binding puts around it."""
    return getattr(_C, f"_{name}")


def _brief(name: str) -> Any:
    """Return a C function that is over at once: called without giving up the interpreter's lock."""
    known = _bare(name)
    function = _LIBRARY[name]
    function.argtypes, function.restype = known.argtypes, known.restype
    return function


_LIBRARY: Any = ctypes.PyDLL(importlib.import_module("wasmtime._ffi").filename)
_memory_data = _brief("wasmtime_memory_data")
_memory_data.restype = ctypes.c_void_p  # an address is all that is wanted
_memory_data_size = _brief("wasmtime_memory_data_size")
_set_epoch_deadline = _brief("wasmtime_context_set_epoch_deadline")
_global_set = _brief("wasmtime_global_set")
# This one gives the lock up, so that the ticker and all other threads go on while a guest runs.
_func_call: Any = _bare("wasmtime_func_call_unchecked")


def check() -> None:
    """Raise ImportError where the binding is plainly another: its structures could crash us."""
    found = importlib.metadata.version("wasmtime")
    if found != VERSION:
        raise ImportError(f"wasmtime is {found}, and {VERSION} is what is known")
    if ctypes.sizeof(_C.wasmtime_val_raw_t) != SLOT_BYTES:
        raise ImportError(f"a slot has {ctypes.sizeof(_C.wasmtime_val_raw_t)} bytes")


class _SlotArrays(dict[int, Any]):
    """Arrays of slots by address: a guest's calls come from few places of the stack."""

    def __missing__(self, address: int) -> Any:
        if len(self) >= _SLOT_ADDRESSES_MAX:
            self.clear()
        array = self[address] = _Slots.from_address(address)
        return array


_arrays = _SlotArrays()


def define(
    linker: wasmtime.Linker,
    module: str,
    name: str,
    signature: wasmtime.FuncType,
    body: Callable[[Any], None],
    failed: Callable[[BaseException], None],
) -> object:
    """Define an import. `body` takes the slots; what it raises `failed` gets, and the guest traps.

    The returned object must live as long as the linker's instances.
    """

    def callback(_env: int, _caller: int, slots: int, _count: int) -> int:
        try:
            body(_arrays[slots])
        except BaseException as fault:  # noqa: BLE001 - an exception can't cross into wasmtime
            failed(fault)
            return _new_trap()
        return 0

    thunk = _CALLBACK(callback)
    where, what = module.encode(), name.encode()
    error = _C.wasmtime_linker_define_func_unchecked(
        linker.ptr(),
        where,
        len(where),
        what,
        len(what),
        signature.ptr(),
        ctypes.cast(thunk, _C.wasmtime_func_unchecked_callback_t),
        None,
        _NO_FINALIZER,
    )
    assert not error, "the linker has no definition of this name yet"
    return thunk


def _new_trap() -> int:
    """Return the address of a new trap, for a host function to end its guest's run with.

    Which one doesn't matter: the caller knows the host function's fault. A trap with a message of
    our own would come back as an error instead.
    """
    trap = _C.wasmtime_trap_new_code(wasmtime.TrapCode.UNREACHABLE.value)
    return ctypes.cast(trap, ctypes.c_void_p).value or 0


def _at_deadlines(store: wasmtime.Store, more: Callable[[], int]) -> object:
    """Have a store ask, at each deadline, for how many ticks a run may go on; 0 ends it.

    Returns what must be kept as long as the store asks.
    """

    def deadline(_context: Any, _data: Any, more_ticks: Any, kind: Any) -> int:
        ticks = more()
        if ticks:
            more_ticks[0], kind[0] = ticks, _CONTINUE
            return 0
        error = _C.wasmtime_error_new(b"out of time")
        return ctypes.cast(error, ctypes.c_void_p).value or 0

    types = _bare("wasmtime_store_epoch_deadline_callback").argtypes
    thunk = types[1](deadline)
    _C.wasmtime_store_epoch_deadline_callback(store.ptr(), thunk, None, _NO_FINALIZER)
    return thunk


class Budget:
    """The time a store's guest may take: CPU time of the thread that runs it, host calls included.

    Not wall time: on a busy machine a thread may stand still for longer than a whole budget, and
    no command may be rejected for that. Epochs tick in wall time; when enough of them have passed,
    the thread's own clock says whether the guest really had its time, or how much is left.
    """

    def __init__(self, store: wasmtime.Store, tick_ms: int) -> None:
        self._context = _C.wasmtime_store_context(store.ptr())
        self._tick_ns = tick_ms * 1_000_000
        # [when the budget ends, whether it has]: what the callback shares, so that it need not
        # hold this object, which holds the callback.
        self._state = state = [0, False]
        tick_ns = self._tick_ns

        def more() -> int:
            left_ns = state[0] - time.thread_time_ns()
            if left_ns > 0:
                return left_ns // tick_ns + 1
            state[1] = True
            return 0

        self._thunk = _at_deadlines(store, more)

    def begin(self, budget_ms: int) -> None:
        """Give the next run `budget_ms`."""
        budget_ns = budget_ms * 1_000_000
        self._state[:] = time.thread_time_ns() + budget_ns, False
        # One more than the budget has: the first one may be over at once.
        _set_epoch_deadline(self._context, -(-budget_ns // self._tick_ns) + 1)

    def exceeded(self, ended: Exception) -> bool:
        """Tell whether the last run, which `ended` so, took longer than it may."""
        del ended  # an error like others: the callback knows
        return bool(self._state[1])


class Watch:
    """Ends a guest's run inside a state host's batch that takes longer than it may.

    At each tick it is asked which run goes on (0 = none) and what it may take. A run is known from
    the first tick that meets it, so it may take a tick longer than its budget.
    """

    def __init__(self, store: wasmtime.Store, running: Callable[[], tuple[int, int]]) -> None:
        self._context = _C.wasmtime_store_context(store.ptr())
        self._state = state = [0, 0]  # the run at the last tick, since when

        def more() -> int:
            run, budget_ms = running()
            now_ns = time.thread_time_ns()
            if run != state[0]:
                state[:] = run, now_ns
            return int(run == 0 or now_ns - state[1] < budget_ms * 1_000_000)

        self._thunk = _at_deadlines(store, more)

    def begin(self) -> None:
        """Look at each tick from now on."""
        self._state[:] = 0, 0
        _set_epoch_deadline(self._context, 1)


class Globals:
    """The mutable globals of an instance, as they are now, to be put back later."""

    def __init__(self, store: wasmtime.Store, exported: Sequence[wasmtime.Global]) -> None:
        self._context = _C.wasmtime_store_context(store.ptr())
        self._saved: list[tuple[Any, Any]] = []
        for each in exported:
            handle = ctypes.byref(attrgetter("_global")(each))
            value = _C.wasmtime_val_t()
            _C.wasmtime_global_get(self._context, handle, ctypes.byref(value))
            self._saved.append((handle, ctypes.byref(value)))

    def put_back(self) -> None:
        """Set every global to what it was."""
        for handle, value in self._saved:
            _global_set(self._context, handle, value)


class Memory:
    """An instance's linear memory. It may move whenever the guest has run and grown it."""

    def __init__(self, store: wasmtime.Store, memory: wasmtime.Memory) -> None:
        self._context = _C.wasmtime_store_context(store.ptr())
        self._handle = ctypes.byref(attrgetter("_memory")(memory))
        self._store = store  # whose end is the memory's end
        limits = memory.type(store).limits
        self._fixed = limits.max is not None and limits.max == limits.min
        self._address, self._size = self._look()

    def _look(self) -> tuple[int, int]:
        address = _memory_data(self._context, self._handle)
        return address or 0, int(_memory_data_size(self._context, self._handle))

    def place(self) -> tuple[int, int]:
        """Return (address, size in bytes)."""
        if not self._fixed:
            self._address, self._size = self._look()
        return self._address, self._size

    def size(self) -> int:
        """Return the size in bytes."""
        return self.place()[1]

    def read(self, pointer: int, length: int) -> bytes:
        """Return a guest's bytes; raise OutOfBounds where they don't lie in the memory."""
        address, size = self.place()
        if pointer + length > size:
            raise OutOfBounds
        return ctypes.string_at(address + pointer, length)

    def write(self, pointer: int, data: bytes) -> None:
        """Write into the guest; raise OutOfBounds where it doesn't lie in the memory."""
        address, size = self.place()
        if pointer + len(data) > size:
            raise OutOfBounds
        ctypes.memmove(address + pointer, data, len(data))


class Function:
    """An exported function without parameters and with at most one integer result."""

    def __init__(self, store: wasmtime.Store, function: wasmtime.Func) -> None:
        self._context = _C.wasmtime_store_context(store.ptr())
        self._store = store
        self._func = attrgetter("_func")(function)
        self._handle = ctypes.byref(self._func)
        self._slots = _Slots()
        self._slots_place = ctypes.cast(self._slots, ctypes.POINTER(_C.wasmtime_val_raw_t))
        self._trap = ctypes.POINTER(_C.wasm_trap_t)()
        self._trap_place = ctypes.byref(self._trap)

    def call(self) -> wasmtime.Trap | wasmtime.WasmtimeError | None:
        """Run it; return its trap if it traps, or an error if its budget ends it."""
        error = _func_call(self._context, self._handle, self._slots_place, 1, self._trap_place)
        if error:
            return attrgetter("_from_ptr")(wasmtime.WasmtimeError)(error)
        if not self._trap:
            return None
        trap = attrgetter("_from_ptr")(wasmtime.Trap)(self._trap)
        self._trap = ctypes.POINTER(_C.wasm_trap_t)()
        self._trap_place = ctypes.byref(self._trap)
        return trap

    def result(self) -> int:
        """Return the integer that the last call returned, as a signed 64-bit number."""
        return int(self._slots[0])
