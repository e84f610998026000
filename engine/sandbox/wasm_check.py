"""Goes through a door into wasmtime, both ways, and says what isn't as it should be.

Run before the first guest: what the raw door relies on is nobody's promise.
"""

from collections.abc import Sequence
from typing import Any

import wasmtime

_HALF = 0x3FE0000000000000  # the bits of 0.5
_REFUSED_AT = 2
_PAGE = 65_536
# It asks its host for a number, and puts it into memory and into a global.
_SAMPLE = """(module
  (import "host" "ask" (func $ask (param i32 i64 f64) (result i64)))
  (memory (export "memory") 1 1)
  (global (export "kept") (mut i64) (i64.const 7))
  (func (export "run") (result i64)
    (global.set 0 (call $ask (i32.const 3) (i64.const -2) (f64.const 0.5)))
    (i64.store (i32.const 8) (global.get 0))
    (global.get 0))
  (func (export "kept_is") (result i64) (global.get 0))
  (func (export "loop")
    (loop (drop (call $ask (i32.const 3) (i64.const -2) (f64.const 0.5))) (br 0))))"""


def check(door: Any) -> None:
    """Raise ImportError where a door (`wasm_raw` or `wasm_public`) doesn't do what it must."""
    config = wasmtime.Config()
    config.epoch_interruption = True
    engine, asked = wasmtime.Engine(config), list[Any]()

    def ask(slots: Any) -> None:
        asked.append((slots[0] & 0xFFFFFFFF, slots[2], slots[4]))
        engine.increment_epoch()
        if len(asked) == _REFUSED_AT:
            raise ValueError
        slots[0] = -5

    failures: list[BaseException] = []
    linker, store = wasmtime.Linker(engine), wasmtime.Store(engine)
    kinds = [wasmtime.ValType.i32(), wasmtime.ValType.i64(), wasmtime.ValType.f64()]
    signature = wasmtime.FuncType(kinds, [wasmtime.ValType.i64()])
    # It lives until the checks are over, as the linker's functions must.
    thunk = door.define(linker, "host", "ask", signature, ask, failures.append)
    module = wasmtime.Module(engine, bytes(wasmtime.wat2wasm(_SAMPLE)))
    budget = door.Budget(store, 1)
    budget.begin(1_000)
    exports: Any = linker.instantiate(store, module).exports(store)
    _values(door, store, exports, asked)
    _ends(door, store, exports, budget, failures)
    assert thunk is not None


def _values(door: Any, store: wasmtime.Store, exports: Any, asked: Sequence[Any]) -> None:
    memory, saved = door.Memory(store, exports["memory"]), door.Globals(store, [exports["kept"]])
    run, kept = (door.Function(store, exports[name]) for name in ("run", "kept_is"))
    _fits("call", run.call() is None and run.result() == -5)
    _fits("argument", list(asked) == [(3, -2, _HALF)])
    written = (-5).to_bytes(8, "little", signed=True)
    _fits("memory", memory.size() == _PAGE and memory.read(8, 8) == written)
    memory.write(8, bytes(8))
    _fits("memory", memory.read(0, 16) == bytes(16))
    saved.put_back()
    _fits("global", kept.call() is None and kept.result() == 7)


def _ends(
    door: Any,
    store: wasmtime.Store,
    exports: Any,
    budget: Any,
    failures: Sequence[BaseException],
) -> None:
    run, loop = (door.Function(store, exports[name]) for name in ("run", "loop"))
    ended = run.call()
    _fits("trap", ended is not None and len(failures) == 1 and not budget.exceeded(ended))
    budget.begin(1)
    ended = loop.call()
    _fits("deadline", ended is not None and budget.exceeded(ended))
    budget.begin(1_000)
    _fits("call after a trap", run.call() is None and run.result() == -5)


def _fits(name: str, is_so: bool) -> None:  # noqa: FBT001 - what is checked is the call's point
    if not is_so:
        raise ImportError(f"wasmtime's {name} isn't what is known")
