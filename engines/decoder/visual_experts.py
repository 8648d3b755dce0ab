"""The decoder of CogVLM: a Llama whose linear layers exist twice, once for image rows and once for all else.

The last row of an image counts as text. Inside the decoder the tokens of a step stand in the order of their
experts, text first, so that each expert works on one stretch; queries alone go back to the order of the step.

Legend: T tokens, E image rows but the last of each image, I and O a linear layer's input and output, H hidden
size, N query heads, K KV heads, D head dim, R rotary pairs, S sampled rows, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.decoder.layers import head_counts
from engines.decoder.logn import query_scale
from engines.decoder.rope import Rope, StoredRope
from engines.decoder.visual_experts_parameters import ROPE
from engines.ops import KvLayer, Ops
from engines.parallel import TpGroup
from engines.quant.linear_tensors import Params, linear_of
from engines.spec import DecoderSpec
from engines.steps.step import AttentionBatch, StepInput


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """The tokens of a step that has image rows, by expert."""

    by_expert_T: Tensor  # token numbers, those of image rows last
    back_T: Tensor  # where each token stands in it
    num_text: int

    @classmethod
    def of(cls, step: StepInput) -> "Order | None":
        """Return the order of a step; None where it has no image rows."""
        rows_E = step.inner_rows_E
        if rows_E is None or not len(rows_E):
            return None
        is_image_T = torch.zeros_like(step.token_ids_T)
        is_image_T[rows_E] = 1
        by_expert_T = torch.argsort(is_image_T, stable=True)
        back_T = torch.empty_like(by_expert_T)
        back_T[by_expert_T] = torch.arange(len(by_expert_T), device=back_T.device)
        return cls(by_expert_T=by_expert_T, back_T=back_T, num_text=len(by_expert_T) - len(rows_E))


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """What all layers need of a step; tables and slots stand in the order of the experts."""

    order: Order | None
    cos_TR: Tensor
    sin_TR: Tensor
    slots_T: Tensor
    query_scale_T11: Tensor | None  # in the order of the step
    attention: AttentionBatch


class VisualExperts:
    """One rank's share of a decoder."""

    def __init__(self, spec: DecoderSpec, params: Params, *, ops: Ops, group: TpGroup) -> None:
        self._spec = spec
        self._ops = ops
        self._group = group
        self._embed_VH = params["decoder.embed.weight"]
        self._norm_H = params["decoder.norm.weight"]
        self._head = linear_of(params, "decoder.head")
        self._rope = (
            StoredRope(params[ROPE])
            if ROPE in params and spec.rope.kind == "default"
            else Rope(spec.rope, spec.head_dim, self._embed_VH.device)
        )
        self._layers = [
            ExpertLayer(spec, params, f"decoder.layers.{i}", ops=ops, group=group)
            for i in range(spec.num_layers)
        ]

    def hidden(self, step: StepInput, kv: Sequence[KvLayer]) -> Tensor:
        """Run the layers, write K and V; return the normed rows of `sample_rows_S`, [S, H]."""
        x_TH = self._ops.embed(self._embed_VH, step.token_ids_T)
        if step.features_MH is not None:
            x_TH = x_TH.index_copy_(0, step.feature_rows_M, step.features_MH)
        tokens = self._tokens(step, x_TH.dtype)
        rows_S = step.sample_rows_S
        if tokens.order is not None:
            x_TH, rows_S = x_TH[tokens.order.by_expert_T], tokens.order.back_T[rows_S]
        for layer, layer_kv in zip(self._layers, kv, strict=True):
            x_TH = layer(x_TH, tokens, layer_kv)
        return self._ops.rms_norm(x_TH[rows_S], self._norm_H, self._spec.norm_eps)

    def _tokens(self, step: StepInput, dtype: torch.dtype) -> "Tokens":
        order, slots_T = Order.of(step), step.attention.slots_T
        cos_TR, sin_TR = self._rope.tables(step.positions_T, step.rope_lens_T)
        if order is not None:
            in_order = order.by_expert_T
            cos_TR, sin_TR, slots_T = cos_TR[in_order], sin_TR[in_order], slots_T[in_order]
        return Tokens(
            order=order,
            cos_TR=cos_TR,
            sin_TR=sin_TR,
            slots_T=slots_T,
            query_scale_T11=query_scale(step.positions_T, self._spec.logn_length, dtype),
            attention=step.attention,
        )

    def logits(self, hidden_SH: Tensor) -> Tensor:
        """Return logits [S, V], a view of rows that are padded."""
        logits_SV = self._group.all_gather(self._ops.linear(hidden_SH, self._head))
        return logits_SV[:, : self._spec.vocab]


