"""Launches `kernels/linear_fp7.cu`."""

import torch
from torch import Tensor

from engines.ops import Fp7
from engines.quant.fp7_shape import TILE_BYTES, TILE_INPUTS, TILE_OUTPUTS
from engines.turbomind.gpu import Gpu
from engines.turbomind.operands import check
from engines.turbomind.ops.fp7_cut import Fp7Cut, fp7_cut
from engines.turbomind.ops.two_rings_cut import ROWS
from engines.turbomind.tensor_map import lines

MOST_ROWS = ROWS[-1]


def fits(gpu: Gpu, num_rows: int, dtype: torch.dtype, weight: Fp7, *, gated: bool = False) -> bool:
    """Return whether the kernel takes this product, and applies gates where `gated`."""
    outputs = len(weight.scale_O)
    return (
        gpu.capability == (9, 0)
        and 0 < num_rows <= MOST_ROWS
        and dtype == torch.bfloat16
        and outputs % (TILE_OUTPUTS * (2 if gated else 1)) == 0
        and _cut(gpu, num_rows, weight, gated=gated) is not None
    )


def linear_fp7(
    gpu: Gpu,
    codes_TI: Tensor,
    row_scale_T: Tensor,
    weight: Fp7,
    bias_O: Tensor | None,
    *,
    gated: bool = False,
    cut: Fp7Cut | None = None,
) -> Tensor:
    """Return y = (codes @ numbers.T) * row scale * output scale + b in bf16, [T, O]; codes are e4m3.

    `gated`: silu of its first half times the second, [T, O / 2]. A given `cut` replaces the preferred one
    (benchmarks).
    """
    num_rows, outputs, slabs = len(codes_TI), len(weight.scale_O), len(weight.tiles_YXB)
    check(
        gpu,
        "linear_fp7",
        x=(codes_TI, torch.float8_e4m3fn, (num_rows, slabs * TILE_INPUTS)),
        row_scale=(row_scale_T, torch.float32, (num_rows,)),
        tiles=(weight.tiles_YXB, torch.uint8, (slabs, outputs // TILE_OUTPUTS, TILE_BYTES)),
        scale=(weight.scale_O, torch.float32, (outputs,)),
        **({} if bias_O is None else {"bias": (bias_O, torch.bfloat16, (outputs,))}),
    )
    cut = cut or _cut(gpu, num_rows, weight, gated=gated)
    assert cut is not None and cut.gated == gated, "what fits has a cut"
    kernel = gpu.kernel(
        "linear_fp7.cu",
        "linear_fp7",
        cut.constants(),
        "PPMPPPiii",
        threads=cut.threads,
        shared_bytes=cut.shared_bytes,
    )
    written = outputs // 2 if gated else outputs
    out = torch.empty(num_rows, written, dtype=torch.bfloat16, device=codes_TI.device)
    kernel(
        gpu.stream(),
        (cut.num_blocks(num_rows, written), 1),
        weight.tiles_YXB.data_ptr(),
        weight.scale_O.data_ptr(),
        gpu.tensor_map(lines(codes_TI, min(cut.rows, num_rows))),
        row_scale_T.data_ptr(),
        0 if bias_O is None else bias_O.data_ptr(),
        out.data_ptr(),
        num_rows,
        written,
        slabs,
    )
    return out


def _cut(gpu: Gpu, num_rows: int, weight: Fp7, *, gated: bool) -> Fp7Cut | None:
    return fp7_cut(
        num_rows=num_rows,
        outputs=len(weight.scale_O),
        inputs=len(weight.tiles_YXB) * TILE_INPUTS,
        num_sms=gpu.num_sms,
        bytes_per_block=gpu.shared_bytes_per_block,
        gated=gated,
    )
