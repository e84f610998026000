"""The state host's module: made of these sources, with the engine's own limits."""

import ast
import re

from engine import limits
from engine.application import rows
from engine.sandbox.host import build

_NUMBER = re.compile(r"\b([A-Z][A-Z0-9_]+) = ([0-9][0-9 *a-fx]*)")


def test_the_limits_are_those_of_the_engine():
    text = (build.FOLDER / "host.h").read_text()
    found = {name: _product(value) for name, value in _NUMBER.findall(text)}
    shared = {name: value for name, value in found.items() if hasattr(limits, name)}
    assert len(shared) >= 20
    assert shared == {name: getattr(limits, name) for name in shared}
    tables = {name: value for name, value in found.items() if hasattr(rows, name)}
    assert {"TABLE_WORKSPACE", "TABLE_WORKSPACE_LOG", "TABLE_UNIQUE", "INACTIVE"} <= tables.keys()
    assert tables == {name: getattr(rows, name) for name in tables}


def _product(text):
    product = 1
    for factor in text.split("*"):
        product *= ast.literal_eval(factor.strip())
    return product


def test_the_module_is_of_these_sources():
    assert build.build().read_bytes()
    assert build.STAMP.read_text() == build.sources()
