"""A process that decodes and cuts pictures, so that a damaged one can end no more than itself.

`python -m deployer.prompt.pixel_worker FD`, started by `pixel_pool.py`. It imports no torch, opens no device
and ends with the connection.
"""

import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from deployer.prompt.image_errors import ImageError
from deployer.prompt.image_tiles import ImageTiles
from deployer.prompt.images import open_picture
from deployer.prompt.pixel_job import PixelJob, PixelReply, PixelSetup


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
            job: PixelJob = connection.recv()
            reply = answer(job, tiles, max_pixels=setup.config.max_image_pixels)
            connection.send_bytes(msgspec.msgpack.encode(reply))
    return 0


def answer(job: PixelJob, tiles: ImageTiles, *, max_pixels: int) -> PixelReply:
    """Prepare one picture; its arrays are in the files of the job."""
    try:
        picture = open_picture(job.data, index=job.index, max_pixels=max_pixels)
        found = tiles.prepare(
            picture, job.fineness, plan=job.plan, shared=job.shared, name="", start=0, rows=(), num_tokens=0
        )
    except ImageError as error:
        return PixelReply(fault=error.about, code=error.code)
    inline = _write(found.arrays, job.path)
    return PixelReply(
        key=found.key,
        shapes=tuple(array.shape for array in found.arrays),
        is_cut=found.is_cut,
        inline=inline,
        decode_begun_s=found.times.decode_begun_s,
        decode_s=found.times.decode_s,
        cut_s=found.times.cut_s,
    )


def _write(arrays: tuple[NDArray[np.uint8], ...], path: str) -> tuple[bytes, ...] | None:
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
