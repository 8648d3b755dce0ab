"""Damaged pictures: each is read or refused with a reason, and none of them costs memory for good.

The default is small. The full run, from the
repository's root, prints its figures:

    PYTHONPATH=tests/support python tests/conformance/test_mutated_images.py 10000

The same over HTTP, against a live server: `mutated_over_http.py`.
"""

import random
from collections import Counter

from mutations import originals, outcomes, print_outcomes

from deployer.prompt.image_errors import ImageError
from deployer.prompt.images import open_picture, to_rgb

MAX_PIXELS = 1_000_000
DEFAULT_COUNT = 300


def outcome(data: bytes) -> str:
    """Read one file as a request would: `read`, or the code of its refusal. Anything else raises."""
    try:
        rgb = to_rgb(open_picture(data, index=0, max_pixels=MAX_PIXELS))
    except ImageError as error:
        assert str(error), "a refusal says why"
        return error.code
    assert rgb.mode == "RGB"
    return "read"


def run(count: int, *, seed: int = 0) -> tuple[Counter[str], list[int]]:
    """Return how files ended, and the resident bytes after each tenth of them."""
    dice = random.Random(seed)
    return outcomes(outcome, originals(dice), count, dice)


def test_whole_pictures_of_every_kind_are_read() -> None:
    assert {outcome(data) for data in originals(random.Random(1))} == {"read"}


def test_damaged_pictures_are_read_or_refused_with_a_reason() -> None:
    found, _ = run(DEFAULT_COUNT)
    assert found.total() == DEFAULT_COUNT
    assert found["read"] > DEFAULT_COUNT // 20
    assert found.total() - found["read"] > DEFAULT_COUNT // 20


if __name__ == "__main__":
    print_outcomes(run)
