"""Launches `kernels/linear_skinny_bf12.cu`."""

import torch
from torch import Tensor

from engines.ops import Bf12
from engines.quant.bf12_shape import TILE_BYTES, TILE_INPUTS, TILE_OUTPUTS
from engines.turbomind.gpu import Gpu
from engines.turbomind.operands import check, rows
from engines.turbomind.ops.linear_skinny import SkinnyShape, skinny_shape

MOST_ROWS = 16  # beyond which the library reads 16 bits
LEAST_CAPABILITY = (8, 0)  # whose tensor cores take bf16


def fits(gpu: Gpu, num_rows: int, dtype: torch.dtype) -> bool:
    """Return whether the kernel takes such a product."""
    return 0 < num_rows <= MOST_ROWS and dtype == torch.bfloat16 and gpu.capability >= LEAST_CAPABILITY


def linear_skinny_bf12(gpu: Gpu, x_TI: Tensor, weight: Bf12, bias_O: Tensor | None) -> Tensor:
    """Return x @ W.T + b in bf16 for few rows."""
    x, outputs, slabs = rows(x_TI), len(weight.factor_O), len(weight.tiles_YXB)
    check(
        gpu,
        "linear_skinny_bf12",
        x=(x, torch.bfloat16, (x.shape[0], slabs * TILE_INPUTS)),
        tiles=(weight.tiles_YXB, torch.uint8, (slabs, outputs // TILE_OUTPUTS, TILE_BYTES)),
        factors=(weight.factor_O, torch.bfloat16, (outputs,)),
        **({} if bias_O is None else {"bias": (bias_O, torch.bfloat16, (outputs,))}),
    )
    shape = bf12_skinny_shape(
        num_rows=x.shape[0],
        num_outputs=outputs,
        num_sms=gpu.num_sms,
        bytes_per_block=gpu.shared_bytes_per_block,
    )
    kernel = gpu.kernel(
        "linear_skinny_bf12.cu",
        "linear_skinny_bf12",
        shape.constants(slabs * TILE_INPUTS),
        "PPPPPii",
        threads=32 * shape.warps,
        shared_bytes=shape.shared_bytes,
    )
    out = torch.empty(x.shape[0], outputs, dtype=x.dtype, device=x.device)
    kernel(
        gpu.stream(),
        (-(-outputs // shape.block_outputs), 1),
        x.data_ptr(),
        weight.tiles_YXB.data_ptr(),
        weight.factor_O.data_ptr(),
        0 if bias_O is None else bias_O.data_ptr(),
        out.data_ptr(),
        x.shape[0],
        outputs,
    )
    return out.view(*x_TI.shape[:-1], outputs)


def bf12_skinny_shape(*, num_rows: int, num_outputs: int, num_sms: int, bytes_per_block: int) -> SkinnyShape:
    """Return the cut of `linear_skinny`, with stages of the format's tiles.

    Raises KernelError where shared memory holds no ring that is worth its name.
    """
    return skinny_shape(
        num_rows=num_rows,
        num_outputs=num_outputs,
        num_sms=num_sms,
        bytes_per_block=bytes_per_block,
        stage_bytes=TILE_BYTES,
    )
