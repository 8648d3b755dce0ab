"""What a planned prompt shows, decoded and cut: by processes where there are any, else on threads."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby

from deployer.prompt.image_tiles import ImageTiles, PreparedImage
from deployer.prompt.pixel_pool import PixelPool
from deployer.prompt.planned import PlannedImage
from deployer.prompt.prepare_clip import prepare_clip
from deployer.prompt.prepare_frames import prepare_frames
from deployer.prompt.prepare_picture import prepare_picture
from deployer.prompt.seen_video import ClipPart, SeenVideo
from deployer.prompt.together import together


async def prepare_images(
    images: Sequence[PlannedImage],
    tiles: ImageTiles,
    *,
    pool: PixelPool | None,
    threads: ThreadPoolExecutor,
    video_timeout_s: float,
) -> list[PreparedImage]:
    """Return the pictures and frames in their order. Raises RequestError.

    A picture that came as pixels (a PIL image) stays in this process: there is nothing to decode.
    """
    shared = tiles.shared([image.slot.plan for image in images])

    async def one(images: Sequence[PlannedImage]) -> list[PreparedImage]:
        picture = images[0].picture
        if isinstance(picture, SeenVideo) and isinstance(images[0].part, ClipPart):
            whole = partial(prepare_clip, images[0], picture, tiles, shared=shared, timeout_s=video_timeout_s)
            return [await asyncio.get_running_loop().run_in_executor(threads, whole)]
        if isinstance(picture, SeenVideo):
            work = partial(prepare_frames, images, picture, tiles, shared=shared, timeout_s=video_timeout_s)
            return await asyncio.get_running_loop().run_in_executor(threads, work)
        if pool is not None and picture.data is not None:
            return [await pool.prepare(images[0], picture.data, shared=shared)]
        still = partial(prepare_picture, images[0], picture, tiles, shared=shared)
        return [await asyncio.get_running_loop().run_in_executor(threads, still)]

    prepared = await together(one(own) for own in _by_source(images))
    return [image for own in prepared for image in own]


def _by_source(images: Sequence[PlannedImage]) -> list[list[PlannedImage]]:
    """Return each picture alone, and the frames of each video together; they follow each other."""
    return [list(own) for _, own in groupby(images, key=lambda image: id(image.picture))]
