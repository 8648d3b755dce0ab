"""Which sequences run in the next step, and how far: continuous batching over a paged cache. Ints only.

One step: admit from the waiting queue (`queues.py`), share out the budget of prompt tokens, then walk the
running sequences by rank: one that decodes gets one token, one in prefill the next chunk of its prompt.

Steps under way. A step is counted on when it is scheduled, so the next one can be scheduled before its
results are here, as if every sequence went on; how long a sequence may be is known, that it stopped is not.
Pages are given back as soon as a sequence is known to have ended: steps run in order, so whoever gets them
writes them after the last step that could still read or write them.
"""

from collections.abc import Iterable

from engines.options import SchedulerOptions
from engines.schedule.batch_plan import BatchPlan, Chunk, Progress
from engines.schedule.failed_step import spoilt_by
from engines.schedule.grammar_pace import ALONE, StepPrices
from engines.schedule.prompt_budget import PromptBudget
from engines.schedule.prompt_shares import PromptShares
from engines.schedule.queues import Queues
from engines.schedule.sequence import Sequence
from engines.schedule.speculation import Speculation
from engines.schedule.tile_budget import TileBudget


class Scheduler:
    """All sequences of one engine, waiting and running."""

    def __init__(
        self,
        options: SchedulerOptions,
        *,
        num_pages: int,
        page_tokens: int,
        prefix_caching: bool,
        prices: StepPrices = ALONE,
    ) -> None:
        """`prices`: of steps with tokens of grammars."""
        self._options = options
        self._page_tokens = page_tokens
        self._queues = Queues(
            options, num_pages=num_pages, page_tokens=page_tokens, prefix_caching=prefix_caching
        )
        self._pages = self._queues.pages
        self._prompt_budget = PromptBudget(options)
        self.speculation = Speculation(options, prices)

    @property
    def num_waiting(self) -> int:
        """Sequences that hold no pages."""
        return len(self._queues.waiting)

    @property
    def num_running(self) -> int:
        """Sequences that hold pages."""
        return len(self._queues.running)

    @property
    def running(self) -> tuple[Sequence, ...]:
        """Sequences that hold pages, by rank."""
        return tuple(self._queues.running)

    def by_class(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return how many sequences run and how many wait, by class of service; empty without classes."""
        count = self._queues.classes.count
        return count(self._queues.running), count(self._queues.waiting)

    @property
    def pages_used(self) -> int:
        """Pages held by sequences."""
        return self._pages.num_used

    @property
    def pages_cached(self) -> int:
        """Free pages that the prefix cache can still hand out."""
        return self._pages.num_cached

    @property
    def num_preemptions(self) -> int:
        """How often a sequence has lost its pages to another."""
        return self._queues.num_preemptions

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence; its `max_tokens` must fit into the pool."""
        self._queues.add(sequence)

    def remove(self, request_id: str) -> Sequence | None:
        """Take a sequence out wherever it is; None where it is not here (any more)."""
        sequence = self._queues.find(request_id)
        if sequence is not None:
            self._queues.drop(sequence)
        return sequence

    def schedule(self, now_s: float) -> BatchPlan | None:
        """Choose the next step and count on it; None where nobody can run.

        At most one step may be under way, its results not taken yet, when the next one is scheduled. Who then
        only waits for a last token does not run.
        """
        self._queues.admit(now_s)
        running = self._queues.running
        moving = [one for one in running if not one.is_full]
        if not moving:
            return None
        prompts = [one for one in moving if not one.is_decoding]
        prefilling = {one.arrival for one in prompts}
        shares = self._shares(prompts, num_decodes=len(moving) - len(prompts))
        chunks: list[Chunk] = []
        inserted: list[int] = []
        index = 0
        while index < len(running):  # a preemption shortens the list behind the index
            sequence = running[index]
            index += 1
            if sequence.is_full:
                continue
            if sequence.arrival in prefilling:
                num_tokens, shares_step = self._prompt_tokens(sequence, shares)
            else:
                num_tokens, shares_step = self._queues.reserve(sequence, 1), False
            if num_tokens == 0:
                continue
            chunks.append(Chunk.of(sequence, num_tokens, shares_step=shares_step))
            end = sequence.num_computed + num_tokens
            if end // self._page_tokens > sequence.num_inserted:
                inserted += self._pages.insert_full(sequence, end)
        if not chunks:
            assert len(moving) < len(running), "the first in rank must always move"
            return None
        proposed = [] if prefilling else self.speculation.proposed_behind(chunks, self._pages)
        return BatchPlan.of(chunks, inserted, proposed).counted_on()

    def waits_for(self, plan: BatchPlan) -> bool:
        """Tell whether the next step is to be scheduled once the tokens of this one, under way, are here."""
        return self.speculation.waits_for(plan)

    def commit(self, plan: BatchPlan, token_ids: Iterable[int | None]) -> list[Progress]:
        """Take the results of a step: one token for each chunk of `plan.sampling`, in order.

        None ends a sequence whose logits were no numbers, and no page of it is found again. What came for a
        sequence that has ended meanwhile, or started anew, is dropped.
        """
        progress = plan.progress(token_ids)
        self.speculation.learn(plan, progress)
        for item in progress:
            if item.finish_reason == "error":
                self._pages.forget_sequence(item.sequence)
            elif item.finish_reason is not None:
                self._insert_last_pages(plan.chunks[plan.sampled[item.row]])
            if item.finish_reason is not None:
                self._queues.drop(item.sequence)
        return progress

    def fail(self, plan: BatchPlan, *, behind: BatchPlan | None = None) -> list[Sequence]:
        """Drop the sequences of a step that did not end, and every page it was to fill.

        One that already shared such a page without being part of the step starts anew. `behind` is a step
        that is under way after it: what it was to fill for any of these is worth nothing either.
        """
        sequences = [chunk.sequence for chunk in plan.chunks if chunk.is_current and chunk.proposed is None]
        lost, anew = spoilt_by(plan, sequences, self._queues.running, behind=behind)
        self._pages.forget(lost)
        for sequence in sequences:
            self._queues.drop(sequence)
        for sequence in anew:
            self._queues.start_anew(sequence)
        return sequences

    def flush(self) -> None:
        """Let no prompt from now on find what earlier ones left in the prefix cache."""
        self._pages.flush()

    def drain(self) -> list[Sequence]:
        """Take everybody out."""
        sequences = [*self._queues.running, *self._queues.waiting]
        for sequence in sequences:
            self._queues.drop(sequence)
        return sequences

    def check_integrity(self) -> None:
        """Raise AssertionError unless pages, queues and sequences agree."""
        self._queues.check_integrity()

    def _shares(self, prompts: list[Sequence], *, num_decodes: int) -> PromptShares:
        """Return what each of the prompts that go on may compute beside so many that decode."""
        pending = sum(one.num_pending for one in prompts)
        budget = self._prompt_budget.next(pending, num_decodes=num_decodes)
        return PromptShares(
            budget,
            kept=self._queues.classes.prompt_parts(prompts, budget),
            tiles=TileBudget(self._options.tiles_per_iter, num_decodes=num_decodes),
        )

    def _prompt_tokens(self, sequence: Sequence, shares: PromptShares) -> tuple[int, bool]:
        """Take pages for the next tokens of a prompt; return how many, and whether it found pages of others.

        Those may be filled by this very step.
        """
        num_before = sequence.num_computed
        self._pages.match(sequence)
        num_tokens = self._queues.reserve(sequence, shares.next(sequence))
        shares.take(num_tokens)
        return num_tokens, sequence.num_computed > num_before

    def _insert_last_pages(self, chunk: Chunk) -> None:
        """Make the pages findable that a sequence filled with tokens that were not known in time."""
        if chunk.num_preemptions == chunk.sequence.num_preemptions:  # else its pages are others
            self._pages.insert_full(chunk.sequence, chunk.end)
