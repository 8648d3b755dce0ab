"""`deploy render`: the files of a target, or the prompt of a conversation as the model reads it. No torch.

Between its pieces of text stand the pictures, each as the tokens that surround its rows and, in brackets, the
rows: `<img>[image 1: 64 tokens]</img>`.
"""

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TextIO

from deployer.config.schema import DeployConfig
from deployer.counted import counted
from deployer.errors import EXIT_OK, ConfigError, UsageError
from deployer.generation.open_model import check_family, open_model
from deployer.offline.openai_messages import conversation_of
from deployer.plan.hardware import Hardware
from deployer.plan.options import PlanOptions
from deployer.prompt.assemble import PromptBuilder
from deployer.prompt.messages import Message
from deployer.prompt.planned import PlannedImage, PlannedPrompt
from deployer.prompt.tokenizer import Tokenizer
from deployer.table import paint, print_table
from deployer.typed_path import typed_path
from engines.errors import RequestError

JSON_SCHEMA = 1
HEADS = ("image", "pixels", "tiles", "grid", "tokens", "rows", "first token")


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderOptions:
    """What is rendered, and the form of the answer; values and comments in `conf/render/`."""

    messages: str | None  # None: the files of the target
    out: str | None  # None: printed
    overwrite: bool
    output: Literal["table", "json"]


def run(config: DeployConfig, options: RenderOptions, plan: PlanOptions, hardware: Hardware) -> int:
    """Print or write; returns the exit code. Raises ConfigError, CheckpointError, UsageError."""
    if options.messages is not None:
        if options.out is not None or options.overwrite:
            raise UsageError(
                "render.messages prints a prompt; render.out and render.overwrite go with a target"
            )
        return _prompt(config, options.messages, output=options.output)
    from deployer.targets.command import print_files, rendered, write

    files = rendered(config, plan, hardware)
    if options.out is None:
        return print_files(files, output=options.output)
    return write(files, typed_path(options.out), overwrite=options.overwrite, group="render")


def _prompt(config: DeployConfig, place: str, *, output: str) -> int:
    check_family(config.model)
    messages = read_messages(place)
    model = open_model(config.model, weights=False, tower=config.vision.name)
    prompts = PromptBuilder(config, model.spec, model.folder)
    try:
        planned = asyncio.run(_planned(prompts, messages))
    except RequestError as error:
        raise UsageError(f"render.messages={place}: {error}") from error
    if output == "json":
        print(json.dumps(report(planned, prompts.tokenizer), ensure_ascii=False))
    else:
        _print(planned, prompts.tokenizer, out=sys.stdout)
    return EXIT_OK


def read_messages(place: str) -> list[Message]:
    """Return the conversation of a JSON file: a list of messages, or a request body that has `messages`.

    Raises ConfigError where it cannot be read, UsageError where it holds something else.
    """
    try:
        text = sys.stdin.read() if place == "-" else typed_path(place).read_text(encoding="utf-8")
        found = json.loads(text)
    except OSError as error:
        raise ConfigError(
            [f"render.messages={place}: cannot be read, {error.strerror}; name a JSON file, or -"]
        ) from error
    except ValueError as error:
        raise ConfigError([f"render.messages={place}: is not JSON: {error}"]) from error
    messages = found.get("messages") if isinstance(found, dict) else found
    if not isinstance(messages, list):
        raise UsageError(f"render.messages={place}: must be a list of messages, or an object with `messages`")
    try:
        return conversation_of(messages)
    except RequestError as error:
        raise UsageError(f"render.messages={place}: {error}") from error


async def _planned(prompts: PromptBuilder, messages: Sequence[Message]) -> PlannedPrompt:
    try:
        return await prompts.plan(messages)
    finally:
        await prompts.aclose()


def report(planned: PlannedPrompt, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return what `output=json` prints."""
    return {
        "schema": JSON_SCHEMA,
        "text": "".join(text for text, _ in marked(planned, tokenizer)),
        "num_tokens": len(planned.token_ids),
        "num_image_tokens": planned.num_image_tokens,
        "token_ids": list(planned.token_ids),
        "images": [
            {
                "width": image.slot.plan.width,
                "height": image.slot.plan.height,
                "num_tiles": image.slot.plan.num_tiles,
                "grid": list(image.slot.plan.grid),
                "start": image.start,
                "num_tokens": len(image.slot.token_ids),
                "rows": [{"offset": offset, "count": count} for offset, count in image.slot.rows],
            }
            for image in planned.images
        ],
    }


def marked(planned: PlannedPrompt, tokenizer: Tokenizer) -> Iterator[tuple[str, bool]]:
    """Yield the prompt's text in stretches, each with whether it stands for image rows."""
    yield planned.pieces[0], False
    for number, (image, piece) in enumerate(zip(planned.images, planned.pieces[1:], strict=True), 1):
        yield from _slot(image, number, tokenizer)
        yield piece, False


def _slot(image: PlannedImage, number: int, tokenizer: Tokenizer) -> Iterator[tuple[str, bool]]:
    ids, at = image.slot.token_ids, 0
    for place, (offset, count) in enumerate(image.slot.rows, 1):
        yield _text(tokenizer, ids[at:offset]), False
        part = f", part {place} of {len(image.slot.rows)}" if len(image.slot.rows) > 1 else ""
        yield f"[image {number}{part}: {counted(count, 'token')}]", True
        at = offset + count
    yield _text(tokenizer, ids[at:]), False


def _text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return b"".join(tokenizer.token_bytes(token_id) for token_id in ids).decode("utf-8", "replace")


def _print(planned: PlannedPrompt, tokenizer: Tokenizer, *, out: TextIO) -> None:
    for text, is_rows in marked(planned, tokenizer):
        out.write(paint(text, "yellow", out=out) if is_rows else text)
    images = f", {planned.num_image_tokens:,} of them in {counted(len(planned.images), 'image')}"
    print(f"\n\n{counted(len(planned.token_ids), 'token')}{images if planned.images else ''}", file=out)
    if planned.images:
        print_table(HEADS, [_row(number, image) for number, image in enumerate(planned.images, 1)], out=out)


def _row(number: int, image: PlannedImage) -> list[str]:
    plan, rows = image.slot.plan, image.slot.rows
    return [
        str(number),
        f"{plan.width}x{plan.height}",
        str(plan.num_tiles),
        f"{plan.grid[0]}x{plan.grid[1]}",
        str(len(image.slot.token_ids)),
        str(sum(count for _, count in rows)),
        str(image.start),
    ]
