"""WASM guests for the plain Python host: load, check, run, and leave nothing behind.

A guest is one extension of an application. It is checked when it is loaded, so that what can be
wrong about it is an ApplicationError then, and not a rejected command later. Each run has a budget
of time and a cap on memory; after it, memory and globals are what they were before.
"""

import functools
from typing import NamedTuple

import wasmtime

from engine.application.types import Application, EntryPoint, Extension
from engine.errors import ApplicationError, Code
from engine.limits import (
    EPOCH_TICK_MS,
    FOLD_TIME_MS_MAX,
    MODULE_BYTES_MAX,
    MODULES_COMPILED_MAX,
    TABLE_ELEMENTS_MAX,
)
from engine.sandbox import abi, wasm_binding, wasm_engine, wasm_imports, wasm_module
from engine.sandbox.host_guests import OutOfBounds, Trapped
from engine.sandbox.session import Call, CallStopped, Missed

_TRAPS = {
    wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS: "it used memory out of bounds",
    wasmtime.TrapCode.TABLE_OUT_OF_BOUNDS: "it called through a table out of bounds",
    wasmtime.TrapCode.INDIRECT_CALL_TO_NULL: "it called a function that is not there",
    wasmtime.TrapCode.BAD_SIGNATURE: "it called a function of another type",
    wasmtime.TrapCode.INTEGER_OVERFLOW: "an integer overflowed",
    wasmtime.TrapCode.INTEGER_DIVISION_BY_ZERO: "it divided by zero",
    wasmtime.TrapCode.BAD_CONVERSION_TO_INTEGER: "a number is no integer",
    wasmtime.TrapCode.UNREACHABLE: "it gave up",
}


class WasmGuests:
    """The WASM extensions of one application, for one partition (see `host_guests.Guests`)."""

    def __init__(self, application: Application) -> None:
        self.guests = {
            name: Guest(extension, application)
            for name, extension in application.extensions.items()
            if extension.kind == "wasm"
        }

    def run(self, entry: EntryPoint, call: Call, time_ms: int | None) -> None:
        """Run an entry to its end; raise Trapped, or the CallStopped that `call` raised."""
        self.guests[entry.extension].run(entry.function, call, time_ms)

    def close(self) -> None:
        """Let go of all instances."""
        for guest in self.guests.values():
            guest.close()


class _Described(NamedTuple):
    """What a module says of itself, and how large its memory is at first."""

    description: abi.Description
    memory_bytes: int


