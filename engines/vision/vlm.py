"""A vision-language model on one rank: towers, projector and decoder behind the three calls of `Network`.

Legend: M rows of a picture, O decoder hidden.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from engines.decoder.registry import build_decoder
from engines.ops import KvLayer, Ops
from engines.parallel import TpGroup
from engines.quant.linear_tensors import Params
from engines.spec import ModelSpec
from engines.steps.step import StepInput
from engines.vision.assembly.tiles import Tiles
from engines.vision.device_pixels import DevicePixels
from engines.vision.parts import ImagePixels
from engines.vision.passes import tower_weight

if TYPE_CHECKING:
    from engines.vision.parts import RecordPass


class Vlm:
    """Implements `engines.network.Network` over parameters by name (`engines/weights/parameters.py`)."""

    def __init__(self, spec: ModelSpec, params: Params, *, ops: Ops, group: TpGroup) -> None:
        self._spec = spec
        self.outline = without_numbers(params)
        vision = spec.vision
        self._decoder = build_decoder(spec.decoder, params, ops=ops, group=group)
        self._encoder = None if vision is None else vision.assembly.build(vision, params, ops=ops)
        self._pixels: DevicePixels | None = None
        if vision is not None:
            device = tower_weight(vision, params).device
            self._pixels = DevicePixels(vision.pixels, ops=ops, device=device)

    @property
    def spec(self) -> ModelSpec:
        """The model's hyper-parameters."""
        return self._spec

    def encode_images(self, images: Sequence[ImagePixels], *, max_tiles: int) -> list[Tensor]:
        """Return the rows [M, O] of each picture."""
        assert self._encoder is not None and self._pixels is not None, "a text model is given no images"
        return self._encoder(self._pixels(images), max_tiles)

    def record_passes(self, record: "RecordPass") -> None:
        """Let the encoder take its passes from recordings, where all of them are alike."""
        if isinstance(self._encoder, Tiles):
            self._encoder.record(record)

    def hidden(self, step: StepInput, kv: Sequence[KvLayer]) -> Tensor:
        """Run the decoder over the step and return the normed rows that are sampled."""
        return self._decoder.hidden(step, kv)

    def logits(self, hidden_SH: Tensor) -> Tensor:
        """Return logits."""
        return self._decoder.logits(hidden_SH)


def without_numbers(params: Params) -> dict[str, Tensor]:
    """Return parameters that take no memory; what says how others are to be read keeps its number."""
    return {
        name: x if x.dim() == 0 and not x.is_floating_point() else x.to("meta") for name, x in params.items()
    }
