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


@functools.cache
def ledger_back(host: HostName = "python") -> Application:
    """Return the version behind that, a rollback: the first one's content once more."""
    return _load("ledger", host, version="1.2.0", revision=3)


def _load(name: str, host: HostName, version: str = "", revision: int = 0) -> Application:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        shutil.copytree(_FOLDER / name, folder)
        manifest = folder / "application.toml"
        text = manifest.read_text()
        assert _PYTHON in text, "the manifest names the extension in another way"
        if host == "wasm":
            text = text.replace(_PYTHON, _WASM)
            module = assembled((folder / "ledger.wat").read_text())
            (folder / "ledger.wasm").write_bytes(module)
        if version:
            text = text.replace('version = "1.0.0"', f'version = "{version}"')
            text = text.replace("revision = 1", f"revision = {revision}")
        manifest.write_text(text)
        return load_application(folder)
