"""Quantizing the four linear layers of one decoder layer by what flows through them.

    qkv, gate_up   read a norm: its weights take the inverse of their scales
    o              reads values: the rows of v take it, one scale for all query heads of a value head
    down           reads the FFN's product: the rows of up take it

Legend: O outputs, I inputs, K KV heads, D head dim.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.quant import gptq
from engines.quant.awq import search_scale
from engines.quant.method import Method
from engines.quant.rounding import Codes, round_groups, round_outputs
from engines.quant.smooth import search_migration
from engines.quant.statistics import InputStatistics
from engines.spec import DecoderSpec

LINEARS = ("qkv", "o", "gate_up", "down")
NORMS = {"qkv": "attention_norm", "gate_up": "ffn_norm"}

Params = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizedLayer:
    """What one layer became."""

    linears: dict[str, Codes]  # by parameter name
    changed: Params  # norms and biases that took scales
    errors: dict[str, float]  # of each linear layer's output, relative, over the calibration


def quantize_layer(
    spec: DecoderSpec, params: Params, name: str, statistics: dict[str, InputStatistics], method: Method
) -> QuantizedLayer:
    """Return the layer under `name`; `statistics` has the inputs of each linear layer by parameter name."""
    before = {key: params[key].float() for key in params}
    after, scales = dict(before), dict[str, Tensor]()
    if method.search:
        for linear in LINEARS:
            scales[linear] = _migrate(spec, after, f"{name}.{linear}", statistics, method)
    linears, errors = {}, {}
    for linear in LINEARS:
        key = f"{name}.{linear}.weight"
        scale_I = scales.get(linear, torch.ones_like(statistics[key].mean_I))
        linears[key] = _codes(after[key], scale_I, statistics[key], method)
        errors[key] = _error(after[key], linears[key], scale_I, statistics[key])
    changed = {
        key: after[key].to(params[key].dtype)
        for key in params
        if key not in linears and not torch.equal(after[key], before[key])
    }
    return QuantizedLayer(linears=linears, changed=changed, errors=errors)


def _migrate(
    spec: DecoderSpec, after: Params, path: str, statistics: dict[str, InputStatistics], method: Method
) -> Tensor:
    """Search the scales of a layer's inputs and fold them in; return what its inputs are divided by."""
    key, (layer, _, linear) = f"{path}.weight", path.rpartition(".")
    seen = statistics[key]
    shared = _shared_by_heads(spec) if linear == "o" else _unshared
    if method.format == "awq":
        size = method.group_size or after[key].shape[1]
        scale_I = search_scale(after[key], seen.gram_II, seen.mean_I, group_size=size, shared=shared)
        if not _gains(after[key], scale_I, seen, method):
            return torch.ones_like(scale_I)
    else:
        scale_I = search_migration(after[key], seen.rows_RI, seen.largest_I, shared=shared)
    if linear in NORMS:
        scale_I = _into_norm(after, f"{layer}.{NORMS[linear]}.weight", scale_I)
    elif linear == "o":
        scale_KD = scale_I.view(spec.num_kv_heads, -1, spec.head_dim)[:, 0]
        _into_rows(after, f"{layer}.qkv", scale_KD.flatten())
    else:
        _into_rows(after, f"{layer}.gate_up", scale_I)
    after[key] = after[key] * scale_I
    return scale_I


def _gains(weight_OI: Tensor, scale_I: Tensor, seen: InputStatistics, method: Method) -> bool:
    """Whether the scales lower the error that is left once later inputs made up for it."""
    scaled, plain = (
        _error(weight_OI * by_I, _codes(weight_OI * by_I, by_I, seen, method), by_I, seen)
        for by_I in (scale_I, torch.ones_like(scale_I))
    )
    return scaled < plain


def _into_norm(after: Params, key: str, scale_I: Tensor) -> Tensor:
    """Divide a norm's weight; return the scales as they are after it was rounded to 16 bits."""
    old_I = after[key]
    new_I = (old_I / scale_I).bfloat16().float()
    after[key] = torch.where(old_I == 0, old_I, new_I)
    return torch.where((old_I == 0) | (new_I == 0), torch.ones_like(scale_I), old_I / new_I)


def _into_rows(after: Params, path: str, scale_O: Tensor) -> None:
    """Divide the last rows of a layer, v of qkv or up of gate_up, and their biases."""
    for kind in ("weight", "bias"):
        if f"{path}.{kind}" in after:
            rows = after[f"{path}.{kind}"].clone()
            rows[-len(scale_O) :] /= scale_O.view(-1, *[1] * (rows.dim() - 1))
            after[f"{path}.{kind}"] = rows


def _shared_by_heads(spec: DecoderSpec) -> Callable[[Tensor], Tensor]:
    """Return the mean over the query heads that read one value head, in the place of each."""

    def shared(values_I: Tensor) -> Tensor:
        values_KGD = values_I.view(spec.num_kv_heads, -1, spec.head_dim)
        return values_KGD.mean(1, keepdim=True).expand_as(values_KGD).flatten()

    return shared


def _unshared(values_I: Tensor) -> Tensor:
    return values_I


def _codes(weight_OI: Tensor, scale_I: Tensor, seen: InputStatistics, method: Method) -> Codes:
    if not method.is_4_bit:
        return round_outputs(weight_OI, method.format)
    if method.compensates:
        return gptq.solve(weight_OI, seen.gram_II / (scale_I[:, None] * scale_I), method)
    return round_groups(weight_OI, method.group_size or weight_OI.shape[1])


def _error(weight_OI: Tensor, codes: Codes, scale_I: Tensor, seen: InputStatistics) -> float:
    gram_II = seen.gram_II / (scale_I[:, None] * scale_I)
    moved_OI = codes.dequantized() - weight_OI
    lost, whole = (((matrix @ gram_II) * matrix).sum() for matrix in (moved_OI, weight_OI))
    return float((lost / whole.clamp(min=1e-12)).clamp(min=0).sqrt())
