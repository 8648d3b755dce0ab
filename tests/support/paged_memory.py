"""A KV cache of digests: the reference that the scheduler's page tables are held to.

Each slot holds a digest of everything its key and value would depend on: the rotary regime, all tokens up
to it, and the images among them. A step first writes all its tokens, then reads whole sequences, like a
decoder layer does. The next token of a sequence follows from the digest of its last slot, so one wrong page
anywhere changes the output.
"""

from engines.batch_plan import BatchPlan
from engines.sequence import Sequence

VOCABULARY = 50


def prefix_digests(sequence: Sequence) -> list[int]:
    """What each slot of the sequence must hold."""
    image_of = {
        slot: (image.key, slot - image.start)
        for image in sequence.images
        for slot in range(image.start, image.end)
    }
    digests, digest = [], hash(sequence.root_key)
    for position, token in enumerate(sequence.token_ids):
        digest = hash((digest, token, image_of.get(position)))
        digests.append(digest)
    return digests


def next_token(digest: int) -> int:
    """The token that follows a prefix."""
    return digest % VOCABULARY


class PagedMemory:
    """Runs plans and checks every slot they read."""

    def __init__(self, num_pages: int, page_tokens: int) -> None:
        self._page_tokens = page_tokens
        self._slots: list[int | None] = [None] * (num_pages * page_tokens)

    def run(self, plan: BatchPlan) -> list[int]:
        """Write and read the step; return the sampled tokens."""
        expected = {chunk.sequence.request_id: prefix_digests(chunk.sequence) for chunk in plan.chunks}
        for chunk in plan.chunks:
            for position in range(chunk.start, chunk.end):
                slot = self._slot(chunk.sequence, position)
                self._slots[slot] = expected[chunk.sequence.request_id][position]
        for chunk in plan.chunks:
            read = [self._slots[self._slot(chunk.sequence, position)] for position in range(chunk.end)]
            name = chunk.sequence.request_id
            assert read == expected[name][: chunk.end], f"`{name}` reads another prefix than its own"
        return [next_token(expected[chunk.sequence.request_id][chunk.end - 1]) for chunk in plan.sampling]

    def spoil(self, plan: BatchPlan) -> None:
        """Write what a step that fails halfway leaves behind."""
        for chunk in plan.chunks:
            for position in range(chunk.start, chunk.end):
                self._slots[self._slot(chunk.sequence, position)] = None

    def _slot(self, sequence: Sequence, position: int) -> int:
        page, offset = divmod(position, self._page_tokens)
        return sequence.pages[page] * self._page_tokens + offset
