"""How many tiles of pictures a step may encode beside sequences that decode.

An encoder pass runs inside its step, so everybody who decodes waits for it.
"""

from engines.schedule.sequence import Sequence


class TileBudget:
    """The budget of one step; the first picture of a step fits, however many tiles it has."""

    def __init__(self, most: int | None, *, num_decodes: int) -> None:
        """`most`: None bounds nothing, nor does any number where nobody decodes."""
        self._left = most if num_decodes else None
        self._is_first = True

    def tokens(self, sequence: Sequence, num_tokens: int) -> int:
        """Return how many of the next tokens of a prompt the step may hold: those before a picture too many.

        Pictures that start among them count, whether or not their rows are kept from an earlier request.
        """
        if self._left is None:
            return num_tokens
        start = sequence.num_computed
        for image in sequence.images:
            if not start <= image.start < start + num_tokens:
                continue
            tiles = image.num_tiles
            if tiles > self._left and not self._is_first:
                return image.start - start
            self._left = max(self._left - tiles, 0)
            self._is_first = False
        return num_tokens
