"""Small videos whose frames tell their number: frame i is a grey of 8 * i."""

import base64
import io
import struct
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image

STEP = 8


def grey(number: int, width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (number * STEP,) * 3)


def video(
    *, count: int = 30, fps: int = 10, size: tuple[int, int] = (96, 64), format: str = "mp4",
    codec: str = "h264", rotation: int = 0, seconds_a_frame: int | None = None, **options: str,
) -> bytes:  # fmt: skip
    """Return a video of `count` frames, at most 31; `options` are FFmpeg's for its encoder."""
    file = io.BytesIO()
    with av.open(file, "w", format=format) as out:
        rate = fps if seconds_a_frame is None else Fraction(1, seconds_a_frame)
        stream: Any = out.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for number in range(count):
            out.mux(stream.encode(av.VideoFrame.from_image(grey(number, *size))))
        out.mux(stream.encode())
    return _turned(file.getvalue(), rotation) if rotation else file.getvalue()


def _turned(data: bytes, degrees: int) -> bytes:
    """Return an MP4 whose track header says that its picture is turned by 90 degrees."""
    assert degrees == 90, "the matrix below says 90"
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    start = data.index(b"tkhd")
    assert upright in data[start : start + 100]
    at = data.index(upright, start)
    return data[:at] + turned + data[at + len(turned) :]


def sound() -> bytes:
    """Return a file with sound alone."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream: Any = out.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


def number_of(frame: Image.Image) -> int:
    """Return which frame of its video a picture is."""
    return round(float(np.asarray(frame).mean()) / STEP)


def data_url(data: bytes) -> str:
    return f"data:video/mp4;base64,{base64.b64encode(data).decode()}"
