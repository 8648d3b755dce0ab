"""Numbers with their nouns."""

import pytest

from deployer.counted import counted


@pytest.mark.parametrize(
    ("count", "told"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1200, "1,200 images")]
)
def test_one_alone_is_singular(count: int, told: str) -> None:
    assert counted(count, "image") == told