class _Module:
    """A module with what it may call: instances are made of it, and run within a budget."""

    def __init__(self, extension: Extension) -> None:
        self._extension = extension
        self._imports = wasm_imports.Imports()
        self._bodies = self._imports.bodies()
        self._linkers: dict[bool, wasmtime.Linker] = {}
        self._thunks: list[object] = []  # host functions live as long as the linkers

    def describe(self) -> _Described:
        """Run `partita_describe`, and with it the module's start function, within the budget."""
        budget_ms = self._extension.time_ms
        try:
            instance = self._instantiate(budget_ms, fold=False)
        except (Trapped, CallStopped) as fault:
            raise _wrong(self._extension, f"its start function failed: {fault}") from fault
        memory_bytes = instance.memory.size()
        ended, fault = self._call(instance, abi.DESCRIBE, Call(0), budget_ms)
        if ended is not None:
            reason = fault or self._trapped(ended, instance.budget, budget_ms, grown=False)
            raise _wrong(self._extension, f"its {abi.DESCRIBE} failed: {reason}")
        packed = instance.functions.named(abi.DESCRIBE).result()
        pointer, length = packed >> 32 & 0xFFFFFFFF, packed & 0xFFFFFFFF
        try:
            data = instance.memory.read(pointer, length)
        except OutOfBounds:
            raise _wrong(self._extension, "its description lies outside of its memory") from None
        return _Described(abi.parse(data, self._extension.target), memory_bytes)

    def _call(
        self, instance: "_Instance", function: str, call: Call, budget_ms: int
    ) -> tuple[Exception | None, BaseException | None]:
        """Run a function; return how it ended badly, and the host function's fault behind that."""
        called = instance.functions.named(function)
        self._imports.begin(call, instance.memory)
        wasm_engine.TICKER.enter(id(self))
        try:
            instance.budget.begin(budget_ms)
            ended = called.call()
        finally:
            wasm_engine.TICKER.leave(id(self))
            fault = self._imports.end()
        return ended, fault

    def _instantiate(self, budget_ms: int, *, fold: bool) -> "_Instance":
        linker = self._linkers.get(fold) or self._link(fold=fold)
        store = wasmtime.Store(wasm_engine.engine(fold=fold))
        store.set_limits(
            memory_size=self._extension.memory_kib * 1_024,
            table_elements=TABLE_ELEMENTS_MAX,
            instances=1,
            tables=1,
            memories=1,
        )
        budget = wasm_binding.Budget(store, EPOCH_TICK_MS)
        module = wasm_engine.compiled(self._extension.content, fold=fold)
        wasm_engine.TICKER.enter(id(self))
        try:
            budget.begin(budget_ms)
            return _Instance(store, linker.instantiate(store, module), module, budget)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as ended:
            fault = self._imports.end()
            if fault is not None:
                raise self._fault(fault) from ended
            if isinstance(ended, wasmtime.Trap) or budget.exceeded(ended):
                raise self._trapped(ended, budget, budget_ms, grown=False) from ended
            raise _wrong(self._extension, _first_line(ended)) from ended
        finally:
            wasm_engine.TICKER.leave(id(self))

    def _link(self, *, fold: bool) -> wasmtime.Linker:
        linker = self._linkers[fold] = wasmtime.Linker(wasm_engine.engine(fold=fold))
        for name, body in self._bodies.items():
            kind, failed = _function_type(name, fold=fold), self._imports.failed
            thunk = wasm_binding.define(linker, abi.MODULE, name, kind, body, failed)
            self._thunks.append(thunk)
        return linker

    def _fault(self, fault: BaseException) -> BaseException:
        """Return what a host function's fault means to the caller."""
        if isinstance(fault, CallStopped | Trapped):
            return fault
        if isinstance(fault, OutOfBounds):
            return Trapped(Code.ABI_MISUSED, "a pointer lies outside of its memory")
        if isinstance(fault, IndexError):
            return Trapped(Code.ABI_MISUSED, "an ordinal stands for nothing it has asked for")
        return fault  # the engine's own

    def _trapped(
        self, ended: Exception, budget: "wasm_binding.Budget", budget_ms: int, *, grown: bool
    ) -> Trapped:
        code = ended.trap_code if isinstance(ended, wasmtime.Trap) else None
        if budget.exceeded(ended):
            return Trapped(Code.TIME_EXCEEDED, f"it ran longer than {budget_ms} ms")
        if code == wasmtime.TrapCode.STACK_OVERFLOW:
            return Trapped(Code.MEMORY_EXCEEDED, "its calls are nested too deeply")
        if code == wasmtime.TrapCode.UNREACHABLE and grown:
            most = self._extension.memory_kib
            return Trapped(Code.MEMORY_EXCEEDED, f"it gave up growing; it may have {most} KiB")
        message = "it trapped" if code is None else _TRAPS.get(code, "it trapped")
        return Trapped(Code.EXTENSION_TRAPPED, message)


class Guest(_Module):
    """One extension and its instances: one to decide with, one to fold with, made when needed."""

    def __init__(self, extension: Extension, application: Application) -> None:
        super().__init__(extension)
        self.name = extension.name
        self._instances: dict[bool, _Instance] = {}
        self.description, self.memory_bytes = _described(extension)
        self.resolved = abi.resolve(self.description, application, extension)
        self._imports.resolve(self.resolved)

    def run(self, function: str, call: Call, time_ms: int | None) -> None:
        """Run an exported function; `time_ms` None is the fold, which only a watchdog ends."""
        fold = time_ms is None
        budget_ms = FOLD_TIME_MS_MAX if time_ms is None else time_ms
        instance = self._instances.pop(fold, None) or self._instantiate(budget_ms, fold=fold)
        ended, fault = self._call(instance, function, call, budget_ms)
        # A miss is the host's doing, and frequent: no reason for a new instance.
        if (ended is None or isinstance(fault, Missed)) and instance.put_back():
            self._instances[fold] = instance
        if fault is not None:
            raise self._fault(fault)
        if ended is not None:
            raise self._trapped(ended, instance.budget, budget_ms, grown=instance.grown())

    def close(self) -> None:
        """Let go of the instances."""
        self._instances.clear()


class _Instance:
    """An instance, and what it was when it was new."""

    def __init__(
        self,
        store: wasmtime.Store,
        instance: wasmtime.Instance,
        module: wasmtime.Module,
        budget: "wasm_binding.Budget",
    ) -> None:
        self.budget = budget
        exports = instance.exports(store)
        memory = exports[abi.MEMORY]
        assert isinstance(memory, wasmtime.Memory)
        self.memory = wasm_binding.Memory(store, memory)
        self._image = self.memory.read(0, self.memory.size())
        found = [exports[export.name] for export in module.exports if _is_mutable(export)]
        mutable = [each for each in found if isinstance(each, wasmtime.Global)]
        self._globals = wasm_binding.Globals(store, mutable)
        self.functions = wasm_binding.Functions(store, exports, wasm_binding.Function)

    def grown(self) -> bool:
        """Tell whether the memory is larger than when it was new."""
        return self.memory.size() != len(self._image)

    def put_back(self) -> bool:
        """Make it as new; False where that can't be done, since memory never shrinks."""
        if self.grown():
            return False
        self.memory.write(0, self._image)
        self._globals.put_back()
        return True


