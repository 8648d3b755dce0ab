"""A vision-language model on one rank: tower, projector and decoder behind the three calls of `Network`.

Legend: I tiles, S side in pixels, C colours, M rows a tile gives, O decoder hidden.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from engines.decoder.llama_like import LlamaLike
from engines.ops import KvLayer, Ops
from engines.parallel import TpGroup
from engines.spec import ModelSpec, VisionSpec
from engines.step import StepInput
from engines.vision.projectors import PixelShuffleMlp
from engines.vision.towers.intern_vit import InternVit


class Vlm:
    """Implements `engines.network.Network` over parameters by name (`engines/weights/parameters.py`)."""

    def __init__(self, spec: ModelSpec, params: Mapping[str, Tensor], *, ops: Ops, group: TpGroup) -> None:
        self._spec = spec
        self._decoder = LlamaLike(spec.decoder, params, ops=ops, group=group)
        self._vision = None if spec.vision is None else Vision(spec.vision, params, ops=ops)

    @property
    def spec(self) -> ModelSpec:
        """The model's hyper-parameters."""
        return self._spec

    def encode_images(self, tiles_ISSC: Tensor) -> Tensor:
        """Return [I, M, O] rows for uint8 tiles."""
        assert self._vision is not None, "a text model is given no images"
        return self._vision(tiles_ISSC)

    def hidden(self, step: StepInput, kv: Sequence[KvLayer]) -> Tensor:
        """Run the decoder over the step and return the normed rows that are sampled."""
        return self._decoder.hidden(step, kv)

    def logits(self, hidden_SH: Tensor) -> Tensor:
        """Return fp32 logits."""
        return self._decoder.logits(hidden_SH)


class Vision:
    """Pixels to rows of the prompt."""

    def __init__(self, spec: VisionSpec, params: Mapping[str, Tensor], *, ops: Ops) -> None:
        table = params["vision.positions"]
        self._dtype = table.dtype
        self._mean_C = torch.tensor(spec.pixels.mean, device=table.device)
        self._std_C = torch.tensor(spec.pixels.std, device=table.device)
        self._tower = InternVit(spec.tower, params, image=spec.pixels.image, ops=ops)
        self._projector = PixelShuffleMlp(spec.projector, params, ops=ops)

    def __call__(self, tiles_ISSC: Tensor) -> Tensor:
        """Return [I, M, O]."""
        pixels_ISSC = (tiles_ISSC.to(torch.float32) / 255 - self._mean_C) / self._std_C
        return self._projector(self._tower(pixels_ISSC.to(self._dtype)))
