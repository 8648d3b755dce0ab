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
from deployer.prompt.messages import Message, TextPart
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
    config: DeployConfig, model: OpenedModel, conversations: Sequence[Conversation], *, max_tokens: int
) -> list[CalibrationPrompt]:
    """Return the prompts of at most `max_tokens` tokens that the model goes to, in order.

    Raises ConfigError where none is left, where one cannot be read, or where they would not fit into the
    host's memory.
    """
    return _taken(asyncio.run(_fitting(config, model, conversations, max_tokens)))


def answered_prompts(
    config: DeployConfig, model: OpenedModel, conversations: Sequence[Conversation]
) -> list[CalibrationPrompt]:
    """Return conversations whose last word is an answer, for judging. Raises RequestError."""
    return _taken(asyncio.run(_answered(config, model, conversations)))


async def _fitting(
    config: DeployConfig, model: OpenedModel, conversations: Sequence[Conversation], max_tokens: int
) -> list[tuple[Prompt, int]]:
    builder = PromptBuilder(config, model.spec, model.folder, session_len=_NO_END)
    longest = config.engine.session_len or model.spec.decoder.max_positions
    try:
        sizes = [await _size(builder, turns) for turns in conversations]
        fitting = [(turns, size) for turns, size in zip(conversations, sizes, strict=True)]
        fitting = [(turns, size) for turns, size in fitting if size.num_tokens <= min(max_tokens, longest)]
        if not fitting:
            shortest = min(size.num_tokens for size in sizes)
            way_out = "raise it" if shortest <= longest else f"take shorter ones: a session has {longest}"
            raise ConfigError(
                [f"quantize.max_tokens={max_tokens}: the shortest sample has {shortest} tokens; {way_out}"]
            )
        check_memory([size for _, size in fitting], hidden=model.spec.decoder.hidden, free=_free_bytes())
        return [await _prompt(builder, turns) for turns, _ in fitting]
    finally:
        await builder.aclose()


async def _answered(
    config: DeployConfig, model: OpenedModel, conversations: Sequence[Conversation]
) -> list[tuple[Prompt, int]]:
    builder = PromptBuilder(config, model.spec, model.folder)
    try:
        return [await _prompt(builder, turns) for turns in conversations]
    finally:
        await builder.aclose()


async def _size(builder: PromptBuilder, turns: Conversation) -> SampleSize:
    """Return what a sample takes. Raises ConfigError where the model cannot read it."""
    try:
        planned = await builder.plan(turns, add_generation_prompt=turns[-1].role != "assistant")
    except RequestError as error:
        texts = [part.text for message in turns for part in message.parts if isinstance(part, TextPart)]
        about = f"the sample with `{texts[0][:60]}`"
        raise ConfigError([f"quantize.samples: {about}: {error}; change it or take it out"]) from error
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
