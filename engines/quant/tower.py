"""The rows of calibration pictures, from the tower as it is and, where that is asked for, quantized.

Linear layers of towers and projectors are rounded to nearest in 8 bits; their loss is that of the rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.ops import Fp8, Int8
from engines.pytorch.ops_torch import TorchOps
from engines.quant.layer_store import LayerStore
from engines.quant.linear_tensors import tensors_of
from engines.quant.method import Method
from engines.quant.prompt_steps import CalibrationPrompt
from engines.quant.rounding import Codes, round_outputs
from engines.vision.parts import ImagePixels
from engines.weights.quantized_bytes import is_linear

PICTURES_AT_ONCE = 16
MAX_TILES = {"cuda": 32, "npu": 32, "cpu": 8}  # of a pass
Features = dict[bytes, Tensor]  # rows of a picture by its key, on the host


@dataclass(frozen=True, kw_only=True, slots=True)
class TowerOutcome:
    """What the tower gives."""

    plain: Features
    quantized: Features  # the same object where the tower stays as it is
    codes: dict[str, Codes]  # by parameter name
    error: float | None  # |quantized - plain| / |plain|; None: not quantized


def run_tower(
    store: LayerStore,
    prompts: Sequence[CalibrationPrompt],
    method: Method,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> TowerOutcome:
    """Encode every picture; the tower leaves the device again."""
    if store.spec.vision is None:
        nothing: Features = {}
        return TowerOutcome(plain=nothing, quantized=nothing, codes={}, error=None)
    params = store.load(lambda name: not name.startswith("decoder."), device=device, dtype=dtype)
    plain = _encoded(store, params, prompts)
    if not method.vision:
        return TowerOutcome(plain=plain, quantized=plain, codes={}, error=None)
    names = [claim.parameter.name for claim in store.claims if is_linear(claim.parameter)]
    codes = {name: round_outputs(params[name], method.format) for name in names if name in params}
    kind = Int8 if method.format == "int8" else Fp8
    for name, made in codes.items():
        weight = kind(weight_OI=made.codes_OI, scale_O=made.scales_OG[:, 0].contiguous(), bias_O=None)
        params |= tensors_of(weight, name.removesuffix(".weight"))
    quantized = _encoded(store, params, prompts)
    return TowerOutcome(plain=plain, quantized=quantized, codes=codes, error=_error(plain, quantized))


def _encoded(store: LayerStore, params: dict[str, Tensor], prompts: Sequence[CalibrationPrompt]) -> Features:
    vision = store.spec.vision
    assert vision is not None, "asked of models with a tower"
    encoder = vision.assembly.build(vision, params, ops=TorchOps())
    max_tiles = MAX_TILES[next(iter(params.values())).device.type]
    return encoded(lambda images: encoder(images, max_tiles), prompts)


def encoded(
    encode: Callable[[list[ImagePixels]], list[Tensor]], prompts: Sequence[CalibrationPrompt]
) -> Features:
    """Return the rows of every picture of the prompts, each encoded once, several at a time."""
    pictures = {
        image.key: image.pixels for prompt in prompts for image in prompt.images if image.pixels is not None
    }
    found: Features = {}
    keys = list(pictures)
    for first in range(0, len(keys), PICTURES_AT_ONCE):
        some = keys[first : first + PICTURES_AT_ONCE]
        rows = encode([pictures[key] for key in some])
        found |= {key: part.cpu() for key, part in zip(some, rows, strict=True)}
    return found


def _error(plain: Features, quantized: Features) -> float | None:
    if not plain:
        return None
    pairs = [(rows.float(), quantized[key].float()) for key, rows in plain.items()]
    moved = sum(float((after - before).square().sum()) for before, after in pairs)
    whole = sum(float(before.square().sum()) for before, _ in pairs)
    return float((moved / max(whole, 1e-12)) ** 0.5)
