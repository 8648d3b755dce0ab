"""A KV cache of digests: the reference that the scheduler's page tables are held to.

Each slot holds a digest of everything its key and value would depend on: the rotary regime, all tokens up
to it, and the images among them. A step first writes all its tokens, then reads whole sequences, like a
decoder layer does. The next token of a sequence follows from the digest of its last slot, so one wrong page
anywhere changes the output.
"""

from engines.schedule.batch_plan import BatchPlan, Chunk
from engines.schedule.sequence import Sequence

VOCABULARY = 50


def prefix_digests(sequence: Sequence, token_ids: list[int]) -> list[int]:
    """What each slot of the sequence with these tokens must hold."""
    image_of = {
        slot: (image.key, slot - image.start)
        for image in sequence.images
        for slot in range(image.start, image.end)
    }
    digests, digest = [], hash(sequence.root_key)
    for position, token in enumerate(token_ids):
        digest = hash((digest, token, image_of.get(position)))
        digests.append(digest)
    return digests


def next_token(digest: int) -> int:
    """The token that follows a prefix: mostly one of three, so that what stood there before comes again."""
    return digest // 4 % (3 if digest % 4 else VOCABULARY)


class PagedMemory:
    """Runs plans and checks every slot they read."""

    def __init__(self, num_pages: int, page_tokens: int) -> None:
        self._page_tokens = page_tokens
        self._slots: list[int | None] = [None] * (num_pages * page_tokens)
        self._last: list[int] = []  # what the last step sampled

    def run(self, plan: BatchPlan, *, after_failure: bool = False) -> list[int]:
        """Write and read the step; return the sampled tokens.

        Like a device it knows the tokens that the last step sampled, whether or not the host does. After a
        step that failed unnoticed it computes nonsense from what that one left; otherwise nonsense is a bug.
        """
        expected = {
            chunk.sequence.request_id: prefix_digests(chunk.sequence, self._tokens(chunk, plan))
            for chunk in plan.chunks
        }
        sound = dict.fromkeys(expected, not after_failure)
        for chunk in plan.chunks:  # a prefix may be written by a chunk before, in this very step
            name = chunk.sequence.request_id
            if after_failure and chunk.proposed is None:
                read = [self._slots[self._slot(chunk.sequence, position)] for position in range(chunk.start)]
                sound[name] = read == expected[name][: chunk.start] and chunk.source_row is None
            for position in range(chunk.start, chunk.end):
                slot = self._slot(chunk.sequence, position)
                self._slots[slot] = expected[name][position] if sound[name] else None
        sampled = []
        for chunk in plan.chunks:
            name = chunk.sequence.request_id
            read = [self._slots[self._slot(chunk.sequence, position)] for position in range(chunk.end)]
            is_right = read == expected[name][: chunk.end]
            assert is_right or after_failure, f"`{name}` reads another prefix than its own"
            sampled.append(next_token(expected[name][chunk.end - 1]) if is_right else 0)
        self._last = [sampled[index] for index in plan.sampled] or self._last
        return [sampled[index] for index in plan.sampled]

    def spoil(self, plan: BatchPlan) -> None:
        """Write what a step that fails halfway leaves behind."""
        for chunk in plan.chunks:
            for position in range(chunk.start, chunk.end):
                self._slots[self._slot(chunk.sequence, position)] = None
        self._last = [0] * len(plan.sampled) or self._last

    def _tokens(self, chunk: Chunk, plan: BatchPlan) -> list[int]:
        """Return the tokens up to the last row of a sequence; that of `chunk` where it is proposed."""
        known = chunk.sequence.token_ids
        if chunk.proposed is not None:
            rows = [one for one in plan.chunks if one.sequence is chunk.sequence]
            places = [one.start for one in rows]
            assert places == list(range(len(known) - 1, len(known) - 1 + len(rows))), "rows leave a gap"
            return known + [one.proposed for one in rows[: rows.index(chunk) + 1] if one.proposed is not None]
        if chunk.source_row is None:
            return known
        assert len(known) == chunk.end - 1, "one token alone may be known to the device only"
        return [*known, self._last[chunk.source_row]]

    def _slot(self, sequence: Sequence, position: int) -> int:
        page, offset = divmod(position, self._page_tokens)
        return sequence.pages[page] * self._page_tokens + offset
