"""The door into wasmtime by its public functions: slow, for a binding that `wasm_raw` doesn't fit.

The same names, and guests do the same behind it. A budget is wall time here, and generous: the
public binding has no callback that could ask the thread's own clock when the time is over.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import wasmtime

from engine.sandbox.host_guests import OutOfBounds

PATIENCE = 4  # a machine that is busy with other work stands still; a loop goes on for ever
_SLOTS = 12
_LONG, _DOUBLE = struct.Struct("<q"), struct.Struct("<d")


class _HostFaultError(wasmtime.WasmtimeError):
    """A host function has failed: its caller knows how."""


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
    takes = [str(each) for each in signature.params]
    gives = [str(each) for each in signature.results]

    def answer(*values: Any) -> Any:
        slots = [0] * _SLOTS
        for at, (kind, value) in enumerate(zip(takes, values, strict=True)):
            slots[2 * at] = _LONG.unpack(_DOUBLE.pack(value))[0] if kind == "f64" else value
        try:
            body(slots)
        except BaseException as fault:
            failed(fault)
            raise _HostFaultError("a host function failed") from fault
        return _value(gives[0], slots[0]) if gives else None

    linker.define_func(module, name, signature, answer)
    return answer


def _value(kind: str, slot: int) -> int | float:
    """Return what a slot holds, in the range of its type."""
    if kind == "f64":
        value: float = _DOUBLE.unpack(_LONG.pack(slot))[0]
        return value
    bits = 32 if kind == "i32" else 64
    slot &= (1 << bits) - 1
    return slot - (1 << bits) if slot >> (bits - 1) else slot


class Budget:
    """The time a store's guest may take."""

    def __init__(self, store: wasmtime.Store, tick_ms: int) -> None:
        self._store, self._tick_ms = store, tick_ms

    def begin(self, budget_ms: int) -> None:
        """Give the next run `budget_ms`, and more where the machine is busy."""
        patient_ms = budget_ms * PATIENCE
        # One more than that: the first tick may be over at once.
        self._store.set_epoch_deadline(-(-patient_ms // self._tick_ms) + 1)

    def exceeded(self, ended: Exception) -> bool:
        """Tell whether the last run, which `ended` so, took longer than it may."""
        code = ended.trap_code if isinstance(ended, wasmtime.Trap) else None
        return code == wasmtime.TrapCode.INTERRUPT


class Globals:
    """The mutable globals of an instance, as they are now, to be put back later."""

    def __init__(self, store: wasmtime.Store, exported: Sequence[wasmtime.Global]) -> None:
        self._store = store
        self._saved: list[tuple[wasmtime.Global, wasmtime.Val]] = []
        for each in exported:
            kind = each.type(store).content
            made = _VALUES.get(str(kind))
            if made is None:
                raise wasmtime.WasmtimeError(f"a global of type {kind} can't be put back")
            self._saved.append((each, made(each.value(store))))

    def put_back(self) -> None:
        """Set every global to what it was."""
        for each, value in self._saved:
            each.set_value(self._store, value)


_VALUES: dict[str, Callable[[Any], wasmtime.Val]] = {
    "i32": wasmtime.Val.i32,
    "i64": wasmtime.Val.i64,
    "f32": wasmtime.Val.f32,
    "f64": wasmtime.Val.f64,
}


class Memory:
    """An instance's linear memory."""

    def __init__(self, store: wasmtime.Store, memory: wasmtime.Memory) -> None:
        self._store, self._memory = store, memory

    def size(self) -> int:
        """Return the size in bytes."""
        return self._memory.data_len(self._store)

    def read(self, pointer: int, length: int) -> bytes:
        """Return a guest's bytes; raise OutOfBounds where they don't lie in the memory."""
        if pointer + length > self.size():
            raise OutOfBounds
        return bytes(self._memory.read(self._store, pointer, pointer + length))

    def write(self, pointer: int, data: bytes) -> None:
        """Write into the guest; raise OutOfBounds where it doesn't lie in the memory."""
        if pointer + len(data) > self.size():
            raise OutOfBounds
        if data:
            self._memory.write(self._store, data, pointer)


class Function:
    """An exported function without parameters and with at most one integer result."""

    def __init__(self, store: wasmtime.Store, function: wasmtime.Func) -> None:
        self._store, self._function = store, function
        self._result: Any = None

    def call(self) -> wasmtime.Trap | wasmtime.WasmtimeError | None:
        """Run it; return its trap if it traps, or is ended by its budget or a host function."""
        try:
            self._result = self._function(self._store)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as ended:
            return ended
        return None

    def result(self) -> int:
        """Return the integer that the last call returned, as a signed 64-bit number."""
        return int(self._result)
