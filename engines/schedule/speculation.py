"""Tokens proposed to sequences, which the model checks several of in one step. Ints only.

A proposed token is a row of the step like any that decodes, of the same sequence and one position further on.
Each row chooses its token by its own position, logits and noise, as it would alone: as long as a row chooses
what was proposed behind it, the next row's choice holds. So answers are those of one token a step.

A sequence that follows a grammar is proposed what the grammar leaves little choice about
(`engines/sampling/likely_tokens.py`): most of it is right. Others, and where a grammar has nothing to
propose, what stood in the sequence's own text before (`proposer.py`), which may be wrong at any time.

It costs rows that turn out wrong and, where steps overlap, the host's work between two: the last token must
be here before more are proposed. Who is proposed what, and how much, follows from tokens alone, so that ranks
agree.
"""

from collections.abc import Iterable
from collections.abc import Sequence as Seq

from engines.options import SchedulerOptions
from engines.schedule.batch_plan import BatchPlan, Chunk, Progress
from engines.schedule.grammar_pace import GrammarPace, StepPrices
from engines.schedule.likely_behind import LikelyBehind, Proposed, most_of, outputs_of
from engines.schedule.proposer import Proposer
from engines.schedule.sequence import Sequence
from engines.schedule.sequence_pages import SequencePages

# Of a step, what one with proposals takes longer: an H200, InternVL2-8B in 12 bits, 8 to 16 rows and the wait
# (docs/speculation.md). As long every sequence of the step could have had this much of a token.
PRICE = 0.2
ASKED = 2  # times the rows that are left, shared by all that follow a grammar: as many leave theirs to others


