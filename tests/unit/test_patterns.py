"""Patterns mean what Python's `re` takes them to mean, and refuse what isn't in their language."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.application.patterns import PatternError, compile_pattern, matches
from engine.limits import NESTING_MAX, PATTERN_LENGTH_MAX, PATTERN_STATES_MAX

# Few letters, so that texts often match; one beyond the 16-bit range, a line end and specials.
LETTERS = "abcä\n😀.-]"
_CLASS_SPECIAL = frozenset("\\[]^-")
_SPECIAL = frozenset("\\.[]{}()|?*+^$-")


def escaped(letter: str) -> str:
    return f"\\{letter}" if letter in _SPECIAL else letter


def classes() -> st.SearchStrategy[str]:
    letter = st.sampled_from(LETTERS).map(escaped)
    pairs = st.tuples(st.sampled_from(LETTERS), st.sampled_from(LETTERS)).map(sorted)
    span = pairs.map(lambda pair: f"{escaped(pair[0])}-{escaped(pair[1])}")
    members = st.lists(letter | span, min_size=1, max_size=4).map("".join)
    return st.builds("[{}{}]".format, st.sampled_from(["", "^"]), members)


def repeated(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    bounds = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(sorted)
    counted = bounds.flatmap(
        lambda pair: st.sampled_from(
            [f"{{{pair[0]},{pair[1]}}}", f"{{{pair[0]},}}", f"{{{pair[1]}}}"]
        )
    )
    return st.builds("({}){}".format, inner, st.sampled_from("?*+") | counted)


ATOMS = st.sampled_from(LETTERS).map(escaped) | classes() | st.just(".") | st.just("()")
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4).map("".join)
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})")
        | repeated(inner)
    ),
    max_leaves=12,
)


@given(PATTERNS, st.lists(st.text(LETTERS + "x", max_size=8), min_size=1, max_size=20))
def test_a_pattern_means_what_re_takes_it_to_mean(text: str, values: list[str]) -> None:
    try:
        pattern = compile_pattern(text)
    except PatternError as fault:
        assert "nested more than" in str(fault) or "states" in str(fault)  # noqa: PT017
        return
    expected = re.compile(text, re.DOTALL)
    for value in values:
        assert matches(pattern, value) == (expected.fullmatch(value) is not None), value


@given(PATTERNS, st.data())
def test_what_re_would_match_matches(text: str, data: st.DataObject) -> None:
    """Random texts rarely match; these always do."""
    try:
        pattern = compile_pattern(text)
    except PatternError:
        return
    compiled = re.compile(f"(?:{text})\\Z", re.DOTALL)
    value = data.draw(st.from_regex(compiled, fullmatch=True))
    assert matches(pattern, value)


@given(st.text("ab[]{}()|?*+.\\-^$,01", max_size=12), st.text("ab01", max_size=4))
def test_any_text_is_a_pattern_or_an_error(text: str, value: str) -> None:
    try:
        pattern = compile_pattern(text)
    except PatternError as fault:
        assert str(fault)  # noqa: PT017
        return
    assert matches(pattern, value) == (re.fullmatch(text, value, re.DOTALL) is not None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a)", "a ) that closes nothing"),
        ("(a", "ends inside"),
        ("[a", "ends inside"),
        ("a\\", "ends inside"),
        ("a]", "a ] that closes nothing"),
        ("*a", "a * with nothing before it"),
        ("a|+", "a + with nothing before it"),
        ("(?i)a", "a ? with nothing before it"),
        ("a+?", "repeats a repetition"),
        ("a{2}{3}", "repeats a repetition"),
        ("^a", "anchored"),
        ("a$", "anchored"),
        ("\\d", "unknown escape \\d"),
        ("[]", "class without characters"),
        ("[z-a]", "reversed range z-a"),
        ("[a-b-c]", "a - inside a class"),
        ("[[a]", "a [ inside a class"),
        ("a{", "no {m}"),
        ("a{,2}", "no {m}"),
        ("a{x}", "no {m}"),
        ("a{³}", "no {m}"),
        ("a{3,2}", "reversed repetition"),
        ("(" * (NESTING_MAX + 1) + ")" * (NESTING_MAX + 1), "nested more than"),
        ("a" * (PATTERN_LENGTH_MAX + 1), "at most 1000"),
        ("a{3000}", "written out"),
        ("(a{99999}){99999}", "written out"),
        ("[^a]{0,1500}", "use length"),
        ("(a|b)*a(a|b){11}", "more than 1024 states"),
    ],
)
def test_an_error_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(PatternError, match=re.escape(says)):
        compile_pattern(text)


def test_the_largest_tables() -> None:
    assert len(compile_pattern(f"[^<>]{{0,{PATTERN_STATES_MAX - 1}}}").accepting) == 1_025
    repeated_to_the_end = compile_pattern(f"a{{{PATTERN_STATES_MAX - 1}}}")
    assert matches(repeated_to_the_end, "a" * 1_023)
    assert not matches(repeated_to_the_end, "a" * 1_022)
    assert not matches(repeated_to_the_end, "a" * 1_024)
    # Repetitions of nothing are nothing, however often.
    assert matches(compile_pattern("((){99999}){99999}"), "")


def test_a_pattern_is_a_table_that_any_host_can_walk() -> None:
    pattern = compile_pattern("[a-c]+😀?")
    assert pattern.bounds == (0, ord("a"), ord("d"), ord("😀"), ord("😀") + 1)
    assert pattern.classes == (0, 1, 0, 2, 0)
    assert pattern.width == 3
    assert pattern.steps[:3] == (0, 0, 0)  # nothing leads out of the dead state
    assert len(pattern.steps) == pattern.width * len(pattern.accepting)
    assert not pattern.accepting[0]
    assert [matches(pattern, text) for text in ("", "ab", "abc😀", "😀", "ab😀😀", "d")] == [
        False,
        True,
        True,
        False,
        False,
        False,
    ]
