"""Launches `kernels/linear_skinny.cu`."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.ops import Dense
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.operands import check, rows, scalar_name
from engines.turbomind.ops.flash_shape import matrix_fault

SLAB = 128  # inputs of a stage; kSlab of the kernel
MOST_ROWS = 16  # above it cuBLASLt is as fast: kernels/LOG.md
_STAGE_BYTES = 16 * SLAB * 2
_MOST_TILES = 8
_WARPS = (8, 4)  # the first that leaves room for a ring
_MOST_STAGES = 6
_LEAST_RING = 3 * _STAGE_BYTES  # of a warp


@dataclass(frozen=True, kw_only=True, slots=True)
class SkinnyShape:
    """How the outputs are cut: blocks of `passes` x `tiles` x 16 outputs."""

    tiles: int
    passes: int
    columns: int
    warps: int
    stages: int
    shared_bytes: int

    @property
    def block_outputs(self) -> int:
        """Outputs of a block."""
        return 16 * self.tiles * self.passes

    def constants(self, inputs: int) -> Constants:
        """Return what `few_rows.cuh` is compiled with."""
        return (
            ("INPUTS", inputs),
            ("COLUMNS", self.columns),
            ("TILES", self.tiles),
            ("PASSES", self.passes),
            ("WARPS", self.warps),
            ("STAGES", self.stages),
        )


@lru_cache(maxsize=256)
def skinny_shape(
    *,
    num_rows: int,
    num_outputs: int,
    num_sms: int,
    bytes_per_block: int,
    stage_bytes: int = _STAGE_BYTES,
) -> SkinnyShape:
    """Return the cut with the least work in the fullest block, one block an SM, and the deepest ring.

    Raises KernelError where shared memory holds no ring that is worth its name.
    """
    columns = -(-num_rows // 8)
    per_block = -(-num_outputs // 16) / num_sms
    for warps in _WARPS:
        cuts = []
        for tiles in range(1, min(_MOST_TILES, 16 // columns) + 1):  # sums stay in registers
            passes = int(-(-per_block // tiles))
            sums = warps * 16 * tiles * (8 * columns + 1) * 4
            stages = min(_MOST_STAGES, (bytes_per_block - sums) // (warps * stage_bytes))
            if stages * stage_bytes >= _LEAST_RING:
                cuts.append((tiles * passes, -tiles, stages, sums))
        if cuts:
            work, tiles, stages, sums = min(cuts)
            return SkinnyShape(
                tiles=-tiles,
                passes=work // -tiles,
                columns=columns,
                warps=warps,
                stages=stages,
                shared_bytes=sums + warps * stages * stage_bytes,
            )
    raise KernelError(f"`linear_skinny`: {bytes_per_block} bytes of shared memory a block are too few")


def fits(gpu: Gpu, x_TI: Tensor, weight: Dense) -> bool:
    """Return whether the kernel takes this product and is the faster way to do it."""
    outputs, inputs = weight.weight_OI.shape
    return (
        0 < x_TI.numel() <= MOST_ROWS * inputs
        and inputs % SLAB == 0
        and outputs % 2 == 0
        and x_TI.dtype in (torch.bfloat16, torch.float16)
        and not matrix_fault(gpu, x_TI.dtype)
    )


def linear_skinny(gpu: Gpu, x_TI: Tensor, weight: Dense) -> Tensor:
    """Return x @ W.T + b for few rows."""
    x = rows(x_TI)
    outputs, inputs = weight.weight_OI.shape
    bias = weight.bias_O
    check(
        gpu,
        "linear_skinny",
        x=(x, weight.weight_OI.dtype, (x.shape[0], inputs)),
        weight=(weight.weight_OI, x.dtype, (outputs, inputs)),
        **({} if bias is None else {"bias": (bias, x.dtype, (outputs,))}),
    )
    if inputs % SLAB or outputs % 2 or not weight.weight_OI.is_contiguous():
        raise KernelError(
            f"`linear_skinny` of {inputs} inputs and {outputs} outputs: inputs must be a multiple of {SLAB}, "
            "outputs even, the weight contiguous"
        )
    shape = skinny_shape(
        num_rows=x.shape[0],
        num_outputs=outputs,
        num_sms=gpu.num_sms,
        bytes_per_block=gpu.shared_bytes_per_block,
    )
    kernel = gpu.kernel(
        "linear_skinny.cu",
        "linear_skinny",
        (("SCALAR", scalar_name("linear_skinny", x)), *shape.constants(inputs)),
        "PPPPii",
        threads=32 * shape.warps,
        shared_bytes=shape.shared_bytes,
    )
    out = torch.empty(x.shape[0], outputs, dtype=x.dtype, device=x.device)
    kernel(
        gpu.stream(),
        (-(-outputs // shape.block_outputs), 1),
        x.data_ptr(),
        weight.weight_OI.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        out.data_ptr(),
        x.shape[0],
        outputs,
    )
    return out.view(*x_TI.shape[:-1], outputs)
