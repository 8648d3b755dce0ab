"""The engine's messages for the sequences of a request, their pictures written beside the event loop."""

import asyncio
from collections.abc import Sequence
from functools import partial

from deployer.generation.choices import Choice, submits_of
from deployer.generation.image_inputs import remove_images
from engines.ipc.pixel_files import PixelFiles
from engines.messages import Submit


async def write_submits(choices: Sequence[Choice], files: PixelFiles) -> list[Submit]:
    """Return one message a choice; a thread writes pictures, since a large one takes milliseconds.

    Where the caller is cancelled meanwhile, what the thread writes is removed once it is done.
    """
    if not any(choice.prompt.images for choice in choices):
        return submits_of(choices, files)
    writing = asyncio.get_running_loop().run_in_executor(None, submits_of, choices, files)
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        writing.add_done_callback(partial(_remove, files))
        raise


def _remove(files: PixelFiles, writing: "asyncio.Future[list[Submit]]") -> None:
    if writing.cancelled() or writing.exception() is not None:
        return
    for submit in writing.result():
        remove_images(submit.images, files)