class Speculation:
    """Who is proposed what, and how much of it was right."""

    def __init__(self, limits: SchedulerOptions, prices: StepPrices) -> None:
        self._options = limits.speculation
        self._pace = GrammarPace(prices)
        self._max_rows = 0 if self._options is None else self._options.most_rows(limits.max_batch_size)
        self._may_pay: dict[int, bool] = {}  # by sequences: whether any number of their grammars would
        self._likely = LikelyBehind()
        self._num_asked = 0  # sequences whose grammars were asked for the step under way
        self._from_text: set[Sequence] = set()  # whose proposals under way are from their own text
        self.num_proposed = 0  # tokens since the start
        self.num_accepted = 0

    def waits_for(self, plan: BatchPlan) -> bool:
        """Tell whether the step behind this one is worth more once the tokens of this one are known here."""
        if plan.num_proposed:
            return True
        if self._options is None or len(plan.sampled) < len(plan.chunks):
            return False  # prompts go on, and beside them nobody is proposed anything
        if not (self._asks_grammars(len(plan.chunks)) or self._texts_pay(len(plan.chunks))):
            return False
        takers = [
            one
            for chunk in plan.chunks
            if not (one := chunk.sequence).has_ended and one.takes_proposals and not one.is_full
        ]
        awaited = [
            one for one in takers if one.grammar is not None and one.grammar.awaits_likely(one.num_outputs)
        ]
        if self._asks_grammars(len(plan.chunks)) and self._most_of_grammars(len(plan.chunks), len(awaited)):
            return True
        if not self._texts_pay(len(plan.chunks)):
            return False
        expected = [self._proposer(one).expects(one.token_ids) for one in takers]
        return any(expected)  # each is asked: whoever is waited for learns from it

    def proposed_behind(self, chunks: Seq[Chunk], pages: SequencePages) -> list[list[Chunk]]:
        """Return for each of the chunks, which all decode, those of tokens that may follow; or nothing.

        They take rows that the step has left and pages that nobody holds.
        """
        room = self._max_rows - len(chunks)
        if room <= 0:
            return []
        proposed = self._by_grammars(chunks, room)
        self._add_from_texts(proposed, chunks, room)
        if not any(proposed):
            return []
        found: list[list[Chunk]] = []
        for chunk, tokens in zip(chunks, proposed, strict=True):
            num_held = pages.extend(chunk.sequence, 1 + len(tokens)) - 1
            found.append(chunk.followed_by(tokens[:num_held]))
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
        num_sequences = len(plan.chunks) - plan.num_proposed
        self._learn_of_grammars(plan, accepted, num_sequences)
        price = PRICE * num_sequences / len(accepted)
        for sequence, num in accepted.items():
            if sequence in self._from_text:
                self._proposer(sequence).learn(num, price=price, length=len(sequence.token_ids))

    def _learn_of_grammars(self, plan: BatchPlan, accepted: dict[Sequence, int], num_sequences: int) -> None:
        formed = accepted.keys() - self._from_text
        proposed = sum(chunk.proposed is not None and chunk.sequence in formed for chunk in plan.chunks)
        if proposed:
            right = sum(accepted[one] for one in formed)
            self._pace.learn(num_sequences, num_asked=self._num_asked, proposed=proposed, right=right)

    def _asks_grammars(self, num_sequences: int) -> bool:
        """Tell whether a step of so many may have tokens of grammars; what each step asks before it looks."""
        if self._pace.is_resting:
            return False
        if num_sequences not in self._may_pay:
            numbers = range(1, num_sequences + 1)
            self._may_pay[num_sequences] = any(self._most_of_grammars(num_sequences, num) for num in numbers)
        return self._may_pay[num_sequences]

    def _most_of_grammars(self, num_sequences: int, num_asked: int) -> int:
        """Return how many tokens of so many grammars a step has at most; 0 where they would not pay."""
        if self._options is None:
            return 0
        most = min(num_asked * self._options.grammar_tokens, self._max_rows - num_sequences)
        if most <= 0:
            return 0
        return most if self._pace.pays(num_sequences, num_asked=num_asked, most=most) else 0

    def _texts_pay(self, num_sequences: int) -> bool:
        how = self._options
        return how is not None and how.num_tokens > 0 and num_sequences <= how.max_sequences

    def _by_grammars(self, chunks: Seq[Chunk], room: int) -> list[Proposed]:
        """Return what the grammar of each proposes: nothing for all where it would not pay."""
        assert self._options is not None, "asked where tokens are proposed"
        nothing: list[Proposed] = [[] for _ in chunks]
        asked: list[Sequence] = []
        if self._asks_grammars(len(chunks)):
            asked = [chunk.sequence for chunk in chunks if _follows_grammar(chunk.sequence)]
        if not self._most_of_grammars(len(chunks), len(asked)):
            self._pace.pass_by()
            return nothing
        self._num_asked = len(asked)
        most = min(self._options.grammar_tokens, max(ASKED * room // len(asked), 1))
        likely = dict(zip(asked, self._likely.ask(asked, most), strict=True))
        found: list[Proposed] = []
        for chunk in chunks:
            tokens = likely.get(chunk.sequence, [])[:room]
            found.append(tokens)
            room -= len(tokens)
        if not any(found):
            self._pace.learn(len(chunks), num_asked=len(asked), proposed=0, right=0)
        return found

    def _add_from_texts(self, proposed: list[Proposed], chunks: Seq[Chunk], room: int) -> None:
        """Add what the text of those proposes who have nothing yet."""
        self._from_text.clear()
        if self._options is None or not self._texts_pay(len(chunks)):
            return
        room -= sum(map(len, proposed))
        for index, chunk in enumerate(chunks):
            if not proposed[index]:
                proposed[index] = self._by_text(chunk.sequence, min(room, self._options.num_tokens))
                room -= len(proposed[index])
                self._from_text.add(chunk.sequence)

    def _by_text(self, sequence: Sequence, most: int) -> Proposed:
        """Return tokens that a sequence's own text has next: those that its grammar refuses are left out."""
        if sequence.num_unknown or not sequence.takes_proposals:
            return []
        tokens = self._proposer(sequence).propose(sequence.token_ids, most_of(sequence, most))
        if sequence.grammar is None:
            return [(token, None) for token in tokens]
        masks = sequence.grammar.masks_behind(outputs_of(sequence), tokens)
        return list(zip(tokens, masks, strict=False))

    def _proposer(self, sequence: Sequence) -> Proposer:
        assert self._options is not None, "asked where tokens are proposed"
        if sequence.proposer is None:
            sequence.proposer = Proposer(match_tokens=self._options.match_tokens)
        return sequence.proposer


def _follows_grammar(sequence: Sequence) -> bool:
    return sequence.grammar is not None and most_of(sequence, 1) > 0
