"""The op table in plain torch: the truth that every kernel is held to, the same code on CPU and GPU.

Contracts stand in `engines/ops.py`. Statistics of norms and softmax are fp32. Nothing here loops over heads,
pages or sequences, and nothing syncs with the host.

Legend: as in `engines/ops.py`; B sequences, Q queries of the longest, G query heads a KV head, L keys of the
longest.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.decoder.rope import Rope
from engines.ops import AxisPass, BetweenAttentions, Gelu, KvLayer, Weight
from engines.pytorch.attention_grid import attention_grid
from engines.pytorch.conv2d import conv2d
from engines.pytorch.cut_tiles import cut_tiles
from engines.pytorch.kv_rows import dequantize_rows, quantize_rows
from engines.pytorch.linear import linear
from engines.steps.step import AttentionBatch

# Queries attended at once: bounds the mask, which is [query heads a KV head, queries, keys].
QUERY_BLOCK = 1024


class TorchOps:
    """Implements `engines.ops.Ops`; holds nothing."""

    def embed(self, table_VH: Tensor, ids_T: Tensor) -> Tensor:
        """Return rows of the table."""
        return F.embedding(ids_T, table_VH)

    def rms_norm(self, x_TH: Tensor, weight_H: Tensor, eps: float) -> Tensor:
        """Return x * rsqrt(mean(x^2) + eps) * weight."""
        x32_TH = x_TH.float()
        inverse_T1 = torch.rsqrt(x32_TH.square().mean(-1, keepdim=True) + eps)
        return (x32_TH * inverse_T1).to(x_TH.dtype) * weight_H

    def add_rms_norm(
        self, x_TH: Tensor, residual_TH: Tensor, weight_H: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """Return (rms_norm(x + residual), x + residual)."""
        sum_TH = x_TH + residual_TH
        return self.rms_norm(sum_TH, weight_H, eps), sum_TH

    def add_rms_norm_linear(
        self, x_TH: Tensor, residual_TH: Tensor, norm_H: Tensor, eps: float, weight: Weight
    ) -> tuple[Tensor, Tensor]:
        """Return (linear(rms_norm(x + residual)), x + residual)."""
        normed_TH, sum_TH = self.add_rms_norm(x_TH, residual_TH, norm_H, eps)
        return self.linear(normed_TH, weight), sum_TH

    def layer_norm(self, x_TH: Tensor, weight_H: Tensor, bias_H: Tensor, eps: float) -> Tensor:
        """Return the layer norm over the last axis."""
        return F.layer_norm(x_TH, weight_H.shape, weight_H, bias_H, eps)

    def linear(self, x_TI: Tensor, weight: Weight) -> Tensor:
        """Return x @ W.T + b."""
        return linear(x_TI, weight)

    def silu_mul(self, gate_up_T2F: Tensor) -> Tensor:
        """Return silu(first half) * second half."""
        gate_TF, up_TF = gate_up_T2F.chunk(2, dim=-1)
        return F.silu(gate_TF) * up_TF

    def silu_mul_linear(self, gate_up_T2F: Tensor, weight: Weight) -> Tensor:
        """Return linear(silu_mul(gate_up), weight)."""
        return self.linear(self.silu_mul(gate_up_T2F), weight)

    def add_rms_norm_ffn(
        self, x_TH: Tensor, residual_TH: Tensor, norm_H: Tensor, eps: float, gate_up: Weight, down: Weight
    ) -> tuple[Tensor, Tensor]:
        """Return (linear(silu_mul(linear(rms_norm(x + residual), gate_up)), down), x + residual)."""
        gate_up_T2F, sum_TH = self.add_rms_norm_linear(x_TH, residual_TH, norm_H, eps, gate_up)
        return self.silu_mul_linear(gate_up_T2F, down), sum_TH

    def layer_products(
        self, attended_TA: Tensor, residual_TH: Tensor, between: BetweenAttentions
    ) -> tuple[Tensor, Tensor]:
        """Return (qkv of the next layer, the residual that its norm saw)."""
        x_TH, residual_TH = self.add_rms_norm_ffn(
            self.linear(attended_TA, between.o),
            residual_TH,
            between.ffn_norm_H,
            between.eps,
            between.gate_up,
            between.down,
        )
        return self.add_rms_norm_linear(x_TH, residual_TH, between.norm_H, between.eps, between.qkv)

    def gelu(self, x_TF: Tensor) -> Tensor:
        """Return the exact GELU."""
        return F.gelu(x_TF)

    def gelu_tanh(self, x_TF: Tensor) -> Tensor:
        """Return the GELU's tanh form."""
        return F.gelu(x_TF, approximate="tanh")

    def quick_gelu(self, x_TF: Tensor) -> Tensor:
        """Return x * sigmoid(1.702 x)."""
        return x_TF * torch.sigmoid(1.702 * x_TF)

    def linear_gelu(self, x_TI: Tensor, weight: Weight, form: Gelu) -> Tensor:
        """Return the op `form` of linear(x, weight)."""
        op = {"gelu": self.gelu, "gelu_tanh": self.gelu_tanh, "quick_gelu": self.quick_gelu}[form]
        return op(self.linear(x_TI, weight))

    def linear_add(
        self, x_TI: Tensor, weight: Weight, residual_TO: Tensor, *, scale_O: Tensor | None = None
    ) -> Tensor:
        """Return residual + linear(x, weight) * scale."""
        y_TO = self.linear(x_TI, weight)
        return residual_TO + y_TO if scale_O is None else torch.addcmul(residual_TO, y_TO, scale_O)

    def rope_tables(self, rope: Rope, positions: Tensor, rope_lens_T: Tensor) -> tuple[Tensor, Tensor]:
        """Return cos and sin of the angles of all tokens."""
        return rope.tables(positions, rope_lens_T)

    def rope(self, q_TND: Tensor, k_TKD: Tensor, cos_TR: Tensor, sin_TR: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate half-split pairs of q and k, in fp32."""
        x_TXD = torch.cat([q_TND, k_TKD], dim=1)
        num_pairs, num_heads = cos_TR.shape[-1], q_TND.shape[1]
        cos_T1R, sin_T1R = cos_TR.unsqueeze(1), sin_TR.unsqueeze(1)
        x1, x2 = x_TXD[..., :num_pairs], x_TXD[..., num_pairs : 2 * num_pairs]
        passed = x_TXD[..., 2 * num_pairs :]
        first, second = x1 * cos_T1R - x2 * sin_T1R, x2 * cos_T1R + x1 * sin_T1R
        rotated_TXD = torch.cat([first, second, passed], dim=-1).to(x_TXD.dtype)
        return rotated_TXD[:, :num_heads], rotated_TXD[:, num_heads:]

    def store_kv(self, k_TKD: Tensor, v_TKD: Tensor, layer: KvLayer, slots_T: Tensor) -> None:
        """Write k and v into their slots."""
        page_T, offset_T = slots_T // layer.page_tokens, slots_T % layer.page_tokens
        for x_TKD, (rows_PKTD, scales_PKTS) in zip((k_TKD, v_TKD), layer.pages, strict=True):
            if scales_PKTS is not None:
                x_TKD, scales_PKTS[page_T, :, offset_T] = quantize_rows(x_TKD, layer.format)
            rows_PKTD[page_T, :, offset_T] = x_TKD

    def rope_store_kv(
        self,
        q_TND: Tensor,
        k_TKD: Tensor,
        v_TKD: Tensor,
        cos_TR: Tensor,
        sin_TR: Tensor,
        layer: KvLayer,
        slots_T: Tensor,
    ) -> Tensor:
        """Return q rotated; write k rotated and v."""
        q_TND, k_TKD = self.rope(q_TND, k_TKD, cos_TR, sin_TR)
        self.store_kv(k_TKD, v_TKD, layer, slots_T)
        return q_TND

    def attention_paged(
        self, q_TND: Tensor, layer: KvLayer, batch: AttentionBatch, *, scale: float, window: int | None
    ) -> Tensor:
        """Attend the decoding sequences, then the chunks, each as one padded batch."""
        num = batch.num_decodes
        if num == len(batch.kv_lens_B):
            return _attend(q_TND.unsqueeze(1), layer, batch, slice(0, num), scale, window).squeeze(1)
        starts_B, rows_T = batch.q_starts_B1[num:-1].long(), torch.arange(len(q_TND), device=q_TND.device)
        padded_BQ = starts_B[:, None] + rows_T[: batch.max_q]
        q_BQND = q_TND[padded_BQ.clamp(max=len(q_TND) - 1)]
        out_BQND = _attend(q_BQND, layer, batch, slice(num, None), scale, window)
        # Row t of the step lies in the last chunk that starts at or before it.
        chunk_T = torch.searchsorted(starts_B, rows_T[num:], right=True) - 1
        out_TND = out_BQND[chunk_T, rows_T[num:] - starts_B[chunk_T]]
        if num == 0:
            return out_TND
        decoded_BND = _attend(q_TND[:num, None], layer, batch, slice(0, num), scale, window).squeeze(1)
        return torch.cat([decoded_BND, out_TND])

    def attention_full(self, q_ILND: Tensor, k_ILND: Tensor, v_ILND: Tensor, *, scale: float) -> Tensor:
        """Return unmasked attention inside each image."""
        q, k, v = (x.transpose(1, 2) for x in (q_ILND, k_ILND, v_ILND))
        return F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)

    def attention_grid(
        self,
        q_ILND: Tensor,
        k_ILND: Tensor,
        v_ILND: Tensor,
        down_ILNY: Tensor,
        across_ILNX: Tensor,
        *,
        scale: float,
    ) -> Tensor:
        """Return attention over a grid with relative positions."""
        return attention_grid(q_ILND, k_ILND, v_ILND, down_ILNY, across_ILNX, scale=scale)

    def conv2d(
        self,
        x_IyxC: Tensor,
        weight_OCkk: Tensor,
        bias_O: Tensor | None,
        *,
        stride: int,
        padding: int,
        groups: int = 1,
    ) -> Tensor:
        """Return the convolution of maps, channels last."""
        return conv2d(x_IyxC, weight_OCkk, bias_O, stride=stride, padding=padding, groups=groups)

    def cut_tiles(self, picture_YX4: Tensor, passes: Sequence[AxisPass], out_ISSC: Tensor) -> None:
        """Resize axis after axis and write tiles."""
        cut_tiles(picture_YX4, passes, out_ISSC)


def _attend(
    q_BQND: Tensor, layer: KvLayer, batch: AttentionBatch, which: slice, scale: float, window: int | None
) -> Tensor:
    """Return [B, Q, N, D] for sequences of up to Q queries; rows past a sequence's own mean nothing."""
    longest = q_BQND.shape[1]
    keys_BKLD, values_BKLD = _gathered(layer, batch, which, q_BQND.dtype)
    blocks = []
    for first in range(0, longest, QUERY_BLOCK):
        block = slice(first, min(first + QUERY_BLOCK, longest))
        seen_BQL = _visible(batch, which, block, window)
        blocks.append(_attend_block(q_BQND[:, block], keys_BKLD, values_BKLD, seen_BQL, scale))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)


