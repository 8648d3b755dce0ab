"""The pages that sequences hold: taken chunk by chunk, shared by prefix, given back. Ints only.

Who runs, and who gives way where pages run out, is said elsewhere (`queues.py`).
"""

from collections.abc import Iterable
from collections.abc import Sequence as Seq

from engines.memory.kv_pages import KvPages
from engines.memory.prefix_cache import PrefixCache
from engines.schedule.sequence import Sequence


class SequencePages:
    """A pool of pages, and the books of `Sequence` about those that it holds."""

    def __init__(self, *, num_pages: int, page_tokens: int, prefix_caching: bool) -> None:
        self._page_tokens = page_tokens
        self._pool = KvPages(num_pages)
        self._cache = PrefixCache(self._pool, enabled=prefix_caching)

    @property
    def num_used(self) -> int:
        """Pages held by sequences."""
        return self._pool.num_pages - self._pool.num_free

    @property
    def num_cached(self) -> int:
        """Free pages that the prefix cache can still hand out."""
        return self._cache.num_idle

    def holds(self, num_tokens: int) -> bool:
        """Tell whether a sequence of this length fits into the whole pool."""
        return self._for(num_tokens) <= self._pool.num_pages

    def fit(self, everybody: Seq[Sequence]) -> bool:
        """Tell whether these can run together: all to their last token, or for now with a page more each."""
        if sum(self._for(one.max_tokens) for one in everybody) <= self._pool.num_pages:
            return True
        missing = sum(max(self._for(one.num_tokens) - len(one.pages), 0) for one in everybody)
        return missing + len(everybody) <= self._pool.num_free

    def match(self, sequence: Sequence) -> None:
        """Extend a sequence by pages that others have computed; its last token is always left to compute."""
        size = self._page_tokens
        while self._cache.enabled and sequence.num_computed == len(sequence.pages) * size:
            index = len(sequence.pages)
            if sequence.is_scored or (index + 1) * size >= sequence.num_tokens:
                return
            page = self._cache.match(sequence.page_key(index, size))
            if page is None:
                return
            sequence.pages.append(page)
            sequence.num_inserted = index + 1
            sequence.num_computed += size
            if sequence.num_preemptions == 0:
                sequence.cached_tokens += size

    def lacks(self, sequence: Sequence, num_tokens: int) -> bool:
        """Tell whether the next tokens of a sequence need more pages than are free."""
        return self._missing(sequence, num_tokens) > self._pool.num_free

    def extend(self, sequence: Sequence, num_tokens: int) -> int:
        """Take pages for the next tokens as far as there are any; return how many tokens they hold."""
        for _ in range(min(self._missing(sequence, num_tokens), self._pool.num_free)):
            sequence.pages.append(self._cache.allocate())
        return min(num_tokens, len(sequence.pages) * self._page_tokens - sequence.num_computed)

    def insert_full(self, sequence: Sequence, num_computed: int) -> list[int]:
        """Make pages findable that are full up to there; one with a token not known here waits for it.

        Returns those that nobody else had made findable.
        """
        if not self._cache.enabled:
            return []
        inserted: list[int] = []
        end = min(num_computed, len(sequence.token_ids))
        for index in range(sequence.num_inserted, end // self._page_tokens):
            page = sequence.pages[index]
            if self._cache.insert(sequence.page_key(index, self._page_tokens), page):
                inserted.append(page)
            sequence.num_inserted = index + 1
        return inserted

    def forget(self, pages: Iterable[int]) -> None:
        """Make pages unfindable."""
        for page in pages:
            self._cache.forget(page)

    def forget_sequence(self, sequence: Sequence) -> None:
        """Make every page of a sequence unfindable, also where it was preempted and holds none any more."""
        for index in range(len(sequence.token_ids) // self._page_tokens):
            self._cache.forget_key(sequence.page_key(index, self._page_tokens))

    def flush(self) -> None:
        """Make all pages unfindable."""
        self._cache.flush()

    def release(self, sequence: Sequence) -> None:
        """Take all pages from a sequence, which has computed nothing then."""
        self._cache.release(sequence.pages)
        del sequence.pages[:]
        sequence.num_inserted = 0
        sequence.num_computed = 0
        if sequence.admitted_s is None:  # it was only tried
            sequence.cached_tokens = 0

    def check_integrity(self, running: Iterable[Sequence]) -> None:
        """Raise AssertionError unless these hold what the pool has given out, and the cache agrees."""
        self._pool.check_integrity(page for sequence in running for page in sequence.pages)
        self._cache.check_integrity()

    def _missing(self, sequence: Sequence, num_tokens: int) -> int:
        return max(self._for(sequence.num_computed + num_tokens) - len(sequence.pages), 0)

    def _for(self, num_tokens: int) -> int:
        return -(-num_tokens // self._page_tokens)
