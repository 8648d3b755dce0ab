"""The pictures of a prompt on their way to the engine: written once, linked for every further sequence."""

from collections.abc import Sequence

import msgspec

from deployer.prompt.assemble import Prompt
from engines.ipc.pixel_files import PixelFiles
from engines.messages import ImageInput


def write_images(prompt: Prompt, files: PixelFiles) -> tuple[ImageInput, ...]:
    """Put the pictures of a prompt where the engine finds them, for one sequence."""
    pixels = [tuple(files.write(array) for array in image.arrays) for image in prompt.images]
    return tuple(
        ImageInput(
            key=image.key,  # the last thing that is there
            start=image.start,
            num_tokens=image.num_tokens,
            rows=image.rows,
            pixels=refs,
            plan=image.plan,
            shared=image.shared,
            is_cut=image.is_cut,
        )
        for image, refs in zip(prompt.images, pixels, strict=True)
    )


def link_images(images: Sequence[ImageInput], files: PixelFiles) -> tuple[ImageInput, ...]:
    """Return the same pictures for one more sequence; the engine unlinks what it reads."""
    return tuple(
        msgspec.structs.replace(image, pixels=tuple(files.link(ref) for ref in image.pixels))
        for image in images
    )


def remove_images(images: Sequence[ImageInput], files: PixelFiles) -> None:
    """Drop what the engine never took; what it took is gone already."""
    for image in images:
        for ref in image.pixels:
            files.remove(ref)
