"""What a case prints with --json, and how it is kept."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from engine import __version__
from engine.bench.machine import machine
from engine.errors import unwritable


def document(case: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a case's values as one document that says where, when and what was measured."""
    return {
        "bench": case,
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "engine": __version__,
        "machine": machine(),
        **values,
    }


def keep(made: Mapping[str, Any], folder: Path) -> Path:
    """Write a document into the folder of results; return its path."""
    stamp = made["measured_at"].replace("-", "").replace(":", "").rstrip("Z")
    path = folder / f"{made['bench']}-{stamp}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(made, option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as fault:
        raise unwritable(path, fault) from fault
    return path
