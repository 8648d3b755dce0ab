"""The prompts in front of streamed answers (`echo`), with log-probabilities of their tokens if asked for."""

from collections.abc import Sequence

from deployer.generation.choices import Choice
from deployer.generation.generate import Piece
from deployer.serve.logprobs import CompletionLogprobs
from deployer.serve.sse import ChunkWriter
from engines.messages import TokenLogprobs


class Echoes:
    """The events that go before the first piece of each choice; without `echo` there are none."""

    def __init__(
        self,
        choices: Sequence[Choice],
        texts: Sequence[str],
        *,
        writer: ChunkWriter,
        logprobs: CompletionLogprobs | None,
    ) -> None:
        """`choices` have prompts to show, `texts` say them; `logprobs`: None where none are shown."""
        self._writer = writer
        self._logprobs = logprobs
        self._texts = {
            choice.index: (text, choice.prompt.token_ids) for choice, text in zip(choices, texts, strict=True)
        }
        self._scores: dict[int, list[TokenLogprobs]] = {choice: [] for choice in self._texts}

    def before(self, piece: Piece) -> bytes:
        """Take a piece; return the prompt's event where it is due, which is when all its scores are here."""
        if piece.choice not in self._texts:
            return b""
        scores = self._scores[piece.choice]
        scores += piece.prompt_logprobs
        text, token_ids = self._texts[piece.choice]
        if self._logprobs is not None and len(scores) < len(token_ids) - 1:
            return b""
        del self._texts[piece.choice]
        found = None
        if self._logprobs is not None:
            found = self._logprobs.of_prompt(token_ids, text, scores, choice=piece.choice)
        return self._writer.text(piece.choice, text, logprobs=found, finish=None)
