"""The tower of Qwen2-VL and Qwen2.5-VL, one picture at a time.

    x = patches @ W
    each layer:  x += o(attention(rope(qkv(norm1(x)))));  x += ffn(norm2(x))

Patches come cell by cell: the merge x merge patches of a cell are neighbours. A layer with windows works on
cells in window order, in which every window is a stretch; windows at the right and bottom edge are smaller.

Legend: L patches of the picture, X numbers of a patch, H hidden, N heads, D head dim, R rotary pairs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from engines.ops import Dense, Ops
from engines.quant.linear_tensors import Params, linear_of
from engines.vision.norm import Norm
from engines.vision.towers.qwen2_vit_spec import Qwen2VitSpec

THETA = 10000.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """The windows of a picture by size, so that those of one size are one batch."""

    order_L: Tensor  # patches in window order
    groups: tuple[tuple[int, int], ...]  # (windows, patches of each), in that order

    @property
    def back_L(self) -> Tensor:
        """Where each patch stands in window order."""
        return torch.argsort(self.order_L)


class Qwen2Vit:
    """The tower."""

    def __init__(self, spec: Qwen2VitSpec, params: Params, name: str, *, ops: Ops) -> None:
        self._spec = spec
        self._ops = ops
        self._patches = Dense(weight_OI=params[f"{name}.patch.weight"].flatten(1), bias_O=None)
        self._layers = [
            Qwen2VitLayer(spec, params, f"{name}.layers.{i}", ops=ops) for i in range(spec.num_layers)
        ]

    def __call__(self, patches_LX: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the features [L, H] of a picture's patches; `grid` is its columns and rows of cells."""
        spec, device = self._spec, patches_LX.device
        x_LH = self._ops.linear(patches_LX, self._patches)
        windows = windows_of(grid, spec.window or max(grid), spec.merge, device)
        tables = _rotary(grid, spec.merge, spec.hidden // spec.num_heads, device)
        x_LH = x_LH[windows.order_L]
        tables = (tables[0][windows.order_L], tables[1][windows.order_L])
        for i, layer in enumerate(self._layers):
            sees_all = spec.window is None or i in spec.full_layers
            x_LH = layer(x_LH, tables, ((1, len(x_LH)),) if sees_all else windows.groups)
        return x_LH[windows.back_L]


class Qwen2VitLayer:
    """One block of the tower."""

    def __init__(self, spec: Qwen2VitSpec, params: Params, name: str, *, ops: Ops) -> None:
        self._ops = ops
        self._num_heads = spec.num_heads
        self._norm1, self._norm2 = (
            Norm(params, f"{name}.{norm}", eps=spec.norm_eps, ops=ops) for norm in ("norm1", "norm2")
        )
        self._qkv = linear_of(params, f"{name}.qkv")
        self._o = linear_of(params, f"{name}.o")
        first, last = ("gate_up", "down") if spec.is_gated else ("fc1", "fc2")
        self._first = linear_of(params, f"{name}.{first}")
        self._last = linear_of(params, f"{name}.{last}")
        self._act = spec.hidden_act

    def __call__(
        self, x_LH: Tensor, tables: tuple[Tensor, Tensor], groups: tuple[tuple[int, int], ...]
    ) -> Tensor:
        """Return the next residual stream, [L, H]; patches see those of their own window."""
        ops = self._ops
        mixed = self._attention(self._norm1(x_LH), tables, groups)
        x_LH = ops.linear_add(mixed, self._o, x_LH)
        normed = self._norm2(x_LH)
        if self._act == "silu":
            inner = ops.silu_mul(ops.linear(normed, self._first))
        else:
            inner = ops.linear_gelu(normed, self._first, self._act)
        return ops.linear_add(inner, self._last, x_LH)

    def _attention(
        self, x_LH: Tensor, tables: tuple[Tensor, Tensor], groups: tuple[tuple[int, int], ...]
    ) -> Tensor:
        ops = self._ops
        heads = (len(x_LH), self._num_heads, -1)
        q, k, v_LH = ops.linear_tower(x_LH, self._qkv).chunk(3, dim=-1)
        q_LND, k_LND = ops.rope(q.view(heads), k.view(heads), *tables)
        v_LND = v_LH.view(heads)
        parts, start = [], 0
        for count, length in groups:
            shape = (count, length, *q_LND.shape[1:])
            q, k, v = (each[start : start + count * length].reshape(shape) for each in (q_LND, k_LND, v_LND))
            parts.append(ops.attention_full(q, k, v, scale=q.shape[-1] ** -0.5).flatten(0, 1))
            start += count * length
        return torch.cat(parts).flatten(1)


def windows_of(grid: tuple[int, int], side: int, merge: int, device: torch.device) -> Windows:
    """Cut a grid of cells into windows from its top left; return their patches, equal sizes together."""
    columns, rows = grid
    cells = torch.arange(columns * rows, device=device).view(rows, columns)
    parts, groups = [], []
    for top, bottom in ((0, rows - rows % side), (rows - rows % side, rows)):
        for left, right in ((0, columns - columns % side), (columns - columns % side, columns)):
            block = cells[top:bottom, left:right]
            if block.numel() == 0:
                continue
            high, wide = min(side, bottom - top), min(side, right - left)
            inside = block.reshape(block.shape[0] // high, high, block.shape[1] // wide, wide)
            parts.append(inside.transpose(1, 2).flatten())
            groups.append((block.numel() // (high * wide), high * wide * merge**2))
    order = torch.cat(parts).unsqueeze(1) * merge**2 + torch.arange(merge**2, device=device)
    return Windows(order_L=order.flatten(), groups=tuple(groups))


def _rotary(grid: tuple[int, int], merge: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cos and sin, fp32 [L, R]: the first half of the pairs turns by row, the second by column."""
    columns, rows = grid
    inverse = THETA ** -(torch.arange(0, head_dim // 2, 2, device=device) / (head_dim // 2))
    row_L = _by_cell(torch.arange(rows * merge, device=device).unsqueeze(1), grid, merge)
    column_L = _by_cell(torch.arange(columns * merge, device=device).unsqueeze(0), grid, merge)
    angles_LR = torch.cat([row_L.unsqueeze(1) * inverse, column_L.unsqueeze(1) * inverse], dim=1)
    return angles_LR.cos(), angles_LR.sin()


def _by_cell(numbers: Tensor, grid: tuple[int, int], merge: int) -> Tensor:
    """Return numbers of a grid of patches in the order of patches, cell by cell."""
    columns, rows = grid
    whole = numbers.expand(rows * merge, columns * merge)
    return whole.reshape(rows, merge, columns, merge).transpose(1, 2).flatten()
