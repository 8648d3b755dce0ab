"""An answer, whole or in the pieces of a stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deployer.generation.generate import Finish, Piece
from deployer.generation.generation_config import GenerationConfig
from deployer.prompt.assemble import Prompt
from engines.messages import TokenLogprobs


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """One answer to one prompt; in a stream, what it gained, with counts that hold so far."""

    text: str
    index: int  # which prompt of the call, from 0
    choice: int  # which of its answers (GenerationConfig.n), from 0
    input_token_len: int  # tokens of the prompt, pictures included
    prompt_token_ids: tuple[int, ...]  # a picture's slots hold the family's placeholder id
    image_token_len: int  # tokens of its pictures
    cached_token_len: int  # tokens of the prompt that were in the prefix cache; known at the end
    generate_token_len: int
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] | None  # one a token; None where none were asked for
    # One a token of the prompt behind its first; None where none were asked for.
    prompt_logprobs: tuple[TokenLogprobs, ...] | None
    finish_reason: Literal["stop", "length"] | None  # None: more is to come
    stop_reason: str | int | None  # the stop word or stop token id that ended it; None: the model's own end


class Answer:
    """One answer while it grows."""

    def __init__(self, prompt: Prompt, *, index: int, choice: int, asked: GenerationConfig) -> None:
        self._asked = asked
        self._prompt = prompt
        self._index = index
        self._choice = choice
        self._num_tokens = 0
        self._pieces: list[Piece] = []

    def grow(self, piece: Piece) -> Response:
        """Take a piece and return what it adds."""
        self._num_tokens += len(piece.token_ids)
        self._pieces.append(piece)
        return self._response([piece])

    def whole(self) -> Response:
        """Return the answer up to here."""
        return self._response(self._pieces)

    def _response(self, pieces: Sequence[Piece]) -> Response:
        finish: Finish | None = pieces[-1].finish if pieces else None
        return Response(
            text="".join(piece.text for piece in pieces),
            index=self._index,
            choice=self._choice,
            input_token_len=len(self._prompt.token_ids),
            prompt_token_ids=self._prompt.token_ids,
            image_token_len=self._prompt.num_image_tokens,
            cached_token_len=0 if finish is None else finish.usage.cached_tokens,
            generate_token_len=self._num_tokens,
            token_ids=tuple(token_id for piece in pieces for token_id in piece.token_ids),
            logprobs=None
            if self._asked.logprobs is None
            else tuple(found for piece in pieces for found in piece.logprobs),
            prompt_logprobs=None
            if self._asked.prompt_logprobs is None
            else tuple(found for piece in pieces for found in piece.prompt_logprobs),
            finish_reason=None if finish is None else finish.reason,
            stop_reason=None if finish is None else finish.stop_reason,
        )
