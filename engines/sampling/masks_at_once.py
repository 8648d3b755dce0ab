"""What may follow several answers, found at once: each takes tens of microseconds, and a step waits for all.

The threads are llguidance's own and need no interpreter.
"""

from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING

import numpy as np

from engines.sampling.grammar_state import MaskBytes, Walk, next_bits, whole_mask
from engines.schedule.batch_plan import Chunk

if TYPE_CHECKING:
    from llguidance import LLExecutor, LLMatcher

THREADS, FEW = 4, 2  # fewer masks are made by who asks

Likely = list[tuple[int, bytes]]  # tokens, and what may follow each


class MasksAtOnce:
    """Makes masks for the steps of one engine."""

    def __init__(self) -> None:
        self._executor: LLExecutor | None = None

    def make(self, chunks: Seq[Chunk]) -> None:
        """Have grammars of sampled chunks know what may come behind their last tokens, which are known."""
        waiting = []
        for chunk in chunks:
            sequence = chunk.sequence
            if sequence.grammar is None or chunk.mask is not None or not chunk.is_current:
                continue
            matcher = sequence.grammar.matcher_behind(sequence.token_ids[sequence.num_prompt_tokens :])
            if matcher is not None:
                waiting.append((sequence.grammar, matcher))
        if len(waiting) < FEW:
            return
        masks = self._of([matcher for _, matcher in waiting], waiting[0][0].mask_bytes)
        for (grammar, _), mask in zip(waiting, masks, strict=True):
            grammar.take_mask(mask)

    def walked(self, walks: Seq[Walk], mask_bytes: MaskBytes) -> list[Likely]:
        """Return what each of the walks gives: all of them take a token, then the next."""
        found: list[Likely] = [[] for _ in walks]
        waiting: dict[int, LLMatcher] = {}  # by walk
        masks: dict[int, bytes | None] = dict.fromkeys(range(len(walks)))
        while masks:
            waiting.clear()
            for place, mask in masks.items():
                try:
                    waiting[place] = walks[place].send(mask)  # None begins a walk
                except StopIteration as end:
                    found[place] = end.value
            masks = dict(zip(waiting, self._of([*waiting.values()], mask_bytes), strict=True))
        return found

    def _of(self, matchers: Seq["LLMatcher"], mask_bytes: MaskBytes) -> list[bytes | None]:
        """Return what may come next in each; None where nothing can."""
        if len(matchers) < FEW:
            return [next_bits(matcher, mask_bytes.of_row) for matcher in matchers]
        if self._executor is None:
            from llguidance import LLExecutor

            self._executor = LLExecutor(THREADS)
        size = mask_bytes.of_tokens
        masks = np.zeros((len(matchers), size), dtype=np.uint8)
        places = [(matcher, place) for place, matcher in enumerate(matchers)]
        self._executor.unsafe_compute_mask_ptr(places, masks.ctypes.data, size, len(matchers))
        return [
            whole_mask(matcher, mask.tobytes(), mask_bytes.of_row)
            for matcher, mask in zip(matchers, masks, strict=True)
        ]