def _attend_block(
    q_BQND: Tensor, keys_BKLD: Tensor, values_BKLD: Tensor, seen_BQL: Tensor, scale: float
) -> Tensor:
    """Return [B, Q, N, D]. The query heads of a KV head become further queries of it: no key is repeated."""
    num, longest, num_heads, head_dim = q_BQND.shape
    num_kv_heads = keys_BKLD.shape[1]
    per_kv = num_heads // num_kv_heads
    q_BKGQD = q_BQND.reshape(num, longest, num_kv_heads, per_kv, head_dim).permute(0, 2, 3, 1, 4)
    seen_B1QL = seen_BQL.unsqueeze(1)
    out_BKXD = F.scaled_dot_product_attention(
        q_BKGQD.reshape(num, num_kv_heads, per_kv * longest, head_dim),
        keys_BKLD,
        values_BKLD,
        attn_mask=seen_B1QL if longest == 1 else seen_B1QL.repeat(1, 1, per_kv, 1),
        scale=scale,
    )
    out_BKGQD = out_BKXD.view(num, num_kv_heads, per_kv, longest, head_dim)
    return out_BKGQD.permute(0, 3, 1, 2, 4).reshape(num, longest, num_heads, head_dim)


def _gathered(
    layer: KvLayer, batch: AttentionBatch, which: slice, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the keys and the values of sequences, [B, K, L, D] each, in the dtype of queries."""
    rows = _rows(layer, batch, which)
    num_kv_heads = layer.keys_PKTD.shape[1]

    def gather(pages_PKTx: Tensor) -> Tensor:
        width = pages_PKTx.shape[-1]
        return pages_PKTx.view(-1, width).index_select(0, rows).view(-1, num_kv_heads, batch.max_kv, width)

    keys_BKLD, values_BKLD = (
        gather(rows_PKTD)
        if scales_PKTS is None
        else dequantize_rows(gather(rows_PKTD), gather(scales_PKTS), layer.format, dtype)
        for rows_PKTD, scales_PKTS in layer.pages
    )
    return keys_BKLD, values_BKLD


def _rows(layer: KvLayer, batch: AttentionBatch, which: slice) -> Tensor:
    """Return where each head's keys lie, int64 [B * K * L], as rows of head_dim numbers of the pages.

    Past a sequence's end stands its last key: what lies in slots that it never wrote may be no number, and
    masking does not help against that.
    """
    _, num_kv_heads, page_tokens, _ = layer.keys_PKTD.shape
    lens_B = batch.kv_lens_B[which]
    key_BL = torch.minimum(torch.arange(batch.max_kv, device=lens_B.device), lens_B[:, None] - 1)
    page_BL = batch.pages_BP[which].gather(1, key_BL // page_tokens)
    head_K1 = torch.arange(num_kv_heads, device=lens_B.device)[:, None]
    rows_BKL = (page_BL[:, None] * num_kv_heads + head_K1) * page_tokens + (key_BL % page_tokens)[:, None]
    return rows_BKL.view(-1)


def _visible(batch: AttentionBatch, which: slice, block: slice, window: int | None) -> Tensor:
    """Return which keys each query of a block sees, bool [B, Q, L]."""
    lens_B1 = batch.kv_lens_B[which].unsqueeze(1)
    counts_B1 = batch.q_starts_B1.diff()[which].unsqueeze(1)
    queries_Q = torch.arange(block.start, block.stop, device=lens_B1.device)
    keys_L = torch.arange(batch.max_kv, device=lens_B1.device)
    # Padding queries stand where the last one does: a row that sees nothing would be NaN.
    position_BQ1 = torch.minimum(lens_B1 - counts_B1 + queries_Q, lens_B1 - 1).unsqueeze(2)
    seen_BQL = keys_L <= position_BQ1
    return seen_BQL if window is None else seen_BQL & (keys_L > position_BQ1 - window)
