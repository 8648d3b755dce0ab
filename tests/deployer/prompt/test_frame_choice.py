"""Which frames are looked at, held to numbers that the families' own functions give."""

import pytest

from deployer.prompt.frame_choice import NO_WISH, FrameWish, chosen_frames, num_chosen
from engines.vision.video_spec import Choice, VideoSpec

SPEC = VideoSpec(choice="segments", label="Frame{}: ", num_frames=8)


@pytest.mark.parametrize(
    ("choice", "count", "wanted", "expected"),
    [
        # get_index of InternVL2's model card with bound=None
        ("segments", 60, 8, (3, 10, 18, 25, 33, 40, 47, 55)),
        ("segments", 100, 5, (9, 29, 49, 68, 88)),
        # InternVLVideoProcessor.sample_frames of transformers 5.24
        ("middles", 60, 8, (3, 11, 18, 26, 33, 41, 48, 56)),
        ("middles", 100, 7, (7, 21, 35, 50, 64, 78, 92)),
        # Qwen2VLVideoProcessor.sample_frames of transformers 5.24
        ("starts", 60, 8, (0, 7, 15, 22, 30, 37, 45, 52)),
        ("starts", 100, 6, (0, 16, 33, 50, 66, 83)),
    ],
)
def test_frames_are_those_of_the_reference(
    choice: Choice, count: int, wanted: int, expected: tuple[int, ...]
) -> None:
    assert chosen_frames(choice, count, wanted) == expected


@pytest.mark.parametrize("choice", ["segments", "middles", "starts"])
def test_no_frame_comes_twice_and_none_is_made_up(choice: Choice) -> None:
    for count in range(1, 60):
        for wanted in range(1, 70):
            frames = chosen_frames(choice, count, wanted)
            assert len(frames) == min(count, wanted)
            assert sorted(set(frames)) == list(frames)
            assert frames[-1] < count


def test_the_request_goes_before_the_deployment_and_that_before_the_family() -> None:
    def chosen(wish: FrameWish, deployed: FrameWish = NO_WISH) -> int:
        return num_chosen(SPEC, wish, deployed, count=300, seconds=10.0)

    assert chosen(NO_WISH) == 8
    assert chosen(NO_WISH, FrameWish(num_frames=4)) == 4
    assert chosen(NO_WISH, FrameWish(fps=0.5)) == 5
    assert chosen(FrameWish(fps=2.05), FrameWish(num_frames=4)) == 20
    assert chosen(FrameWish(num_frames=3), FrameWish(fps=2.0)) == 3
    assert chosen(FrameWish(fps=0.01)) == 1
