"""Builds an extension's .wasm from its C source with the compiler of the `ziglang` wheel.

`build/<name>.wasm` comes from `<name>.c` of the application's folder and the generated header.
The same sources give the same bytes. Memory has pages of one byte, so that a guest has a few KiB
and putting it back after each call costs next to nothing; its stack lies below its data, so that
running over it traps.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from engine.application.types import Application, Extension
from engine.errors import ApplicationError, ConfigError
from engine.sandbox.sdk import generate

INCLUDE = Path(__file__).parent / "c"
STACK_BYTES = 4_096
_TIMEOUT_S = 120
_ERROR_LENGTH_MAX = 4_000

# The plain instruction set: what the host refuses to run (wasm_engine) is not generated.
_CPU = "mvp+sign_ext+nontrapping_fptoint+multivalue+mutable_globals"
_COMPILE = (
    "-c",
    "-target",
    "wasm32-freestanding",
    f"-mcpu={_CPU}",
    "-std=c17",
    "-O2",
    "-g0",
    "-Wall",
    "-Wextra",
    "-Werror=implicit-function-declaration",
    "-fno-sanitize=undefined",
    "-fno-ident",
)
_LINK = (
    "--no-entry",
    "--gc-sections",
    "--strip-all",
    "--stack-first",
    "--page-size=1",
    "--no-growable-memory",
    "--export=__stack_pointer",
    "-z",
    f"stack-size={STACK_BYTES}",
)


def build_all(folder: Path) -> list[Path]:
    """Build every WASM extension of an application's folder; return the modules' paths."""
    application = generate.read_sources(folder)
    extensions = [each for each in application.extensions.values() if each.kind == "wasm"]
    return [build_extension(folder, application, each) for each in extensions]


def build_extension(folder: Path, application: Application, extension: Extension) -> Path:
    """Build one extension; raise ApplicationError E1104 with what the compiler says."""
    target = folder / extension.target
    source = folder / f"{target.stem}.c"
    if not source.is_file():
        hint = f"{extension.target} is built from {source.name}"
        raise ApplicationError("E1104", f"there is no {source.name}", hint, file=folder)
    generated = folder / "build"
    generated.mkdir(exist_ok=True)
    _replace(generated / f"{extension.name}.h", generate.header(application, extension).encode())
    target.parent.mkdir(exist_ok=True, parents=True)
    # A function that the manifest names and the source lacks is an error of the linker.
    exports = [f"--export={entry}" for entry in generate.entries(application, extension)]
    _replace(target, compile_c(source, include=(generated,), link=(*_LINK, *exports)))
    return target


def compile_c(source: Path, include: tuple[Path, ...] = (), link: tuple[str, ...] = _LINK) -> bytes:
    """Return the module that a C source compiles to."""
    if importlib.util.find_spec("ziglang") is None:
        message = "the compiler for extensions, the package ziglang, is not installed"
        raise ConfigError("E1004", message, "Install it with `pip install partita[author]`")
    places = [f"-I{place}" for place in (*include, INCLUDE)]
    with tempfile.TemporaryDirectory() as scratch:
        guest, runtime, module = (Path(scratch) / name for name in ("guest.o", "rt.o", "out.wasm"))
        _zig(source, "cc", *_COMPILE, *places, str(source), "-o", str(guest))
        own = (str(INCLUDE / "runtime.c"), "-fno-builtin", "-o", str(runtime))
        _zig(source, "cc", *_COMPILE, *own)
        _zig(source, "wasm-ld", *link, str(guest), str(runtime), "-o", str(module))
        return module.read_bytes()


def _zig(source: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "ziglang", *arguments]
    done = subprocess.run(  # noqa: S603 - the author's own compiler on the author's own source
        command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )
    if done.returncode != 0:
        said = done.stderr.strip()[:_ERROR_LENGTH_MAX]
        raise ApplicationError("E1104", f"it doesn't compile:\n{said}\n", file=source)
    sys.stderr.write(done.stderr)  # its warnings


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; leave it alone if it is the same."""
    if path.is_file() and path.read_bytes() == content:
        return
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(content)
    scratch.replace(path)
