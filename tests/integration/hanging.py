"""The purse with an extension that hangs while a file is there, as nothing in WASM could."""

from pathlib import Path

from purse import write_purse

IMPORTS = """import sys
import time
from pathlib import Path

HANGING = Path({base!r}) / "hanging"


class Purse"""
HANGS = """    def move(self, ctx):
        while HANGING.exists() and HANGING.read_text() in sys.argv:
            HANGING.with_name("hangs").touch()
            time.sleep(0.01)
"""


def write_hanging(base: Path) -> Path:
    """Write the application; it hangs where `base/hanging` names a word of the command line."""
    folder = base / "purse"
    write_purse(folder)
    file = folder / "purse.py"
    code = file.read_text().replace("class Purse", IMPORTS.format(base=str(base)), 1)
    file.write_text(code.replace("    def move(self, ctx):\n", HANGS))
    return folder
