"""A process that decodes and cuts pictures and videos, so that a damaged one can end no more than itself.

`python -m deployer.prompt.pixel_worker FD`, started by `pixel_process.py`. It imports no torch, opens no
device and ends with the connection.
"""

import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from deployer.config.schema import VisionConfig
from deployer.prompt.frame_table import frame_table
from deployer.prompt.image_errors import ImageError
from deployer.prompt.image_tiles import ImageTiles
from deployer.prompt.images import open_picture
from deployer.prompt.pixel_job import FramesJob, PixelJob, PixelReply, PixelSetup, ReadyPicture, TableJob
from deployer.prompt.prepare_video import prepare_video
from deployer.prompt.prepared_image import CutPicture
from deployer.prompt.video_errors import VideoError


def main(descriptor: int) -> int:
    """Answer jobs until the other side closes; returns the exit code."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(
            number, signal.SIG_IGN
        )  # of a terminal: the server's business, which closes the connection
    connection = Connection(descriptor)
    with suppress(EOFError, OSError):
        setup: PixelSetup = connection.recv()
        tiles = ImageTiles(setup.vision, setup.config, uncut_pixels=setup.uncut_pixels)
        while True:
            job, path = connection.recv()
            reply = answer(job, path, tiles, setup.config)
            connection.send_bytes(msgspec.msgpack.encode(reply))
    return 0


def answer(job: PixelJob, path: str, tiles: ImageTiles, limits: VisionConfig) -> PixelReply:
    """Do a job; its arrays are in the files `<path>-0`, `<path>-1`, ..."""
    try:
        if isinstance(job, TableJob):
            return PixelReply(
                table=frame_table(
                    job.data,
                    index=job.index,
                    max_pixels=limits.max_image_pixels,
                    timeout_s=limits.video_timeout_s,
                )
            )
        cut = _cut(job, tiles, limits)
    except (ImageError, VideoError) as error:
        return PixelReply(fault=error.about, code=error.code)
    pictures = tuple(
        ReadyPicture(
            key=picture.key_of(),
            shapes=tuple(array.shape for array in picture.arrays),
            is_cut=picture.is_cut,
            times=picture.times,
        )
        for picture in cut
    )
    arrays = [array for picture in cut for array in picture.arrays]
    return PixelReply(pictures=pictures, inline=_write(arrays, path))


def _cut(job: PixelJob, tiles: ImageTiles, limits: VisionConfig) -> list[CutPicture]:
    if isinstance(job, FramesJob):
        shown = prepare_video(job.images, tiles, shared=job.shared, timeout_s=limits.video_timeout_s)
        return [image.cut for image in shown]
    assert not isinstance(job, TableJob), "it has no pictures"
    picture = open_picture(job.data, index=job.index, max_pixels=limits.max_image_pixels)
    return [tiles.prepare(picture, job.fineness, plan=job.plan, shared=job.shared)]


def _write(arrays: Sequence[NDArray[np.uint8]], path: str) -> tuple[bytes, ...] | None:
    """Put the arrays where the server maps them; returns them instead where there is no room."""
    plain = [np.ascontiguousarray(array) for array in arrays]
    try:
        for number, array in enumerate(plain):
            Path(f"{path}-{number}").write_bytes(array.data)
    except OSError:  # shared memory is small in a container
        for number in range(len(plain)):
            Path(f"{path}-{number}").unlink(missing_ok=True)
        return tuple(array.tobytes() for array in plain)
    return None


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
