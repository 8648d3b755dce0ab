"""Videos in processes: the same frames as on threads, and one answer whatever becomes of a process."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prompt_setup import deploy_config, encoded, model_spec
from videos import grey, video

from deployer.prompt import pixel_pool
from deployer.prompt.assemble import Prompt, PromptBuilder
from deployer.prompt.frame_choice import FrameWish
from deployer.prompt.messages import Message, VideoPart, VideoSource
from deployer.prompt.pixel_process import PixelWorker
from engines.errors import RequestError

THREE = FrameWish(num_frames=3)
FILE = video(size=(28, 28))


@pytest.fixture
def pooled(folder: Path) -> Iterator[PromptBuilder]:
    builder = PromptBuilder(deploy_config(vision={"preprocess_workers": 1}), model_spec(), folder)
    yield builder
    asyncio.run(builder.aclose())


async def ask(builder: PromptBuilder, *sources: VideoSource) -> Prompt:
    parts = tuple(VideoPart(source=source, wish=THREE) for source in sources)
    return await builder.chat([Message(role="user", parts=parts)])


def only_worker(builder: PromptBuilder) -> PixelWorker:
    assert builder.pixel_pool is not None
    builder.pixel_pool.start()
    [worker] = builder.pixel_pool._workers
    return worker


def num_done(builder: PromptBuilder) -> int:
    assert builder.pixel_pool is not None
    return builder.pixel_pool.figures.num_done


async def test_frames_are_the_same_as_from_threads(builder: PromptBuilder, pooled: PromptBuilder) -> None:
    listed = tuple(encoded(grey(number, 28, 28), "JPEG") for number in range(3))
    ours, theirs = await ask(pooled, FILE, listed), await ask(builder, FILE, listed)
    assert ours.token_ids == theirs.token_ids
    for one, other in zip(ours.images, theirs.images, strict=True):
        assert (one.key, one.start, one.rows, one.plan) == (other.key, other.start, other.rows, other.plan)
        assert (one.name, one.notes) == (other.name, other.notes)
        assert all(np.array_equal(a, b) for a, b in zip(one.arrays, other.arrays, strict=True))
    assert num_done(pooled) == 3, "the file's frames counted, then cut; those of the list cut"


async def test_frames_that_came_as_pixels_stay_in_the_server(pooled: PromptBuilder) -> None:
    frames: tuple[Image.Image, ...] = tuple(grey(number, 28, 28) for number in range(3))
    assert len((await ask(pooled, frames)).images) == 3
    assert num_done(pooled) == 0


async def test_a_damaged_video_is_refused_in_the_same_words(
    builder: PromptBuilder, pooled: PromptBuilder
) -> None:
    told = []
    for one in (builder, pooled):
        with pytest.raises(RequestError) as caught:
            await ask(one, FILE, FILE[: len(FILE) // 2])
        told.append((str(caught.value), caught.value.code))
    assert told[0] == told[1]
    assert told[0][1] == "video_unreadable" and told[0][0].startswith("video 2: ")


async def test_a_video_that_ends_two_processes_is_refused_and_the_next_is_read(
    pooled: PromptBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_worker = PixelWorker.ask

    def ask_the_dead(worker: PixelWorker, *args: object, **options: object) -> object:
        worker.process.kill()
        return ask_worker(worker, *args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(RequestError) as caught:
        patch.setattr(PixelWorker, "ask", ask_the_dead)
        await ask(pooled, FILE)
    assert str(caught.value) == "video 1: 2 processes died while they decoded it"
    assert caught.value.code == "video_unreadable"
    assert len((await ask(pooled, FILE)).images) == 3


async def test_a_process_that_hangs_in_a_video_is_ended_and_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = PromptBuilder(
        deploy_config(vision={"preprocess_workers": 1, "video_timeout_s": 0.5}), model_spec(), folder
    )
    hung = only_worker(builder)
    os.kill(hung.process.pid, signal.SIGSTOP)
    with monkeypatch.context() as patch, pytest.raises(RequestError) as caught:
        patch.setattr(pixel_pool, "LATE_S", 0.1)
        await ask(builder, FILE)
    assert caught.value.code == "video_decode_timeout"
    assert hung.process.returncode is not None
    assert len((await ask(builder, FILE)).images) == 3
    await builder.aclose()
