"""Calibration conversations as the decoder reads them: token ids and pictures cut into tiles.

Lengths and bytes come first: pixels are decoded of samples that are taken, once all of them are known to fit.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from deployer.config.schema import DeployConfig
from deployer.errors import ConfigError
from deployer.generation.open_model import OpenedModel
from deployer.prompt.assemble import Prompt, PromptBuilder
from deployer.prompt.messages import Message
from deployer.quantize.samples import Sample
from engines.errors import RequestError
from engines.quant.prompt_steps import CalibrationPrompt
from engines.schedule.sequence import ImageSlots
from engines.vision.parts import ImagePixels

Conversation = Sequence[Message]
_NO_END = 1 << 40  # tokens of a session: what is too long is left out here, not refused


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSize:
    """What a sample takes before a pixel of it is decoded."""

    num_tokens: int
    pixel_bytes: int


def calibration_prompts(
    config: DeployConfig, model: OpenedModel, samples: Sequence[Sample], *, max_tokens: int
) -> tuple[list[CalibrationPrompt], list[str]]:
    """Return the prompts of at most `max_tokens` tokens, in order, and who was left out as too long.

    A session too is a limit. Who was left out is told by name, with its tokens. Raises ConfigError where none
    is left, where one cannot be read, or where they would not fit into the host's memory.
    """
    fitting, too_long = asyncio.run(_fitting(config, model, samples, max_tokens))
    return _taken(fitting), too_long


def answered_prompts(
    config: DeployConfig, model: OpenedModel, conversations: Sequence[Conversation]
) -> list[CalibrationPrompt]:
    """Return conversations whose last word is an answer, for judging. Raises RequestError."""
    return _taken(asyncio.run(_answered(config, model, conversations)))


async def _fitting(
    config: DeployConfig, model: OpenedModel, samples: Sequence[Sample], max_tokens: int
) -> tuple[list[tuple[Prompt, int]], list[str]]:
    builder = PromptBuilder(config, model.spec, model.folder, session_len=_NO_END)
    longest = config.engine.session_len or model.spec.decoder.max_positions
    limit = min(max_tokens, longest)
    try:
        sized = [(sample, await _size(builder, sample)) for sample in samples]
        fitting = [(sample, size) for sample, size in sized if size.num_tokens <= limit]
        if not fitting:
            shortest = min(size.num_tokens for _, size in sized)
            way_out = "raise it" if shortest <= longest else f"take shorter ones: a session has {longest}"
            raise ConfigError(
                [f"quantize.max_tokens={max_tokens}: the shortest sample has {shortest} tokens; {way_out}"]
            )
        check_memory([size for _, size in fitting], hidden=model.spec.decoder.hidden, free=_free_bytes())
        prompts = [await _prompt(builder, sample.turns) for sample, _ in fitting]
    finally:
        await builder.aclose()
    return prompts, [f"{one.name} ({size.num_tokens})" for one, size in sized if size.num_tokens > limit]


async def _answered(
    config: DeployConfig, model: OpenedModel, conversations: Sequence[Conversation]
) -> list[tuple[Prompt, int]]:
    builder = PromptBuilder(config, model.spec, model.folder)
    try:
        return [await _prompt(builder, turns) for turns in conversations]
    finally:
        await builder.aclose()


async def _size(builder: PromptBuilder, sample: Sample) -> SampleSize:
    """Return what a sample takes. Raises ConfigError where the model cannot read it."""
    turns = sample.turns
    try:
        planned = await builder.plan(turns, add_generation_prompt=turns[-1].role != "assistant")
    except RequestError as error:
        told = f"quantize.samples: {sample.name}: {error}; change it or take it out"
        raise ConfigError([told]) from error
    pixels = sum(math.prod(shape) for image in planned.images for shape in image.slot.shapes)
    return SampleSize(num_tokens=len(planned.token_ids), pixel_bytes=pixels)


async def _prompt(builder: PromptBuilder, turns: Conversation) -> tuple[Prompt, int]:
    """Return a conversation, and where its last answer begins: 0 where the user has the last word."""
    answered = turns[-1].role == "assistant"
    prompt = await builder.chat(turns, add_generation_prompt=not answered)
    return prompt, len((await builder.plan(turns[:-1])).token_ids) if answered else 0


def check_memory(sizes: Sequence[SampleSize], *, hidden: int, free: int) -> None:
    """Raise ConfigError where samples take more than `free` bytes of the host's memory.

    Rows of two streams, in and out of a layer, of 4 bytes a number, and the pixels.
    """
    needed = sum(size.num_tokens * hidden * 4 * 4 + size.pixel_bytes for size in sizes)
    if needed > free:
        raise ConfigError(
            [
                f"quantize.num_samples={len(sizes)}: the calibration needs {needed / 2**30:.1f} GiB of host "
                f"memory, {free / 2**30:.1f} GiB are free; lower it or quantize.max_tokens"
            ]
        )


def _free_bytes() -> int:
    from engines.memory.device_memory import available_host_bytes

    return available_host_bytes()


def _taken(found: Sequence[tuple[Prompt, int]]) -> list[CalibrationPrompt]:
    """Return prompts as the engine side has them; the pixels of a picture are kept once."""
    pixels: dict[bytes, ImagePixels] = {}
    taken = []
    for prompt, answer_start in found:
        for image in prompt.images:
            own = ImagePixels(arrays=image.arrays, plan=image.plan, shared=image.shared)
            pixels.setdefault(image.key, own)
        images = tuple(
            ImageSlots(
                key=image.key,
                start=image.start,
                num_tokens=image.num_tokens,
                pixels=pixels[image.key],
                rows=image.rows,
            )
            for image in prompt.images
        )
        taken.append(CalibrationPrompt(token_ids=prompt.token_ids, answer_start=answer_start, images=images))
    return taken
