"""The tokens that a picture puts into a prompt: placeholders for its rows, and texts between them."""

from collections.abc import Sequence
from dataclasses import dataclass

from deployer.prompt.tokenizer import Tokenizer
from engines.vision.parts import ImagePlan, Segment


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageTokens:
    """One picture's stretch of a prompt."""

    plan: ImagePlan
    token_ids: tuple[int, ...]
    rows: tuple[tuple[int, int], ...]  # which of them are image rows: (offset, count)
    shapes: tuple[tuple[int, ...], ...]  # of the arrays that the picture is resized and cut into


def image_tokens(
    plan: ImagePlan,
    segments: Sequence[Segment],
    *,
    shapes: tuple[tuple[int, ...], ...],
    image_id: int,
    tokenizer: Tokenizer,
) -> ImageTokens:
    """Return the tokens of a picture's segments; each text is encoded on its own, between control tokens."""
    token_ids: list[int] = []
    rows: list[tuple[int, int]] = []
    texts = {text: tokenizer.encode(text, special=False) for text in segments if isinstance(text, str)}
    for segment in segments:
        if isinstance(segment, str):
            token_ids += texts[segment]
        else:
            rows.append((len(token_ids), segment))
            token_ids += [image_id] * segment
    return ImageTokens(plan=plan, token_ids=tuple(token_ids), rows=tuple(rows), shapes=shapes)
