"""Patterns of the manifest: a small regular language, compiled to the table of a DFA.

Literals, classes `[a-z]` `[^<>]`, `.`, `? * + {m} {m,} {m,n}`, `|`, groups `( )`, and a backslash
before a character that would mean something. Anchored at both ends, over code points; `.` is any
of them. No look-around, no back-references, nothing greedy or lazy: a value matches or it doesn't,
in one step for each of its characters.

The automaton is Glushkov's: its states are the characters of the pattern ("positions"), kept as
bits of an integer.
"""

import bisect
import functools
from dataclasses import dataclass

from engine.application.types import Pattern
from engine.limits import (
    NESTING_MAX,
    PATTERN_LENGTH_MAX,
    PATTERN_POSITIONS_MAX,
    PATTERN_STATES_MAX,
)

_LAST = 0x10FFFF
_SPECIAL = frozenset("\\.[]{}()|?*+^$-")
_QUANTIFIERS = frozenset("?*+{")
_REPEAT_DIGITS_MAX = 5

Ranges = tuple[tuple[int, int], ...]


class PatternError(ValueError):
    """The text is no pattern, or its automaton is too large."""


def matches(pattern: Pattern, text: str) -> bool:
    """Say whether the whole text is one that the pattern means."""
    bounds, classes, steps, width = pattern.bounds, pattern.classes, pattern.steps, pattern.width
    state = 1
    for character in text:
        interval = bisect.bisect_right(bounds, ord(character)) - 1
        state = steps[state * width + classes[interval]]
        if not state:
            return False
    return pattern.accepting[state]


@functools.lru_cache(maxsize=1_024)
def compile_pattern(text: str) -> Pattern:
    """Compile a pattern; raise PatternError."""
    if len(text) > PATTERN_LENGTH_MAX:
        raise PatternError(f"has {len(text)} characters, at most {PATTERN_LENGTH_MAX} are allowed")
    parser = _Parser(text)
    node = parser.alternatives(0)
    if parser.at < len(text):
        raise PatternError("has a ) that closes nothing")
    machine = _Machine()
    whole = machine.add(node)
    return _table(text, machine, whole)


@dataclass(slots=True, frozen=True)
class _Node:
    """A part of a pattern: characters, a sequence, alternatives, or a repetition of `parts[0]`."""

    kind: str  # characters, sequence, alternatives, repeat
    parts: tuple["_Node", ...] = ()
    ranges: Ranges = ()
    least: int = 0
    most: int | None = None


