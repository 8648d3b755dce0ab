"""The pictures of a prompt, read and looked at: how many, where from, how large. No pixel is decoded yet.

Downloads run on the event loop, headers are read on threads.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from PIL import Image

from deployer.config.schema import VisionConfig
from deployer.counted import counted
from deployer.prompt.images import Picture, check_pixels, decode, open_picture
from deployer.prompt.media_bytes import image_bytes
from deployer.prompt.messages import ImagePart, ImageSize, Message
from deployer.prompt.seen_video import SeenVideo, VideoShown
from deployer.prompt.together import together
from engines.errors import RequestError


class PictureReader:
    """Reads the pictures of any number of prompts at once, within the limits of the config."""

    def __init__(self, limits: VisionConfig, *, takes_pictures: bool, threads: ThreadPoolExecutor) -> None:
        """`takes_pictures`: False for a model of text alone, which refuses all."""
        self._max_images = limits.max_images
        self._max_pixels = limits.max_image_pixels
        self._bytes = image_bytes(limits)
        self._takes_pictures = takes_pictures
        self._threads = threads
        self._own_pictures = threading.Lock()

    def check(self, messages: Sequence[Message]) -> None:
        """Raise RequestError for more pictures than a request may have."""
        self._check_count(len(_parts(messages)))

    async def open(self, parts: Sequence[ImagePart | VideoShown]) -> list[Picture | SeenVideo]:
        """Return the pictures, sizes known, and videos for what is shown of them. Raises RequestError."""
        stills = [part for part in parts if isinstance(part, ImagePart)]
        opened = iter(await together(self._open(part, index) for index, part in enumerate(stills)))
        return [next(opened) if isinstance(part, ImagePart) else part.video for part in parts]

    async def sized(self, images: Sequence[ImagePart | ImageSize]) -> list[Picture | ImageSize]:
        """Return pictures with their sizes known, and sizes alone within the limits. Raises RequestError."""
        self._check_count(len(images))
        return await together(self._sized(image, index) for index, image in enumerate(images))

    async def fetch(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages with their pictures read: bytes instead of URLs and paths. Raises RequestError.

        For a conversation that is sent again with each turn.
        """
        self.check(messages)
        read = iter(await together(self._read(part, index) for index, part in enumerate(_parts(messages))))
        return [
            replace(
                message,
                parts=tuple(
                    replace(part, source=next(read)) if isinstance(part, ImagePart) else part
                    for part in message.parts
                ),
            )
            for message in messages
        ]

    def _check_count(self, count: int) -> None:
        if count and not self._takes_pictures:
            raise RequestError("this model reads text only: send no images", code="images_not_supported")
        if count > self._max_images:
            raise RequestError(
                f"{counted(count, 'image')}: must be at most {self._max_images:,} a request "
                "(vision.max_images)",
                code="too_many_images",
            )

    async def _sized(self, image: ImagePart | ImageSize, index: int) -> Picture | ImageSize:
        if isinstance(image, ImagePart):
            return await self._open(image, index)
        check_pixels(image.width, image.height, index=index, max_pixels=self._max_pixels)
        return image

    async def _open(self, part: ImagePart, index: int) -> Picture:
        begun_s = time.perf_counter()
        source = await self._read(part, index)
        fetch_s = time.perf_counter() - begun_s
        look = partial(self._look_at, source, index)
        picture = await asyncio.get_running_loop().run_in_executor(self._threads, look)
        return replace(picture, fetch_begun_s=begun_s, fetch_s=fetch_s)

    async def _read(self, part: ImagePart, index: int) -> bytes | Image.Image:
        if isinstance(part.source, Image.Image):
            return part.source
        return await self._bytes.read(part.source, index=index)

    def _look_at(self, source: bytes | Image.Image, index: int) -> Picture:
        if not isinstance(source, Image.Image):
            return open_picture(source, index=index, max_pixels=self._max_pixels)
        with self._own_pictures:  # PIL decodes in place, and other prompts may hold the same image
            picture = open_picture(source, index=index, max_pixels=self._max_pixels)
            decode(picture)
            return picture


def _parts(messages: Sequence[Message]) -> list[ImagePart]:
    return [part for message in messages for part in message.parts if isinstance(part, ImagePart)]
