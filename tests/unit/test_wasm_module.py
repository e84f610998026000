"""The parser of module sections: which mutable globals can't be put back from outside."""

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from engine.sandbox.wasm_module import hidden_mutable_globals

EVERY_CONSTANT = """(module
  (global $a i32 (i32.const -5))
  (global $b (mut i64) (i64.const -9223372036854775808))
  (global $c (mut f32) (f32.const 1.5))
  (global $d (mut f64) (f64.const nan))
  (global $e i32 (i32.const 11))
  (global $f (mut v128) (v128.const i64x2 11 11))
  (global $g (mut i32) (i32.add (i32.const 11) (i32.mul (i32.const 2) (i32.const 11))))
  (global $h (mut i32) (i32.const 0))
  (memory (export "memory") 1)
  (func (export "g"))
  (export "b" (global $b)) (export "also b" (global $b)) (export "f" (global $f))
)"""


def test_what_is_mutable_and_not_exported():
    module = bytes(wasmtime.wat2wasm(EVERY_CONSTANT))
    assert hidden_mutable_globals(module) == [2, 3, 6, 7]


def test_a_module_without_globals_hides_none():
    assert hidden_mutable_globals(bytes(wasmtime.wat2wasm("(module)"))) == []


def test_a_module_that_is_cut_off_is_refused():
    module = bytes(wasmtime.wat2wasm(EVERY_CONSTANT))
    with pytest.raises(ValueError, match="cut off"):
        hidden_mutable_globals(module[:-3])


@given(st.binary(max_size=64))
def test_any_bytes_end(data):
    try:
        hidden_mutable_globals(b"\0asm\1\0\0\0" + data)
    except ValueError:
        return
