"""The parts of a decoder layer: parameters by name, and calls into the op table.

Legend: T tokens, H hidden, N query heads, K KV heads, D head dim. Counts of heads are this rank's.
"""

from collections.abc import Mapping

from torch import Tensor

from engines.ops import Dense, KvLayer, Ops, Weight
from engines.parallel import TpGroup
from engines.spec import DecoderSpec
from engines.step import AttentionBatch

Params = Mapping[str, Tensor]


def linear_weight(params: Params, name: str) -> Weight:
    """Return the linear layer stored under a name, with its bias if it has one."""
    return Dense(weight_OI=params[f"{name}.weight"], bias_O=params.get(f"{name}.bias"))


class Attention:
    """Causal self-attention over pages."""

    def __init__(self, spec: DecoderSpec, params: Params, name: str, *, ops: Ops, group: TpGroup) -> None:
        self._ops = ops
        self._group = group
        self._qkv = linear_weight(params, f"{name}.qkv")
        self._o = linear_weight(params, f"{name}.o")
        self._head_dim = spec.head_dim
        self._scale = spec.head_dim**-0.5
        self._window = spec.sliding_window
        self._num_heads = params[f"{name}.o.weight"].shape[1] // spec.head_dim
        self._num_kv_heads = (params[f"{name}.qkv.weight"].shape[0] // spec.head_dim - self._num_heads) // 2

    def __call__(
        self,
        x_TH: Tensor,
        cos_TR: Tensor,
        sin_TR: Tensor,
        batch: AttentionBatch,
        kv: KvLayer,
        *,
        query_scale_T11: Tensor | None = None,
    ) -> Tensor:
        """Return the layer's share of the residual, [T, H]; `query_scale` multiplies each token's queries."""
        ops, keys = self._ops, self._num_heads
        values = keys + self._num_kv_heads
        qkv_TXD = ops.linear(x_TH, self._qkv).view(len(x_TH), -1, self._head_dim)
        q_TND, k_TKD, v_TKD = qkv_TXD[:, :keys], qkv_TXD[:, keys:values], qkv_TXD[:, values:]
        if query_scale_T11 is not None:
            q_TND = q_TND * query_scale_T11
        q_TND = ops.rope_store_kv(q_TND, k_TKD, v_TKD, cos_TR, sin_TR, kv, batch.slots_T)
        out_TND = ops.attention_paged(q_TND, kv, batch, scale=self._scale, window=self._window)
        return self._group.all_reduce(ops.linear(out_TND.flatten(1), self._o))


class GatedFfn:
    """down(silu(gate(x)) * up(x)), gate and up in one matrix."""

    def __init__(self, params: Params, name: str, *, ops: Ops, group: TpGroup) -> None:
        self._ops = ops
        self._group = group
        self._gate_up = linear_weight(params, f"{name}.gate_up")
        self._down = linear_weight(params, f"{name}.down")

    def __call__(self, x_TH: Tensor) -> Tensor:
        """Return the layer's share of the residual, [T, H]."""
        ops = self._ops
        return self._group.all_reduce(ops.linear(ops.silu_mul(ops.linear(x_TH, self._gate_up)), self._down))
