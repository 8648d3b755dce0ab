"""From a picture to tiles; what it costs, known before it is decoded; the key under which it is cached."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deployer.config.schema import VisionConfig
from deployer.errors import ConfigError
from deployer.prompt.images import Picture, to_rgb
from deployer.prompt.messages import Detail
from engines.spec import PixelSpec, VisionSpec
from engines.vision.pixels.dynamic_tiles import dynamic_tiles
from engines.vision.pixels.tile_grid import choose_grid, num_tiles

_BAND_PIXELS = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PreparedImage:
    """One picture as the vision tower takes it; its slots are [start, start + num_tokens) of the prompt."""

    key: bytes  # 16-byte digest of the RGB picture, its size and every preprocessing option
    start: int
    num_tokens: int
    tiles: NDArray[np.uint8]  # [tiles, side, side, 3]
    width: int  # of the picture as sent, upright
    height: int
    grid: tuple[int, int]  # columns, rows; the thumbnail not counted
    notes: tuple[str, ...]  # what a log should say, e.g. that an animation was cut to its first frame


class ImageTiles:
    """The preprocessing of one deployment."""

    def __init__(self, vision: VisionSpec, config: VisionConfig) -> None:
        """Take the checkpoint's preprocessing with what `vision.*` overrides. Raises ConfigError."""
        own = vision.pixels
        self._pixels = replace(
            own,
            min_tiles=own.min_tiles if config.min_tiles is None else config.min_tiles,
            max_tiles=own.max_tiles if config.max_tiles is None else config.max_tiles,
            thumbnail=own.thumbnail if config.thumbnail is None else config.thumbnail,
        )
        if self._pixels.min_tiles > self._pixels.max_tiles:
            raise ConfigError(
                [
                    f"vision.min_tiles={self._pixels.min_tiles}: must not exceed "
                    f"vision.max_tiles={self._pixels.max_tiles} "
                    f"(null: the checkpoint's own {own.min_tiles} and {own.max_tiles})"
                ]
            )
        self._tokens_per_tile = vision.tokens_per_tile

    def num_tiles(self, picture: Picture, detail: Detail) -> int:
        """Return how many tiles the picture gives, thumbnail included."""
        return num_tiles(picture.width, picture.height, self._spec(detail))

    def num_tokens(self, picture: Picture, detail: Detail) -> int:
        """Return how many slots of a prompt the picture takes."""
        return self.num_tiles(picture, detail) * self._tokens_per_tile

    def prepare(self, picture: Picture, detail: Detail, *, start: int) -> PreparedImage:
        """Decode and cut the picture, whose slots begin at `start`. Raises ImageError."""
        spec = self._spec(detail)
        rgb = to_rgb(picture)
        return PreparedImage(
            key=_key(rgb, spec),
            start=start,
            num_tokens=self.num_tokens(picture, detail),
            tiles=dynamic_tiles(rgb, spec),
            width=picture.width,
            height=picture.height,
            grid=choose_grid(picture.width, picture.height, spec),
            notes=picture.notes,
        )

    def _spec(self, detail: Detail) -> PixelSpec:
        return replace(self._pixels, min_tiles=1, max_tiles=1) if detail == "low" else self._pixels


def _key(rgb: Image.Image, spec: PixelSpec) -> bytes:
    """Digest the pixels a band of rows at a time: a copy of all would double a large picture's memory."""
    digest = hashlib.blake2b(f"{rgb.width}x{rgb.height} {spec!r}".encode(), digest_size=16)
    rows = max(1, _BAND_PIXELS // rgb.width)
    for top in range(0, rgb.height, rows):
        digest.update(rgb.crop((0, top, rgb.width, min(top + rows, rgb.height))).tobytes())
    return digest.digest()
