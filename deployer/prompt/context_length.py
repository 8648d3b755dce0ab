"""Holding a prompt to the context: counted before pictures are decoded, explained picture by picture."""

from collections.abc import Sequence
from dataclasses import dataclass

from engines.errors import RequestError


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageCost:
    """What one picture takes of the context."""

    width: int
    height: int
    num_tiles: int
    num_tokens: int


def check_length(num_tokens: int, costs: Sequence[ImageCost], *, session_len: int) -> None:
    """Raise RequestError where the prompt leaves no room for a single token of an answer."""
    if num_tokens < session_len:
        return
    message = (
        f"the prompt has {num_tokens:,} tokens: must be fewer than the {session_len:,} of a session "
        f"(engine.session_len), prompt and answer together"
    )
    if costs:
        message += f"; text {num_tokens - sum(cost.num_tokens for cost in costs):,}, "
        message += ", ".join(
            f"image {number} ({cost.width}x{cost.height}, {cost.num_tiles} tiles) {cost.num_tokens:,}"
            for number, cost in enumerate(costs, 1)
        )
        message += '; send fewer or smaller images, or `detail: "low"`, or lower vision.max_tiles'
    raise RequestError(message, code="context_length_exceeded")
