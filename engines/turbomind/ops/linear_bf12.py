"""Launches `kernels/linear_bf12.cu`."""

import torch
from torch import Tensor

from engines.ops import Bf12
from engines.quant.bf12_shape import TILE_BYTES, TILE_INPUTS, TILE_OUTPUTS
from engines.turbomind.gpu import Gpu
from engines.turbomind.operands import check, rows
from engines.turbomind.ops import folded_norm
from engines.turbomind.ops.bf12_cut import Bf12Cut, bf12_cut
from engines.turbomind.ops.folded_norm import Added, Normed
from engines.turbomind.tensor_map import lines

MOST_ROWS = 1024  # rows beyond those of a block are further blocks of the same outputs


def fits(
    gpu: Gpu, num_rows: int, dtype: torch.dtype, weight: Bf12, *, gated: bool = False, kept_bytes: int = 0
) -> bool:
    """Return whether the kernel takes this product, and applies gates where `gated`.

    `kept_bytes` of shared memory are for a norm (`folded_norm.py`).
    """
    outputs = len(weight.factor_O)
    return (
        gpu.capability == (9, 0)
        and 0 < num_rows <= MOST_ROWS
        and dtype == torch.bfloat16
        and outputs % (TILE_OUTPUTS * (2 if gated else 1)) == 0
        and _cut(gpu, num_rows, weight, gated=gated, kept_bytes=kept_bytes) is not None
    )


def linear_bf12(
    gpu: Gpu,
    x_TI: Tensor,
    weight: Bf12,
    bias_O: Tensor | None,
    *,
    gated: bool = False,
    norm: Added | Normed | None = None,
    cut: Bf12Cut | None = None,
) -> Tensor:
    """Return y = x @ W.T + b in bf16, or silu(first half of y) * second half where `gated`.

    With a norm y is scaled before the bias, or added to a residual and weighted (`folded_norm.py`). A given
    `cut` replaces the preferred one (benchmarks).
    """
    outputs, slabs = len(weight.factor_O), len(weight.tiles_YXB)
    x = rows(x_TI)
    check(
        gpu,
        "linear_bf12",
        x=(x, torch.bfloat16, (x.shape[0], slabs * TILE_INPUTS)),
        tiles=(weight.tiles_YXB, torch.uint8, (slabs, outputs // TILE_OUTPUTS, TILE_BYTES)),
        factors=(weight.factor_O, torch.bfloat16, (outputs,)),
        **({} if bias_O is None else {"bias": (bias_O, torch.bfloat16, (outputs,))}),
    )
    kept = folded_norm.kept_bytes_of(norm)
    cut = cut or _cut(gpu, x.shape[0], weight, gated=gated, kept_bytes=kept)
    assert cut is not None and cut.gated == gated, "what fits has a cut"
    parts = folded_norm.parts_of(cut, outputs)
    folded_norm.check_norm(gpu, "linear_bf12", norm, parts, outputs=outputs, num_rows=x.shape[0])
    kernel = gpu.kernel(
        "linear_bf12.cu",
        "linear_bf12",
        cut.constants() + folded_norm.constants(norm),
        "PPMPPiii" + folded_norm.letters(norm),
        threads=cut.threads,
        shared_bytes=cut.shared_bytes + kept,
    )
    written = outputs // 2 if gated else outputs
    out = torch.empty(x.shape[0], written, dtype=x.dtype, device=x.device)
    kernel(
        gpu.stream(),
        (cut.num_blocks(x.shape[0], written), 1),
        weight.tiles_YXB.data_ptr(),
        weight.factor_O.data_ptr(),
        gpu.tensor_map(lines(x, min(cut.rows, x.shape[0]))),
        0 if bias_O is None else bias_O.data_ptr(),
        out.data_ptr(),
        x.shape[0],
        written,
        slabs,
        *folded_norm.arguments(norm),
    )
    return out.view(*x_TI.shape[:-1], written)


def squares_parts(gpu: Gpu, num_rows: int, weight: Bf12) -> int | None:
    """Return in how many parts a product that is added to a residual leaves squares, None where it cannot."""
    cut = _cut(gpu, num_rows, weight, gated=False, kept_bytes=folded_norm.kept_bytes(None))
    return None if cut is None else folded_norm.parts_of(cut, len(weight.factor_O))


def _cut(gpu: Gpu, num_rows: int, weight: Bf12, *, gated: bool, kept_bytes: int = 0) -> Bf12Cut | None:
    return bf12_cut(
        num_rows=num_rows,
        outputs=len(weight.factor_O),
        inputs=len(weight.tiles_YXB) * TILE_INPUTS,
        num_sms=gpu.num_sms,
        bytes_per_block=gpu.shared_bytes_per_block,
        gated=gated,
        kept_bytes=kept_bytes,
    )
