"""What may follow several answers, found at once: each takes tens of microseconds, and a step waits for all.

The threads are llguidance's own and need no interpreter.
"""

from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING

import numpy as np

from engines.schedule.batch_plan import Chunk

if TYPE_CHECKING:
    from llguidance import LLExecutor

THREADS, FEW = 4, 2  # of how many masks each is made where it is asked for


class MasksAtOnce:
    """Makes the masks of a step ahead of those who ask for one after the other."""

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
        if self._executor is None:
            from llguidance import LLExecutor

            self._executor = LLExecutor(THREADS)
        num_bytes = waiting[0][0].num_mask_bytes
        masks = np.zeros((len(waiting), num_bytes), dtype=np.uint8)
        places = [(matcher, place) for place, (_, matcher) in enumerate(waiting)]
        self._executor.unsafe_compute_mask_ptr(places, masks.ctypes.data, num_bytes, len(waiting))
        for (grammar, _), mask in zip(waiting, masks, strict=True):
            grammar.take_mask(mask.tobytes())
