"""Pictures in processes: the same arrays as on threads, and one answer whatever becomes of a process."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prompt_requests import chat, picture, refused
from prompt_setup import deploy_config, encoded, model_spec

from deployer.prompt.assemble import PromptBuilder
from deployer.prompt.fineness import AS_DEPLOYED
from deployer.prompt.image_tiles import ImageTiles
from deployer.prompt.messages import ImageSize
from deployer.prompt.pixel_job import PictureJob
from deployer.prompt.pixel_pool import PREFIX, PixelPool, pixel_pool
from deployer.prompt.pixel_process import PixelWorker
from deployer.prompt.pixel_worker import answer
from deployer.serve.metrics import PoolMetrics
from engines.ipc.owned_folder import LOCK, OwnedFolder

TWO_TILES = encoded(picture(56, 28))


@pytest.fixture
def pooled(folder: Path) -> Iterator[PromptBuilder]:
    builder = PromptBuilder(deploy_config(vision={"preprocess_workers": 2}), model_spec(), folder)
    yield builder
    asyncio.run(builder.aclose())


def pool_of(builder: PromptBuilder) -> PixelPool:
    assert builder.pixel_pool is not None
    return builder.pixel_pool


def workers(builder: PromptBuilder) -> set[PixelWorker]:
    return pool_of(builder)._workers


async def test_a_prompt_is_the_same_as_from_threads(builder: PromptBuilder, pooled: PromptBuilder) -> None:
    sources = [TWO_TILES, encoded(picture(28, 84), "JPEG")]
    ours, theirs = await chat(pooled, "a", *sources), await chat(builder, "a", *sources)
    assert ours.token_ids == theirs.token_ids
    for one, other in zip(ours.images, theirs.images, strict=True):
        assert (one.key, one.start, one.rows, one.plan) == (other.key, other.start, other.rows, other.plan)
        assert all(np.array_equal(a, b) for a, b in zip(one.arrays, other.arrays, strict=True))
    assert pool_of(pooled).figures.num_done == 2
    assert [path.name for path in pool_of(pooled)._folder.path.iterdir()] == ["owner.lock"]


async def test_a_picture_that_is_left_to_the_engine_comes_whole_from_a_process_too(folder: Path) -> None:
    builder = PromptBuilder(
        deploy_config(vision={"preprocess_workers": 1}), model_spec(), folder, uncut_pixels=10_000
    )
    on_threads = PromptBuilder(deploy_config(), model_spec(), folder, uncut_pixels=10_000)
    (one,), (other,) = [(await chat(each, "a", TWO_TILES)).images for each in (builder, on_threads)]
    await builder.aclose()
    assert (one.is_cut, one.key, one.plan) == (False, other.key, other.plan)
    assert np.array_equal(one.arrays[0], other.arrays[0]) and one.arrays[0].shape == (28, 56, 4)


async def test_workers_outlive_the_terminal_whose_signals_the_server_answers(pooled: PromptBuilder) -> None:
    await chat(pooled, "a", TWO_TILES)
    for number in (signal.SIGINT, signal.SIGHUP):
        for worker in workers(pooled):
            os.kill(worker.process.pid, number)
        for _ in range(2):
            await chat(pooled, "a", TWO_TILES)
    assert pool_of(pooled).figures.num_restarts == 0


async def test_a_damaged_picture_is_refused_in_the_same_words(
    builder: PromptBuilder, pooled: PromptBuilder
) -> None:
    damaged = TWO_TILES[:-40]
    one, other = (
        await refused(pooled, "a", TWO_TILES, damaged),
        await refused(builder, "a", TWO_TILES, damaged),
    )
    assert (str(one), one.code) == (str(other), other.code)
    assert str(one).startswith("image 2: damaged or truncated")


async def test_a_killed_process_is_replaced_and_its_picture_answered_once(pooled: PromptBuilder) -> None:
    pool_of(pooled).start()
    killed = {worker.process.pid for worker in workers(pooled)}
    assert len(killed) == 2
    for pid in killed:
        os.kill(pid, signal.SIGSTOP)  # it takes the job and cannot finish it
    asked = asyncio.create_task(chat(pooled, "a", TWO_TILES))
    async with asyncio.timeout(5):
        while pool_of(pooled).figures.num_busy == 0:
            await asyncio.sleep(0.005)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    prompt = await asked
    assert len(prompt.images) == 1 and pool_of(pooled).figures.num_restarts == 1
    assert len((await chat(pooled, "a", TWO_TILES)).images) == 1, "the other dead one is found and replaced"
    assert not killed & {worker.process.pid for worker in workers(pooled)}


async def test_a_picture_that_ends_two_processes_is_refused(
    pooled: PromptBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = PixelWorker.ask

    def ask_the_dead(worker: PixelWorker, *args: Any, **options: Any) -> object:
        worker.process.kill()
        return ask(worker, *args, **options)

    monkeypatch.setattr(PixelWorker, "ask", ask_the_dead)
    error = await refused(pooled, "a", TWO_TILES)
    assert str(error) == "image 1: 2 processes died while they decoded it"
    assert (error.code, pool_of(pooled).figures.num_restarts) == ("image_unreadable", 2)
    monkeypatch.undo()
    assert len((await chat(pooled, "a", TWO_TILES)).images) == 1


async def test_a_request_that_goes_away_while_it_waits_is_not_counted_for_ever(
    pooled: PromptBuilder,
) -> None:
    pool = pool_of(pooled)
    pool.start()
    for worker in workers(pooled):
        os.kill(worker.process.pid, signal.SIGSTOP)
    asked = [asyncio.create_task(chat(pooled, "a", TWO_TILES)) for _ in range(4)]
    async with asyncio.timeout(5):
        while (pool.figures.num_busy, pool.figures.num_waiting) != (2, 2):
            await asyncio.sleep(0.005)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    assert pool.figures.num_waiting == 0
    for worker in workers(pooled):
        os.kill(worker.process.pid, signal.SIGCONT)
    assert len((await chat(pooled, "a", TWO_TILES)).images) == 1


def test_without_room_in_shared_memory_the_arrays_come_through_the_connection(tmp_path: Path) -> None:
    config = deploy_config().vision
    vision = model_spec().vision
    assert vision is not None
    tiles = ImageTiles(vision, config)
    plan = tiles.plan(ImageSize(width=56, height=28), AS_DEPLOYED)
    job = PictureJob(data=TWO_TILES, index=0, fineness=AS_DEPLOYED, plan=plan, shared=())
    reply = answer(job, str(tmp_path / "no" / "such"), tiles, config)
    assert reply.inline is not None
    [ready] = reply.pictures
    assert [len(data) for data in reply.inline] == [int(np.prod(shape)) for shape in ready.shapes]


def test_what_a_killed_server_left_goes_with_the_next_that_has_no_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployer.prompt.pixel_pool.SHARED_MEMORY", tmp_path)
    left = tmp_path / f"{PREFIX}x"
    left.mkdir()
    (left / LOCK).touch()
    living = OwnedFolder(tmp_path, f"{PREFIX}living-")
    assert pixel_pool(None, deploy_config().vision, uncut_pixels=0) is None
    assert list(tmp_path.iterdir()) == [living.path]
    living.close()


def test_a_worker_imports_no_torch_and_no_device() -> None:
    program = (
        "import sys, deployer.prompt.pixel_worker; "
        "found = [name for name in ('torch', 'cuda', 'fastapi') if name in sys.modules]; "
        "sys.exit(repr(found) if found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_the_metrics_name_workers_and_their_deaths(pooled: PromptBuilder) -> None:
    pool_of(pooled).figures.num_restarts = 3
    registry = CollectorRegistry()
    registry.register(PoolMetrics(pool_of(pooled)))
    text = generate_latest(registry).decode()
    assert "deployer_preprocess_workers 2.0" in text and "deployer_preprocess_restarts_total 3.0" in text
