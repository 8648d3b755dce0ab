"""Holding a prompt to the context: counted before pixels are decoded, explained by picture and video."""

from collections.abc import Sequence
from dataclasses import dataclass

from deployer.prompt.characters import half_character
from deployer.prompt.tokenizer import Tokenizer
from engines.errors import RequestError

_CHARACTERS_ALWAYS_ENCODED = 16  # for each token of a session; ordinary text has 1 to 5


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageCost:
    """What one picture, or all frames of a video, take of the context."""

    name: str  # "image 1"
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
            f"{cost.name} ({cost.width}x{cost.height}, {cost.num_tiles} tiles) {cost.num_tokens:,}"
            for cost in costs
        )
        message += _way_out(costs)
    raise RequestError(message, code="context_length_exceeded")


def _way_out(costs: Sequence[ImageCost]) -> str:
    if any(cost.name.startswith("video") for cost in costs):
        return "; ask for fewer frames (`num_frames`, or a lower `fps`), or send fewer images"
    return (
        '; send fewer or smaller images, or `detail: "low"`, or lower vision.max_tiles '
        "(models of native resolution: vision.max_pixels)"
    )


def check_text(text: str, tokenizer: Tokenizer, *, session_len: int) -> None:
    """Raise RequestError where `text` has no tokens, or cannot fit whatever they are, before it is encoded.

    A token writes no more bytes than the vocabulary's longest; normalising (NFC) leaves a third or more.
    """
    half = half_character(text)
    if half is not None:
        raise RequestError(
            f"a text of the prompt holds `{half}`, half of a surrogate pair: must be Unicode text; read "
            'what it comes from as UTF-8, or with errors="replace"'
        )
    if len(text) <= _CHARACTERS_ALWAYS_ENCODED * session_len:
        return
    longest = max(len(tokenizer.token_bytes(token_id)) for token_id in range(tokenizer.vocab_size))
    fewest = len(text.encode()) // (3 * longest)
    if fewest >= session_len:
        raise RequestError(
            f"the prompt has {len(text):,} characters, at least {fewest:,} tokens: must be fewer than the "
            f"{session_len:,} of a session (engine.session_len)",
            code="context_length_exceeded",
        )
