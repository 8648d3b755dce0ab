"""Calibration conversations as the decoder reads them: token ids and pictures cut into tiles."""

import asyncio
import os
from collections.abc import Sequence

from deployer.config.schema import DeployConfig
from deployer.errors import ConfigError
from deployer.generation.open_model import OpenedModel
from deployer.prompt.assemble import Prompt, PromptBuilder
from deployer.prompt.messages import Message
from engines.quant.prompt_steps import CalibrationPrompt
from engines.schedule.sequence import ImageSlots
from engines.vision.parts import ImagePixels


def calibration_prompts(
    config: DeployConfig, model: OpenedModel, conversations: Sequence[Sequence[Message]], *, max_tokens: int
) -> list[CalibrationPrompt]:
    """Return the prompts of at most `max_tokens` tokens, in order.

    Raises ConfigError where none is left, or where their rows would not fit into the host's memory.
    """
    found = asyncio.run(_prompts(config, model, conversations))
    fitting = [(prompt, start) for prompt, start in found if len(prompt.token_ids) <= max_tokens]
    if not fitting:
        shortest = min(len(prompt.token_ids) for prompt, _ in found)
        raise ConfigError(
            [f"quantize.max_tokens={max_tokens}: the shortest sample has {shortest} tokens; raise it"]
        )
    _check_memory([prompt for prompt, _ in fitting], hidden=model.spec.decoder.hidden)
    return _taken(fitting)


def answered_prompts(
    config: DeployConfig, model: OpenedModel, conversations: Sequence[Sequence[Message]]
) -> list[CalibrationPrompt]:
    """Return conversations whose last word is an answer, for judging. Raises RequestError."""
    return _taken(asyncio.run(_prompts(config, model, conversations)))


async def _prompts(
    config: DeployConfig, model: OpenedModel, conversations: Sequence[Sequence[Message]]
) -> list[tuple[Prompt, int]]:
    """Return each conversation, and where its last answer begins: 0 where the user has the last word."""
    builder = PromptBuilder(config, model.spec, model.folder)
    found = []
    try:
        for turns in conversations:
            answered = turns[-1].role == "assistant"
            prompt = await builder.chat(turns, add_generation_prompt=not answered)
            start = len((await builder.plan(turns[:-1])).token_ids) if answered else 0
            found.append((prompt, start))
    finally:
        await builder.aclose()
    return found


def _check_memory(prompts: Sequence[Prompt], *, hidden: int) -> None:
    """Rows of two streams, in and out of a layer, of 4 bytes a number, and the pixels."""
    rows = sum(len(prompt.token_ids) for prompt in prompts) * hidden * 4 * 4
    needed = rows + sum(
        array.nbytes for prompt in prompts for image in prompt.images for array in image.arrays
    )
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > free:
        raise ConfigError(
            [
                f"quantize.num_samples={len(prompts)}: the calibration needs {needed / 2**30:.1f} GiB "
                f"of host memory, {free / 2**30:.1f} GiB are free; lower it or quantize.max_tokens"
            ]
        )


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
