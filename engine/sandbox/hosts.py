"""Which state host decides for extensions in WASM: the one in WASM, or what stands in for it."""

from collections.abc import Callable, Mapping

from engine.application import Application
from engine.limits import ROW_CACHE_BYTES_MAX
from engine.sandbox import wasm_binding
from engine.sandbox.host_guests import Guests
from engine.sandbox.host_ranges import Reader
from engine.sandbox.python import PythonHost


class FallbackHost(PythonHost):
    """The plain host, where wasmtime's internals are not those that the one in WASM needs."""

    def statistics(self) -> Mapping[str, int | float]:
        """Return counters, and that this is not the host that was asked for."""
        return {**super().statistics(), "fallback": 1}


def wasm_host(
    guests: Callable[[Application], Guests],
    reader: Reader | None = None,
    cache_bytes_max: int = ROW_CACHE_BYTES_MAX,
) -> PythonHost:
    """Return a state host in WASM; where there can't be one, the plain one with its `reader`."""
    if wasm_binding.fallback():
        return FallbackHost(guests, reader, cache_bytes_max=cache_bytes_max)
    # It needs the internals when it is imported.
    from engine.sandbox.wasm_host import WasmHost  # noqa: PLC0415

    return WasmHost(guests, cache_bytes_max)
