"""The page of promises names tests that are there, for each promise, rule and pitfall."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "engine/docs/promises.md"
PROMISES = 7
RULES = 10
PITFALLS = 15


def test_every_row_names_a_test_that_is_there() -> None:
    rows = [row for row in PAGE.read_text().splitlines() if row.startswith("| ")]
    rows = [row for row in rows if not row.endswith("| test |")]
    for row in rows:
        named = re.search(r"\| `(tests/[\w/]+\.py)(?:::(\w+))?` \|$", row)
        assert named, row
        text = (ROOT / named[1]).read_text()
        assert named[2] is None or f"def {named[2]}(" in text, row


def test_no_promise_rule_or_pitfall_is_left_out() -> None:
    promises, rest = PAGE.read_text().split("\n## The rules\n")
    rules, pitfalls = rest.split("\n## What others ran into\n")
    assert [int(number) for number in re.findall(r"^### (\d+)\.", promises, re.MULTILINE)] == [
        *range(1, PROMISES + 1)
    ]
    firsts = re.findall(r"^\| (R[^|]*) \|", rules, re.MULTILINE)
    told = {int(number) for first in firsts for number in re.findall(r"R(\d+)", first)}
    assert told == {*range(1, RULES + 1)}
    assert len(re.findall(r"^\| [a-z]", pitfalls, re.MULTILINE)) == PITFALLS + 1
