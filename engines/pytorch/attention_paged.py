"""Attention over pages in plain torch.

Nothing here loops over heads, pages or sequences, and nothing syncs with the host.

Legend: as in `engines/ops.py`; B sequences, Q queries of the longest, G query heads a KV head, L keys of the
longest.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.ops import KvLayer
from engines.pytorch.kv_rows import dequantize_rows
from engines.steps.step import AttentionBatch

# Queries attended at once: bounds the mask, which is [query heads a KV head, queries, keys].
QUERY_BLOCK = 1024


def attention_paged(
    q_TND: Tensor, layer: KvLayer, batch: AttentionBatch, *, scale: float, window: int | None
) -> Tensor:
    """Return `Ops.attention_paged`: the decoding sequences, then the chunks, each as one padded batch."""
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
