"""What each import of the ABI does: from a guest's slots and memory to a method of `Call`.

Owns pointers, ordinals and text; what a call means is `session.Call`'s business. Nothing raises
into wasmtime: a fault is kept and becomes the guest's trap.
"""

import struct
from collections.abc import Callable
from typing import Any

from engine.application.types import Field, KeyColumn
from engine.errors import Code
from engine.limits import FIELD_BYTES_MAX, MESSAGE_LENGTH_MAX, ROW_BYTES_MAX
from engine.sandbox import abi, wasm_binding
from engine.sandbox.host_guests import Trapped
from engine.sandbox.session import Call

_MASK = 0xFFFFFFFF
_LONG = struct.Struct("<q")
_DOUBLE = struct.Struct("<d")
_TEXT_BYTES_MAX = 4 * MESSAGE_LENGTH_MAX

Body = Callable[[Any], None]


class Imports:
    """The host functions of one guest, and what they work on: its call, its memory, its ordinals.

    A method of an import's name takes the slots: parameter i is `a[2 * i]`, the result goes to
    `a[0]`. The upper half of a slot that holds an i32 is arbitrary, hence the masks.
    """

    def __init__(self) -> None:
        self.call = Call(0)  # which has no handles: while loading, there is nothing to be had
        self.memory: wasm_binding.Memory | None = None
        self.fault: BaseException | None = None  # the first one of the run
        self.resolve(abi.Resolved(frozenset(), (), (), (), (), ()))

    def resolve(self, resolved: abi.Resolved) -> None:
        """Take the objects that the guest's ordinals stand for."""
        self._records = resolved.records
        self._views = resolved.views
        self._uniques = resolved.uniques
        self._fields = resolved.fields
        self._plans = resolved.plans

    def bodies(self) -> dict[str, Body]:
        """Return the host function of every import."""
        return {name: getattr(self, name) for name in abi.IMPORTS}

    def failed(self, fault: BaseException) -> None:
        """Keep what a host function has raised."""
        self.fault = fault

    def begin(self, call: Call, memory: "wasm_binding.Memory") -> None:
        """Serve this call from now on."""
        self.call, self.memory, self.fault = call, memory, None

    def end(self) -> BaseException | None:
        """Forget the call; return the first fault of a host function in it."""
        fault, self.fault = self.fault, None
        self.call = Call(0)
        return fault

    # Fields.

    def get_i64(self, a: Any) -> None:
        a[0] = self.call.get_i64(a[0] & _MASK, self._fields[a[2] & _MASK])

    def get_f64(self, a: Any) -> None:
        value = self.call.get_f64(a[0] & _MASK, self._fields[a[2] & _MASK])
        a[0] = _LONG.unpack(_DOUBLE.pack(value))[0]

    def get_bytes(self, a: Any) -> None:
        data = self.call.get_bytes(a[0] & _MASK, self._fields[a[2] & _MASK])
        a[0] = self._give(a[4], a[6], data)

    def is_null(self, a: Any) -> None:
        a[0] = self.call.is_null(a[0] & _MASK, self._fields[a[2] & _MASK])

    def length(self, a: Any) -> None:
        a[0] = self.call.length(a[0] & _MASK, self._field(a[2]))

    def item(self, a: Any) -> None:
        a[0] = self.call.item(a[0] & _MASK, self._field(a[2]), a[4] & _MASK)

    def set_i64(self, a: Any) -> None:
        self.call.set_i64(a[0] & _MASK, self._fields[a[2] & _MASK], a[4])

    def set_f64(self, a: Any) -> None:
        value = _DOUBLE.unpack(_LONG.pack(a[4]))[0]
        self.call.set_f64(a[0] & _MASK, self._fields[a[2] & _MASK], value)

    def set_bytes(self, a: Any) -> None:
        data = self._take(a[4], a[6], FIELD_BYTES_MAX)
        self.call.set_bytes(a[0] & _MASK, self._fields[a[2] & _MASK], data)

    def set_null(self, a: Any) -> None:
        self.call.set_null(a[0] & _MASK, self._field(a[2]))

    def append(self, a: Any) -> None:
        a[0] = self.call.append(a[0] & _MASK, self._field(a[2]))

    def read(self, a: Any) -> None:
        plan = self._plans[a[2] & _MASK]
        data = plan.pack(self.call.read(a[0] & _MASK, plan.fields))
        a[0] = self._give(a[4], a[6], data)

    def write(self, a: Any) -> None:
        plan = self._plans[a[2] & _MASK]
        try:
            values = plan.unpack(self._take(a[4], a[6], ROW_BYTES_MAX))
        except ValueError as fault:
            raise Trapped(Code.ABI_MISUSED, str(fault)) from None
        self.call.write(a[0] & _MASK, plan.fields, values)

    # Records.

    def record(self, a: Any) -> None:
        a[0] = self.call.record(self._records[a[0] & _MASK], a[2])

    def create(self, a: Any) -> None:
        a[0] = self.call.create(self._records[a[0] & _MASK])

    def child(self, a: Any) -> None:
        a[0] = self.call.child(a[0] & _MASK, self._records[a[2] & _MASK])

    def child_of(self, a: Any) -> None:
        a[0] = self.call.child_of(a[0] & _MASK, self._records[a[2] & _MASK], a[4])

    def children(self, a: Any) -> None:
        a[0] = self.call.children(a[0] & _MASK, self._records[a[2] & _MASK])

    def unique_key(self, a: Any) -> None:
        a[0] = self.call.unique_key(self._uniques[a[0] & _MASK])

    def unique(self, a: Any) -> None:
        a[0] = self.call.unique(a[0] & _MASK)

    def id(self, a: Any) -> None:
        a[0] = self.call.id(a[0] & _MASK)

    def is_active(self, a: Any) -> None:
        a[0] = self.call.is_active(a[0] & _MASK)

    def set_active(self, a: Any) -> None:
        self.call.set_active(a[0] & _MASK, a[2] & _MASK != 0)

    # Views.

    def key(self, a: Any) -> None:
        a[0] = self.call.key(self._views[a[0] & _MASK])

    def view(self, a: Any) -> None:
        a[0] = self.call.view(a[0] & _MASK)

    def put(self, a: Any) -> None:
        a[0] = self.call.put(a[0] & _MASK)

    def remove(self, a: Any) -> None:
        self.call.remove(a[0] & _MASK)

    def scan(self, a: Any) -> None:
        a[0] = self.call.scan(a[0] & _MASK, a[2] & _MASK, a[4] & _MASK != 0)

    def next(self, a: Any) -> None:
        a[0] = self.call.next(a[0] & _MASK)

    # The command.

    def reject(self, a: Any) -> None:
        self.call.reject(self._text(a[0], a[2]), self._text(a[4], a[6]))

    def reject_field(self, a: Any) -> None:
        field = self._text(a[8], a[10]) or None
        self.call.reject(self._text(a[0], a[2]), self._text(a[4], a[6]), field)

    def log(self, a: Any) -> None:
        self.call.log(a[0] & _MASK, self._text(a[2], a[4]))

    # Helpers.

    def _field(self, ordinal: int) -> Field:
        found = self._fields[ordinal & _MASK]
        if isinstance(found, KeyColumn):
            message = f"{found.name} is a key's column: no array, and never null"
            raise Trapped(Code.ABI_MISUSED, message)
        return found

    def _take(self, pointer: int, length: int, most: int) -> bytes:
        """Return bytes of the guest."""
        if length & _MASK > most:
            raise Trapped(Code.ABI_MISUSED, f"{length & _MASK} bytes, at most {most} are allowed")
        assert self.memory is not None
        return self.memory.read(pointer & _MASK, length & _MASK)

    def _text(self, pointer: int, length: int) -> str:
        """Return a message of the guest; what is not UTF-8 is replaced."""
        return self._take(pointer, length, _TEXT_BYTES_MAX).decode(errors="replace")

    def _give(self, pointer: int, capacity: int, data: bytes) -> int:
        """Copy `data` into the guest if it fits; return its length."""
        assert self.memory is not None
        if len(data) <= capacity & _MASK:
            self.memory.write(pointer & _MASK, data)
        return len(data)
