"""Videos in prompts that somebody writes in Python."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from videos import data_url, grey, video

from deployer import load_video
from deployer.offline.openai_messages import conversation_of
from deployer.offline.prompt_forms import conversation
from deployer.prompt.fineness import Fineness
from deployer.prompt.frame_choice import NO_WISH, FrameWish
from deployer.prompt.messages import ImagePart, TextPart, VideoPart
from deployer.prompt.video_errors import VideoError
from engines.errors import RequestError


def part(**fields: Any) -> VideoPart:
    [message] = conversation_of([{"role": "user", "content": [fields]}])
    [found] = message.parts
    assert isinstance(found, VideoPart)
    return found


def test_a_url_and_data_are_written_as_pictures_are() -> None:
    found = part(type="video_url", video_url={"url": "x", "nframes": 4, "max_pixels": 784})
    assert found == VideoPart(source="x", wish=FrameWish(num_frames=4), fineness=Fineness(max_pixels=784))
    frames = [grey(0, 4, 4), b"jpeg"]
    assert part(type="video_data", video_data={"data": frames}).source == tuple(frames)
    assert part(type="video_data", video_data={"data": Path("a.mp4"), "fps": 1}).wish == FrameWish(fps=1.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"type": "video"}, "one of image_data, image_url, text, video_data, video_url"),
        ({"type": "video_url", "video_url": {"url": 3}}, r"video_url\.url: is a int: must be a URL"),
        ({"type": "video_data", "video_data": {"data": 3}}, "bytes, a Path, or a list of PIL images"),
        ({"type": "video_data", "video_data": {"data": [b"", 3]}}, r"data\[1\]: is a int: must be a PIL"),
        ({"type": "video_url", "video_url": {"url": "x", "fps": 0}}, "fps=0: must be a number above 0"),
        ({"type": "video_url", "video_url": {"url": "x", "fps": True}}, "fps=True: must be a number"),
        ({"type": "video_url", "video_url": {"url": "x", "fps": 1, "nframes": 1}}, "at most one of"),
        ({"type": "video_url", "video_url": {"url": "x", "num_frames": 0}}, "num_frames=0: must be a whole"),
        ({"type": "video_url", "video_url": {"url": "x", "detail": "low"}}, "unknown `detail`"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        part(**fields)
    assert str(caught.value).startswith("messages[0].content[0]")


def test_frames_that_are_arrays_are_refused_where_they_are_given() -> None:
    frames: Any = [grey(0, 4, 4), np.zeros((4, 4, 3), np.uint8)]
    with pytest.raises(RequestError, match=r"load_video\.video\[1\]: is a ndarray: .*PIL\.Image\.fromarray"):
        load_video(frames)


def test_load_video_reads_a_path_and_bytes_and_keeps_what_is_here_already(tmp_path: Path) -> None:
    data = video(count=2)
    (tmp_path / "a.mp4").write_bytes(data)
    assert load_video(str(tmp_path / "a.mp4"), num_frames=2) == VideoPart(
        source=data, wish=FrameWish(num_frames=2)
    )
    assert load_video(tmp_path / "a.mp4", fps=1).wish == FrameWish(fps=1.0)
    assert load_video(data).wish == NO_WISH
    assert load_video(data_url(data)).source == data_url(data)
    frames: list[Image.Image | bytes] = [grey(0, 4, 4)]
    assert load_video(frames).source == tuple(frames)


def test_load_video_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"video 1: .*none\.mp4 cannot be read: No such file"):
        load_video(tmp_path / "none.mp4")
    with pytest.raises(RequestError, match=r"load_video: must hold at most one of"):
        load_video(b"x", num_frames=1, fps=1)
    with pytest.raises(RequestError, match=r"int: is no video: must be bytes, a path, a URL or a list"):
        load_video(3)  # type: ignore[arg-type]


def test_a_video_stands_beside_pictures_in_a_short_prompt() -> None:
    clip = load_video(b"bytes")
    [message] = conversation(("what happens?", clip))
    assert message.parts == (clip, TextPart(text="what happens?"))
    [message] = conversation(("q", [grey(0, 4, 4), clip]))
    assert [type(one) for one in message.parts] == [ImagePart, VideoPart, TextPart]
