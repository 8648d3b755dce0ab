"""What the runner sees of a model: three calls, a fourth where steps are recorded.

`engines/weights/load.py` builds one from a folder.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from engines.ops import KvLayer
from engines.plain_rows import PlainRows
from engines.spec import ModelSpec
from engines.step import StepInput
from engines.vision.parts import ImagePixels


class Network(Protocol):
    """A loaded model on one rank."""

    @property
    def spec(self) -> ModelSpec:
        """The model's hyper-parameters."""
        ...

    def encode_images(self, images: Sequence[ImagePixels], *, max_tiles: int) -> list[Tensor]:
        """Return the rows [rows, hidden] of each picture, encoding at most `max_tiles` tiles at once."""
        ...

    def hidden(self, step: StepInput, kv: Sequence[KvLayer]) -> Tensor:
        """Run the decoder over the step, writing its K and V; return the normed sampled rows, [S, hidden]."""
        ...

    def logits(self, hidden_SH: Tensor) -> Tensor:
        """Return logits [S, vocab] in the compute dtype (padding rows of the head cut off)."""
        ...


class ChoosingNetwork(Network, Protocol):
    """A network that goes from steps straight to their tokens where all rows are plain."""

    def choose(self, step: StepInput, rows: PlainRows) -> Tensor:
        """Run the step over the pages that the network was made with and return ids int64 [S].

        As `engines.sampling.sample` would choose them: an id equal to the vocabulary's size marks a row that
        held a NaN. The tensor holds until the next step is run.
        """
        ...
