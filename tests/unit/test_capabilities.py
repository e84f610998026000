"""The page of capabilities names tests that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "engine/docs/capabilities.md"


def test_every_row_names_a_test_or_says_that_it_is_not_here() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| reference | here")]
    assert len(rows) > 40
    for row in rows:
        named = re.search(r"`(tests/[\w/]+\.py)(?:::(\w+))?` \|$", row)
        if named is None:
            assert row.endswith("| not here yet | |"), row
            continue
        text = (ROOT / named[1]).read_text()
        assert named[2] is None or f"def {named[2]}(" in text, row
