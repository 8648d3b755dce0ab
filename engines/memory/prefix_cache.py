"""Which pages hold which prefix: a chain of digests over tokens and images. No tensors.

The key of a page is a digest of the key before it, of its token ids, and of every image that has slots in
it (the image's own key and where in the image the page begins). Two prefixes have one key only if their
keys and values are equal, so a match needs no comparison; equal prompts with other pictures differ from the
first image slot on. The first link is `root_key`, which holds whatever else changes keys: the rotary regime
of the prompt.

A page is inserted when the step that fills it is scheduled, not when that step is done: in each layer all
keys of a step are written before any is read, so a sequence of the same step may already share it. `forget`
takes back what a failed step had promised.
"""

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from struct import pack

from engines.memory.kv_pages import KvPages

KEY_BYTES = 16


def root_key(regime: int, *, adapter: str | None = None) -> bytes:
    """Return the first link of the chain for prompts of one rotary regime (`RopeSpec.regime`) and adapter."""
    told = pack("<q", regime) + (b"" if adapter is None else adapter.encode())
    return hashlib.blake2b(told, digest_size=KEY_BYTES, person=b"kv-root").digest()


def page_key(
    parent: bytes, token_ids: Sequence[int], image_slots: Iterable[tuple[bytes, int, int, int]]
) -> bytes:
    """Return the key of a page that follows `parent`.

    `image_slots` has one entry an image with slots in this page: (its key, first slot in the page, slots in
    the page, offset in the image of the first).
    """
    digest = hashlib.blake2b(parent, digest_size=KEY_BYTES)
    digest.update(array("q", token_ids))
    for key, slot, count, offset in image_slots:
        digest.update(pack("<4q", len(key), slot, count, offset) + key)
    return digest.digest()


class PrefixCache:
    """Pages by key; all pages are taken and given back through here, so that no key outlives its page."""

    def __init__(self, pages: KvPages, *, enabled: bool) -> None:
        self._pages = pages
        self._enabled = enabled
        self._page_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._num_idle = 0

    @property
    def enabled(self) -> bool:
        """Whether pages are ever shared."""
        return self._enabled

    @property
    def num_idle(self) -> int:
        """Pages that nobody holds and that still can be matched."""
        return self._num_idle

    def match(self, key: bytes) -> int | None:
        """Return the page with this key, held once more, or None."""
        page = self._page_of.get(key)
        if page is not None:
            self._num_idle -= self._pages.is_free(page)
            self._pages.retain(page)
        return page

    def insert(self, key: bytes, page: int) -> bool:
        """Make a held page findable; False where the key is known already or the cache is off."""
        if not self._enabled or key in self._page_of:
            return False
        assert not self._pages.is_free(page), f"page {page} is inserted while nobody holds it"
        self._page_of[key] = page
        self._key_of[page] = key
        return True

    def forget(self, page: int) -> None:
        """Make a page unfindable, held or not."""
        is_idle = self._pages.is_free(page)
        self._num_idle -= self._drop_key(page) and is_idle

    def forget_key(self, key: bytes) -> None:
        """Make the page with this key unfindable, where there is one."""
        page = self._page_of.get(key)
        if page is not None:
            self.forget(page)

    def flush(self) -> None:
        """Make every page unfindable, held or not."""
        for page in tuple(self._key_of):
            self.forget(page)

    def allocate(self) -> int:
        """Take a free page; the longest unused cached one where no other is left."""
        page = self._pages.allocate()
        self._num_idle -= self._drop_key(page)
        return page

    def release(self, pages: Sequence[int]) -> None:
        """Give back the pages of one sequence, in order; a prefix is reused from its end."""
        for page in reversed(pages):
            keep = page in self._key_of
            self._pages.release(page, keep=keep)
            self._num_idle += keep and self._pages.is_free(page)

    def check_integrity(self) -> None:
        """Raise AssertionError unless keys and pages are inverse maps and the idle ones are counted."""
        assert {page: key for key, page in self._page_of.items()} == self._key_of, "keys and pages disagree"
        idle = sum(self._pages.is_free(page) for page in self._key_of)
        assert idle == self._num_idle, f"{idle} idle pages, {self._num_idle} counted"

    def _drop_key(self, page: int) -> bool:
        key = self._key_of.pop(page, None)
        if key is not None:
            del self._page_of[key]
        return key is not None
