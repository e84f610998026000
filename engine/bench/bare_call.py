"""The bare call of one WASM module into another, without any check: what host calls are held to.

`call_ns`: a function that reads a number. `copy_ns`: one that has bytes of its own memory copied
into its caller's, by the bridge between the two, for a module knows no memory but those it was
compiled with. Both with the epoch check that ends endless loops, and with no other.
"""

import statistics
import time
from typing import Any

import wasmtime

# The callee reads a number, as a host's function at least does; the caller adds them up.
_CALLEE = """(module (memory 1) (func (export "call") (param i32 i32) (result i64)
  (i64.load (i32.and (local.get 1) (i32.const 1016)))))"""
_CALLER = """(module (import "callee" "call" (func $call (param i32 i32) (result i64)))
  (func (export "run") (param $left i32) (result i64) (local $sum i64)
    (loop $again
      (local.set $sum
        (i64.add (local.get $sum) (call $call (i32.const 4) (local.get $left))))
      (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (local.get $sum)))"""
_MEMORIES = '(module (memory (export "host") 1) (memory (export "guest") 1))'
_BRIDGE = """(module
  (import "m" "host" (memory $host 1)) (import "m" "guest" (memory $guest 1))
  (func (export "to_guest") (param i32 i32 i32)
    (memory.copy $guest $host (local.get 0) (local.get 1) (local.get 2))))"""
# A length that the compiler doesn't know, as a host's function doesn't know it either.
_COPIER = """(module
  (import "bridge" "to_guest" (func $to_guest (param i32 i32 i32)))
  (func (export "call") (param $to i32) (param $length i32) (result i64)
    (call $to_guest (local.get $to) (i32.const 64) (local.get $length))
    (i64.extend_i32_u (local.get $length))))"""
_RECEIVER = """(module
  (import "m" "guest" (memory 1))
  (import "callee" "call" (func $call (param i32 i32) (result i64)))
  (func (export "run") (param $left i32) (param $length i32) (result i64) (local $sum i64)
    (loop $again
      (local.set $sum (i64.add (local.get $sum)
        (i64.add (call $call (i32.const 1024) (local.get $length)) (i64.load (i32.const 1024)))))
      (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (local.get $sum)))"""


def call_ns(calls: int, rounds: int) -> float:
    """Return the time of one call that moves a number."""
    linker, store = _linked()
    _add(linker, store, "callee", _CALLEE)
    return _median_ns(store, _add(linker, store, "caller", _CALLER), (calls,), rounds)


def copy_ns(length: int, calls: int, rounds: int) -> float:
    """Return the time of one call that copies bytes into its caller's memory."""
    linker, store = _linked()
    _add(linker, store, "m", _MEMORIES)
    _add(linker, store, "bridge", _BRIDGE)
    _add(linker, store, "callee", _COPIER)
    return _median_ns(store, _add(linker, store, "caller", _RECEIVER), (calls, length), rounds)


def _linked() -> tuple[wasmtime.Linker, wasmtime.Store]:
    config = wasmtime.Config()
    config.epoch_interruption = True
    config.wasm_multi_memory = True
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    store.set_epoch_deadline(1)
    return wasmtime.Linker(engine), store


def _add(linker: wasmtime.Linker, store: wasmtime.Store, name: str, text: str) -> Any:
    instance = linker.instantiate(store, wasmtime.Module(linker.engine, text))
    linker.define_instance(store, name, instance)
    return instance.exports(store)


def _median_ns(
    store: wasmtime.Store, exports: Any, arguments: tuple[int, ...], rounds: int
) -> float:
    run, found = exports["run"], list[float]()
    for _ in range(rounds):
        began_ns = time.thread_time_ns()
        run(store, *arguments)
        found.append((time.thread_time_ns() - began_ns) / arguments[0])
    return statistics.median(found)