def check(application: Application) -> list[Guest]:
    """Load every WASM extension as a host would; raise ApplicationError E1104."""
    extensions = application.extensions.values()
    return [Guest(each, application) for each in extensions if each.kind == "wasm"]


@functools.lru_cache(MODULES_COMPILED_MAX)
def _described(extension: Extension) -> _Described:
    """Check a module, once for all partitions: nothing but its own bytes says what it is."""
    _check_module(extension)
    described = _Module(extension).describe()
    _check_entries(extension, described.description)
    return described


def _check_module(extension: Extension) -> None:
    """Refuse a module that needs, hides or keeps what it may not."""
    if len(extension.content) > MODULE_BYTES_MAX:
        raise _wrong(extension, f"it has {len(extension.content)} bytes")
    try:
        module = wasm_engine.compiled(extension.content, fold=False)
    except wasmtime.WasmtimeError as fault:
        raise _wrong(extension, f"it is no module of this ABI: {_first_line(fault)}") from fault
    for wanted in module.imports:
        _check_import(extension, wanted)
    exports = {export.name: export.type for export in module.exports}
    memory = exports.get(abi.MEMORY)
    if not isinstance(memory, wasmtime.MemoryType):
        raise _wrong(extension, f"it exports no memory named {abi.MEMORY!r}")
    _check_function(extension, exports.get(abi.DESCRIBE), abi.DESCRIBE, ["i64"])
    try:
        hidden = wasm_module.hidden_mutable_globals(extension.content)
    except ValueError as fault:
        raise _wrong(extension, f"its sections can't be read: {fault}") from fault
    if hidden:
        message = f"it has {len(hidden)} mutable globals that it doesn't export"
        hint = "They could carry state from one call to the next: link with --export=NAME"
        raise ApplicationError("E1104", message, hint, file=extension.target)


def _check_import(extension: Extension, wanted: wasmtime.ImportType) -> None:
    name = f"{wanted.module}.{wanted.name}"
    known = abi.IMPORTS.get(wanted.name or "") if wanted.module == abi.MODULE else None
    if known is None:
        raise _wrong(extension, f"it imports {name}, which ABI v{abi.VERSION} doesn't offer")
    found = wanted.type
    if not isinstance(found, wasmtime.FuncType) or _types(found) != known:
        raise _wrong(extension, f"it imports {name} with another type than ABI v{abi.VERSION} has")


def _check_entries(extension: Extension, description: abi.Description) -> None:
    module = wasm_engine.compiled(extension.content, fold=False)
    exports = {export.name: export.type for export in module.exports}
    for entry in description.entries:
        _check_function(extension, exports.get(entry), entry, [])


def _check_function(extension: Extension, found: object, name: str, results: list[str]) -> None:
    if not isinstance(found, wasmtime.FuncType):
        raise _wrong(extension, f"it exports no function named {name!r}")
    if _types(found) != ((), tuple(results)):
        wanted = f"() -> ({', '.join(results)})"
        raise _wrong(extension, f"its export {name!r} is not a function {wanted}")


def _types(function: wasmtime.FuncType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(map(str, function.params)), tuple(map(str, function.results))


@functools.cache
def _function_type(name: str, *, fold: bool) -> wasmtime.FuncType:
    """Return an import's type: of one engine alone, from its first use on."""
    del fold
    types = {
        "i32": wasmtime.ValType.i32,
        "i64": wasmtime.ValType.i64,
        "f64": wasmtime.ValType.f64,
    }
    params, results = abi.IMPORTS[name]
    return wasmtime.FuncType(
        [types[each]() for each in params], [types[each]() for each in results]
    )


def _is_mutable(export: wasmtime.ExportType) -> bool:
    return isinstance(export.type, wasmtime.GlobalType) and export.type.mutable


def _first_line(fault: Exception) -> str:
    """Return the last cause that wasmtime names, without its backtrace."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[-1].removeprefix("0: ") if lines else "invalid"


def _wrong(extension: Extension, message: str) -> ApplicationError:
    return ApplicationError("E1104", message, "", file=extension.target)
