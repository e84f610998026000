"""Which parts of an answer a client wants (`keys`), and taking them out of it."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from engine import limits
from engine.application.types import Field
from engine.http.parameters import bad

# What there is to choose from, and what is chosen; None: all of it, or nothing below it.
Tree = dict[str, "Tree | None"]


def tree(fields: Iterable[Field]) -> Tree:
    """Return what can be chosen of fields: those of an array's records too."""
    return {field.name: tree(field.items.fields) if field.items else None for field in fields}


def wanted(given: Mapping[str, str], known: Tree) -> Tree | None:
    """Return what `keys` asks for, such as `day,lines.item`; None without it: everything."""
    text = given.get("keys")
    if text is None:
        return None
    paths = text.split(",")
    if len(paths) > limits.QUERY_KEYS_MAX:
        raise bad("keys", f"takes at most {limits.QUERY_KEYS_MAX} names")
    chosen: Tree = {}
    for path in paths:
        _choose(chosen, path, known)
    return chosen


def _choose(chosen: Tree, path: str, known: Tree) -> None:
    at, below = chosen, known
    names = path.split(".")
    for number, name in enumerate(names, 1):
        if name not in below:
            there = ", ".join(below)
            raise bad("keys", f"there is no {path!r}; at {name!r} there are: {there}")
        deeper = below[name]
        if number == len(names):
            at[name] = None
            return
        if deeper is None:
            raise bad("keys", f"there is nothing below {name!r} in {path!r}")
        below = deeper
        following = at.setdefault(name, {})
        if following is None:
            # All of it is chosen already; what follows is only checked.
            following = {}
        at = following


def project(value: Any, chosen: Tree | None) -> Any:
    """Return the chosen parts of a JSON value; of a list, those of its elements."""
    if chosen is None:
        return value
    if isinstance(value, list):
        return [project(entry, chosen) for entry in cast("list[Any]", value)]
    found = cast("dict[str, Any]", value)
    return {name: project(found[name], below) for name, below in chosen.items() if name in found}
