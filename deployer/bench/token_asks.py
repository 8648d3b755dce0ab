"""What a benchmark on token ids asks: seeded ids and pictures, no two alike. No tokenizer is needed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from PIL import Image

from deployer.bench.options import BenchOptions
from deployer.bench.workload import drawn
from deployer.config.schema import VisionConfig
from deployer.prompt.fineness import AS_DEPLOYED
from deployer.prompt.image_tiles import ImageTiles, image_tiles
from deployer.prompt.images import Picture, open_picture
from deployer.prompt.prepared_image import PreparedImage
from engines.spec import ModelSpec
from engines.vision.parts import ImagePlan


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AskedPicture:
    """A picture that is not decoded yet, and its place in a prompt."""

    image: Image.Image
    plan: ImagePlan
    start: int
    rows: tuple[tuple[int, int], ...]  # (offset, count)
    num_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenAsk:
    """One request."""

    token_ids: tuple[int, ...]
    output_tokens: int
    picture: AskedPicture | None


class TokenPrompts:
    """Prompts for one model."""

    def __init__(
        self, spec: ModelSpec, vision: VisionConfig, *, uncut_pixels: int = 0, num_ids: int | None = None
    ) -> None:
        """`uncut_pixels`: as `ImageTiles` takes it. `num_ids`: that are asked; None: all of the network."""
        self._vocab = spec.decoder.vocab if num_ids is None else min(num_ids, spec.decoder.vocab)
        self._tiles = image_tiles(spec.vision, vision, uncut_pixels=uncut_pixels)
        self._max_pixels = vision.max_image_pixels

    def asks(self, options: BenchOptions, count: int, *, stream: str) -> list[TokenAsk]:
        """Return `count` requests; `stream` tells one row's requests from another's. Raises RequestError."""
        size = (options.image_width, options.image_height) if options.images == "with" else None
        chance = _chance(options, stream)
        return [
            self._ask(chance, prompt_tokens, output_tokens, size)
            for prompt_tokens, output_tokens in _lengths(options, count, chance)
        ]

    def prepare(self, picture: AskedPicture) -> PreparedImage:
        """Decode and cut a picture, as the front end does it for a request."""
        tiles = self._picture_tiles()
        shared = tiles.shared([picture.plan])
        return PreparedImage(
            cut=tiles.prepare(self._opened(picture.image), AS_DEPLOYED, plan=picture.plan, shared=shared),
            name="image 1",
            start=picture.start,
            rows=picture.rows,
            num_tokens=picture.num_tokens,
            plan=picture.plan,
            shared=shared,
            notes=(),
        )

    def _ask(
        self, chance: random.Random, prompt_tokens: int, output_tokens: int, size: tuple[int, int] | None
    ) -> TokenAsk:
        ids = chance.choices(range(self._vocab), k=prompt_tokens)
        if size is None:
            return TokenAsk(token_ids=tuple(ids), output_tokens=output_tokens, picture=None)
        picture = self._place(drawn(chance, size), start=prompt_tokens // 2)
        slots = [0] * picture.num_tokens
        return TokenAsk(
            token_ids=(*ids[: picture.start], *slots, *ids[picture.start :]),
            output_tokens=output_tokens,
            picture=picture,
        )

    def _place(self, image: Image.Image, *, start: int) -> AskedPicture:
        """Return the picture's stretch of the prompt; a text between rows counts one token, as planned."""
        tiles = self._picture_tiles()
        plan = tiles.plan(self._opened(image), AS_DEPLOYED)
        rows, offset = [], 0
        for segment in tiles.segments(plan):
            if isinstance(segment, int):
                rows.append((offset, segment))
            offset += segment if isinstance(segment, int) else 1
        return AskedPicture(image=image, plan=plan, start=start, rows=tuple(rows), num_tokens=offset)

    def _opened(self, image: Image.Image) -> Picture:
        return open_picture(image, index=0, max_pixels=self._max_pixels)

    def _picture_tiles(self) -> ImageTiles:
        assert self._tiles is not None, "pictures are asked of models that see"
        return self._tiles


def asked_lengths(options: BenchOptions, count: int, *, stream: str) -> list[tuple[int, int]]:
    """Return the text and output tokens of what `TokenPrompts.asks` gives for the same arguments."""
    return _lengths(options, count, _chance(options, stream))


def row_stream(concurrency: int) -> str:
    """Return the stream that the requests of a row come from."""
    return f"row {concurrency}"


def _chance(options: BenchOptions, stream: str) -> random.Random:
    size = (options.image_width, options.image_height) if options.images == "with" else None
    return random.Random(f"{options.seed}/{stream}/{options.prompt_tokens}/{size}")


def _lengths(options: BenchOptions, count: int, chance: random.Random) -> list[tuple[int, int]]:
    prompts = lengths(options.prompt_tokens, count, sigma=options.length_sigma, chance=chance)
    outputs = lengths(options.output_tokens, count, sigma=options.length_sigma, chance=chance)
    return list(zip(prompts, outputs, strict=True))


def lengths(mean: int, count: int, *, sigma: float, chance: random.Random) -> Sequence[int]:
    """Return so many lengths of at least 1: all alike, or log-normal with this sigma.

    The log-normal ones are scaled so that their sum is mean * count, but for those that were raised to 1.
    """
    if sigma == 0:
        return [mean] * count
    drawn_lengths = [chance.lognormvariate(0, sigma) for _ in range(count)]
    scale = mean * count / sum(drawn_lengths)
    ends = [round(scale * end) for end in accumulate(drawn_lengths, initial=0.0)]
    return [max(1, end - start) for start, end in pairwise(ends)]
