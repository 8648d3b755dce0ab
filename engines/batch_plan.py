"""What the scheduler decides: the chunks of one step, and what became of their sequences. No tensors."""

from dataclasses import dataclass
from typing import Literal

from engines.sequence import Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Tokens [start, start + num_tokens) of one sequence."""

    sequence: Sequence
    start: int
    num_tokens: int

    @property
    def end(self) -> int:
        """The first token after the chunk."""
        return self.start + self.num_tokens

    @property
    def is_decode(self) -> bool:
        """Whether it is the one token that was sampled last."""
        return self.num_tokens == 1 and self.start >= self.sequence.num_prompt_tokens

    @property
    def samples(self) -> bool:
        """Whether a next token follows from it; fixed once the step is committed."""
        return self.end == len(self.sequence.token_ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchPlan:
    """One step: chunks that decode first, each group by rank."""

    chunks: tuple[Chunk, ...]
    num_decodes: int
    sampling: tuple[Chunk, ...]  # the chunks after which a token is sampled
    inserted_pages: tuple[int, ...]  # made findable before they are filled

    @classmethod
    def of(cls, chunks: list[Chunk], inserted_pages: list[int]) -> "BatchPlan":
        """Order the chunks of a step."""
        decodes = [chunk for chunk in chunks if chunk.is_decode]
        ordered = (*decodes, *(chunk for chunk in chunks if not chunk.is_decode))
        return cls(
            chunks=ordered,
            num_decodes=len(decodes),
            sampling=tuple(chunk for chunk in ordered if chunk.samples),
            inserted_pages=tuple(inserted_pages),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What one sampled token did to its sequence."""

    sequence: Sequence
    token_id: int | None  # None: it ended the sequence and is no output
    finish_reason: Literal["stop", "length", "error"] | None  # error: there was no token
    stop_token_id: int | None
