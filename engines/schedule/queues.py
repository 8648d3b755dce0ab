"""Who runs and who waits, by rank (priority, then arrival), and the pages of those that run. Ints only.

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
"""

import itertools
from bisect import insort
from operator import attrgetter

from engines.options import SchedulerOptions
from engines.schedule.sequence import Sequence
from engines.schedule.sequence_pages import SequencePages
from engines.schedule.service_classes import ServiceClasses

_rank = attrgetter("rank")


class Queues:
    """All sequences of one engine; what a step holds of those that run is the scheduler's to say."""

    def __init__(
        self, options: SchedulerOptions, *, num_pages: int, page_tokens: int, prefix_caching: bool
    ) -> None:
        self._max_running = options.max_batch_size
        self._page_tokens = page_tokens
        self.pages = SequencePages(
            num_pages=num_pages, page_tokens=page_tokens, prefix_caching=prefix_caching
        )
        self.waiting: list[Sequence] = []  # by rank; they hold no pages
        self.running: list[Sequence] = []  # by rank
        self.classes = ServiceClasses(options, self.running)
        self.num_preemptions = 0

    def add(self, sequence: Sequence) -> None:
        """Let a sequence wait; its `max_tokens` must fit into the pool."""
        assert self.pages.holds(sequence.max_tokens), "a sequence longer than the pool"
        assert self.classes.holds(sequence.service_class), f"there is no class {sequence.service_class}"
        insort(self.waiting, sequence, key=_rank)

    def find(self, request_id: str) -> Sequence | None:
        """Return the sequence of a request wherever it is; None where it is not here (any more)."""
        everybody = itertools.chain(self.running, self.waiting)
        return next((one for one in everybody if one.request_id == request_id), None)

    def admit(self, now_s: float) -> None:
        """Let sequences from the head of the queue run while slots and pages last or others give way."""
        while self.waiting:
            sequence = self.classes.next_up(self.waiting)
            if len(self.running) < self._max_running and self._match_if_it_fits(sequence):
                if sequence.admitted_s is None:
                    sequence.admitted_s = now_s
                self.waiting.remove(sequence)
                insort(self.running, sequence, key=_rank)
                continue
            victim = self.classes.gives_way(to=sequence)
            if victim is None:
                return
            self._preempt(victim)

    def reserve(self, sequence: Sequence, num_tokens: int) -> int:
        """Take pages for the next tokens, from lower ranks if need be; return how many tokens they hold."""
        if sequence.num_computed + num_tokens <= len(sequence.pages) * self._page_tokens:
            return num_tokens
        while self.pages.lacks(sequence, num_tokens):
            victim = self.classes.gives_pages(to=sequence)
            if victim is None:
                break
            self._preempt(victim)
        return self.pages.extend(sequence, num_tokens)

    def start_anew(self, sequence: Sequence) -> None:
        """Let a running sequence wait to be computed again: what steps under way give is not its own."""
        self._requeue(sequence)
        sequence.attempt += 1
        sequence.num_unknown = 0

    def drop(self, sequence: Sequence) -> None:
        """Take out a sequence, which has ended."""
        (self.running if sequence in self.running else self.waiting).remove(sequence)
        self.pages.release(sequence)
        sequence.has_ended = True
        sequence.num_unknown = 0

    def check_integrity(self) -> None:
        """Raise AssertionError unless pages and queues agree, both are in order and nobody is misplaced."""
        self.pages.check_integrity(self.running)
        for queue in (self.waiting, self.running):
            assert queue == sorted(queue, key=_rank), "a queue is out of order"
        assert len(self.running) <= self._max_running, "more sequences run than max_batch_size"
        for one in self.waiting:
            assert not one.pages and one.num_computed == 0, f"`{one.request_id}` waits with pages"
        for one in self.running:
            room = len(one.pages) * self._page_tokens
            assert one.num_computed <= room, f"`{one.request_id}` has computed past its pages"
            assert one.num_computed < one.num_tokens, f"`{one.request_id}` has nothing to do"

    def _match_if_it_fits(self, sequence: Sequence) -> bool:
        self.pages.match(sequence)
        if not (fits := self.pages.fit([*self.running, sequence])):
            self.pages.release(sequence)
        return fits

    def _preempt(self, sequence: Sequence) -> None:
        self._requeue(sequence)
        sequence.num_preemptions += 1
        self.num_preemptions += 1

    def _requeue(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.pages.release(sequence)
        insort(self.waiting, sequence, key=_rank)
