"""docs/bad_input.md names tests that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_fault_of_the_table_is_held_by_a_test_that_exists() -> None:
    rows = (ROOT / "docs/bad_input.md").read_text().splitlines()[6:]
    assert len(rows) > 20
    for row in rows:
        (named,) = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)` \|$", row)
        path, test = named
        assert f"def {test}(" in (ROOT / path).read_text(), row
