"""The decoder that Llama, InternLM2, Qwen2, Yi and Phi-3 are: what differs are fields of its DecoderSpec.

    x = embed(ids), image rows spliced in
    each layer:  x += attention(norm(x));  x += ffn(norm(x))
    sampled rows: logits = head(norm(x))

The residual is carried beside the last output, so that adding and norming are one op. Where ranks share a
layer, an output is a rank's addend until then, and that op sums first.

Legend: T tokens, H hidden, S sampled rows, V vocabulary.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from engines.decoder.layers import Attention, GatedFfn, between_attentions
from engines.decoder.logn import query_scale
from engines.decoder.rope import Rope
from engines.decoder.row_linear import LowRankRows
from engines.ops import Dense, KvLayer, Ops, Weight
from engines.parallel import TpGroup
from engines.quant.linear_tensors import Params, bf12_under, linear_of
from engines.spec import DecoderSpec
from engines.steps.step import StepInput


class LlamaLike:
    """One rank's share of a decoder."""

    def __init__(self, spec: DecoderSpec, params: Params, *, ops: Ops, group: TpGroup) -> None:
        self._spec = spec
        self._ops = ops
        self._group = group
        self._embed_VH = params["decoder.embed.weight"]
        self._norm_H = params["decoder.norm.weight"]
        self._head = self._head_layer(params)
        self._rope = Rope(spec.rope, spec.head_dim, self._embed_VH.device)
        self._layers = [
            LlamaLayer(spec, params, f"decoder.layers.{i}", ops=ops, group=group)
            for i in range(spec.num_layers)
        ]
        self._joints = [Joint(spec, *layers, ops=ops, group=group) for layers in pairwise(self._layers)]

    def hidden(self, step: StepInput, kv: Sequence[KvLayer]) -> Tensor:
        """Run the layers, write K and V; return the normed rows of `sample_rows_S`, [S, H]."""
        x_TH = self._ops.embed(self._embed_VH, step.token_ids_T)
        if step.features_MH is not None:
            x_TH = x_TH.index_copy_(0, step.feature_rows_M, step.features_MH)
        tables = self._ops.rope_tables(self._rope, step.positions_T, step.rope_lens_T)
        query_scale_T11 = query_scale(step.positions_T, self._spec.logn_length, x_TH.dtype)
        only_S, (*before, (last, last_kv)) = self._only_rows(step), zip(self._layers, kv, strict=True)
        qkv_TX, residual_TH = self._layers[0].qkv(x_TH, None, step)
        for (layer, layer_kv), joint in zip(before, self._joints, strict=True):
            attended_TA = layer.attended(qkv_TX, tables, step, layer_kv, query_scale_T11)
            qkv_TX, residual_TH = joint(attended_TA, residual_TH, step)
        attended_TA = last.attended(qkv_TX, tables, step, last_kv, query_scale_T11, only_S=only_S)
        x_TH, residual_TH = last.products(attended_TA, residual_TH, step, only_S=only_S)
        if only_S is None and not step.samples_every_row:
            x_TH, residual_TH = x_TH[step.sample_rows_S], residual_TH[step.sample_rows_S]
        normed_SH, _ = self._ops.add_rms_norm(
            x_TH, residual_TH, self._norm_H, self._spec.norm_eps, self._group
        )
        return normed_SH

    def logits(self, hidden_SH: Tensor) -> Tensor:
        """Return logits [S, V], a view of rows that are padded."""
        logits_SV = self._group.all_gather(self._ops.linear(hidden_SH, self._head))
        return logits_SV[:, : self._spec.vocab]

    def _only_rows(self, step: StepInput) -> Tensor | None:
        """Return the tokens that the last layer goes on with once K and V are written; None: with all.

        Nobody reads the others. Additions on image rows number them as tokens of the whole step.
        """
        every = step.samples_every_row or _adds_on_images(self._spec, step)
        return None if every else step.sample_rows_S

    def _head_layer(self, params: Params) -> Weight:
        """Return the head if there is one, else a layer of this rank's rows of the embedding."""
        if "decoder.head.weight" in params or "decoder.head.factor" in params:
            return linear_of(params, "decoder.head")
        own_VH = self._embed_VH.chunk(self._group.size)[self._group.rank]
        return Dense(weight_OI=own_VH, bias_O=None, bf12=bf12_under(params, "decoder.head"))


class LlamaLayer:
    """Attention and gated FFN, each before a norm."""

    def __init__(self, spec: DecoderSpec, params: Params, name: str, *, ops: Ops, group: TpGroup) -> None:
        self.attention = Attention(spec, params, name, ops=ops, group=group)
        self.ffn = GatedFfn(spec, params, name, ops=ops, group=group)

    def qkv(self, x_TH: Tensor, residual_TH: Tensor | None, step: StepInput) -> tuple[Tensor, Tensor]:
        """Return queries, keys and values, [T, X], and x + residual, whose normed rows they are of."""
        return self.attention.qkv(x_TH, residual_TH, LowRankRows.of(step))

    def attended(
        self,
        qkv_TX: Tensor,
        tables: tuple[Tensor, Tensor],
        step: StepInput,
        kv: KvLayer,
        query_scale_T11: Tensor | None,
        *,
        only_S: Tensor | None = None,
    ) -> Tensor:
        """Return what the tokens, or `only_S`, saw, [T, A]; keys and values of all are written."""
        return self.attention.attended(
            qkv_TX, *tables, step.attention, kv, query_scale_T11=query_scale_T11, only_S=only_S
        )

    def products(
        self, attended_TA: Tensor, residual_TH: Tensor, step: StepInput, *, only_S: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the FFN's output, a rank's addend, and what it is added to; `only_S`: of these tokens alone.

        No addition on image rows may apply to `only_S`: image rows are tokens of the whole step.
        """
        rows = LowRankRows.of(step)
        if only_S is not None:
            residual_TH, rows = residual_TH[only_S], rows.only(only_S)
            if not len(only_S):
                return residual_TH, residual_TH
        return self.ffn(self.attention.output(attended_TA, rows), residual_TH, rows)


class Joint:
    """What lies between the attentions of two layers: o and FFN of one, qkv of the next."""

    def __init__(
        self, spec: DecoderSpec, layer: LlamaLayer, following: LlamaLayer, *, ops: Ops, group: TpGroup
    ) -> None:
        self._spec, self._ops, self._group = spec, ops, group
        self._layer, self._following = layer, following
        self._between = between_attentions(layer.attention, layer.ffn, following.attention)

    def __call__(self, attended_TA: Tensor, residual_TH: Tensor, step: StepInput) -> tuple[Tensor, Tensor]:
        """Return the following layer's queries, keys and values, [T, X], and the residual that it normed.

        One op where nothing is added to its products: sums over ranks, adapters, additions on image rows.
        """
        if self._group.size == 1 and step.adapter_T is None and not _adds_on_images(self._spec, step):
            return self._ops.layer_products(attended_TA, residual_TH, self._between)
        return self._following.qkv(*self._layer.products(attended_TA, residual_TH, step), step)


def _adds_on_images(spec: DecoderSpec, step: StepInput) -> bool:
    return bool(spec.plora_rank) and step.features_MH is not None
