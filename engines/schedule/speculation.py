"""Tokens proposed to sequences from their own text, which the model checks several of in one step. Ints only.

A proposed token is a row of the step like any that decodes, of the same sequence and one position further on.
Each row chooses its token by its own position, logits and noise, as it would alone: as long as a row chooses
what was proposed behind it, the next row's choice holds. So answers are those of one token a step.

It costs rows that turn out wrong and, where steps overlap, the host's work between two: the last token must
be here before it is looked up. Who is proposed what, and how much (`proposer.py`), follows from tokens alone,
so that ranks agree.
"""

from collections.abc import Iterable
from collections.abc import Sequence as Seq

from engines.options import SchedulerOptions
from engines.schedule.batch_plan import BatchPlan, Chunk, Progress
from engines.schedule.proposer import Proposer
from engines.schedule.sequence import Sequence
from engines.schedule.sequence_pages import SequencePages

# Of a step, what one with proposals takes longer: an H200, InternVL2-8B in 12 bits, 8 to 16 rows and the wait
# (docs/speculation.md). As long every sequence of the step could have had this much of a token.
PRICE = 0.2


class Speculation:
    """Who is proposed what, and how much of it was right."""

    def __init__(self, limits: SchedulerOptions) -> None:
        self._options = limits.speculation
        self._max_rows = limits.max_batch_size
        self.num_proposed = 0  # tokens since the start
        self.num_accepted = 0

    def waits_for(self, plan: BatchPlan) -> bool:
        """Tell whether the step behind this one is worth more once the tokens of this one are known here."""
        if plan.num_proposed:
            return True
        if self._options is None or len(plan.chunks) > self._options.max_sequences:
            return False
        if len(plan.sampled) < len(plan.chunks):  # prompts go on, and beside them nobody is proposed anything
            return False
        expected = [
            self._proposer(one).expects(one.token_ids)
            for chunk in plan.chunks
            if not (one := chunk.sequence).has_ended and one.takes_proposals and not one.is_full
        ]
        return any(expected)  # each is asked: whoever is waited for learns from it

    def proposed_behind(self, chunks: Seq[Chunk], pages: SequencePages) -> list[list[Chunk]]:
        """Return for each of the chunks, which all decode, those of tokens that may follow; or nothing.

        They take rows that the step has left and pages that nobody holds.
        """
        if self._options is None or len(chunks) > self._options.max_sequences:
            return []
        room = self._max_rows - len(chunks)
        found: list[list[Chunk]] = []
        for chunk in chunks:
            tokens = self._propose(chunk.sequence, min(room, self._options.num_tokens))
            num_held = pages.extend(chunk.sequence, 1 + len(tokens)) - 1
            found.append(chunk.followed_by(tokens[:num_held]))
            room -= num_held
        return found if any(found) else []

    def learn(self, plan: BatchPlan, progress: Iterable[Progress]) -> None:
        """Take what became of the proposals of a step."""
        if not plan.num_proposed:
            return
        accepted: dict[Sequence, int] = {}
        for chunk in plan.chunks:
            if chunk.proposed is not None and chunk.is_current:
                self.num_proposed += 1
                accepted[chunk.sequence] = 0
        for item in progress:
            if plan.chunks[plan.sampled[item.row]].proposed is not None:
                self.num_accepted += 1
                accepted[item.sequence] += 1
        if not accepted:
            return
        price = PRICE * (len(plan.chunks) - plan.num_proposed) / len(accepted)
        for sequence, num in accepted.items():
            self._proposer(sequence).learn(num, price=price, length=len(sequence.token_ids))

    def _propose(self, sequence: Sequence, most: int) -> list[tuple[int, bytes | None]]:
        """Return tokens, and what a grammar lets follow each: those that it refuses are left out."""
        if sequence.num_unknown or not sequence.takes_proposals:
            return []
        room = min(most, sequence.max_tokens - sequence.num_tokens - 1)
        tokens = self._proposer(sequence).propose(sequence.token_ids, room)
        if sequence.grammar is None:
            return [(token, None) for token in tokens]
        outputs = sequence.token_ids[sequence.num_prompt_tokens :]
        return list(zip(tokens, sequence.grammar.masks_behind(outputs, tokens), strict=False))

    def _proposer(self, sequence: Sequence) -> Proposer:
        assert self._options is not None, "asked where tokens are proposed"
        if sequence.proposer is None:
            sequence.proposer = Proposer(match_tokens=self._options.match_tokens)
        return sequence.proposer
