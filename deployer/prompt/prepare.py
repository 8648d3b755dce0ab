"""The pictures of a planned prompt, decoded and cut: by processes where there are any, else on threads."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from deployer.prompt.image_tiles import ImageTiles, PreparedImage
from deployer.prompt.pixel_pool import PixelPool
from deployer.prompt.planned import PlannedImage
from deployer.prompt.together import together


async def prepare_images(
    images: Sequence[PlannedImage], tiles: ImageTiles, *, pool: PixelPool | None, threads: ThreadPoolExecutor
) -> list[PreparedImage]:
    """Return the pictures in their order. Raises RequestError.

    A picture that came as pixels (a PIL image) stays in this process: there is nothing to decode.
    """
    shared = tiles.shared([image.slot.plan for image in images])

    async def one(image: PlannedImage) -> PreparedImage:
        data = image.picture.data
        if pool is not None and data is not None:
            return await pool.prepare(image, data, shared=shared)
        work = partial(_prepare, image, tiles, shared=shared)
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    return await together(one(image) for image in images)


def _prepare(image: PlannedImage, tiles: ImageTiles, *, shared: tuple[int, ...]) -> PreparedImage:
    return tiles.prepare(
        image.picture,
        image.part.fineness,
        plan=image.slot.plan,
        shared=shared,
        start=image.start,
        rows=image.slot.rows,
        num_tokens=len(image.slot.token_ids),
    )
