"""What the scheduler decides: the chunks of one step, and what became of their sequences. No tensors."""

from collections.abc import Iterable
from collections.abc import Sequence as Seq
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
    shares_step: bool = False  # pages ahead of it may be filled by another chunk of the same step
    proposed: int | None = None  # its one token, where that is not the sequence's own yet (`speculation.py`)
    mask: bytes | None = None  # what a grammar lets follow a proposed token (`engines/sampling/grammar.py`)

    @classmethod
    def of(cls, sequence: Sequence, num_tokens: int, *, shares_step: bool = False) -> "Chunk":
        """Return the next tokens of a sequence."""
        start = sequence.num_computed
        waits = sequence.num_unknown > 0 and start + num_tokens == sequence.num_tokens
        source_row = sequence.source_row if waits else None
        attempt, num_preemptions = sequence.attempt, sequence.num_preemptions
        return cls(sequence, start, num_tokens, source_row, attempt, num_preemptions, shares_step)

    def followed_by(self, proposed: Iterable[tuple[int, bytes | None]]) -> "list[Chunk]":
        """Return a chunk for each token, and what may follow it, that is proposed behind this one."""
        return [
            self._replace(start=start, source_row=None, proposed=token, mask=mask)
            for start, (token, mask) in enumerate(proposed, self.end)
        ]

    @property
    def end(self) -> int:
        """The first token after the chunk."""
        return self.start + self.num_tokens

    @property
    def last_known_id(self) -> int:
        """Its last token, where the host knows it."""
        return self.sequence.token_ids[self.end - 1] if self.proposed is None else self.proposed

    @property
    def is_decode(self) -> bool:
        """Whether it is the one token that was sampled last, behind tokens of earlier steps alone.

        Kernels for these read the keys ahead of it before the step has stored any.
        """
        is_output = self.num_tokens == 1 and self.start >= self.sequence.num_prompt_tokens
        return is_output and not self.shares_step

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
    """One step: chunks that decode first, each group by rank; proposed tokens behind their sequence's own."""

    chunks: tuple[Chunk, ...]
    num_decodes: int
    num_proposed: int  # of these, tokens that are proposed
    sampled: tuple[int, ...]  # indices of the chunks after which a token is sampled
    scored: tuple[int, ...]  # indices of the chunks with prompt tokens whose log-probabilities are wanted
    inserted_pages: tuple[int, ...]  # made findable before they are filled

    @classmethod
    def of(
        cls, chunks: list[Chunk], inserted_pages: list[int], proposed: Seq[Seq[Chunk]] = ()
    ) -> "BatchPlan":
        """Order the chunks of a step; those that reach the end of their sequence are sampled.

        `proposed`: for each of the chunks, which then all decode, those of tokens that may follow; or empty.
        """
        decodes: list[Chunk] = []
        prompts: list[Chunk] = []
        for chunk in chunks:
            (decodes if chunk.is_decode else prompts).append(chunk)
        if proposed:
            decodes = [
                one for chunk, behind in zip(decodes, proposed, strict=True) for one in (chunk, *behind)
            ]
        # NOTE: one output token may also be a chunk of what a preempted sequence computes again.
        ordered = (*decodes, *prompts)
        return cls(
            chunks=ordered,
            num_decodes=len(decodes),
            num_proposed=sum(map(len, proposed)),
            sampled=tuple([i for i, chunk in enumerate(ordered) if chunk.end >= chunk.sequence.num_tokens]),
            scored=tuple([i for i, chunk in enumerate(prompts, len(decodes)) if chunk.num_scored]),
            inserted_pages=tuple(inserted_pages),
        )

    def counted_on(self) -> "BatchPlan":
        """Let its sequences be as far as it will have brought them; returns itself.

        What a proposed token brings counts once it is known to be right.
        """
        for chunk in self.chunks:
            if chunk.proposed is None:
                chunk.sequence.num_computed = chunk.end
        for row, index in enumerate(self.sampled):
            sequence, proposed = self.chunks[index].sequence, self.chunks[index].proposed
            if proposed is None:
                sequence.num_unknown += 1
                sequence.source_row = row
        return self

    def progress(self, token_ids: Iterable[int | None]) -> "list[Progress]":
        """Give each sampled sequence its tokens and return what they did, where they are still wanted.

        The token behind a proposed one holds where the row before it chose what was proposed.
        """
        found: list[Progress] = []
        for row, (chunk, token) in enumerate(zip(self.sampling, token_ids, strict=True)):
            if chunk.is_current and (chunk.proposed is None or _is_right(chunk, row, found)):
                found.append(_advanced(row, chunk, token))
        return found

    @property
    def sampling(self) -> list[Chunk]:
        """The chunks after which a token is sampled, in the order of their rows."""
        return [self.chunks[index] for index in self.sampled]

    @property
    def is_chosen_late(self) -> bool:
        """Whether its tokens can only be chosen once those of the step before are known here."""
        return any(self.chunks[index].sequence.is_chosen_late for index in self.sampled)

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


def _is_right(chunk: Chunk, row: int, found: list[Progress]) -> bool:
    """Tell whether the row before that of a proposed token held, chose it, and did not end the sequence."""
    last = found[-1] if found else None
    return (
        last is not None
        and last.row == row - 1
        and last.finish_reason is None
        and last.token_id == chunk.proposed
    )


def _advanced(row: int, chunk: Chunk, token: int | None) -> Progress:
    """Give a sequence the token that was sampled for it, or end it."""
    sequence, sampling = chunk.sequence, chunk.sequence.sampling
    if chunk.proposed is None:
        sequence.num_unknown -= 1
    else:
        sequence.num_computed += 1
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
