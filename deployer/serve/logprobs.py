"""Log-probabilities in OpenAI's two shapes."""

from codecs import getincrementaldecoder
from collections.abc import Sequence
from typing import Any

from deployer.generation.generate import Piece
from deployer.prompt.tokenizer import Tokenizer
from engines.messages import TokenLogprobs


def chat_logprobs(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> dict[str, Any]:
    """Return `{"content": [...]}`: one entry a token, with its bytes, since a character may span tokens."""
    return {
        "content": [
            {
                **_entry(tokenizer, token_id, found.chosen),
                "top_logprobs": [
                    _entry(tokenizer, top_id, logprob)
                    for top_id, logprob in zip(found.top_ids, found.top_logprobs, strict=True)
                ],
            }
            for token_id, found in _tokens(pieces)
        ]
    }


class CompletionLogprobs:
    """The parallel lists of /v1/completions, for the growing text of each choice."""

    def __init__(self, tokenizer: Tokenizer, *, num_choices: int) -> None:
        self._tokenizer = tokenizer
        self._ends = [0] * num_choices  # characters that the tokens of a choice make so far

    def of(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """Return the lists of the next pieces of one choice; `text_offset` goes on where it last ended."""
        tokens, choice = _tokens(pieces), pieces[0].choice
        offsets: list[int] = []
        for token_id, _ in tokens:
            offsets.append(self._ends[choice])
            self._ends[choice] += len(self._tokenizer.token_bytes(token_id).decode(errors="ignore"))
        return {
            "tokens": [_text(self._tokenizer, token_id) for token_id, _ in tokens],
            "token_logprobs": [found.chosen for _, found in tokens],
            "top_logprobs": [self._top(found) for _, found in tokens],
            "text_offset": offsets,
        }

    def behind(self, prompt: Sequence[int], echo: str, pieces: Sequence[Piece]) -> dict[str, Any]:
        """Return the lists of a prompt and of the whole answer behind it."""
        found = [one for piece in pieces for one in piece.prompt_logprobs]
        first = self.of_prompt(prompt, echo, found, choice=pieces[0].choice)
        answer = self.of(pieces)
        return {name: [*first[name], *answer[name]] for name in first}

    def of_prompt(
        self, prompt: Sequence[int], echo: str, found: Sequence[TokenLogprobs], *, choice: int
    ) -> dict[str, Any]:
        """Return the lists of a prompt that is shown as `echo`; nothing comes before the first token.

        What the tokens have in front of the text that is shown, as a bos, stands at its start.
        """
        starts, end = _starts(self._tokenizer, prompt)
        self._ends[choice] = len(echo)
        return {
            "tokens": [_text(self._tokenizer, token_id) for token_id in prompt],
            "token_logprobs": [None, *(one.chosen for one in found)],
            "top_logprobs": [None, *(self._top(one) for one in found)],
            "text_offset": [max(start + len(echo) - end, 0) for start in starts],
        }

    def _top(self, found: TokenLogprobs) -> dict[str, float]:
        return {
            _text(self._tokenizer, top_id): logprob
            for top_id, logprob in zip(found.top_ids, found.top_logprobs, strict=True)
        }


def _starts(tokenizer: Tokenizer, token_ids: Sequence[int]) -> tuple[list[int], int]:
    """Return where each token begins in the text of all, in characters, and how long that is."""
    decoder = getincrementaldecoder("utf-8")(errors="replace")
    starts, end = [], 0
    for token_id in token_ids:
        starts.append(end)
        end += len(decoder.decode(tokenizer.token_bytes(token_id)))
    return starts, end


def _tokens(pieces: Sequence[Piece]) -> list[tuple[int, TokenLogprobs]]:
    return [pair for piece in pieces for pair in zip(piece.token_ids, piece.logprobs, strict=True)]


def _entry(tokenizer: Tokenizer, token_id: int, logprob: float) -> dict[str, Any]:
    return {
        "token": _text(tokenizer, token_id),
        "logprob": logprob,
        "bytes": list(tokenizer.token_bytes(token_id)),
    }


def _text(tokenizer: Tokenizer, token_id: int) -> str:
    return tokenizer.token_bytes(token_id).decode(errors="replace")
