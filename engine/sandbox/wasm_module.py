"""Reads a WASM module's sections, for the one question wasmtime's binding doesn't answer.

Which mutable globals has it, and can all of them be put back from outside? Called only with modules
that wasmtime has validated, so damage raises ValueError without saying more.
"""

_GLOBAL_SECTION = 6
_EXPORT_SECTION = 7
_GLOBAL_KIND = 3
_END = 0x0B


class _Reader:
    """Bytes, and how far they are read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def byte(self) -> int:
        if self.at >= len(self._data):
            raise ValueError("the module is cut off")
        self.at += 1
        return self._data[self.at - 1]

    def number(self) -> int:
        """Read an unsigned LEB128 number of at most 64 bits."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number of too many bytes")

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self.at:
            raise ValueError("the module is cut off")
        self.at += count
        return self._data[self.at - count : self.at]

    def more(self) -> bool:
        return self.at < len(self._data)


def hidden_mutable_globals(module: bytes) -> list[int]:
    """Return the indices of mutable globals that are not exported (there are no imported ones)."""
    reader = _Reader(module)
    reader.take(8)
    mutable: set[int] = set()
    exported: set[int] = set()
    while reader.more():
        section = reader.byte()
        body = _Reader(reader.take(reader.number()))
        if section == _GLOBAL_SECTION:
            mutable = _mutable(body)
        elif section == _EXPORT_SECTION:
            exported = _exported(body)
    return sorted(mutable - exported)


def _mutable(body: _Reader) -> set[int]:
    found: set[int] = set()
    for index in range(body.number()):
        body.byte()  # the value's type: numbers and vectors only, as reference types are off
        if body.byte() & 1:
            found.add(index)
        _skip_constant(body)
    return found


def _skip_constant(body: _Reader) -> None:
    """Skip the constant expression that a global begins with."""
    while (opcode := body.byte()) != _END:
        if opcode in {0x41, 0x42, 0x23}:  # i32.const, i64.const, global.get
            body.number()
        elif opcode == 0x43:  # f32.const
            body.take(4)
        elif opcode == 0x44:  # f64.const
            body.take(8)
        elif opcode == 0xFD:  # v128.const
            body.number()
            body.take(16)
        elif opcode not in {0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E}:  # add, sub, mul of i32 and i64
            raise ValueError(f"an unknown constant instruction {opcode:#x}")


def _exported(body: _Reader) -> set[int]:
    found: set[int] = set()
    for _ in range(body.number()):
        body.take(body.number())
        kind, index = body.byte(), body.number()
        if kind == _GLOBAL_KIND:
            found.add(index)
    return found
