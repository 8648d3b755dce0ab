"""The rows of calibration pictures, from the tower as it is and, where that is asked for, quantized.

Linear layers of towers and projectors are rounded to nearest in 8 bits; their loss is that of the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.ops import Fp8, Int8
from engines.pytorch.ops_torch import TorchOps
from engines.quant.decoder_stream import CalibrationPrompt
from engines.quant.layer_store import LayerStore
from engines.quant.linear_tensors import tensors_of
from engines.quant.method import Method
from engines.quant.rounding import Codes, round_outputs
from engines.weights.quantized_bytes import is_linear

MAX_TILES = 8
Features = list[dict[bytes, Tensor]]  # rows of a picture by its key, one mapping a prompt


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
        nothing: Features = [{} for _ in prompts]
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
    found: Features = []
    for prompt in prompts:
        pixels = [image.pixels for image in prompt.images if image.pixels is not None]
        rows = encoder(pixels, MAX_TILES) if pixels else []
        found.append({image.key: part.cpu() for image, part in zip(prompt.images, rows, strict=True)})
    return found


def _error(plain: Features, quantized: Features) -> float | None:
    pairs = [
        (rows.float(), other[key].float())
        for before, other in zip(plain, quantized, strict=True)
        for key, rows in before.items()
    ]
    if not pairs:
        return None
    moved = sum(float((after - before).square().sum()) for before, after in pairs)
    whole = sum(float(before.square().sum()) for before, _ in pairs)
    return float((moved / max(whole, 1e-12)) ** 0.5)
