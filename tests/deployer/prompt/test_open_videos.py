"""Videos in prompts: their frames, what is refused and in which words."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_host import ok, picture_host
from PIL import Image
from prompt_requests import picture
from prompt_setup import deploy_config, encoded, model_spec
from videos import data_url, grey, number_of, video

from deployer.prompt.assemble import Prompt, PromptBuilder
from deployer.prompt.fineness import Fineness
from deployer.prompt.frame_choice import FrameWish
from deployer.prompt.image_tiles import ImageTiles
from deployer.prompt.messages import ImagePart, Message, Part, TextPart, VideoPart
from deployer.prompt.video_decoder import VideoDecoder
from engines.errors import RequestError


async def ask(builder: PromptBuilder, *parts: Part | str, role: Any = "user") -> Prompt:
    found = tuple(TextPart(text=part) if isinstance(part, str) else part for part in parts)
    return await builder.chat([Message(role=role, parts=found)])


async def refused(builder: PromptBuilder, *parts: Part | str, role: Any = "user") -> RequestError:
    with pytest.raises(RequestError) as caught:
        await ask(builder, *parts, role=role)
    return caught.value


def clip(wish: FrameWish = FrameWish(num_frames=3), **options: Any) -> VideoPart:  # noqa: B008  # frozen
    return VideoPart(source=video(size=(28, 28), **options), wish=wish)


def shown(builder: PromptBuilder, prompt: Prompt) -> str:
    """Return the prompt with one mark a picture."""
    text = b"".join(builder.tokenizer.token_bytes(token) for token in prompt.token_ids).decode()
    return text.replace("<IMG_CONTEXT>" * 4, "@").split("user\n")[1].split("<|im_end|>")[0]


def seen(prompt: Prompt) -> list[int]:
    """Return which frames the pictures of a prompt are."""
    return [number_of(Image.fromarray(np.asarray(image.arrays[0])[0])) for image in prompt.images]


async def test_frames_stand_one_a_line_in_front_of_the_question(builder: PromptBuilder) -> None:
    prompt = await ask(builder, clip(), "what happens?")
    lines = "Frame1: <img>@</img>\nFrame2: <img>@</img>\nFrame3: <img>@</img>\n"
    assert shown(builder, prompt) == f"{lines}what happens?"
    assert [image.num_tokens for image in prompt.images] == [4, 4, 4]
    assert seen(prompt) == [4, 14, 23]  # segments of 29 / 3
    assert prompt.images[0].notes == ("3 of 30 frames used",)
    assert [image.name for image in prompt.images] == ["video 1"] * 3


async def test_a_video_behind_the_text_goes_in_front_and_one_between_texts_stays(
    builder: PromptBuilder,
) -> None:
    one = clip(FrameWish(num_frames=1))
    assert shown(builder, await ask(builder, "q", one)) == "Frame1: <img>@</img>\nq"
    assert shown(builder, await ask(builder, "a", one, "b")) == "a\nFrame1: <img>@</img>\nb"


async def test_pictures_keep_their_own_numbers_beside_frames(builder: PromptBuilder) -> None:
    stills = (ImagePart(source=picture()), ImagePart(source=picture()))
    prompt = await ask(builder, clip(FrameWish(num_frames=2)), *stills, "q")
    frames = "Frame1: <img>@</img>\nFrame2: <img>@</img>\n"
    assert shown(builder, prompt) == f"{frames}Image-1: <img>@</img>\nImage-2: <img>@</img>\nq"
    assert [image.name for image in prompt.images] == ["video 1", "video 1", "image 1", "image 2"]
    by_hand = await ask(builder, clip(FrameWish(num_frames=1)), *stills[:1], "see <IMAGE_TOKEN>!")
    assert shown(builder, by_hand) == "Frame1: <img>@</img>\nsee <img>@</img>!"


async def test_a_frame_is_one_tile_unless_more_are_asked_for(builder: PromptBuilder) -> None:
    wide = video(size=(112, 28), count=4)
    wish = FrameWish(num_frames=1)
    one = await ask(builder, VideoPart(source=wide, wish=wish), "q")
    four = await ask(builder, VideoPart(source=wide, wish=wish, fineness=Fineness(max_tiles=4)), "q")
    assert (one.images[0].plan.num_tiles, four.images[0].plan.num_tiles) == (1, 5)  # and a thumbnail
    error = await refused(builder, VideoPart(source=wide, fineness=Fineness(max_tiles=9)), "q")
    assert error.code == "video_option_refused"
    assert str(error).startswith("video 1: `max_dynamic_patch`=9: must be at most 6")


async def test_the_key_of_a_frame_is_that_of_the_same_picture(builder: PromptBuilder) -> None:
    sent = VideoPart(source=(encoded(grey(3, 28, 28)),))
    alone = ImagePart(source=grey(3, 28, 28), fineness=Fineness(max_tiles=1))
    [frame], [still] = (await ask(builder, sent, "q")).images, (await ask(builder, alone, "q")).images
    assert frame.key == still.key
    other = (await ask(builder, VideoPart(source=(encoded(grey(4, 28, 28)),)), "q")).images[0]
    assert other.key != frame.key


async def test_frames_are_cut_here_even_where_pictures_stay_whole(folder: Path) -> None:
    builder = PromptBuilder(deploy_config(), model_spec(), folder, uncut_pixels=1_000_000)
    prompt = await ask(builder, clip(FrameWish(num_frames=1)), ImagePart(source=picture()), "q")
    assert [image.is_cut for image in prompt.images] == [True, False]
    await builder.aclose()


async def test_what_the_deployment_says_holds_where_the_request_is_silent(folder: Path) -> None:
    silent = clip(FrameWish())
    for vision, frames in (
        ({}, 8), ({"video_frames": 5}, 5), ({"video_fps": 2.0}, 6), ({"video_fps": 10.0}, 16),
    ):  # fmt: skip
        builder = PromptBuilder(deploy_config(vision=vision), model_spec(), folder)
        assert len((await ask(builder, silent, "q")).images) == frames
        await builder.aclose()


async def test_videos_that_say_nothing_share_what_a_request_may_have(folder: Path) -> None:
    builder = PromptBuilder(deploy_config(vision={"video_fps": 10.0}), model_spec(), folder)
    prompt = await ask(builder, clip(FrameWish()), clip(FrameWish()), "q")
    assert [image.name for image in prompt.images] == ["video 1"] * 8 + ["video 2"] * 8
    await builder.aclose()


async def test_more_frames_than_there_may_be_are_refused(builder: PromptBuilder) -> None:
    error = await refused(builder, clip(FrameWish(num_frames=17)), "q")
    assert str(error) == (
        "video 1: `num_frames`=17: must be at most 16 a request (vision.max_video_frames); ask for fewer "
        "`num_frames`, or a lower `fps`"
    )
    error = await refused(builder, clip(FrameWish(fps=10)), "q")
    assert str(error).startswith("video 1: `fps`=10 of 3.0 s are 30 frames: must be at most 16")
    together = [clip(FrameWish(num_frames=12)), clip(FrameWish(num_frames=5))]
    error = await refused(builder, *together, "q")
    assert str(error).startswith("video 2: 17 frames with those of the videos before it: must be at most 16")
    assert error.code == "video_too_many_frames"


async def test_a_short_video_gives_all_its_frames(builder: PromptBuilder) -> None:
    prompt = await ask(builder, clip(FrameWish(num_frames=100), count=5), "q")
    assert seen(prompt) == [0, 1, 2, 3, 4]
    assert prompt.images[0].notes == ("5 of 5 frames used",)


async def test_videos_are_counted_before_any_is_fetched(builder: PromptBuilder) -> None:
    error = await refused(builder, *[VideoPart(source="http://127.0.0.1:9/x")] * 3, "q")
    assert str(error) == "3 videos: must be at most 2 a request (vision.max_videos)"


async def test_a_video_stands_in_a_user_s_message(builder: PromptBuilder) -> None:
    error = await refused(builder, clip(), "q", role="system")
    assert str(error) == "message 1 (system) holds a video: only user messages may"


async def test_a_prompt_that_is_too_long_counts_a_video_once(folder: Path) -> None:
    builder = PromptBuilder(deploy_config(session_len=64), model_spec(), folder)
    error = await refused(builder, clip(FrameWish(num_frames=8)), "word " * 20)
    assert "video 1 (28x28, 8 tiles) 32; ask for fewer frames (`num_frames`" in str(error)
    await builder.aclose()


async def test_a_model_without_videos_refuses_them(folder: Path) -> None:
    builder = PromptBuilder(deploy_config(), model_spec(with_vision=False), folder)
    error = await refused(builder, clip(), "q")
    assert error.code == "videos_not_supported"
    assert "send frames as pictures (`image_url`)" in str(error)
    await builder.aclose()


async def test_a_url_is_fetched_under_the_limits_of_videos(folder: Path) -> None:
    async with picture_host(clip=ok(video(size=(28, 28))), page=ok(b"<html>")) as host:
        changes = {"allow_private_addresses": True, "max_image_bytes": 10}
        builder = PromptBuilder(deploy_config(vision=changes), model_spec(), folder)
        assert len((await ask(builder, VideoPart(source=host.url("/clip")), "q")).images) == 8
        error = await refused(builder, VideoPart(source=host.url("/page")), "q")
        assert error.code == "video_format_unsupported"
        small = PromptBuilder(deploy_config(vision={**changes, "max_video_bytes": 99}), model_spec(), folder)
        error = await refused(small, VideoPart(source=host.url("/clip")), "q")
        assert error.code == "video_too_large"
        assert str(error) == (
            "video 1: the download is larger than 99 bytes (vision.max_video_bytes); send a smaller video"
        )
        hasty = {**changes, "video_timeout_s": 0.2}
        hurried = PromptBuilder(deploy_config(vision=hasty), model_spec(), folder)
        error = await refused(hurried, VideoPart(source=host.url("/silent")), "q")
        assert error.code == "video_fetch_timeout"
        assert "(vision.video_timeout_s)" in str(error)


async def test_a_list_of_frames_in_one_url_is_a_video(builder: PromptBuilder) -> None:
    frames = [encoded(grey(number, 28, 28), "JPEG") for number in range(6)]
    url = "data:video/jpeg;base64," + ",".join(base64.b64encode(frame).decode() for frame in frames)
    assert seen(await ask(builder, VideoPart(source=url), "q")) == [0, 1, 2, 3, 4, 5]
    few = await ask(builder, VideoPart(source=url, wish=FrameWish(num_frames=2)), "q")
    assert seen(few) == [1, 3]
    error = await refused(builder, VideoPart(source=url, wish=FrameWish(fps=1)), "q")
    assert str(error).startswith("video 1: `fps`=1 of a list of frames, which has no time")
    error = await refused(builder, VideoPart(source=f"{url},!!"), "q")
    assert str(error).startswith("video 1: data: URL is not base64")
    error = await refused(builder, VideoPart(source=f"{url},{'A' * 2_000_000}"), "q")
    assert error.code == "video_too_large"


async def test_a_list_of_frames_is_held_to_bytes_and_time_as_a_file_is(folder: Path) -> None:
    frames = [encoded(grey(number, 28, 28), "JPEG") for number in range(6)]
    url = "data:video/jpeg;base64," + ",".join(base64.b64encode(frame).decode() for frame in frames)
    limits = {"max_video_bytes": sum(map(len, frames)) - 1}
    narrow = PromptBuilder(deploy_config(vision=limits), model_spec(), folder)
    error = await refused(narrow, VideoPart(source=url), "q")
    assert error.code == "video_too_large"
    assert "together (vision.max_video_bytes); send fewer, or smaller ones" in str(error)
    hasty = PromptBuilder(deploy_config(vision={"video_timeout_s": 1e-9}), model_spec(), folder)
    for source in (url, tuple(frames)):
        error = await refused(hasty, VideoPart(source=source), "q")
        assert error.code == "video_decode_timeout"


async def test_frames_of_two_sizes_or_damaged_ones_are_named(builder: PromptBuilder) -> None:
    error = await refused(builder, VideoPart(source=(picture(28, 28), picture(56, 28))), "q")
    assert str(error).startswith("video 1: frame 2 is 56x28 pixels, frame 1 28x28: must be of one size")
    damaged = encoded(picture())[:60]
    error = await refused(builder, VideoPart(source=(encoded(picture()), damaged)), "q")
    assert str(error).startswith("video 1: frame 2: damaged or truncated")
    assert error.code == "video_unreadable"
    error = await refused(builder, VideoPart(source=()), "q")
    assert str(error) == "video 1: no frames: must have at least one"


async def test_a_conversation_keeps_the_bytes_of_its_videos(builder: PromptBuilder) -> None:
    data = video(size=(28, 28))
    [message] = await builder.fetch([Message(role="user", parts=(VideoPart(source=data_url(data)),))])
    [part] = message.parts
    assert isinstance(part, VideoPart) and part.source == data


async def test_a_file_is_closed_at_once_where_a_frame_cannot_be_cut(
    builder: PromptBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when its error is collected: FFmpeg's threads wait that long."""

    def broken(*_: Any, **__: Any) -> None:
        raise MemoryError

    last: dict[int, str] = {}  # that was done to each decoder
    jump, close = VideoDecoder.jump, VideoDecoder.close

    def jumped(decoder: VideoDecoder, key: int | None) -> None:
        jump(decoder, key)
        last[id(decoder)] = "opened"

    def closed(decoder: VideoDecoder) -> None:
        close(decoder)
        last[id(decoder)] = "closed"

    monkeypatch.setattr(ImageTiles, "prepare", broken)
    monkeypatch.setattr(VideoDecoder, "jump", jumped)
    monkeypatch.setattr(VideoDecoder, "close", closed)
    with pytest.raises(MemoryError) as error:
        await ask(builder, clip())
    assert error.traceback
    assert set(last.values()) == {"closed"}
