"""The tower that timm computes, over the engine's parameters.

Legend: I tiles, S side in pixels, C colours, H channels, L rows of the map, line by line.
"""

from torch import Tensor

from engines.ops import BytePixels
from engines.quant.linear_tensors import Params
from engines.vision.towers.timm_model import cut_behind, last_map, whole_model
from engines.vision.towers.timm_spec import TimmSpec


class TimmTower:
    """Holds timm's module with our tensors in place of its own: nothing is stored twice."""

    def __init__(self, spec: TimmSpec, params: Params, *, name: str) -> None:
        self._model = cut_behind(whole_model(spec.name), spec.name, spec.select_layer)
        ours = {tensor: params[f"{name}.{tensor}"] for tensor, _ in spec.tensors}
        missing, surplus = self._model.load_state_dict(ours, strict=False, assign=True)
        # Counters of batches, which only training reads, are all that the spec leaves out.
        assert not surplus and all(tensor.endswith("num_batches_tracked") for tensor in missing), missing
        like = next(iter(ours.values()))
        # Tables that timm computes itself and keeps out of its state dict go to the device here.
        self._model.to(device=like.device, dtype=like.dtype).requires_grad_(False)

    def __call__(self, pixels: Tensor | BytePixels) -> Tensor:
        """Return [I, L, H]."""
        numbers_ISSC = pixels.numbers() if isinstance(pixels, BytePixels) else pixels
        return last_map(self._model, numbers_ISSC.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
