"""Learned queries that attend to a picture's patches.

    q = norm_q(query) [+ positions];  kv = norm_kv(kv x)
    rows = norm_out(o attention(q, kv + positions on the patch grid, kv)) @ out

Source: Qwen-VL's visual.py and MiniCPM-V's resampler.py.

Legend: I tiles, L patches of a tile, W tower hidden, Q queries, O decoder hidden, N heads, D head dim.
"""

import torch
from torch import Tensor

from engines.ops import Dense, Ops
from engines.quant.linear_tensors import Params
from engines.vision.norm import Norm
from engines.vision.passes import resized_table
from engines.vision.projectors.resampler_spec import HEAD_DIM, ResamplerSpec


class Resampler:
    """The projector."""

    def __init__(self, spec: ResamplerSpec, params: Params, *, ops: Ops) -> None:
        name = "projector"
        self._ops = ops
        self._query_QO = params[f"{name}.query"]
        self._positions_QO = params.get(f"{name}.positions")
        kv_OW = params.get(f"{name}.kv.weight")
        self._kv = None if kv_OW is None else Dense(weight_OI=kv_OW, bias_O=None)
        self._norm_q, self._norm_kv, self._norm_out = (
            Norm(params, f"{name}.{norm}", eps=spec.norm_eps, ops=ops)
            for norm in ("norm_q", "norm_kv", "norm_out")
        )
        thirds = zip(params[f"{name}.qkv.weight"].chunk(3), params[f"{name}.qkv.bias"].chunk(3), strict=True)
        self._q, self._k, self._v = (Dense(weight_OI=weight, bias_O=bias) for weight, bias in thirds)
        self._o = Dense(weight_OI=params[f"{name}.o.weight"], bias_O=params[f"{name}.o.bias"])
        self._out = Dense(weight_OI=params[f"{name}.out"].T.contiguous(), bias_O=None)

    def __call__(self, features_ILW: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Return [I, Q, O]; `grid` has the columns and rows of patches, where they are no square."""
        ops, num = self._ops, len(features_ILW)
        query_QO = self._norm_q(self._query_QO)
        if self._positions_QO is not None:
            query_QO = query_QO + self._positions_QO
        x_ILO = features_ILW if self._kv is None else ops.linear(features_ILW, self._kv)
        x_ILO = self._norm_kv(x_ILO)
        keys_ILO = ops.linear(x_ILO + self._key_positions(x_ILO, grid), self._k)
        queries_IQO = ops.linear(query_QO, self._q).expand(num, -1, -1)
        q, k, v = (
            x.reshape(*x.shape[:-1], -1, HEAD_DIM)
            for x in (queries_IQO, keys_ILO, ops.linear(x_ILO, self._v))
        )
        rows_IQO = ops.linear(ops.attention_full(q, k, v, scale=HEAD_DIM**-0.5).flatten(2), self._o)
        return ops.linear(self._norm_out(rows_IQO), self._out)

    def _key_positions(self, x_ILO: Tensor, grid: tuple[int, int] | None) -> Tensor:
        """Return [L, O]."""
        side = round(x_ILO.shape[1] ** 0.5)
        columns, rows = (side, side) if grid is None else grid
        if self._positions_QO is not None:
            return resized_table(self._positions_QO, columns)
        return sincos_table(columns, rows, x_ILO.shape[-1], device=x_ILO.device).to(x_ILO.dtype)


def sincos_table(columns: int, rows: int, width: int, *, device: torch.device) -> Tensor:
    """Return fp32 [rows * columns, width]: sines and cosines of the column, then of the row."""
    quarter = width // 4
    exponents = torch.arange(quarter, dtype=torch.float32, device=device) / quarter
    frequencies = 1.0 / 10000**exponents
    column = torch.arange(columns, dtype=torch.float32, device=device)[None, :, None] * frequencies
    row = torch.arange(rows, dtype=torch.float32, device=device)[:, None, None] * frequencies
    parts = [part.expand(rows, columns, -1) for part in (column.sin(), column.cos(), row.sin(), row.cos())]
    return torch.cat(parts, dim=-1).flatten(0, 1)
