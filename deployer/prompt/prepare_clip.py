"""The frames of a video that is one thing in its prompt, decoded and resized one after the other."""

import time
from contextlib import closing
from functools import partial

import numpy as np

from deployer.prompt.image_tiles import ImageTiles
from deployer.prompt.planned import PlannedImage
from deployer.prompt.prepared_image import CutPicture, PictureTimes, PreparedImage
from deployer.prompt.seen_video import SeenVideo


def prepare_clip(
    image: PlannedImage, video: SeenVideo, tiles: ImageTiles, *, shared: tuple[int, ...], timeout_s: float
) -> PreparedImage:
    """Return a video as the engine takes it. Raises VideoError."""
    plan = image.slot.plan
    [shape] = image.slot.shapes
    array = np.empty(shape, np.uint8)
    decode_s = cut_s = 0.0
    first_s = begun_s = time.perf_counter()
    with closing(video.footage.frames(video.chosen, index=video.index, timeout_s=timeout_s)) as decoded:
        for place, rgb in enumerate(decoded):
            decoded_s = time.perf_counter()
            array[place] = tiles.pixels.arrays(rgb, plan)[0]
            decode_s, cut_s = decode_s + decoded_s - begun_s, cut_s + time.perf_counter() - decoded_s
            begun_s = time.perf_counter()
    array[len(video.chosen) :] = array[len(video.chosen) - 1]  # a last step that is not full
    cut = CutPicture(
        key_of=tiles.key_of_frames(plan, shared, [partial(np.ndarray.tobytes, frame) for frame in array]),
        arrays=(array,),
        is_cut=True,
        times=PictureTimes(
            fetch_begun_s=video.fetch_begun_s,
            fetch_s=video.fetch_s,
            decode_begun_s=first_s,
            decode_s=decode_s,
            cut_s=cut_s,
        ),
    )
    return PreparedImage.of(image, cut, shared=shared, notes=video.notes)
