"""The key under which a picture is cached: a digest of its pixels, made while they are on their way."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

Part = Callable[[], bytes | memoryview]  # gives a part's bytes
KeyOf = Callable[[], bytes]  # waits for a digest that is being made


class PictureKeys:
    """The threads of one deployment that digest pictures; hashlib leaves the interpreter to the others."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="digests")

    def begin(self, how: str, parts: Sequence[Part]) -> KeyOf:
        """Digest how a picture is prepared and its pixels part by part; the parts make the key.

        Whoever asks first digests what no thread has begun by then. A single part is small and left to that:
        waking a thread takes as long.
        """
        begun = [] if len(parts) == 1 else [self._threads.submit(_digest, part) for part in parts]

        @cache
        def key() -> bytes:
            return _key(how, _helped(begun, parts) if begun else [_digest(part) for part in parts])

        return key


def _helped(begun: Sequence[Future[bytes]], parts: Sequence[Part]) -> list[bytes]:
    """Return the digests of all parts; the last ones, begun last, are taken over first."""
    backwards = [
        _digest(part) if future.cancel() else future.result()
        for future, part in zip(reversed(begun), reversed(parts), strict=True)
    ]
    return backwards[::-1]


def _digest(part: Part) -> bytes:
    # SHA-256: processors have instructions for it. On the host of an H200 three times as fast as BLAKE2.
    return hashlib.sha256(part()).digest()


def _key(how: str, digests: Iterable[bytes]) -> bytes:
    key = hashlib.blake2b(how.encode(), digest_size=16)
    for digest in digests:
        key.update(digest)
    return key.digest()
