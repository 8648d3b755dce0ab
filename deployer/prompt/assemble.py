"""A request's messages to what the engine takes: token ids, image slots, tiles, cache keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deployer.config.schema import DeployConfig
from deployer.prompt.messages import Message
from deployer.prompt.tokenizer import Tokenizer
from engines.spec import ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PreparedImage:
    """One picture, ready for the vision tower; slots [start, start + num_tokens) of the prompt are its rows."""

    key: bytes  # 16-byte digest of the RGB picture, its size and every preprocessing option
    start: int
    num_tokens: int
    tiles: NDArray[np.uint8]  # [tiles, side, side, 3]
    width: int  # of the picture as sent, upright
    height: int
    grid: tuple[int, int]  # columns, rows; the thumbnail not counted
    notes: tuple[
        str, ...
    ]  # what a reader of the log should know, e.g. that an animation was cut to its first frame


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prompt:
    """One sequence before it runs."""

    token_ids: tuple[int, ...]  # image slots hold the family's placeholder id
    images: tuple[PreparedImage, ...]

    @property
    def num_image_tokens(self) -> int:
        """Tokens of all image slots together."""
        return sum(image.num_tokens for image in self.images)


class PromptBuilder:
    """Builds prompts for one deployment; safe for concurrent requests on one event loop."""

    # What ends an answer, for `messages.Sampling` and for `TextStream(stop=...)`:
    tokenizer: Tokenizer
    session_len: int
    eos_token_ids: tuple[int, ...]  # of the checkpoint and of the template; obey ignore_eos
    stop_token_ids: tuple[int, ...]  # chat_template.stop_words that are one token
    stop_words: tuple[str, ...]  # stop words that are not one token: look for them in the text

    def __init__(
        self, cfg: DeployConfig, spec: ModelSpec, folder: Path, *, session_len: int | None = None
    ) -> None:
        """`session_len`: what the engine really got (`Ready.session_len`); None: the config's, else the model's."""
        raise NotImplementedError

    async def chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> Prompt:
        """Return the prompt of a conversation. Raises RequestError."""
        raise NotImplementedError

    def text(self, prompt: str | Sequence[int]) -> Prompt:
        """Return the prompt of a plain text (bos added) or of ready token ids. Raises RequestError."""
        raise NotImplementedError

    def bad_sequences(self, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """Return the token sequences that write one of `words`, for `Sampling.bad_sequences`."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the connections to picture hosts."""
        raise NotImplementedError
