"""What bodies say of a video, on its way to the prompt."""

import pytest
from pydantic import ValidationError

from deployer.prompt.fineness import Fineness
from deployer.prompt.frame_choice import NO_WISH, FrameWish
from deployer.prompt.messages import VideoPart
from deployer.serve.conversation import conversation
from deployer.serve.openai_types import ChatBody


def chat_body(*videos: dict[str, object], **fields: object) -> ChatBody:
    content = [{"type": "video_url", "video_url": {"url": "x", **video}} for video in videos]
    return ChatBody.model_validate({"messages": [{"role": "user", "content": content}], **fields})


def asked(body: ChatBody) -> list[VideoPart]:
    [message] = conversation(body.messages, bounds=body.mm_processor_kwargs)
    return [part for part in message.parts if isinstance(part, VideoPart)]


def test_each_video_says_its_frames_in_the_words_of_others() -> None:
    body = chat_body({}, {"num_frames": 3}, {"nframes": 4}, {"fps": 2}, {"max_dynamic_patch": 2})
    assert [part.wish for part in asked(body)] == [
        NO_WISH, FrameWish(num_frames=3), FrameWish(num_frames=4), FrameWish(fps=2), NO_WISH
    ]  # fmt: skip
    assert asked(body)[4].fineness == Fineness(max_tiles=2)
    assert asked(body)[0].source == "x"


def test_a_request_speaks_for_videos_that_say_nothing() -> None:
    body = chat_body({}, {"num_frames": 3}, mm_processor_kwargs={"fps": 0.5, "max_dynamic_patch": 4})
    assert [part.wish for part in asked(body)] == [FrameWish(fps=0.5), FrameWish(num_frames=3)]
    assert [part.fineness for part in asked(body)] == [Fineness(), Fineness()]  # tiles are of pictures


@pytest.mark.parametrize(
    "video",
    [
        {"num_frames": 3, "fps": 1}, {"num_frames": 3, "nframes": 3}, {"nframes": 3, "fps": 1}, {"fps": 0},
        {"fps": 1001}, {"num_frames": 0}, {"num_frames": 1.5}, {"detail": "low"}, {"fps": float("nan")},
    ],
)  # fmt: skip
def test_what_contradicts_itself_or_means_nothing_is_refused(video: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        chat_body(video)


def test_a_request_says_it_once_too() -> None:
    with pytest.raises(ValidationError, match="at most one of `num_frames` and `fps`"):
        chat_body({}, mm_processor_kwargs={"fps": 0.5, "num_frames": 4})
