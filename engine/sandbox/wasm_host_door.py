"""The door to a state host in WASM: one store, the host's module, and the guests beside it.

Owns how modules are linked, and the mailbox (host/host.h: Mailbox) through which everything goes
in and out. Knows no commands, no rows and no application.
"""

import ctypes
import functools
from pathlib import Path
from typing import Any

import wasmtime

from engine.errors import ConfigError
from engine.limits import FOLD_TIME_MS_MAX
from engine.sandbox import abi, wasm_binding, wasm_engine, wasm_raw

_MODULE = Path(__file__).parent / "host" / "host.wasm"
_REASONS = (
    "none",
    "envelope",
    "workspace",
    "name",
    "answer",
    "admission",
    "arguments",
    "call",
    "rule",
    "rejected",
    "row",
    "size",
    "projector",
    "slow",
    "trap",
    "kind",
)
FINISHED, LEFT, FULL, TRAPPED = range(4)
NUMBERS = ("sequence", "previous", "registered_at", "newest_command_time")
STATE = (*NUMBERS, "dedup_floor", "emitted_sequence")


class State(ctypes.Structure):
    """model.HostState without the application."""

    _fields_ = [(name, ctypes.c_int64) for name in STATE]


def _words(names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_uint32) for name in names.split()]


class Mailbox(ctypes.Structure):
    """What goes in and comes out, as the C structure has it."""

    _fields_ = [
        *_words("input in_room desk desk_room out out_room at count guessing size"),
        ("epoch", ctypes.c_int64),
        ("now_ms", ctypes.c_int64),
        ("first", ctypes.c_int64),
        ("second", ctypes.c_int64),
        ("state", State),
        ("before", State),
        *_words("out_used outcomes done rejected replies missing missing_used reason"),
        *_words("running serial budget_ms guest broken pages"),
        *_words("ends indexes ids times reply_indexes missing_at"),
        *_words("digests digests_touched left"),
        ("counters", ctypes.c_uint64 * len(_REASONS)),
    ]


class _GuestSlots(ctypes.Structure):
    _fields_ = _words("to_guest from_guest put_back entries image memory_bytes")


@functools.cache
def _host_module() -> wasmtime.Module:
    if not _MODULE.is_file():
        raise ConfigError(
            "E1004",
            f"the state host's module {_MODULE.name} is not there",
            "Install the engine from its wheel, or run `make install`",
        )
    return wasmtime.Module(wasm_engine.host_engine(), _MODULE.read_bytes())


