"""Compiles the state host to WASM with the compiler of the `ziglang` wheel.

Owns how: the same sources give the same bytes, wherever they are built. Run when a wheel or an
editable install is made (hatch_build.py), so that users need no compiler; a module that lies
beside the sources and was made from these very sources is left alone.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
MODULE = FOLDER / "host.wasm"
STAMP = FOLDER / "host.wasm.sources"
_STACK_BYTES = 128 * 1024
_TIMEOUT_S = 300
_COMPILE = (
    "-c",
    "-target",
    "wasm32-freestanding",
    "-mcpu=mvp+bulk_memory+sign_ext+nontrapping_fptoint+mutable_globals",
    "-std=c17",
    "-O3",
    "-g0",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fno-sanitize=undefined",
    "-fno-ident",
)
_LINK = (
    "--no-entry",
    "--strip-all",
    "--export-table",
    "--growable-table",
    "--export=__stack_pointer",
    "--stack-first",
    "-z",
    f"stack-size={_STACK_BYTES}",
)


def sources() -> str:
    """Return a hash of all that the module is made of."""
    found = hashlib.sha256(repr((_COMPILE, _LINK)).encode())
    for path in sorted((*FOLDER.glob("*.c"), *FOLDER.glob("*.h"))):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def build() -> Path:
    """Compile the module unless it is there, from these sources; return its path."""
    made_from = sources()
    if MODULE.is_file() and STAMP.is_file() and STAMP.read_text() == made_from:
        return MODULE
    with tempfile.TemporaryDirectory() as scratch:
        made, module = Path(scratch) / "host.o", Path(scratch) / "host.wasm"
        _zig("cc", *_COMPILE, "host.c", "-o", str(made))
        _zig("wasm-ld", *_LINK, str(made), "-o", str(module))
        for path, content in ((MODULE, module.read_bytes()), (STAMP, made_from.encode())):
            whole = path.with_name(f".{path.name}.{os.getpid()}")
            whole.write_bytes(content)
            whole.replace(path)
    return MODULE


def _zig(*arguments: str) -> None:
    # Names of sources are relative, so that the folder leaves no trace in the module.
    subprocess.run(  # noqa: S603 - our own compiler on our own sources
        [sys.executable, "-m", "ziglang", *arguments],
        cwd=FOLDER,
        check=True,
        timeout=_TIMEOUT_S,
    )


if __name__ == "__main__":
    sys.stdout.write(f"{build()}\n")