class _Parser:
    """Recursive descent over the text; groups nest at most NESTING_MAX deep."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0

    def alternatives(self, depth: int) -> _Node:
        if depth > NESTING_MAX:
            raise PatternError(f"has groups nested more than {NESTING_MAX} deep")
        branches = [self._sequence(depth)]
        while self._peek() == "|":
            self.at += 1
            branches.append(self._sequence(depth))
        return branches[0] if len(branches) == 1 else _Node("alternatives", tuple(branches))

    def _sequence(self, depth: int) -> _Node:
        parts: list[_Node] = []
        while (character := self._peek()) and character not in "|)":
            parts.append(self._repeated(self._atom(depth)))
        return _Node("sequence", tuple(parts))

    def _peek(self) -> str:
        return self._text[self.at : self.at + 1]

    def _next(self) -> str:
        character = self._peek()
        if not character:
            raise PatternError("ends inside a class, a group, a repetition or an escape")
        self.at += 1
        return character

    def _atom(self, depth: int) -> _Node:
        character = self._next()
        if character == "(":
            node = self.alternatives(depth + 1)
            if self._next() != ")":
                raise AssertionError("alternatives end at a bracket or at the end")
            return node
        if character == "[":
            return self._class()
        if character == ".":
            return _Node("characters", ranges=((0, _LAST),))
        if character in "^$":
            raise PatternError(
                f"is anchored at both ends by itself; write \\{character} for a sign"
            )
        if character in _QUANTIFIERS:
            raise PatternError(f"has a {character} with nothing before it to repeat")
        if character in "]}":
            raise PatternError(f"has a {character} that closes nothing; write \\{character}")
        point = self._escaped() if character == "\\" else ord(character)
        return _Node("characters", ranges=((point, point),))

    def _escaped(self) -> int:
        character = self._next()
        if character not in _SPECIAL:
            raise PatternError(f"has the unknown escape \\{character}")
        return ord(character)

    def _class(self) -> _Node:
        negated = self._peek() == "^"
        self.at += negated
        found: list[tuple[int, int]] = []
        while self._peek() != "]":
            low = self._class_point(first=not found)
            if self._peek() == "-" and self._text[self.at + 1 : self.at + 2] != "]":
                self.at += 1
                high = self._class_point(first=False)
                if high < low:
                    raise PatternError(f"has the reversed range {chr(low)}-{chr(high)}")
                found.append((low, high))
            else:
                found.append((low, low))
        self.at += 1
        if not found:
            raise PatternError("has a class without characters")
        merged = _merged(found)
        return _Node("characters", ranges=_inverted(merged) if negated else merged)

    def _class_point(self, *, first: bool) -> int:
        character = self._next()
        if character == "\\":
            return self._escaped()
        lonely = character == "-" and not first and self._peek() != "]"
        if character in "[^" or lonely:
            raise PatternError(f"has a {character} inside a class; write \\{character}")
        return ord(character)

    def _repeated(self, node: _Node) -> _Node:
        character = self._peek()
        if not character or character not in _QUANTIFIERS:
            return node
        self.at += 1
        if character == "{":
            least, most = self._bounds()
        else:
            least, most = {"?": (0, 1), "*": (0, None), "+": (1, None)}[character]
        following = self._peek()
        if following and following in _QUANTIFIERS:
            raise PatternError(f"repeats a repetition ({character}{following}); write a group")
        return _Node("repeat", (node,), least=least, most=most)

    def _bounds(self) -> tuple[int, int | None]:
        end = self._text.find("}", self.at)
        inner = self._text[self.at : end] if end >= 0 else ""
        low, comma, high = inner.partition(",")
        numbers = [low, high] if high else [low]
        if not all(
            number.isascii() and number.isdigit() and len(number) <= _REPEAT_DIGITS_MAX
            for number in numbers
        ):
            raise PatternError("has a { that is no {m}, {m,} or {m,n}; write \\{ for a sign")
        self.at = end + 1
        least = int(low)
        most = int(high) if high else None if comma else least
        if most is not None and most < least:
            raise PatternError(f"has the reversed repetition {{{inner}}}")
        return least, most


def _merged(ranges: list[tuple[int, int]]) -> Ranges:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def _inverted(ranges: Ranges) -> Ranges:
    found: list[tuple[int, int]] = []
    start = 0
    for low, high in ranges:
        if low > start:
            found.append((start, low - 1))
        start = high + 1
    if start <= _LAST:
        found.append((start, _LAST))
    return tuple(found)


@dataclass(slots=True, frozen=True)
class _Part:
    """A piece of the automaton: may it be empty, and with which positions it begins and ends."""

    empty: bool
    first: int
    last: int


_NOTHING = _Part(empty=True, first=0, last=0)


class _Machine:
    """Positions, each with the characters it reads and the positions that may follow."""

    def __init__(self) -> None:
        self.ranges: list[Ranges] = []
        self.follow: list[int] = []

    def add(self, node: _Node) -> _Part:
        if node.kind == "characters":
            return self._position(node.ranges)
        if node.kind == "repeat":
            return self._repeat(node)
        if node.kind == "sequence":
            whole = _NOTHING
            for part in node.parts:
                whole = self._joined(whole, self.add(part))
            return whole
        branches = [self.add(part) for part in node.parts]
        return _Part(
            any(branch.empty for branch in branches),
            functools.reduce(int.__or__, (branch.first for branch in branches)),
            functools.reduce(int.__or__, (branch.last for branch in branches)),
        )

    def _position(self, ranges: Ranges) -> _Part:
        number = len(self.ranges)
        if number >= PATTERN_POSITIONS_MAX:
            raise PatternError(
                f"has more than {PATTERN_POSITIONS_MAX} characters with its repetitions written out"
            )
        self.ranges.append(ranges)
        self.follow.append(0)
        return _Part(empty=False, first=1 << number, last=1 << number)

    def _joined(self, before: _Part, after: _Part) -> _Part:
        if after.first:
            for position in _bits(before.last):
                self.follow[position] |= after.first
        return _Part(
            before.empty and after.empty,
            before.first | (after.first if before.empty else 0),
            after.last | (before.last if after.empty else 0),
        )

    def _repeat(self, node: _Node) -> _Part:
        inner, least, most = node.parts[0], node.least, node.most
        # From the back, so that an optional part's last positions are not walked again and again.
        tail = _NOTHING
        if most is None:
            loop = self.add(inner)
            self._joined(loop, loop)
            if least > 0:
                least -= 1
                tail = loop
            else:
                tail = _Part(empty=True, first=loop.first, last=loop.last)
        else:
            for _ in range(most - least):
                longer = self._joined(self.add(inner), tail)
                tail = _Part(empty=True, first=longer.first, last=longer.last)
                if not tail.first:
                    break
        for _ in range(least):
            part = self.add(inner)
            tail = self._joined(part, tail)
            if not tail.first:
                break
        return tail


def _bits(number: int) -> list[int]:
    found: list[int] = []
    while number:
        lowest = number & -number
        found.append(lowest.bit_length() - 1)
        number ^= lowest
    return found


def _table(text: str, machine: _Machine, whole: _Part) -> Pattern:
    """Return the DFA: a state is the set of positions that may be read next, and whether to end."""
    bounds = sorted(
        {0}
        | {low for ranges in machine.ranges for low, _ in ranges}
        | {high + 1 for ranges in machine.ranges for _, high in ranges if high < _LAST}
    )
    classes, readers = _classes(machine, bounds)
    width = len(readers)
    start = (whole.first, whole.empty)
    numbers: dict[tuple[int, bool], int] = {(0, False): 0, start: 1}
    waiting = [start]
    steps: list[int] = [0] * (2 * width)
    accepting = [False, whole.empty]
    while waiting:
        state = waiting.pop()
        number = numbers[state]
        for class_, reader in enumerate(readers):
            read = state[0] & reader
            if not read:
                continue
            follow = 0
            for position in _bits(read):
                follow |= machine.follow[position]
            target = (follow, bool(read & whole.last))
            known = numbers.get(target)
            if known is None:
                known = len(accepting)
                if known > PATTERN_STATES_MAX:
                    raise PatternError(
                        f"needs more than {PATTERN_STATES_MAX} states; use length for long texts"
                    )
                numbers[target] = known
                accepting.append(target[1])
                steps += [0] * width
                waiting.append(target)
            steps[number * width + class_] = known
    return Pattern(text, tuple(bounds), classes, width, tuple(steps), tuple(accepting))


def _classes(machine: _Machine, bounds: list[int]) -> tuple[tuple[int, ...], list[int]]:
    """Return each interval's class, and each class's positions: those that read it."""
    at = {bound: number for number, bound in enumerate(bounds)}
    readers = [0] * len(bounds)
    for position, ranges in enumerate(machine.ranges):
        for low, high in ranges:
            end = at[high + 1] if high < _LAST else len(bounds)
            for interval in range(at[low], end):
                readers[interval] |= 1 << position
    distinct: dict[int, int] = {}
    classes = tuple(distinct.setdefault(reader, len(distinct)) for reader in readers)
    return classes, list(distinct)