class ExpertLinear:
    """A linear layer for text and one for image rows."""

    def __init__(self, params: Params, layer: str, name: str, *, ops: Ops) -> None:
        self._ops = ops
        self._text = linear_of(params, f"{layer}.{name}")
        self._image = linear_of(params, f"{layer}.vision_{name}")

    def __call__(self, x_TI: Tensor, order: Order | None) -> Tensor:
        """Return [T, O] for tokens in the order of their experts."""
        if order is None:
            return self._ops.linear(x_TI, self._text)
        image_EO = self._ops.linear(x_TI[order.num_text :], self._image)
        if order.num_text == 0:
            return image_EO
        return torch.cat([self._ops.linear(x_TI[: order.num_text], self._text), image_EO])


class ExpertLayer:
    """Attention and gated FFN, each before a norm; the norms are the same for all tokens."""

    def __init__(self, spec: DecoderSpec, params: Params, name: str, *, ops: Ops, group: TpGroup) -> None:
        self._ops = ops
        self._group = group
        self._eps = spec.norm_eps
        self._head_dim = spec.head_dim
        self._scale = spec.head_dim**-0.5
        self._num_heads, self._num_kv_heads = head_counts(spec, params, name)
        self._attention_norm_H = params[f"{name}.attention_norm.weight"]
        self._ffn_norm_H = params[f"{name}.ffn_norm.weight"]
        self._qkv = ExpertLinear(params, name, "qkv", ops=ops)
        self._o = ExpertLinear(params, name, "o", ops=ops)
        self._gate_up = ExpertLinear(params, name, "gate_up", ops=ops)
        self._down = ExpertLinear(params, name, "down", ops=ops)

    def __call__(self, x_TH: Tensor, tokens: Tokens, kv: KvLayer) -> Tensor:
        """Return the next residual stream, [T, H], in the order in which it came."""
        ops, order = self._ops, tokens.order
        normed_TH = ops.rms_norm(x_TH, self._attention_norm_H, self._eps)
        attended_TH = self._attention(normed_TH, tokens, kv)
        normed_TH, x_TH = ops.add_rms_norm(attended_TH, x_TH, self._ffn_norm_H, self._eps)
        inner_TF = ops.silu_mul(self._gate_up(normed_TH, order))
        return x_TH + self._group.all_reduce(self._down(inner_TF, order))

    def _attention(self, x_TH: Tensor, tokens: Tokens, kv: KvLayer) -> Tensor:
        ops, order, keys = self._ops, tokens.order, self._num_heads
        values = keys + self._num_kv_heads
        qkv_TXD = self._qkv(x_TH, order).view(len(x_TH), -1, self._head_dim)
        q_TND, k_TKD, v_TKD = qkv_TXD[:, :keys], qkv_TXD[:, keys:values], qkv_TXD[:, values:]
        rows = (q_TND, k_TKD, v_TKD, tokens.cos_TR, tokens.sin_TR, kv)
        if order is None and tokens.query_scale_T11 is None:
            out_TND = ops.rope_store_attend(*rows, tokens.attention, scale=self._scale, window=None)
            return self._group.all_reduce(self._o(out_TND.flatten(1), order))
        q_TND = ops.rope_store_kv(*rows, tokens.slots_T)
        if order is not None:
            q_TND = q_TND[order.back_T]
        if tokens.query_scale_T11 is not None:
            q_TND = q_TND * tokens.query_scale_T11
        out_TND = ops.attention_paged(q_TND, kv, tokens.attention, scale=self._scale, window=None)
        if order is not None:
            out_TND = out_TND[order.by_expert_T]
        return self._group.all_reduce(self._o(out_TND.flatten(1), order))
