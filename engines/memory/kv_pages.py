"""The pages of a KV cache as numbers: reference counts and one list of free pages. No tensors, no tokens.

The free list is also the memory of the prefix cache: a page that was released with `keep` goes to its far
end and may be retained again until `allocate` has used up everything in front of it.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable


class KvPages:
    """A pool of pages, each held by any number of sequences."""

    def __init__(self, num_pages: int) -> None:
        self._refs = [0] * num_pages
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_pages))

    @property
    def num_pages(self) -> int:
        """All pages."""
        return len(self._refs)

    @property
    def num_free(self) -> int:
        """Pages that nobody holds, kept ones included."""
        return len(self._free)

    def is_free(self, page: int) -> bool:
        """Whether nobody holds the page."""
        return page in self._free

    def allocate(self) -> int:
        """Take the free page whose content is worth least."""
        assert self._free, "allocate() without a free page: the scheduler must look at num_free first"
        page, _ = self._free.popitem(last=False)
        self._refs[page] = 1
        return page

    def retain(self, page: int) -> None:
        """Hold a page once more, or again."""
        if self._refs[page] == 0:
            del self._free[page]
        self._refs[page] += 1

    def release(self, page: int, *, keep: bool) -> None:
        """Give one hold back; a page nobody holds is free, to be reused last if it is to be kept."""
        assert self._refs[page] > 0, f"page {page} is released more often than it was held"
        self._refs[page] -= 1
        if self._refs[page] == 0:
            self._free[page] = None
            if not keep:
                self._free.move_to_end(page, last=False)

    def check_integrity(self, held: Iterable[int]) -> None:
        """Raise AssertionError unless the pool agrees with its holders; `held` names a page once a hold."""
        holds = Counter(held)
        for page, refs in enumerate(self._refs):
            assert refs == holds[page], f"page {page}: {refs} references, {holds[page]} holders"
            assert (refs == 0) == (page in self._free), f"page {page}: {refs} references and free at once"
