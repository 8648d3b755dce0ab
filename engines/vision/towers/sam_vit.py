"""SAM's image encoder with DeepSeek-VL's way down to few tokens.

    x = patches + positions
    each layer:  x += attention(norm1(x));  x += fc2(gelu(fc1(norm2(x))))
    out = halve(resize(neck(x))) + scale * halve(resize(first_neck(x behind the first global layer)))

Attention is over windows, whose last ones are filled up with zeros that take part, or over all patches; to
each score comes what the query says about the distance in lines and in columns.

Source: deepseek-ai/DeepSeek-VL, deepseek_vl/models/sam.py.

Legend: I tiles, S side in pixels, C colours or channels, W layer width, L patches of a tile or window,
N heads, D head dim, H feature width; y, x lines and columns of patches, V, U of keys.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import Dense, Ops
from engines.quant.linear_tensors import Params, linear_of
from engines.vision.norm import Norm
from engines.vision.passes import patch_rows, resized_map
from engines.vision.towers.sam_vit_spec import SamVitSpec


class SamVit:
    """The tower."""

    def __init__(self, spec: SamVitSpec, params: Params, *, name: str, ops: Ops) -> None:
        self._spec = spec
        self._ops = ops
        self._patches = Dense(
            weight_OI=params[f"{name}.patch.weight"].flatten(1), bias_O=params[f"{name}.patch.bias"]
        )
        self._positions_yxW = params[f"{name}.positions"]
        self._layers = [
            SamLayer(
                spec,
                params,
                f"{name}.layers.{i}",
                window=spec.grid if i in spec.global_layers else spec.window,
                ops=ops,
            )
            for i in range(spec.num_layers)
        ]
        self._neck = Neck(params, f"{name}.neck", eps=spec.norm_eps, ops=ops)
        self._first_neck = Neck(params, f"{name}.first_neck", eps=spec.norm_eps, ops=ops)
        self._halves = [params[f"{name}.half1.weight"], params[f"{name}.half2.weight"]]
        self._first_scale = params[f"{name}.first_scale"]

    def __call__(self, pixels_ISSC: Tensor) -> Tensor:
        """Return features [I, (resized / 4)^2, H] of normalised tiles."""
        grid = self._spec.grid
        x_ILW = self._ops.linear(patch_rows(pixels_ISSC, self._spec.patch), self._patches)
        x_IyxW = x_ILW.view(len(x_ILW), grid, grid, -1) + self._positions_yxW
        first_IyxW = None
        for i, layer in enumerate(self._layers):
            x_IyxW = layer(x_IyxW)
            if first_IyxW is None and i in self._spec.global_layers:
                first_IyxW = x_IyxW
        assert first_IyxW is not None, "a spec names a global layer"
        first_IyxC = self._halved(self._first_neck(first_IyxW))
        out_IyxC = self._halved(self._neck(x_IyxW)) + self._first_scale * first_IyxC
        return out_IyxC.flatten(1, 2)

    def _halved(self, x_IyxC: Tensor) -> Tensor:
        x_IyxC = resized_map(x_IyxC, self._spec.resized)
        for weight in self._halves:
            x_IyxC = self._ops.conv2d(x_IyxC, weight, None, stride=2, padding=1)
        return x_IyxC


class SamLayer:
    """One block; `window` patches a side see each other."""

    def __init__(self, spec: SamVitSpec, params: Params, name: str, *, window: int, ops: Ops) -> None:
        self._ops = ops
        self._window = window
        self._num_heads = spec.num_heads
        self._scale = (spec.width // spec.num_heads) ** -0.5
        self._norm1, self._norm2 = (
            Norm(params, f"{name}.{norm}", eps=spec.norm_eps, ops=ops) for norm in ("norm1", "norm2")
        )
        self._qkv = linear_of(params, f"{name}.qkv")
        self._o = linear_of(params, f"{name}.o")
        self._fc1 = linear_of(params, f"{name}.fc1")
        self._fc2 = linear_of(params, f"{name}.fc2")
        places = torch.arange(window, device=params[f"{name}.relative_y"].device)
        distances = places[:, None] - places[None, :] + window - 1
        self._relative_yVD = params[f"{name}.relative_y"][distances]
        self._relative_xUD = params[f"{name}.relative_x"][distances]

    def __call__(self, x_IyxW: Tensor) -> Tensor:
        """Return the next residual stream."""
        ops = self._ops
        x_IyxW = x_IyxW + self._in_windows(self._norm1(x_IyxW))
        inner = ops.linear_gelu(self._norm2(x_IyxW), self._fc1, "gelu")
        return ops.linear_add(inner, self._fc2, x_IyxW)

    def _in_windows(self, x_IyxW: Tensor) -> Tensor:
        num, grid, _, width = x_IyxW.shape
        side = self._window
        count = -(-grid // side)
        missing = count * side - grid
        padded = F.pad(x_IyxW, (0, 0, 0, missing, 0, missing))
        windows = padded.view(num, count, side, count, side, width).transpose(2, 3)
        out = self._attention(windows.reshape(-1, side * side, width))
        joined = out.view(num, count, count, side, side, width).transpose(2, 3)
        return joined.reshape(num, count * side, count * side, width)[:, :grid, :grid]

    def _attention(self, x_ILW: Tensor) -> Tensor:
        ops, side, heads = self._ops, self._window, (*x_ILW.shape[:2], self._num_heads, -1)
        q, k, v = (part.view(heads) for part in ops.linear(x_ILW, self._qkv).chunk(3, dim=-1))
        q_IyxND = q.view(len(q), side, side, self._num_heads, -1)
        down = torch.einsum("iyxnd,yvd->iyxnv", q_IyxND, self._relative_yVD).flatten(1, 2)
        across = torch.einsum("iyxnd,xud->iyxnu", q_IyxND, self._relative_xUD).flatten(1, 2)
        out = ops.attention_grid(q, k, v, down, across, scale=self._scale)
        return ops.linear(out.flatten(2), self._o)


class Neck:
    """Two convolutions, each before a norm over channels."""

    def __init__(self, params: Params, name: str, *, eps: float, ops: Ops) -> None:
        self._ops = ops
        self._conv1 = Dense(weight_OI=params[f"{name}.conv1.weight"].flatten(1), bias_O=None)
        self._norm1, self._norm2 = (
            Norm(params, f"{name}.{norm}", eps=eps, ops=ops) for norm in ("norm1", "norm2")
        )
        self._conv2 = params[f"{name}.conv2.weight"]

    def __call__(self, x_IyxW: Tensor) -> Tensor:
        """Return [I, y, x, C]."""
        x_IyxC = self._norm1(self._ops.linear(x_IyxW, self._conv1))
        return self._norm2(self._ops.conv2d(x_IyxC, self._conv2, None, stride=1, padding=1))
