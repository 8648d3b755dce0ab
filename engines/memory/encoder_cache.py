"""Outputs of the vision tower, kept by the content of the image.

An image that a sequence is in the middle of is never dropped; beside those, the images used last are kept
up to a number of bytes. Images whose rows are all in the prefix cache never get here.

Legend: M rows of an image, H hidden.
"""

from collections import OrderedDict
from collections.abc import Collection

from torch import Tensor


class EncoderCache:
    """Image rows [M, H] by image key."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rows: OrderedDict[bytes, Tensor] = OrderedDict()  # the longest unused first
        self._bytes = 0

    @property
    def num_bytes(self) -> int:
        """Bytes held."""
        return self._bytes

    def get(self, key: bytes) -> Tensor | None:
        """Return the rows of an image, None where they are not here."""
        rows_MH = self._rows.get(key)
        if rows_MH is not None:
            self._rows.move_to_end(key)
        return rows_MH

    def put(self, key: bytes, rows_MH: Tensor) -> None:
        """Keep the rows of an image that was not here; `trim` decides for how long."""
        assert key not in self._rows, "an image was encoded twice"
        self._rows[key] = rows_MH
        self._bytes += rows_MH.nbytes

    def trim(self, in_use: Collection[bytes]) -> None:
        """Drop the longest unused images until the rest fits, except those in use."""
        for key in tuple(self._rows):
            if self._bytes <= self._max_bytes:
                return
            if key not in in_use:
                self._bytes -= self._rows.pop(key).nbytes
