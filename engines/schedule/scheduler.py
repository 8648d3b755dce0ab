"""Which sequences run in the next step, and how far: continuous batching over a paged cache. Ints only.

One step: admit from the waiting queue, fix the budget of prompt tokens, then walk the running sequences by
rank (priority, then arrival): one that decodes gets one token, one in prefill the next chunk of its prompt.

Pages. A sequence is admitted where all running ones could reach their last token at once (worst case: none
is ever preempted), or else, as few outputs are that long, where its prompt and one page more for each
sequence fit into what is free. Pages are taken chunk by chunk. If they run out, the last in rank is
preempted: its pages are freed, and it waits at its old rank to be recomputed, from the prefix cache where
that still has it.

Progress. The first in rank can preempt everybody else, and no sequence is longer than the pool
(`session_len`), so it moves in every step: no deadlock and no livelock. Nobody is admitted past the head of
the queue and a preempted sequence keeps its rank, so of equal priority nobody starves. Priorities are
strict: a lower number takes slots and pages from higher ones, but with classes of service
(`service_classes.py`) only what is beyond the share that these are owed.

Steps under way. A step is counted on when it is scheduled, so the next one can be scheduled before its
results are here, as if every sequence went on; how long a sequence may be is known, that it stopped is not.
Pages are given back as soon as a sequence is known to have ended: steps run in order, so whoever gets them
writes them after the last step that could still read or write them.
"""

import itertools
from bisect import insort
from collections.abc import Iterable
from operator import attrgetter

from engines.options import SchedulerOptions
from engines.schedule.batch_plan import BatchPlan, Chunk, Progress
from engines.schedule.failed_step import spoilt_by
from engines.schedule.prompt_budget import PromptBudget
from engines.schedule.queue_checks import check_queues
from engines.schedule.sequence import Sequence
from engines.schedule.sequence_pages import SequencePages
from engines.schedule.service_classes import ServiceClasses
from engines.schedule.speculation import Speculation
from engines.schedule.tile_budget import TileBudget

_rank = attrgetter("rank")


