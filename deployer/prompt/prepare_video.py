"""The frames of one video, decoded one after the other; each is cut before the next one is decoded.

No more than one whole frame is in memory at a time, whatever the video's size. Called on a thread of the
server, or by a process of `pixel_pool.py`.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from PIL import Image

from deployer.prompt.image_tiles import ImageTiles
from deployer.prompt.images import Picture
from deployer.prompt.planned import PlannedImage
from deployer.prompt.prepare_clip import prepare_clip
from deployer.prompt.prepared_image import PreparedImage
from deployer.prompt.seen_video import ClipPart, SeenVideo


def prepare_video(
    images: Sequence[PlannedImage], tiles: ImageTiles, *, shared: tuple[int, ...], timeout_s: float
) -> list[PreparedImage]:
    """Return what a video is in its prompt, one thing or its frames in their order. Raises VideoError."""
    video = images[0].picture
    assert isinstance(video, SeenVideo), "a picture is no video"
    if isinstance(images[0].part, ClipPart):
        return [prepare_clip(images[0], video, tiles, shared=shared, timeout_s=timeout_s)]
    return _prepared_frames(images, video, tiles, shared=shared, timeout_s=timeout_s)


def _prepared_frames(
    images: Sequence[PlannedImage],
    video: SeenVideo,
    tiles: ImageTiles,
    *,
    shared: tuple[int, ...],
    timeout_s: float,
) -> list[PreparedImage]:
    prepared: list[PreparedImage] = []
    begun_s = time.perf_counter()
    with closing(video.footage.frames(video.chosen, index=video.index, timeout_s=timeout_s)) as decoded:
        for image, rgb in zip(images, decoded, strict=True):
            decode_s = time.perf_counter() - begun_s
            picture = _as_picture(rgb, video, is_first=not prepared)
            cut = tiles.prepare(
                picture, image.part.fineness, plan=image.slot.plan, shared=shared, may_stay_whole=False
            )
            cut = replace(cut, times=replace(cut.times, decode_begun_s=begun_s, decode_s=decode_s))
            prepared.append(PreparedImage.of(image, cut, shared=shared, notes=picture.notes))
            begun_s = time.perf_counter()
    return prepared


def _as_picture(rgb: Image.Image, video: SeenVideo, *, is_first: bool) -> Picture:
    """Return a frame as a picture; the first one has what is to be told of the whole video."""
    return Picture(
        image=rgb,
        index=video.index,
        width=rgb.width,
        height=rgb.height,
        orientation=1,
        notes=video.notes if is_first else (),
        data=None,
        fetch_begun_s=video.fetch_begun_s,
        fetch_s=video.fetch_s if is_first else 0.0,
    )
