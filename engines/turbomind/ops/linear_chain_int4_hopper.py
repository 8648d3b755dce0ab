"""Launches `kernels/linear_chain_int4_hopper.cu`: the 4-bit layers between two attentions, for 5 to 64 rows.

Legend: T rows, A attended, H hidden, X qkv, I inputs of a layer.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.ops import BetweenAttentions, Int4
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.operands import rows
from engines.turbomind.ops import linear_chain_int4
from engines.turbomind.ops.chain_layers import (
    ChainShape,
    ChainSizes,
    bias_address,
    chain_layers,
    chain_sizes,
    check_chain,
)
from engines.turbomind.tensor_map import TensorView

FEWEST_ROWS = linear_chain_int4.MOST_ROWS + 1
_X_PLACES = {8: 8, 16: 4, 32: 4, 64: 2}  # by the rows that a kernel is made for: of four slabs each
MOST_ROWS = max(_X_PLACES)
GROUP_SIZE = 128  # a scale for each slab of inputs
_STAGES = 4  # of codes; more delay what must come first, kernels/LOG.md
_STAGE_BYTES = 17 * 1024  # codes of a round with scales and zero points
_GROUP_OUTPUTS = 64
_PAIR_OUTPUTS = 32  # of a group that each block of a pair writes
_GATED_OUTPUTS = 128  # of a block
_PITCH = 4 * (_GROUP_OUTPUTS + 4)  # bytes from one row of sums to the next
_THREADS = 640
# The part of the multiprocessors that o, gate_up and down have at least: 112 of 132 in what was measured.
_LEAST_BUSY = 0.8
_LINE = 64  # elements of 16 bits in a row of a box
_SUMMED_ROWS = 32  # that a kernel is made for at most, whose rows lie beside their sums
_COUNT_BYTES = 3 * 128 + 4
_BARRIER_BYTES = 8
_ALIGNMENT = 1024  # of the layout in shared memory, at its end, too


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainRowsShape(ChainShape):
    """Sizes that the kernel is compiled with."""

    rows: int
    x_places: int
    place_lines: int  # of 128 bytes that a row has for 512 inputs: eight, and one of sums, if any
    lines_together: int  # those of them that one copy for gate_up brings

    def constants(self) -> Constants:
        """Return what the kernel is compiled with."""
        return (
            *self.layer_constants(),
            ("ROWS", self.rows),
            ("STAGES", self.stages),
            ("X_PLACES", self.x_places),
            ("RESIDENT", self.num_blocks),
        )


@lru_cache(maxsize=256)
def make_shape(sizes: ChainSizes, *, num_rows: int, num_sms: int, shared_bytes: int) -> ChainRowsShape | None:
    """Return the shape for so many rows, or None where sizes, blocks or shared memory do not fit.

    Layers whose inputs a pair of blocks shares have whole rounds of four slabs in each; a block has at most
    one item of outputs of each layer.
    """
    hidden, attended, ffn, qkv, group_size = sizes
    if group_size != GROUP_SIZE or hidden % 512 or attended % 1024 or ffn % 1024 or qkv % _GROUP_OUTPUTS:
        return None
    blocks = max(hidden // _PAIR_OUTPUTS, ffn // _GATED_OUTPUTS, qkv // _GROUP_OUTPUTS)
    blocks += blocks % 2
    made_for = next(most for most in _X_PLACES if num_rows <= most)
    x_places = _X_PLACES[made_for]
    place_lines, lines_together = (9, 3) if made_for <= _SUMMED_ROWS else (8, 2)
    rings = _STAGES * _STAGE_BYTES + max(x_places * place_lines * 2 * _LINE * made_for, 4 * _PITCH * made_for)
    peers = made_for * 4 * (_PAIR_OUTPUTS + 1) + 2 * 2 * _PAIR_OUTPUTS
    barriers = 2 * _STAGES + x_places * (place_lines // lines_together + 3) + 4
    layout = -(-(rings + peers + barriers * _BARRIER_BYTES) // _ALIGNMENT) * _ALIGNMENT
    used = layout + _ALIGNMENT
    if blocks > num_sms or used > shared_bytes:
        return None
    return ChainRowsShape(
        hidden=hidden,
        attended=attended,
        ffn=ffn,
        qkv=qkv,
        rows=made_for,
        stages=_STAGES,
        x_places=x_places,
        place_lines=place_lines,
        lines_together=lines_together,
        num_blocks=blocks,
        shared_bytes=used,
    )


def takes(gpu: Gpu, num_rows: int, dtype: torch.dtype, between: BetweenAttentions) -> bool:
    """Return whether these layers should go through the kernel: they can, and few SMs stand idle."""
    shape = fitting_shape(gpu, num_rows, dtype, between)
    if shape is None:
        return False
    return min(shape.hidden // _PAIR_OUTPUTS, shape.ffn // _GATED_OUTPUTS) >= _LEAST_BUSY * gpu.num_sms


def fitting_shape(
    gpu: Gpu, num_rows: int, dtype: torch.dtype, between: BetweenAttentions
) -> ChainRowsShape | None:
    """Return how the kernel takes these layers for so many rows, None where it cannot."""
    if not FEWEST_ROWS <= num_rows <= MOST_ROWS or dtype is not torch.bfloat16 or gpu.capability != (9, 0):
        return None
    sizes = chain_sizes(between)
    if sizes is None:
        return None
    return make_shape(sizes, num_rows=num_rows, num_sms=gpu.num_sms, shared_bytes=gpu.shared_bytes_per_block)


def linear_chain_int4_hopper(
    gpu: Gpu, attended_TA: Tensor, residual_TH: Tensor, between: BetweenAttentions
) -> tuple[Tensor, Tensor]:
    """Return (the next layer's qkv [T, X], the sum that it norms [T, H])."""
    attended, residual = rows(attended_TA), rows(residual_TH)
    num_rows = len(attended)
    shape = fitting_shape(gpu, num_rows, attended.dtype, between)
    if shape is None:
        raise KernelError(
            f"`linear_chain_int4_hopper` of {num_rows} rows of {attended.dtype}: {FEWEST_ROWS} to "
            f"{MOST_ROWS} rows of bfloat16 on sm_90a, four layers of 4-bit codes in groups of {GROUP_SIZE} "
            "whose inputs come to whole rounds and whose outputs to one item a block"
        )
    check_chain(gpu, "linear_chain_int4_hopper", attended, residual, between)
    kernel = gpu.kernel(
        "linear_chain_int4_hopper.cu",
        "linear_chain_int4_hopper",
        shape.constants(),
        "M" * 8 + "P" * 21 + "if",
        threads=_THREADS,
        shared_bytes=shape.shared_bytes,
    )
    h_TH = torch.empty_like(residual)
    qkv_TX = torch.empty(num_rows, shape.qkv, dtype=attended.dtype, device=attended.device)
    layers = chain_layers(between)
    x1, x2 = (_handed(gpu, f"x{i}", shape, shape.hidden) for i in (1, 2))
    gated = _handed(gpu, "gated", shape, shape.ffn)
    whole = num_rows == shape.rows  # else a box of all rows would leave the tensor, which is slow
    rows_of_x = (
        _slabs(attended, num_rows, lines=8 if whole else 1),
        _slabs(x1, shape.rows, lines=shape.lines_together),
        _slabs(gated, shape.rows, lines=shape.place_lines),
        _slabs(x2, shape.rows, lines=shape.place_lines),
    )
    kernel(
        gpu.stream(),
        (shape.num_blocks, 1),
        *(gpu.tensor_map(_codes(layer, gates=layer is between.gate_up)) for layer in layers),
        *map(gpu.tensor_map, rows_of_x),
        *(address for layer in layers for address in _numbers(layer)),
        residual.data_ptr(),
        between.ffn_norm_H.data_ptr(),
        between.norm_H.data_ptr(),
        x1.data_ptr(),
        gated.data_ptr(),
        x2.data_ptr(),
        h_TH.data_ptr(),
        qkv_TX.data_ptr(),
        _scratch(gpu, shape),
        num_rows,
        between.eps,
    )
    return qkv_TX, h_TH


def _handed(gpu: Gpu, name: str, shape: ChainRowsShape, inputs: int) -> Tensor:
    """Return rows that one layer of a launch writes and the next reads, as they lie there."""
    width = inputs // (8 * _LINE) * shape.place_lines * _LINE
    block = gpu.scratch(f"linear_chain_int4_hopper, {name}, {width}", MOST_ROWS * width * 2)
    return block.view(torch.bfloat16).view(MOST_ROWS, width)


def _scratch(gpu: Gpu, shape: ChainRowsShape) -> int:
    """Return where squares of rows and counts of blocks lie; a launch leaves zeros of its counts."""
    squares = 2 * shape.rows * shape.hidden // _PAIR_OUTPUTS * 4
    name = f"linear_chain_int4_hopper, {shape.hidden}, {shape.rows} rows"
    return gpu.scratch(name, squares + _COUNT_BYTES).data_ptr()


def _numbers(layer: Int4) -> tuple[int, int, int]:
    return layer.scales_GO.data_ptr(), layer.zeros_GO.data_ptr(), bias_address(layer)


def _codes(layer: Int4, *, gates: bool) -> TensorView:
    """Return the tiles as lines of 128 bytes, eight a slab and tile.

    A box is a slab of two groups, of gates and what they gate, or four slabs of one group.
    """
    tiles_x, tiles_y, _ = layer.tiles_XYB.shape
    return TensorView(
        address=layer.tiles_XYB.data_ptr(),
        dtype=torch.bfloat16,
        sizes=(_LINE, 4 * tiles_y, tiles_x, 1),
        strides_bytes=(128, 512 * tiles_y, 512 * tiles_y * tiles_x),
        box=(_LINE, 8, 8, 1) if gates else (_LINE, 32, 4, 1),
    )


def _slabs(x_TI: Tensor, box_rows: int, *, lines: int) -> TensorView:
    """Return rows as lines of 128 bytes, line by line."""
    num_rows, width = x_TI.shape
    return TensorView(
        address=x_TI.data_ptr(),
        dtype=torch.bfloat16,
        sizes=(_LINE, num_rows, width // _LINE, 1),
        strides_bytes=(2 * width, 2 * _LINE, 2 * width * num_rows),
        box=(_LINE, box_rows, lines, 1),
    )
