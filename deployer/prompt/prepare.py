"""What a planned prompt shows, decoded and cut: by processes where there are any, else on threads."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby

from deployer.prompt.image_tiles import ImageTiles
from deployer.prompt.pixel_pool import PixelPool
from deployer.prompt.planned import PlannedImage
from deployer.prompt.prepare_in_process import pixel_job, prepare_in_process
from deployer.prompt.prepare_video import prepare_video
from deployer.prompt.prepared_image import PreparedImage
from deployer.prompt.seen_video import SeenVideo
from deployer.prompt.together import together


async def prepare_images(
    images: Sequence[PlannedImage],
    tiles: ImageTiles,
    *,
    pool: PixelPool | None,
    threads: ThreadPoolExecutor,
    video_timeout_s: float,
) -> list[PreparedImage]:
    """Return the pictures and frames in their order. Raises RequestError."""
    shared = tiles.shared([image.slot.plan for image in images])

    async def one(images: Sequence[PlannedImage]) -> list[PreparedImage]:
        job = None if pool is None else pixel_job(images, shared)
        if pool is not None and job is not None:
            return await prepare_in_process(images, job, pool)
        work = partial(_prepared, images, tiles, shared=shared, video_timeout_s=video_timeout_s)
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    prepared = await together(one(own) for own in _by_source(images))
    return [image for own in prepared for image in own]


def _prepared(
    images: Sequence[PlannedImage], tiles: ImageTiles, *, shared: tuple[int, ...], video_timeout_s: float
) -> list[PreparedImage]:
    picture = images[0].picture
    if isinstance(picture, SeenVideo):
        return prepare_video(images, tiles, shared=shared, timeout_s=video_timeout_s)
    image = images[0]
    cut = tiles.prepare(picture, image.part.fineness, plan=image.slot.plan, shared=shared)
    return [PreparedImage.of(image, cut, shared=shared, notes=picture.notes)]


def _by_source(images: Sequence[PlannedImage]) -> list[list[PlannedImage]]:
    """Return each picture alone, and the frames of each video together; they follow each other."""
    return [list(own) for _, own in groupby(images, key=lambda image: id(image.picture))]
