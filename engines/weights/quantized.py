"""One quantized linear layer of a network from the packed layers of a checkpoint that it is made of.

The same rules and pieces place its rows as place those of an unquantized one; what a rank keeps of columns is
cut by whole groups.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from engines.errors import CheckpointError
from engines.ops import Fp8, Int4, Int8
from engines.quant.int4_tiles import linear_int4
from engines.quant.packed_layers import PackedLayer, Rows
from engines.weights.match import Claim
from engines.weights.split import local_shape, pieces, split_pairs

WEIGHT = ".weight"


def packed_shapes(
    shapes: Mapping[str, tuple[int, ...]], packed: Mapping[str, PackedLayer], *, aside: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a checkpoint with each packed layer as the one weight that it stands for.

    `aside` are the suffixes of tensors that belong to packed layers.
    """
    plain = {
        name: shape
        for name, shape in shapes.items()
        if not any(name.endswith(suffix) and name.removesuffix(suffix) in packed for suffix in aside)
    }
    return plain | {module + WEIGHT: layer.shape for module, layer in packed.items()}


def quantized_linear(
    claims: Sequence[Claim],
    packed: Mapping[str, PackedLayer],
    *,
    rank: int,
    tp: int,
    device: torch.device,
) -> Int4 | Fp8 | Int8:
    """Return this rank's share of the layer that the claims make up; the bias is not among them.

    Raises CheckpointError where the parts of a fused layer do not go together.
    """
    parameter = claims[0].parameter
    layers = [packed[claim.source.removesuffix(WEIGHT)] for claim in claims]
    perm_I = _common_permutation(claims, layers, tp=tp)
    outputs, inputs = local_shape(parameter, tp=tp)
    first = layers[0].rows(0, 1)
    groups = _share_of_groups(parameter.name, first, inputs=inputs, all_inputs=layers[0].shape[1])
    target = Rows(
        codes_RI=torch.zeros((outputs, inputs), dtype=first.codes_RI.dtype),
        scales_RG=torch.zeros((outputs, groups), dtype=first.scales_RG.dtype),
        zeros_RG=None if first.zeros_RG is None else torch.zeros((outputs, groups), dtype=torch.uint8),
    )
    for claim, layer in zip(claims, layers, strict=True):
        _copy(target, claim, layer, rank=rank, tp=tp)
    if claims[0].rule.rotary_pairs:
        target = _reordered(target, split_pairs(claims[0].rule, parameter, tp=tp))
    if target.zeros_RG is None:
        kind = Fp8 if target.codes_RI.dtype == torch.float8_e4m3fn else Int8
        scale_O = target.scales_RG[:, 0].contiguous().to(device)
        return kind(weight_OI=target.codes_RI.to(device), scale_O=scale_O, bias_O=None)
    return linear_int4(
        target.codes_RI.to(device),
        scales_GO=target.scales_RG.T.to(device),
        zeros_GO=target.zeros_RG.T.to(device),
        perm_I=None if perm_I is None else perm_I.to(device),
    )


def _common_permutation(claims: Sequence[Claim], layers: Sequence[PackedLayer], *, tp: int) -> Tensor | None:
    perm_I = layers[0].perm_I
    same = [
        layer.perm_I is None
        if perm_I is None
        else layer.perm_I is not None and torch.equal(perm_I, layer.perm_I)
        for layer in layers
    ]
    if not all(same):
        names = ", ".join(f"`{claim.source.removesuffix(WEIGHT)}`" for claim in claims)
        raise CheckpointError(
            f"{names} order their inputs differently (g_idx): layers that run as one must share the order; "
            "quantize again without act-order (desc_act=false)"
        )
    if perm_I is not None and tp > 1 and claims[0].parameter.split == "cols":
        raise CheckpointError(
            f"`{claims[0].source}` orders its inputs by weight (desc_act): ranks cannot share it; use "
            "engine.tp=1 or quantize again without act-order"
        )
    return perm_I


def _share_of_groups(name: str, rows: Rows, *, inputs: int, all_inputs: int) -> int:
    groups = rows.scales_RG.shape[1]
    if groups == 1:  # of the whole layer, so of any share of it too
        return 1
    if groups * inputs % all_inputs:
        raise CheckpointError(
            f"the {groups} groups of `{name}` cannot be shared by {all_inputs // inputs} ranks: choose an "
            "engine.tp that divides them"
        )
    return groups * inputs // all_inputs


def _copy(target: Rows, claim: Claim, layer: PackedLayer, *, rank: int, tp: int) -> None:
    for piece in pieces(claim.rule, claim.parameter, rank=rank, tp=tp):
        if piece.axis == 0:
            rows, at = (
                layer.rows(piece.source, piece.length),
                slice(piece.target, piece.target + piece.length),
            )
        else:
            rows, at = _columns(layer, piece.source, piece.length), slice(None)
        target.codes_RI[at] = rows.codes_RI
        target.scales_RG[at] = rows.scales_RG
        if target.zeros_RG is not None and rows.zeros_RG is not None:
            target.zeros_RG[at] = rows.zeros_RG


def _columns(layer: PackedLayer, start: int, length: int) -> Rows:
    rows = layer.rows(0, layer.shape[0])
    groups, inputs = rows.scales_RG.shape[1], layer.shape[1]
    own = slice(0, 1) if groups == 1 else slice(start * groups // inputs, (start + length) * groups // inputs)
    return Rows(
        codes_RI=rows.codes_RI[:, start : start + length],
        scales_RG=rows.scales_RG[:, own],
        zeros_RG=None if rows.zeros_RG is None else rows.zeros_RG[:, own],
    )


def _reordered(rows: Rows, order: list[int]) -> Rows:
    return Rows(
        codes_RI=rows.codes_RI[order],
        scales_RG=rows.scales_RG[order],
        zeros_RG=None if rows.zeros_RG is None else rows.zeros_RG[order],
    )
