"""The parts of a decoder layer: parameters by name, and calls into the op table.

Legend: T tokens, H hidden, N query heads, K KV heads, D head dim, X queries, keys and values side by side,
A all heads' outputs, R rotary pairs, S sampled rows. Counts of heads are this rank's.
"""

from torch import Tensor

from engines.decoder.row_linear import LowRankRows, RmsNorm, RowLinear
from engines.ops import BetweenAttentions, KvLayer, Ops
from engines.parallel import TpGroup
from engines.quant.linear_tensors import Params, linear_of, shape_of
from engines.spec import DecoderSpec
from engines.steps.step import AttentionBatch


def head_counts(spec: DecoderSpec, params: Params, name: str) -> tuple[int, int]:
    """Return this rank's query heads and KV heads, told by the shapes of `qkv` and `o`."""
    num_heads = shape_of(linear_of(params, f"{name}.o"))[1] // spec.head_dim
    all_heads = shape_of(linear_of(params, f"{name}.qkv"))[0] // spec.head_dim
    return num_heads, (all_heads - num_heads) // 2


class Attention:
    """Causal self-attention over pages, behind its norm: `qkv`, `attended` and `output` in turn."""

    def __init__(self, spec: DecoderSpec, params: Params, name: str, *, ops: Ops, group: TpGroup) -> None:
        self._ops = ops
        self.norm = RmsNorm(weight_H=params[f"{name}.attention_norm.weight"], eps=spec.norm_eps, group=group)
        self.qkv_linear = RowLinear(params, f"{name}.qkv", ops=ops)
        self.o = RowLinear(params, f"{name}.o", ops=ops)
        self._head_dim = spec.head_dim
        self._scale = spec.head_dim**-0.5
        self._window = spec.sliding_window
        self._num_heads, self._num_kv_heads = head_counts(spec, params, name)

    def qkv(self, x_TH: Tensor, residual_TH: Tensor | None, rows: LowRankRows) -> tuple[Tensor, Tensor]:
        """Return (queries, keys and values of the normed sum of x and residual, [T, X], that sum)."""
        return self.qkv_linear.after_norm(x_TH, residual_TH, self.norm, rows)

    def attended(
        self,
        qkv_TX: Tensor,
        cos_TR: Tensor,
        sin_TR: Tensor,
        batch: AttentionBatch,
        kv: KvLayer,
        *,
        query_scale_T11: Tensor | None = None,
        only_S: Tensor | None = None,
    ) -> Tensor:
        """Write keys and values of all tokens; return what the tokens, or `only_S`, saw, [T, A].

        `query_scale` multiplies each token's queries.
        """
        ops, keys = self._ops, self._num_heads
        values = keys + self._num_kv_heads
        qkv_TXD = qkv_TX.view(len(qkv_TX), -1, self._head_dim)
        q_TND, k_TKD, v_TKD = qkv_TXD[:, :keys], qkv_TXD[:, keys:values], qkv_TXD[:, values:]
        if query_scale_T11 is not None:
            q_TND = q_TND * query_scale_T11
        rows = (q_TND, k_TKD, v_TKD, cos_TR, sin_TR, kv)
        if only_S is not None and not len(only_S):
            return ops.rope_store_kv(*rows, batch.slots_T)[:0].flatten(1)
        out_TND = ops.rope_store_attend(*rows, batch, scale=self._scale, window=self._window)
        return (out_TND if only_S is None else out_TND[only_S]).flatten(1)

    def output(self, attended_TA: Tensor, rows: LowRankRows) -> Tensor:
        """Return this rank's addend of what the layer adds to the residual, [T, H]."""
        return self.o(attended_TA, rows)


class GatedFfn:
    """down(silu(gate(x)) * up(x)) behind its norm, gate and up in one matrix."""

    def __init__(self, spec: DecoderSpec, params: Params, name: str, *, ops: Ops, group: TpGroup) -> None:
        self.norm = RmsNorm(weight_H=params[f"{name}.ffn_norm.weight"], eps=spec.norm_eps, group=group)
        self.gate_up = RowLinear(params, f"{name}.gate_up", ops=ops)
        self.down = RowLinear(params, f"{name}.down", ops=ops)

    def __call__(self, x_TH: Tensor, residual_TH: Tensor, rows: LowRankRows) -> tuple[Tensor, Tensor]:
        """Return this rank's addend of what the layer adds, [T, H], and x + residual, which it adds to."""
        return self.gate_up.gated_after_norm(x_TH, residual_TH, self.norm, self.down, rows)


def between_attentions(attention: Attention, ffn: GatedFfn, following: Attention) -> BetweenAttentions:
    """Return what lies between the attention of a layer and that of the next, low-rank additions left out."""
    return BetweenAttentions(
        o=attention.o.weight,
        ffn_norm_H=ffn.norm.weight_H,
        gate_up=ffn.gate_up.weight,
        down=ffn.down.weight,
        norm_H=following.norm.weight_H,
        qkv=following.qkv_linear.weight,
        eps=ffn.norm.eps,
    )
