"""The application that simulations run, for both state hosts: in Python, and as a guest in WASM."""

import functools
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from engine.application import Application
from engine.application.folder import load_application
from engine.sandbox.wasm_engine import assembled

HostName = Literal["python", "wasm"]
_FOLDER = Path(__file__).parent
_PYTHON, _WASM = 'python = "ledger:Ledger"', 'wasm = "ledger.wasm"'


def host_of(seed: int) -> HostName:
    """Return the state host that a seed runs on unless it is asked for another: turn by turn."""
    return "python" if seed % 2 else "wasm"


@functools.cache
def ledger(host: HostName = "python") -> Application:
    """Return the application that simulations run."""
    return _load("ledger", host)


@functools.cache
def ledger_next(host: HostName = "python") -> Application:
    """Return its next version, which some seeds deploy in the middle."""
    return _load("ledger_next", host)


def _load(name: str, host: HostName) -> Application:
    if host == "python":
        return load_application(_FOLDER / name)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        shutil.copytree(_FOLDER / name, folder)
        manifest = folder / "application.toml"
        text = manifest.read_text()
        assert _PYTHON in text, "the manifest names the extension in another way"
        manifest.write_text(text.replace(_PYTHON, _WASM))
        module = assembled((folder / "ledger.wat").read_text())
        (folder / "ledger.wasm").write_bytes(module)
        return load_application(folder)
