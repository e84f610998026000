"""Whether a value passes the checks that its field has, and why not.

The one meaning of a check, for every host and for defaults in a schema. Knows no record and no
workspace: references and uniqueness are a host's.
"""

import json
from typing import Any

from engine.application import patterns
from engine.application.types import Check, Field

_SHOWN_MAX = 100


def violation(check: Check, value: Any) -> str:
    """Return "" if the value passes, else what it would be and what is allowed. Null passes."""
    if value is None:
        return ""
    allowed = _bounds(check, value) or _form(check, value)
    return f"would be {_shown(value)}, {allowed} is allowed" if allowed else ""


def is_empty(field: Field, value: Any) -> bool:
    """Say whether a required field is not filled: null, or a text, bytes or array of length 0."""
    return value is None or (field.kind in {"string", "bytes", "array"} and len(value) == 0)


def _bounds(check: Check, value: Any) -> str:
    # Written so that a NaN, which compares with nothing, is refused.
    if check.minimum is not None and not value >= check.minimum:
        return f"at least {check.minimum}"
    if check.maximum is not None and not value <= check.maximum:
        return f"at most {check.maximum}"
    if check.length is not None and not check.length[0] <= len(value) <= check.length[1]:
        return f"a length from {check.length[0]} to {check.length[1]}, not {len(value)},"
    return ""


def _form(check: Check, value: Any) -> str:
    if check.one_of is not None and value not in check.one_of:
        return f"one of {', '.join(str(choice) for choice in check.one_of)}"
    if check.pattern is not None and not patterns.matches(check.pattern, value):
        return f"what matches {check.pattern.text}"
    return ""


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        text = value.hex()
    elif isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = str(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"
