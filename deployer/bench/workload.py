"""What a benchmark asks: seeded texts and pictures, no two alike, so that no cache answers for the engine."""

import io
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

# Short common words: about one token each in any vocabulary.
_WORDS = """
the of and to in is you that it he was for on are as with his they at be this have from or one had by
word but not what all were we when your can said there use an each which she do how their if will up
other about out many then them these so some her would make like him into time has look two more write
go see number no way could people my than first water been call who oil its now find long down day did
"""
WORDS = tuple(_WORDS.split())


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """One request."""

    text: str
    picture: bytes | None  # PNG


def asks(count: int, *, words: int, size: tuple[int, int] | None, seed: int, stream: str) -> list[Ask]:
    """Return `count` requests of `words` words each; `stream` tells one row's requests from another's."""
    chance = random.Random(f"{seed}/{stream}/{words}/{size}")
    return [
        Ask(text=text(chance, words), picture=None if size is None else picture(chance, size))
        for _ in range(count)
    ]


def text(chance: random.Random, words: int) -> str:
    """Return words in random order; already the first few tell two texts apart."""
    return " ".join(chance.choices(WORDS, k=words))


def picture(chance: random.Random, size: tuple[int, int]) -> bytes:
    """Return `drawn` as a PNG."""
    data = io.BytesIO()
    drawn(chance, size).save(data, "PNG")
    return data.getvalue()


def drawn(chance: random.Random, size: tuple[int, int]) -> Image.Image:
    """Return a picture of coloured boxes on a plain ground."""
    image = Image.new("RGB", size, _colour(chance))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        left, top = chance.randrange(size[0]), chance.randrange(size[1])
        right, bottom = left + chance.randrange(1, size[0]), top + chance.randrange(1, size[1])
        draw.rectangle((left, top, right, bottom), fill=_colour(chance))
    return image


def words_for(prompt_tokens: int, *, tokens_of_few: int, tokens_of_many: int, few: int, many: int) -> int:
    """Return how many words make about `prompt_tokens` tokens, from what two lengths of text cost.

    The template's own tokens stand in both counts and fall out of the difference.
    """
    tokens_per_word = max((tokens_of_many - tokens_of_few) / (many - few), 0.25)
    return max(1, round(prompt_tokens / tokens_per_word))


def _colour(chance: random.Random) -> tuple[int, int, int]:
    return chance.randrange(256), chance.randrange(256), chance.randrange(256)
