"""What the runner sees of a model: three calls, three more where steps are recorded.

`engines/weights/load.py` builds one from a folder.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from engines.ops import KvLayer
from engines.sampling.choice_rows import ChoiceRows
from engines.spec import ModelSpec
from engines.steps.decode_rows import DecodeRows
from engines.steps.step import StepInput
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


class Replayed(NamedTuple):
    """What a replayed step left; the next one writes over it."""

    logits_SV: Tensor
    ids_S: Tensor  # int64


class ChoosingNetwork(Network, Protocol):
    """A network that chooses tokens as well, for steps in which every sequence decodes all in one.

    As `engines.sampling.next_token.sample` would choose them: an id equal to the vocabulary's size marks a
    row that held a NaN. Replayed steps run over the pages that the network was made with.
    """

    def choose(self, logits_SV: Tensor, rows: ChoiceRows) -> Tensor:
        """Return ids int64 [S]."""
        ...

    def replay(self, rows: DecodeRows, how: ChoiceRows | None) -> Replayed:
        """Run a step in which every sequence decodes; `how` None: its logits are wanted, not its ids."""
        ...

    def copy_ids(self, ids_S: Tensor, to_S: Tensor) -> None:
        """Queue a copy of ids int64 [S], to pinned memory of the host too."""
        ...
