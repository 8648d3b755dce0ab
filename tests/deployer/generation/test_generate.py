"""Sequences in, pieces of text out: what a stop string costs, and what is left when something fails."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_engine import FakeEngine, Script
from fake_prompts import FakePrompts
from numpy.typing import NDArray
from serving_configs import SAMPLING

from deployer.generation.choices import Choice, choices_of
from deployer.generation.generate import Piece, generate
from deployer.generation.generation_config import GenerationConfig
from deployer.generation.running_sequences import RunningSequences
from deployer.generation.sampling import sampling_rules
from deployer.prompt.messages import ImagePart, Message, TextPart
from engines.ipc.pixel_files import PixelFiles
from engines.messages import PixelRef, Reply, Submit


async def choices(**fields: Any) -> list[Choice]:
    """Return the sequences of a question about one picture."""
    prompts: Any = FakePrompts()
    parts = (ImagePart(source="data:,"), TextPart(text="What is it?"))
    prompt = await prompts.chat([Message(role="user", parts=parts)])
    rules = sampling_rules(GenerationConfig(**fields), defaults=SAMPLING, vocabulary=prompts)
    return choices_of(rules, [prompt], request_id="r", vocabulary=prompts, defaults=SAMPLING)


async def pieces(engine: Any, asked: list[Choice]) -> list[Piece]:
    running = RunningSequences()
    tokenizer: Any = FakePrompts().tokenizer
    async with aclosing(generate(engine, tokenizer, asked, running=running)) as stream:
        found = [piece async for piece in stream]
    assert len(running) == 0
    return found


class NotingPixels(PixelFiles):
    """Pixel files that remember what was put there."""

    def __init__(self) -> None:
        super().__init__()
        self.named: list[Path] = []

    def write(self, array: NDArray[np.uint8]) -> PixelRef:
        return self._noted(super().write(array))

    def link(self, ref: PixelRef) -> PixelRef:
        return self._noted(super().link(ref))

    def _noted(self, ref: PixelRef) -> PixelRef:
        self.named.append(Path(ref.path))
        assert self.named[-1].exists()
        return ref


@pytest.fixture
def pixels(engine: FakeEngine) -> NotingPixels:
    engine.pixels = NotingPixels()
    return engine.pixels


@pytest.mark.parametrize("bunch", [1, 5])
async def test_tokens_behind_a_stop_string_cost_nothing(engine: FakeEngine, bunch: int) -> None:
    engine.script = lambda _: Script(endless=True, bunch=bunch)
    found = await pieces(engine, await choices(stop_words=("red",)))
    finish = found[-1].finish
    assert finish is not None
    assert finish.usage.output_tokens == len("It is a red")
    assert sum(len(piece.token_ids) for piece in found) == len("It is a red")
    assert "".join(piece.text for piece in found) == "It is a "


async def test_a_stop_string_ends_its_sequence_however_long_the_client_takes_to_read_it(
    engine: FakeEngine,
) -> None:
    engine.script = lambda _: Script(endless=True)
    tokenizer: Any = FakePrompts().tokenizer
    asked, taken = await choices(stop_words=("red",)), 0
    async with aclosing(generate(engine, tokenizer, asked, running=RunningSequences())) as stream:
        while taken < len("It is a red"):
            assert engine.aborts == []
            taken += len((await anext(stream)).token_ids)
        assert engine.aborts == [asked[0].request_id]


async def test_pictures_that_the_engine_never_took_are_removed(
    engine: FakeEngine, pixels: NotingPixels
) -> None:
    async def deaf(request: Submit) -> AsyncGenerator[Reply, None]:
        raise RuntimeError("deaf")
        yield

    engine.submit = deaf  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="deaf"):
        await pieces(engine, await choices(n=3))
    assert len(pixels.named) == 3
    assert not any(file.exists() for file in pixels.named)


async def test_a_request_that_is_cancelled_at_once_leaves_nothing_behind(
    engine: FakeEngine, pixels: NotingPixels
) -> None:
    asked = await choices(n=3)
    task = asyncio.create_task(pieces(engine, asked))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    assert engine.running == 0
    await asyncio.get_running_loop().shutdown_default_executor()  # the thread that writes has written all
    await asyncio.sleep(0)
    assert len(pixels.named) == 3
    assert not any(file.exists() for file in pixels.named)


async def test_pictures_are_written_beside_the_event_loop(
    engine: FakeEngine, pixels: NotingPixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop goes on while a write waits for it: on the loop's own thread it would wait for ever."""
    ticked, write = threading.Event(), pixels.write

    def patient(array: NDArray[np.uint8]) -> PixelRef:
        assert ticked.wait(10), "the event loop stood still"
        return write(array)

    monkeypatch.setattr(pixels, "write", patient)
    asyncio.get_running_loop().call_later(0.01, ticked.set)
    assert (await pieces(engine, await choices()))[-1].finish is not None
