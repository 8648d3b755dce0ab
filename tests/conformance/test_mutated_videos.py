"""Damaged videos: each is read or refused with a reason, in time, and none of them costs memory for good.

The default is small. The full run, from the repository's root, prints its figures:

    PYTHONPATH=tests/support python tests/conformance/test_mutated_videos.py 10000
"""

import random
from collections import Counter

from mutations import outcomes, print_outcomes
from videos import video

from deployer.prompt.video_errors import VideoError
from deployer.prompt.video_file import open_video

KINDS = (
    ("mp4", "h264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4"), ("mpegts", "h264"), ("gif", "gif"),
    ("matroska", "h264"), ("mov", "mpeg4"),
)  # fmt: skip
MAX_PIXELS = 1_000_000
TIMEOUT_S = 20
DEFAULT_COUNT = 300


def originals() -> list[bytes]:
    """Return a video of every format."""
    return [video(format=format, codec=codec, count=10) for format, codec in KINDS]


def outcome(data: bytes) -> str:
    """Read three frames as a request would: `read`, or the code of the refusal. Anything else raises."""
    try:
        file = open_video(data, index=0, max_pixels=MAX_PIXELS, timeout_s=TIMEOUT_S)
        wanted = tuple(sorted({0, file.num_frames // 2, file.num_frames - 1}))
        frames = list(file.frames(wanted, index=0, timeout_s=TIMEOUT_S))
    except VideoError as error:
        assert "object has no" not in str(error), "a refusal says what is wrong with the file"
        return error.code
    assert [frame.size for frame in frames] == [(file.width, file.height)] * len(wanted)
    return "read"


def run(count: int, *, seed: int = 0) -> tuple[Counter[str], list[int]]:
    """Return how files ended, and the resident bytes after each tenth of them."""
    dice = random.Random(seed)
    return outcomes(outcome, originals(), count, dice)


def test_whole_videos_of_every_format_are_read() -> None:
    assert {outcome(data) for data in originals()} == {"read"}


def test_damaged_videos_are_read_or_refused_with_a_reason() -> None:
    found, _ = run(DEFAULT_COUNT)
    assert found.total() == DEFAULT_COUNT
    assert found["read"] > DEFAULT_COUNT // 20
    assert found.total() - found["read"] > DEFAULT_COUNT // 20


if __name__ == "__main__":
    print_outcomes(run)