class Scheduler:
    """All sequences of one engine, waiting and running."""

    def __init__(
        self, options: SchedulerOptions, *, num_pages: int, page_tokens: int, prefix_caching: bool
    ) -> None:
        self._options = options
        self._page_tokens = page_tokens
        self._pages = SequencePages(
            num_pages=num_pages, page_tokens=page_tokens, prefix_caching=prefix_caching
        )
        self._waiting: list[Sequence] = []  # by rank
        self._running: list[Sequence] = []  # by rank
        self._prompt_budget = PromptBudget(options)
        self._classes = ServiceClasses(options, self._running)
        self.speculation = Speculation(options)
        self.num_preemptions = 0

    @property
    def num_waiting(self) -> int:
        """Sequences that hold no pages."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Sequences that hold pages."""
        return len(self._running)

    @property
    def running(self) -> tuple[Sequence, ...]:
        """Sequences that hold pages, by rank."""
        return tuple(self._running)

    def by_class(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return how many sequences run and how many wait, by class of service; empty without classes."""
        return self._classes.count(self._running), self._classes.count(self._waiting)

    @property
    def pages_used(self) -> int:
        """Pages held by sequences."""
        return self._pages.num_used

    @property
    def pages_cached(self) -> int:
        """Free pages that the prefix cache can still hand out."""
        return self._pages.num_cached

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence; its `max_tokens` must fit into the pool."""
        assert self._pages.holds(sequence.max_tokens), "a sequence longer than the pool"
        assert self._classes.holds(sequence.service_class), f"there is no class {sequence.service_class}"
        insort(self._waiting, sequence, key=_rank)

    def remove(self, request_id: str) -> Sequence | None:
        """Take a sequence out wherever it is; None where it is not here (any more)."""
        for sequence in itertools.chain(self._running, self._waiting):
            if sequence.request_id == request_id:
                self._drop(sequence)
                return sequence
        return None

    def schedule(self, now_s: float) -> BatchPlan | None:
        """Choose the next step and count on it; None where nobody can run.

        At most one step may be under way, its results not taken yet, when the next one is scheduled. Who then
        only waits for a last token does not run.
        """
        self._admit(now_s)
        moving = [one for one in self._running if not one.is_full]
        if not moving:
            return None
        prefilling = {one.arrival: one for one in moving if not one.is_decoding}
        pending = sum(one.num_pending for one in prefilling.values())
        num_decodes = len(moving) - len(prefilling)
        budget = self._prompt_budget.next(pending, num_decodes=num_decodes)
        tiles = TileBudget(self._options.tiles_per_iter, num_decodes=num_decodes)
        parts = self._classes.prompt_parts(prefilling.values(), budget)
        spare = budget - sum(parts.values())
        chunks: list[Chunk] = []
        inserted: list[int] = []
        index = 0
        while index < len(self._running):  # a preemption shortens the list behind the index
            sequence = self._running[index]
            index += 1
            if sequence.is_full:
                continue
            shares_step = False
            if sequence.arrival not in prefilling:
                num_tokens = self._reserve(sequence, 1)
            else:
                num_before = sequence.num_computed
                self._pages.match(sequence)
                shares_step = sequence.num_computed > num_before
                most = parts.get(sequence.arrival, 0) + spare
                num_tokens = self._reserve(sequence, tiles.tokens(sequence, min(sequence.num_pending, most)))
                spare = most - num_tokens
            if num_tokens == 0:
                continue
            chunks.append(Chunk.of(sequence, num_tokens, shares_step=shares_step))
            end = sequence.num_computed + num_tokens
            if end // self._page_tokens > sequence.num_inserted:
                inserted += self._pages.insert_full(sequence, end)
        if not chunks:
            assert len(moving) < len(self._running), "the first in rank must always move"
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
                self._drop(item.sequence)
        return progress

    def fail(self, plan: BatchPlan, *, behind: BatchPlan | None = None) -> list[Sequence]:
        """Drop the sequences of a step that did not end, and every page it was to fill.

        One that already shared such a page without being part of the step starts anew. `behind` is a step
        that is under way after it: what it was to fill for any of these is worth nothing either.
        """
        sequences = [chunk.sequence for chunk in plan.chunks if chunk.is_current and chunk.proposed is None]
        lost, anew = spoilt_by(plan, sequences, self._running, behind=behind)
        self._pages.forget(lost)
        for sequence in sequences:
            self._drop(sequence)
        for sequence in anew:
            self._start_anew(sequence)
        return sequences

    def flush(self) -> None:
        """Let no prompt from now on find what earlier ones left in the prefix cache."""
        self._pages.flush()

    def drain(self) -> list[Sequence]:
        """Take everybody out."""
        sequences = [*self._running, *self._waiting]
        for sequence in sequences:
            self._drop(sequence)
        return sequences

    def check_integrity(self) -> None:
        """Raise AssertionError unless pages, queues and sequences agree."""
        self._pages.check_integrity(self._running)
        check_queues(self._waiting, self._running, self._options, page_tokens=self._page_tokens)

    def _admit(self, now_s: float) -> None:
        """Let sequences from the head of the queue run while slots and pages last or others give way."""
        while self._waiting:
            sequence = self._classes.next_up(self._waiting)
            if len(self._running) < self._options.max_batch_size and self._match_if_it_fits(sequence):
                if sequence.admitted_s is None:
                    sequence.admitted_s = now_s
                self._waiting.remove(sequence)
                insort(self._running, sequence, key=_rank)
                continue
            victim = self._classes.gives_way(to=sequence)
            if victim is None:
                return
            self._preempt(victim)

    def _match_if_it_fits(self, sequence: Sequence) -> bool:
        self._pages.match(sequence)
        if not (fits := self._pages.fit([*self._running, sequence])):
            self._pages.release(sequence)
        return fits

    def _reserve(self, sequence: Sequence, num_tokens: int) -> int:
        """Take pages for the next tokens, from lower ranks if need be; return how many tokens they hold."""
        if sequence.num_computed + num_tokens <= len(sequence.pages) * self._page_tokens:
            return num_tokens
        while self._pages.lacks(sequence, num_tokens):
            victim = self._classes.gives_pages(to=sequence)
            if victim is None:
                break
            self._preempt(victim)
        return self._pages.extend(sequence, num_tokens)

    def _insert_last_pages(self, chunk: Chunk) -> None:
        """Make the pages findable that a sequence filled with tokens that were not known in time."""
        if chunk.num_preemptions == chunk.sequence.num_preemptions:  # else its pages are others
            self._pages.insert_full(chunk.sequence, chunk.end)

    def _start_anew(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._pages.release(sequence)
        sequence.attempt += 1
        sequence.num_unknown = 0
        insort(self._waiting, sequence, key=_rank)

    def _preempt(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._pages.release(sequence)
        sequence.num_preemptions += 1
        self.num_preemptions += 1
        insort(self._waiting, sequence, key=_rank)

    def _drop(self, sequence: Sequence) -> None:
        (self._running if sequence in self._running else self._waiting).remove(sequence)
        self._pages.release(sequence)
        sequence.has_ended = True
        sequence.num_unknown = 0
