"""The parts of a decoder layer: parameters by name, and calls into the op table.

Legend: T tokens, H hidden, N query heads, K KV heads, D head dim, M image rows, S sampled rows,
I and O input and output of a linear layer, R rank of its low-rank addition on image rows. Counts of heads are
this rank's.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from engines.decoder.adapter_sum import AdapterSum
from engines.ops import BetweenAttentions, Dense, KvLayer, Ops, Weight
from engines.parallel import TpGroup
from engines.quant.linear_tensors import Params, linear_of, shape_of
from engines.spec import DecoderSpec
from engines.steps.step import AttentionBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class RmsNorm:
    """The norm before attention or FFN, and the ranks whose addends of the last output it sums first."""

    weight_H: Tensor
    eps: float
    group: TpGroup


class RowLinear:
    """A linear layer; with low-rank additions on image rows and on the rows of adapters, where there are any.

    The partial LoRA of InternLM-XComposer2: y[rows] += B (A x[rows]), once for each of the matrices that are
    fused. Where ranks share a layer by columns they share A too, and the addition is part of the sum.
    """

    def __init__(self, params: Params, name: str, *, ops: Ops) -> None:
        self._ops = ops
        self.weight = linear_of(params, name)
        self._adapters = AdapterSum.of(params, name)
        self._down: Weight | None = None
        self._ups: list[Weight] = []
        if f"{name}.lora_a" in params:
            down_RI, up_OR = params[f"{name}.lora_a"], params[f"{name}.lora_b"]
            self._down = Dense(weight_OI=down_RI, bias_O=None)
            parts = up_OR.chunk(len(down_RI) // up_OR.shape[1])
            self._ups = [Dense(weight_OI=part, bias_O=None) for part in parts]

    def __call__(self, x_TI: Tensor, image_rows_M: Tensor | None, adapter_T: Tensor | None = None) -> Tensor:
        """Return [T, O]; None: the step has no image rows, or no adapter's."""
        y_TO = self._ops.linear(x_TI, self.weight)
        if self._adapters is not None and adapter_T is not None:
            y_TO = self._adapters.add_to(y_TO, x_TI, adapter_T)
        if self._down is None or image_rows_M is None:
            return y_TO
        parts = self._ops.linear(x_TI[image_rows_M], self._down).chunk(len(self._ups), dim=-1)
        added = [self._ops.linear(part, up) for part, up in zip(parts, self._ups, strict=True)]
        return y_TO.index_add_(0, image_rows_M, torch.cat(added, dim=-1))

    def after_silu_mul(
        self, gate_up_T2I: Tensor, image_rows_M: Tensor | None, adapter_T: Tensor | None = None
    ) -> Tensor:
        """Return the layer's output for silu(first half) * second half, [T, O]."""
        if self._adds(image_rows_M, adapter_T):
            return self(self._ops.silu_mul(gate_up_T2I), image_rows_M, adapter_T)
        return self._ops.silu_mul_linear(gate_up_T2I, self.weight)

    def after_norm(
        self,
        x_TI: Tensor,
        residual_TI: Tensor | None,
        norm: RmsNorm,
        image_rows_M: Tensor | None,
        adapter_T: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (the layer's output for the normed sum of x and residual, [T, O], that sum).

        Where there is a residual x is this rank's addend.
        """
        if residual_TI is None:
            normed_TI = self._ops.rms_norm(x_TI, norm.weight_H, norm.eps)
            return self(normed_TI, image_rows_M, adapter_T), x_TI
        if self._adds(image_rows_M, adapter_T):
            normed_TI, sum_TI = self._ops.add_rms_norm(x_TI, residual_TI, norm.weight_H, norm.eps, norm.group)
            return self(normed_TI, image_rows_M, adapter_T), sum_TI
        return self._ops.add_rms_norm_linear(
            x_TI, residual_TI, norm.weight_H, norm.eps, self.weight, norm.group
        )

    def gated_after_norm(
        self,
        x_TI: Tensor,
        residual_TI: Tensor,
        norm: RmsNorm,
        down: "RowLinear",
        image_rows_M: Tensor | None,
        adapter_T: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return (down(silu of this layer's first half * its second), [T, H], the sum of x and residual).

        Both x and the first are this rank's addends.
        """
        if self._adds(image_rows_M, adapter_T) or down._adds(image_rows_M, adapter_T):
            gate_up_T2F, sum_TI = self.after_norm(x_TI, residual_TI, norm, image_rows_M, adapter_T)
            return down.after_silu_mul(gate_up_T2F, image_rows_M, adapter_T), sum_TI
        return self._ops.add_rms_norm_ffn(
            x_TI, residual_TI, norm.weight_H, norm.eps, self.weight, down.weight, norm.group
        )

    def _adds(self, image_rows_M: Tensor | None, adapter_T: Tensor | None) -> bool:
        """Return whether low-rank additions need the rows themselves."""
        adapted = self._adapters is not None and adapter_T is not None
        return adapted or (self._down is not None and image_rows_M is not None)


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

    def qkv(
        self,
        x_TH: Tensor,
        residual_TH: Tensor | None,
        image_rows_M: Tensor | None,
        adapter_T: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return (queries, keys and values of the normed sum of x and residual, [T, X], that sum)."""
        return self.qkv_linear.after_norm(x_TH, residual_TH, self.norm, image_rows_M, adapter_T)

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

    def output(self, attended_TA: Tensor, image_rows_M: Tensor | None, adapter_T: Tensor | None) -> Tensor:
        """Return this rank's addend of what the layer adds to the residual, [T, H]."""
        return self.o(attended_TA, image_rows_M, adapter_T)


class GatedFfn:
    """down(silu(gate(x)) * up(x)) behind its norm, gate and up in one matrix."""

    def __init__(self, spec: DecoderSpec, params: Params, name: str, *, ops: Ops, group: TpGroup) -> None:
        self.norm = RmsNorm(weight_H=params[f"{name}.ffn_norm.weight"], eps=spec.norm_eps, group=group)
        self.gate_up = RowLinear(params, f"{name}.gate_up", ops=ops)
        self.down = RowLinear(params, f"{name}.down", ops=ops)

    def __call__(
        self,
        x_TH: Tensor,
        residual_TH: Tensor,
        *,
        image_rows_M: Tensor | None = None,
        adapter_T: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return this rank's addend of what the layer adds, [T, H], and x + residual, which it adds to."""
        return self.gate_up.gated_after_norm(x_TH, residual_TH, self.norm, self.down, image_rows_M, adapter_T)


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
