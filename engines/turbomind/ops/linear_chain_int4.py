"""Launches `kernels/linear_chain_int4.cu`: the 4-bit layers between two attentions, for few rows.

Legend: T rows, A attended, H hidden, X qkv.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.ops import BetweenAttentions, Int4
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.operands import rows
from engines.turbomind.ops.chain_layers import (
    ChainShape,
    ChainSizes,
    bias_address,
    chain_layers,
    chain_sizes,
    check_chain,
)
from engines.turbomind.ops.int4_operands import TILE_OUTPUTS

MOST_ROWS = 4  # of 8 the ops apart are faster: kernels/LOG.md
_ROWS = (1, 2, MOST_ROWS)  # that a kernel is made for: fewer rows take fewer instructions
SLAB = 128  # inputs of a warp in a stage
_WARPS = 16  # that multiply
_THREADS = 32 * (_WARPS + 4)
_KEPT_ROUNDS = 2  # of x in registers, for layers of several passes
_GROUPS = (32, 64, 128, 256, 512, 1024, 2048)  # inputs under one scale: parts and multiples of a slab
_SUMS_BYTES = 2 * 2 * _WARPS * 20 * 4  # of a row: two passes of two tiles, a pitch of 20 floats
_BARRIER_BYTES = 8
_ALIGNMENT = 128  # of the layout in shared memory
_MOST_STAGES = 64
_UNDER_WAY = 2  # stages of 17 KB that are asked for at once: kernels/LOG.md


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainInt4Shape(ChainShape):
    """Sizes that the kernel is compiled with."""

    group_size: int
    under_way: int
    most_rows: int

    def constants(self) -> Constants:
        """Return what the kernel is compiled with."""
        return (
            *self.layer_constants(),
            ("GROUP_INPUTS", self.group_size),
            ("STAGES", self.stages),
            ("UNDER_WAY", self.under_way),
            ("ROWS", self.most_rows),
            ("RESIDENT", self.num_blocks),
        )


@lru_cache(maxsize=256)
def make_shape(sizes: ChainSizes, *, num_rows: int, num_sms: int, shared_bytes: int) -> ChainInt4Shape | None:
    """Return a block an SM with the deepest ring that fits, or None where sizes or shared memory do not."""
    hidden, attended, ffn, qkv, group_size = sizes
    inputs, outputs = (hidden, attended, ffn), (hidden, qkv)
    if any(size % SLAB for size in inputs) or any(size % TILE_OUTPUTS for size in outputs):
        return None
    if group_size not in _GROUPS or any(size % group_size for size in inputs):
        return None
    if max(hidden, attended) > _KEPT_ROUNDS * _WARPS * SLAB:
        return None
    stage = _WARPS * SLAB * TILE_OUTPUTS // 2 + _WARPS * SLAB // group_size * TILE_OUTPUTS * 3
    fixed = _ALIGNMENT + MOST_ROWS * _SUMS_BYTES + 4 * _BARRIER_BYTES
    stages = min(_MOST_STAGES, (shared_bytes - fixed - 16) // (stage + 2 * _BARRIER_BYTES))
    if stages < 2:
        return None
    return ChainInt4Shape(
        hidden=hidden,
        attended=attended,
        ffn=ffn,
        qkv=qkv,
        group_size=group_size,
        stages=stages,
        under_way=min(_UNDER_WAY, stages),
        most_rows=next(most for most in _ROWS if num_rows <= most),
        num_blocks=num_sms,
        shared_bytes=fixed + 16 + stages * (stage + 2 * _BARRIER_BYTES),
    )


def takes(gpu: Gpu, num_rows: int, dtype: torch.dtype, between: BetweenAttentions) -> bool:
    """Return whether the kernel takes these layers for so many rows."""
    return (
        0 < num_rows <= MOST_ROWS
        and dtype is torch.bfloat16
        and gpu.capability == (9, 0)
        and _shape(gpu, num_rows, between) is not None
    )


def linear_chain_int4(
    gpu: Gpu, attended_TA: Tensor, residual_TH: Tensor, between: BetweenAttentions
) -> tuple[Tensor, Tensor]:
    """Return (the next layer's qkv [T, X], the sum that it norms [T, H])."""
    attended, residual = rows(attended_TA), rows(residual_TH)
    num_rows = len(attended)
    if not takes(gpu, num_rows, attended.dtype, between):
        raise KernelError(
            f"`linear_chain_int4` of {num_rows} rows of {attended.dtype}: 1 to {MOST_ROWS} rows of bfloat16 "
            f"on sm_90a, four layers of 4-bit codes whose inputs are multiples of {SLAB} and whose groups "
            f"are all of {', '.join(map(str, _GROUPS))}"
        )
    shape = _shape(gpu, num_rows, between)
    assert shape is not None, "what is taken has a shape"
    check_chain(gpu, "linear_chain_int4", attended, residual, between)
    kernel = gpu.kernel(
        "linear_chain_int4.cu",
        "linear_chain_int4",
        shape.constants(),
        "P" * 24 + "if",
        threads=_THREADS,
        shared_bytes=shape.shared_bytes,
    )
    h_TH = torch.empty_like(residual)
    qkv_TX = torch.empty(num_rows, shape.qkv, dtype=attended.dtype, device=attended.device)
    operands = [address for layer in chain_layers(between) for address in _addresses(layer)]
    kernel(
        gpu.stream(),
        (shape.num_blocks, 1),
        *operands,
        attended.data_ptr(),
        residual.data_ptr(),
        between.ffn_norm_H.data_ptr(),
        between.norm_H.data_ptr(),
        h_TH.data_ptr(),
        qkv_TX.data_ptr(),
        *_scratch(gpu, shape),
        num_rows,
        between.eps,
    )
    return qkv_TX, h_TH


def _scratch(gpu: Gpu, shape: ChainInt4Shape) -> tuple[int, int]:
    """Return where two sets of what blocks hand to each other lie, and the word that says whose turn it is.

    What a launch finds there is what the one before it left, so sizes that differ have sets of their own.
    """
    one = 2 * MOST_ROWS * (2 * shape.hidden + shape.ffn) + 2 * shape.num_blocks * MOST_ROWS * 4
    name = f"linear_chain_int4, {shape.hidden}, {shape.attended}, {shape.ffn}, {shape.qkv}"
    return gpu.scratch(name, 2 * one).data_ptr(), gpu.scratch(f"{name}, turn", 4).data_ptr()


def _addresses(layer: Int4) -> tuple[int, int, int, int]:
    numbers = layer.scales_GO.data_ptr(), layer.zeros_GO.data_ptr()
    return (layer.tiles_XYB.data_ptr(), *numbers, bias_address(layer))


def _shape(gpu: Gpu, num_rows: int, between: BetweenAttentions) -> ChainInt4Shape | None:
    sizes = chain_sizes(between)
    if sizes is None:
        return None
    return make_shape(sizes, num_rows=num_rows, num_sms=gpu.num_sms, shared_bytes=gpu.shared_bytes_per_block)
