"""Work on one picture in several threads; Pillow and hashlib leave the interpreter to them. Torch-free."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

Result = TypeVar("Result")

THREADS = 4  # of one picture; a server has several pictures at a time
LARGE_PIXELS = 1 << 18  # from which on the work takes longer than starting threads (0.1 ms each)


def side_by_side(calls: Sequence[Callable[[], Result]], *, pixels: int) -> list[Result]:
    """Return what the calls return, in their order; one after another for a picture of few pixels."""
    if len(calls) < 2 or pixels < LARGE_PIXELS:
        return [call() for call in calls]
    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


def bands(length: int, *, most: int = THREADS) -> list[tuple[int, int]]:
    """Cut [0, length) into `most` stretches, a thread each, none of them empty."""
    count = max(1, min(most, length))
    return list(pairwise(length * i // count for i in range(count + 1)))
