"""What the scheduler decides: the chunks of one step, and what became of their sequences. No tensors."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from engines.schedule.sequence import Sequence

FinishReason = Literal["stop", "length", "error"]


class Chunk(NamedTuple):  # one is made a row and step: a dataclass takes three times as long
    """Tokens [start, start + num_tokens) of one sequence."""

    sequence: Sequence
    start: int
    num_tokens: int
    source_row: int | None = None  # sampled row of the step before that is its last token; None: it is known
    attempt: int = 0  # the sequence's own, when the chunk was scheduled
    num_preemptions: int = 0  # likewise

    @classmethod
    def of(cls, sequence: Sequence, num_tokens: int) -> "Chunk":
        """Return the next tokens of a sequence."""
        start = sequence.num_computed
        waits = sequence.num_unknown > 0 and start + num_tokens == sequence.num_tokens
        source_row = sequence.source_row if waits else None
        return cls(sequence, start, num_tokens, source_row, sequence.attempt, sequence.num_preemptions)

    @property
    def end(self) -> int:
        """The first token after the chunk."""
        return self.start + self.num_tokens

    @property
    def is_decode(self) -> bool:
        """Whether it is the one token that was sampled last."""
        return self.num_tokens == 1 and self.start >= self.sequence.num_prompt_tokens

    @property
    def num_outputs(self) -> int:
        """Output tokens before the one that is sampled after it."""
        return self.end - self.sequence.num_prompt_tokens

    @property
    def num_scored(self) -> int:
        """Leading tokens after each of which a prompt token stands whose log-probability is wanted."""
        if not self.sequence.is_scored:
            return 0
        return max(min(self.end, self.sequence.num_prompt_tokens - 1) - self.start, 0)

    @property
    def is_current(self) -> bool:
        """Whether its sequence still wants what comes of it."""
        return not self.sequence.has_ended and self.attempt == self.sequence.attempt


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchPlan:
    """One step: chunks that decode first, each group by rank."""

    chunks: tuple[Chunk, ...]
    num_decodes: int
    sampled: tuple[int, ...]  # indices of the chunks after which a token is sampled
    scored: tuple[int, ...]  # indices of the chunks with prompt tokens whose log-probabilities are wanted
    inserted_pages: tuple[int, ...]  # made findable before they are filled

    @classmethod
    def of(cls, chunks: list[Chunk], inserted_pages: list[int]) -> "BatchPlan":
        """Order the chunks of a step; those that reach the end of their sequence are sampled."""
        decodes: list[Chunk] = []
        prompts: list[Chunk] = []
        for chunk in chunks:
            (decodes if chunk.is_decode else prompts).append(chunk)
        # NOTE: one output token may also be a chunk of what a preempted sequence computes again.
        ordered = (*decodes, *prompts)
        return cls(
            chunks=ordered,
            num_decodes=len(decodes),
            sampled=tuple([i for i, chunk in enumerate(ordered) if chunk.end == chunk.sequence.num_tokens]),
            scored=tuple([i for i, chunk in enumerate(prompts, len(decodes)) if chunk.num_scored]),
            inserted_pages=tuple(inserted_pages),
        )

    def counted_on(self) -> "BatchPlan":
        """Let its sequences be as far as it will have brought them; returns itself."""
        for chunk in self.chunks:
            chunk.sequence.num_computed = chunk.end
        for row, index in enumerate(self.sampled):
            sequence = self.chunks[index].sequence
            sequence.num_unknown += 1
            sequence.source_row = row
        return self

    def progress(self, token_ids: Iterable[int | None]) -> "list[Progress]":
        """Give each sampled sequence its token and return what that did, where it is still wanted."""
        return [
            _advanced(row, chunk, token)
            for row, (chunk, token) in enumerate(zip(self.sampling, token_ids, strict=True))
            if chunk.is_current
        ]

    @property
    def sampling(self) -> list[Chunk]:
        """The chunks after which a token is sampled, in the order of their rows."""
        return [self.chunks[index] for index in self.sampled]

    @property
    def scoring(self) -> list[Chunk]:
        """The chunks with prompt tokens whose log-probabilities are wanted; their rows follow the sampled."""
        return [self.chunks[index] for index in self.scored]


class Progress(NamedTuple):
    """What one sampled token did to its sequence."""

    row: int  # which of the sampled rows
    sequence: Sequence
    token_id: int | None  # None: it is no output
    finish_reason: FinishReason | None  # error: there was no token
    stop_token_id: int | None


def _advanced(row: int, chunk: Chunk, token: int | None) -> Progress:
    """Give a sequence the token that was sampled for it, or end it."""
    sequence, sampling = chunk.sequence, chunk.sequence.sampling
    sequence.num_unknown -= 1
    reason: FinishReason | None = None
    stop_token_id = None
    if token is None:
        reason = "error"
    elif sampling.max_new_tokens == 0:
        reason, token = "length", None
    elif token in sampling.stop_token_ids or (token in sampling.eos_token_ids and not sampling.ignore_eos):
        reason, stop_token_id, token = "stop", token, None
    else:
        sequence.token_ids.append(token)
        reason = "length" if len(sequence.token_ids) >= sequence.max_tokens else None
    return Progress(row, sequence, token, reason, stop_token_id)
