"""What a planned prompt shows, decoded and cut by a process of `pixel_pool.py`."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from PIL import Image

from deployer.prompt.frame_list import FrameList
from deployer.prompt.pixel_job import FramesJob, PictureJob
from deployer.prompt.pixel_pool import PixelPool
from deployer.prompt.planned import PlannedImage
from deployer.prompt.prepared_image import CutPicture, PreparedImage
from deployer.prompt.seen_video import SeenVideo


def pixel_job(images: Sequence[PlannedImage], shared: tuple[int, ...]) -> PictureJob | FramesJob | None:
    """Return what a process is told of one picture, or of what is shown of one video.

    None for what came as pixels (PIL images): there is nothing to decode, and it stays in this process.
    """
    source = images[0].picture
    if isinstance(source, SeenVideo):
        footage = source.footage
        if isinstance(footage, FrameList) and any(isinstance(one, Image.Image) for one in footage.sources):
            return None
        return FramesJob(images=tuple(images), index=source.index, shared=shared)
    if source.data is None:
        return None
    return PictureJob(
        data=source.data,
        index=source.index,
        fineness=images[0].part.fineness,
        plan=images[0].slot.plan,
        shared=shared,
    )


async def prepare_in_process(
    images: Sequence[PlannedImage], job: PictureJob | FramesJob, pool: PixelPool
) -> list[PreparedImage]:
    """Return what becomes of a job's images. Raises RequestError."""
    reply, arrays = await pool.run(job)
    left, source = iter(arrays), images[0].picture
    prepared: list[PreparedImage] = []
    for image, ready in zip(images, reply.pictures, strict=True):
        is_first = not prepared  # it has what is to be told of a whole video
        cut = CutPicture(
            key_of=partial(bytes, ready.key),
            arrays=tuple(islice(left, len(ready.shapes))),
            is_cut=ready.is_cut,
            times=replace(
                ready.times,
                fetch_begun_s=source.fetch_begun_s,
                fetch_s=source.fetch_s if is_first else 0.0,
            ),
        )
        notes = source.notes if is_first else ()
        prepared.append(PreparedImage.of(image, cut, shared=job.shared, notes=notes))
    return prepared
