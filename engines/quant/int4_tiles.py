"""The order of 4-bit codes in memory: tiles that a warp multiplies as they are. The only file that knows it.

A tile is 16 outputs x 64 inputs in 512 bytes. Lane 4 g + c of a warp owns 16 consecutive bytes: one 32-bit
word for each 16 inputs, its eight codes in the order in which `mma.m16n8k16` wants its first operand. With
the lowest four bits as nibble 0, nibble 4 p + 2 h + r of a word is the code of

    output g + 8 r, input 2 c + p + 8 h        p, h, r in {0, 1}

so that `word & 0x000f000f` is the pair of codes of register 0, `(word >> 4) & 0x000f000f` of register 1, and
so on.

Legend: O outputs, I inputs, G groups of inputs; X and Y tiles along O and I, B bytes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.errors import CheckpointError
from engines.ops import Int4

TILE_OUTPUTS, TILE_INPUTS = 16, 64


def linear_int4(
    codes_OI: Tensor,
    *,
    scales_GO: Tensor,
    zeros_GO: Tensor,
    perm_I: Tensor | None = None,
    bias_O: Tensor | None = None,
) -> Int4:
    """Return the layer of plain codes, uint8 in 0 to 15; the other operands are kept as `Int4` has them.

    Raises CheckpointError where the groups do not divide the inputs or a shape does not fit the codes'.
    """
    outputs, inputs = codes_OI.shape
    groups = len(scales_GO)
    if groups == 0 or inputs % groups or scales_GO.shape != (groups, outputs):
        raise CheckpointError(
            f"scales {list(scales_GO.shape)} of 4-bit codes {[outputs, inputs]}: must be "
            f"[groups, {outputs}], and the groups must divide {inputs}"
        )
    if zeros_GO.shape != scales_GO.shape or (perm_I is not None and perm_I.shape != (inputs,)):
        perm = None if perm_I is None else list(perm_I.shape)
        raise CheckpointError(
            f"zeros {list(zeros_GO.shape)} and permutation {perm} of 4-bit codes {[outputs, inputs]}: "
            f"must be {[groups, outputs]} and [{inputs}]"
        )
    return Int4(
        tiles_XYB=pack_tiles(codes_OI),
        scales_GO=scales_GO.to(torch.float16).contiguous(),
        zeros_GO=zeros_GO.to(torch.uint8).contiguous(),
        group_size=inputs // groups,
        perm_I=None if perm_I is None else perm_I.long(),
        bias_O=bias_O,
    )


def pack_tiles(codes_OI: Tensor) -> Tensor:
    """Return codes 0 to 15, uint8 [O, I], as tiles, uint8 [ceil(O / 16), ceil(I / 64), 512]."""
    outputs, inputs = codes_OI.shape
    padded = F.pad(codes_OI, (0, -inputs % TILE_INPUTS, 0, -outputs % TILE_OUTPUTS))
    tiles_x, tiles_y = padded.shape[0] // TILE_OUTPUTS, padded.shape[1] // TILE_INPUTS
    #                       x     r  g  y     block h c p
    parts = padded.view(tiles_x, 2, 8, tiles_y, 4, 2, 4, 2).permute(0, 3, 2, 6, 4, 7, 5, 1)
    return (parts[..., 0] | parts[..., 1] << 4).reshape(tiles_x, tiles_y, 512)


def unpack_tiles(tiles_XYB: Tensor) -> Tensor:
    """Return the codes of tiles, uint8 [16 X, 64 Y]: the inverse of `pack_tiles` but for the padding."""
    tiles_x, tiles_y, _ = tiles_XYB.shape
    pairs = torch.stack([tiles_XYB & 15, tiles_XYB >> 4], dim=-1)
    #                   x        y     g  c block p h r
    parts = pairs.view(tiles_x, tiles_y, 8, 4, 4, 2, 2, 2).permute(0, 7, 2, 1, 4, 6, 3, 5)
    return parts.reshape(TILE_OUTPUTS * tiles_x, TILE_INPUTS * tiles_y)


def dequantize(weight: Int4, dtype: torch.dtype) -> Tensor:
    """Return the weight as a matrix [O, I], columns in the order of `perm`; in fp32, rounded once."""
    groups, outputs = weight.scales_GO.shape
    codes_OI = unpack_tiles(weight.tiles_XYB)[:outputs, : groups * weight.group_size]
    codes_OGE = codes_OI.reshape(outputs, groups, weight.group_size).float()
    scales_OG1, zeros_OG1 = weight.scales_GO.float().T[..., None], weight.zeros_GO.float().T[..., None]
    return ((codes_OGE - zeros_OG1) * scales_OG1).to(dtype).reshape(codes_OI.shape)