class Door:
    """One partition's store."""

    def __init__(self) -> None:
        engine = wasm_engine.host_engine()
        self._store = wasmtime.Store(engine)
        self._store.set_epoch_deadline(1 << 60)
        linker = wasmtime.Linker(engine)
        self._host = linker.instantiate(self._store, _host_module())
        exports = self._host.exports(self._store)
        self._exports = exports
        memory, table = exports["memory"], exports["__indirect_function_table"]
        stack = exports["__stack_pointer"]
        assert isinstance(memory, wasmtime.Memory)
        assert isinstance(table, wasmtime.Table)
        assert isinstance(stack, wasmtime.Global)
        self._table, self._stack = table, wasm_raw.Globals(self._store, [stack])
        self.memory = wasm_raw.Memory(self._store, memory)
        self._functions = wasm_binding.Functions(self._store, exports, wasm_raw.Function)
        self._guests = 0
        self._folding = False
        self._watch = wasm_raw.Watch(self._store, self._running)
        self._place = self.call("start")

    def box(self) -> Mailbox:
        """Return the mailbox; good until the next call, which may move the memory."""
        return Mailbox.from_address(self.memory.place()[0] + self._place)

    def call(self, name: str) -> int:
        """Call a function of the host that runs no guest; return its result."""
        function = self._functions.named(name)
        ended = function.call()
        assert ended is None, f"the state host broke: {name} at {self.box().broken}: {ended}"
        return function.result()

    def run(self, name: str) -> int:
        """Let the host decide or fold; return its status, TRAPPED where a guest ended it."""
        function = self._functions.named(name)
        self._folding = name == "fold"
        self._watch.begin()
        wasm_engine.TICKER.enter(id(self))
        try:
            ended = function.call()
        finally:
            wasm_engine.TICKER.leave(id(self))
        if ended is None:
            return function.result() & 0xFFFFFFFF
        box = self.box()
        assert box.running, f"the state host broke at {box.broken}: {ended}"
        assert not box.broken, f"the state host broke at {box.broken}: {ended}"
        self._stack.put_back()
        self._watch.begin()
        self.call("recover")
        return TRAPPED

    def put_batch(self, data: bytes) -> None:
        """Write a batch, making room for it."""
        box = self.box()
        if len(data) > box.in_room:
            box.size = len(data)
            self.call("room")
            box = self.box()
        self.memory.write(box.input, data)

    def put(self, data: bytes, size: int) -> None:
        """Write something on the desk, making room for it; `size` says how much it is."""
        box = self.box()
        if len(data) > box.desk_room:
            box.size = len(data)
            self.call("desk")
            box = self.box()
        self.memory.write(box.desk, data)
        box.size = size

    def add_guest(self, content: bytes, description: abi.Description) -> bool:
        """Load a guest behind those there are; False where it must run elsewhere.

        That is one whose memory may grow, or which has globals that are no integers.
        """
        store, linker = self._store, wasmtime.Linker(wasm_engine.host_engine())
        for name in abi.IMPORTS:
            linker.define(store, abi.MODULE, name, self._exports[name])
        module = wasm_engine.host_compiled(content)
        exports = linker.instantiate(store, module).exports(store)
        memory = exports[abi.MEMORY]
        assert isinstance(memory, wasmtime.Memory)
        limits = memory.type(store).limits
        found = [(export.name, exports[export.name]) for export in module.exports]
        mutable = [
            (name, each)
            for name, each in found
            if isinstance(each, wasmtime.Global) and each.type(store).mutable
        ]
        integers = all(str(each.type(store).content) in {"i32", "i64"} for _, each in mutable)
        if limits.max != limits.min or not limits.min or not integers:
            return False
        self._link(linker, exports, memory, mutable, description)
        return True

    def drop_guests(self) -> None:
        """Forget the guests; new ones are numbered from 0."""
        self._guests = 0

    def close(self) -> None:
        """Let go of the store and all that is in it."""
        self._functions.clear()
        self._store.close()

    def _link(
        self,
        linker: wasmtime.Linker,
        exports: Any,
        memory: wasmtime.Memory,
        mutable: list[tuple[str, wasmtime.Global]],
        description: abi.Description,
    ) -> None:
        store, size = self._store, memory.data_len(self._store)
        pages = memory.size(store)
        text = _bridge(
            pages, size // pages, size, [(n, g, g.value(store)) for n, g in mutable], store
        )
        linker.define(store, "host", "memory", self._exports["memory"])
        for name, each in (("memory", memory), *mutable):
            linker.define(store, "guest", name, each)
        bridge = linker.instantiate(store, _bridge_module(text)).exports(store)
        functions = [bridge[name] for name in ("to_guest", "from_guest", "put_back")]
        functions += [exports[entry] for entry in description.entries]
        first = self._table.grow(store, len(functions), None)
        for at, function in enumerate(functions):
            self._table.set(store, first + at, function)
        slots = _GuestSlots(first, first + 1, first + 2, first + 3, 0, size)
        self.put(bytes(slots), self._guests)
        self.call("guest")
        self._guests += 1

    def _running(self) -> tuple[int, int]:
        box = self.box()
        if not box.running:
            return 0, 0
        return box.serial, FOLD_TIME_MS_MAX if self._folding else box.budget_ms

    def reasons(self) -> dict[str, int]:
        """Return how often a command was left to the slow lane, and why."""
        return dict(zip(_REASONS, self.box().counters, strict=True))


def _bridge(
    pages: int,
    page_bytes: int,
    size: int,
    mutable: list[tuple[str, wasmtime.Global, Any]],
    store: Any,
) -> str:
    """Return the module that copies between the two memories, and puts a guest back."""
    page = "" if page_bytes == 65_536 else f"(pagesize {page_bytes})"
    globals_, sets = "", ""
    for at, (name, each, value) in enumerate(mutable):
        kind = str(each.type(store).content)
        globals_ += f'(import "guest" "{name}" (global $g{at} (mut {kind})))'
        sets += f"(global.set $g{at} ({kind}.const {int(value)}))"
    return f"""(module
      (import "host" "memory" (memory $host 1))
      (import "guest" "memory" (memory $guest {pages} {page}))
      {globals_}
      (func (export "to_guest") (param i32 i32 i32)
        (memory.copy $guest $host (local.get 0) (local.get 1) (local.get 2)))
      (func (export "from_guest") (param i32 i32 i32)
        (memory.copy $host $guest (local.get 0) (local.get 1) (local.get 2)))
      (func (export "put_back") (param i32)
        (memory.copy $guest $host (i32.const 0) (local.get 0) (i32.const {size})) {sets}))"""


@functools.lru_cache(maxsize=256)
def _bridge_module(text: str) -> wasmtime.Module:
    return wasmtime.Module(wasm_engine.host_engine(), wasm_engine.assembled(text))
