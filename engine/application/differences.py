"""One difference between two applications, and how schemas and renamed parts are compared.

The words that `application.compat` and `application.compat_records` share.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from engine.application.resolution import problems, source_of
from engine.application.types import RecordSchema


class Verdict(StrEnum):
    """What becomes of a change."""

    COMPATIBLE = "compatible"
    REBUILD = "rebuild"
    REFUSED = "refused"


@dataclass(slots=True, frozen=True)
class Entry:
    """One difference: added, removed, renamed or changed; `where` is a key of the manifest."""

    what: str
    where: str
    verdict: Verdict
    why: str


class Renamed(Protocol):
    """A part that may have had another name in the application before."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def renamed_from(self) -> str:
        """Its name before, or ""."""
        ...


Part = TypeVar("Part", bound=Renamed)


def renames(old: Mapping[str, Part], new: Mapping[str, Part]) -> dict[str, str]:
    """Return old name -> new name of what is in both, under whatever name."""
    found = {name: name for name in old if name in new}
    for part in new.values():
        before = part.renamed_from
        if before in old and before not in found and part.name not in old:
            found[before] = part.name
    return found


def paired(
    section: str, old: Mapping[str, Part], new: Mapping[str, Part]
) -> Iterator[tuple[Part | None, Part | None, list[Entry]]]:
    """Yield what was and what is, None where there is no such; and an entry for a new name."""
    names = renames(old, new)
    for name, before in old.items():
        after = new.get(names.get(name, ""))
        if after is None or after.name == name:
            yield before, after, []
        else:
            why = f"what was {name} so far keeps its place"
            renamed = Entry("renamed", f"{section}.{after.name}", Verdict.COMPATIBLE, why)
            yield before, after, [renamed]
    known = set(names.values())
    for name, after in new.items():
        if name not in known:
            yield None, after, []


def schema_entries(
    old: RecordSchema, new: RecordSchema, where: str, otherwise: Verdict
) -> list[Entry]:
    """Compare what was written with what will read it; unreadable is `otherwise`."""
    found = problems(old, new)
    entries = [Entry("changed", f"{where}.{field}", otherwise, why) for field, why in found]
    taken = {source.name for field in new.fields if (source := source_of(field, old))}
    for field in old.fields:
        if field.name not in taken:
            why = "its stored values are no longer read; the log keeps them"
            entries.append(Entry("removed", f"{where}.{field.name}", Verdict.COMPATIBLE, why))
    for field in new.fields:
        source = source_of(field, old)
        if field.has_default and source is None:
            why = "what is stored reads as its default"
            entries.append(Entry("added", f"{where}.{field.name}", Verdict.COMPATIBLE, why))
        if source is not None and source.name != field.name:
            why = f"reads what was written as {source.name}"
            entries.append(Entry("renamed", f"{where}.{field.name}", Verdict.COMPATIBLE, why))
    broken = {field for field, _ in found}
    for field, _ in problems(new, old):
        if field not in broken and re.split(r"[.\[]", field)[0] in new.by_name:
            why = "readable now, but a roll-back to the old schema would be refused"
            entries.append(Entry("changed", f"{where}.{field}", Verdict.COMPATIBLE, why))
    if not entries and old.text != new.text:
        entries.append(Entry("changed", where, Verdict.COMPATIBLE, "reads the same"))
    return entries
