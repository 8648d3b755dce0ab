"""`load_image`: a picture from wherever it is, as the model will see it: upright, RGB."""

import asyncio
import threading
from typing import Any

import yaml
from PIL import Image

from deployer.assets import resource_dir
from deployer.config.build import build
from deployer.config.origins import Origins
from deployer.config.schema import VisionConfig
from deployer.offline.prompt_forms import Picture, image_source
from deployer.prompt.images import open_picture, to_rgb
from deployer.prompt.media_bytes import image_bytes


def load_image(picture: Picture) -> Image.Image:
    """Return a picture from a path, a URL (http, https, data), bytes or a PIL image, decoded.

    The limits are those of conf/vision/default.yaml: bytes, pixels, time, and public addresses only. Raises
    ImageError.
    """
    limits = limits_of_vision()
    return to_rgb(open_picture(read_picture(picture, limits), index=0, max_pixels=limits.max_image_pixels))


def read_picture(picture: Picture, limits: VisionConfig) -> bytes | Image.Image:
    """Return a picture's bytes from wherever it is; its header is read and held to the limits.

    Raises ImageError.
    """
    source = image_source(picture)
    if not isinstance(source, Image.Image):
        source = on_a_loop(image_bytes(limits).read(source, index=0))
    open_picture(source, index=0, max_pixels=limits.max_image_pixels)
    return source


def limits_of_vision() -> VisionConfig:
    """Return conf/vision/default.yaml."""
    text = (resource_dir("conf") / "vision" / "default.yaml").read_text(encoding="utf-8")
    return build(VisionConfig, yaml.safe_load(text), Origins(), at="vision")


def on_a_loop(work: Any) -> bytes:
    """Return what a coroutine gives; it runs on a thread, since the caller may be on a loop of its own."""
    found: list[bytes] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            found.append(asyncio.run(work))
        except BaseException as error:  # raised in the caller's thread, below
            faults.append(error)

    thread = threading.Thread(target=run, name="load_image")
    thread.start()
    thread.join()
    if faults:
        raise faults[0]
    return found[0]
