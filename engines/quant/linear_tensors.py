"""A linear layer among the named tensors of a network: `name.*` to `Weight` and back.

16 bits  name.weight; of a second copy in 12 bits name.bf12_tiles, name.bf12_factor
12 bits  name.tiles, name.factor
4 bits   name.tiles, name.scales, name.zeros, with act-order name.perm; name.group_size, one int on the host
8 bits   name.weight in e4m3 or int8, name.scale; of e4m3's copy in 7 bits name.fp7_tiles, name.fp7_scale
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from engines.ops import Bf12, Dense, Dense12, Fp7, Fp8, Int4, Int8, Weight
from engines.quant.bf12_shape import TILE_INPUTS

Params = Mapping[str, Tensor]  # the tensors of a network by name (`engines/weights/parameters.py`)


def linear_of(params: Params, name: str) -> Weight:
    """Return the linear layer stored under a name, with its bias if it has one."""
    bias = params.get(f"{name}.bias")
    if f"{name}.factor" in params:
        bf12 = Bf12(tiles_YXB=params[f"{name}.tiles"], factor_O=params[f"{name}.factor"])
        return Dense12(bf12=bf12, bias_O=bias)
    if f"{name}.tiles" in params:
        return Int4(
            tiles_XYB=params[f"{name}.tiles"],
            scales_GO=params[f"{name}.scales"],
            zeros_GO=params[f"{name}.zeros"],
            group_size=int(params[f"{name}.group_size"]),
            perm_I=params.get(f"{name}.perm"),
            bias_O=bias,
        )
    weight = params[f"{name}.weight"]
    if f"{name}.scale" not in params:
        return Dense(weight_OI=weight, bias_O=bias, bf12=bf12_under(params, name))
    scale = params[f"{name}.scale"]
    if weight.dtype == torch.float8_e4m3fn:
        return Fp8(weight_OI=weight, scale_O=scale, bias_O=bias, fp7=_fp7_under(params, name))
    return Int8(weight_OI=weight, scale_O=scale, bias_O=bias)


def bf12_under(params: Params, name: str) -> Bf12 | None:
    """Return the copy in 12 bits of the layer under a name; None where there is none."""
    if f"{name}.bf12_tiles" not in params:
        return None
    return Bf12(tiles_YXB=params[f"{name}.bf12_tiles"], factor_O=params[f"{name}.bf12_factor"])


def bf12_tensors(bf12: Bf12, name: str) -> dict[str, Tensor]:
    """Return the tensors of a copy in 12 bits under their names."""
    return {f"{name}.bf12_tiles": bf12.tiles_YXB, f"{name}.bf12_factor": bf12.factor_O}


def fp7_tensors(fp7: Fp7, name: str) -> dict[str, Tensor]:
    """Return the tensors of a copy in 7 bits under their names."""
    return {f"{name}.fp7_tiles": fp7.tiles_YXB, f"{name}.fp7_scale": fp7.scale_O}


def tensors_of(weight: Dense12 | Int4 | Fp8 | Int8, name: str) -> dict[str, Tensor]:
    """Return the tensors of a quantized layer without its bias, under their names."""
    if isinstance(weight, Dense12):
        return {f"{name}.tiles": weight.bf12.tiles_YXB, f"{name}.factor": weight.bf12.factor_O}
    if not isinstance(weight, Int4):
        return {f"{name}.weight": weight.weight_OI, f"{name}.scale": weight.scale_O}
    tensors = {
        f"{name}.tiles": weight.tiles_XYB,
        f"{name}.scales": weight.scales_GO,
        f"{name}.zeros": weight.zeros_GO,
        f"{name}.group_size": torch.tensor(weight.group_size),
    }
    return tensors if weight.perm_I is None else tensors | {f"{name}.perm": weight.perm_I}


def shape_of(weight: Weight) -> tuple[int, int]:
    """Return the outputs and inputs of a layer."""
    if isinstance(weight, Int4):
        groups, outputs = weight.scales_GO.shape
        return outputs, groups * weight.group_size
    if isinstance(weight, Dense12):
        return len(weight.bf12.factor_O), len(weight.bf12.tiles_YXB) * TILE_INPUTS
    outputs, inputs = weight.weight_OI.shape
    return outputs, inputs


def _fp7_under(params: Params, name: str) -> Fp7 | None:
    if f"{name}.fp7_tiles" not in params:
        return None
    return Fp7(tiles_YXB=params[f"{name}.fp7_tiles"], scale_O=params[f"{name}.fp7_scale"])
