"""Attention of a step over pages: sequences that decode by one kernel, chunks by another.

Legend: as in `engines/ops.py`.
"""

import torch
from torch import Tensor

from engines.ops import KvLayer
from engines.steps.step import AttentionBatch
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.attention_decode import NewTokens, attention_decode, takes_new_tokens
from engines.turbomind.ops.attention_prefill import attention_prefill
from engines.turbomind.ops.attention_prefill_codes import attention_prefill_codes
from engines.turbomind.ops.rope import rope_store_kv


def rope_store_attend(
    gpu: Gpu,
    q_TND: Tensor,
    k_TKD: Tensor,
    v_TKD: Tensor,
    cos_TR: Tensor,
    sin_TR: Tensor,
    layer: KvLayer,
    batch: AttentionBatch,
    *,
    scale: float,
    window: int | None,
) -> Tensor:
    """Rotate, write and attend in one kernel where all decode and none is proposed, else one by one."""
    whole_units = takes_new_tokens(layer.format, dim=q_TND.shape[2], num_pairs=cos_TR.shape[1])
    if batch.num_decodes < len(batch.kv_lens_B) or batch.has_proposals or not whole_units:
        q_TND = rope_store_kv(gpu, q_TND, k_TKD, v_TKD, cos_TR, sin_TR, layer, batch.slots_T)
        return attention_paged(gpu, q_TND, layer, batch, scale=scale, window=window)
    new = NewTokens(k_BKD=k_TKD, v_BKD=v_TKD, cos_BR=cos_TR, sin_BR=sin_TR, slots_B=batch.slots_T)
    return attention_decode(
        gpu, q_TND, layer, batch.pages_BP, batch.kv_lens_B, scale=scale, window=window, new=new
    )


def attention_paged(
    gpu: Gpu, q_TND: Tensor, layer: KvLayer, batch: AttentionBatch, *, scale: float, window: int | None
) -> Tensor:
    """Return the attention of all new tokens, in one result."""
    num = batch.num_decodes
    out_TND = torch.empty(q_TND.shape, dtype=q_TND.dtype, device=q_TND.device)
    if num:
        attention_decode(
            gpu,
            q_TND[:num],
            layer,
            batch.pages_BP[:num],
            batch.kv_lens_B[:num],
            scale=scale,
            window=window,
            in_order=batch.has_proposals,
            out_BND=out_TND[:num],
        )
    if num < len(batch.kv_lens_B):
        _attend_chunks(gpu, q_TND, layer, batch, scale=scale, window=window, out_TND=out_TND)
    return out_TND


def _attend_chunks(
    gpu: Gpu,
    q_TND: Tensor,
    layer: KvLayer,
    batch: AttentionBatch,
    *,
    scale: float,
    window: int | None,
    out_TND: Tensor,
) -> None:
    # `q_starts` counts from the first row of the step, so all rows are handed over.
    num = batch.num_decodes
    where = (batch.pages_BP[num:], batch.q_starts_B1[num:], batch.kv_lens_B[num:])
    if layer.format == "none":
        attention_prefill(gpu, q_TND, layer, *where, scale=scale, window=window, out_TND=out_TND)
        return
    attention_prefill_codes(
        gpu,
        q_TND,
        layer,
        *where,
        longest=batch.max_q,
        lens=batch.chunk_lens,
        scale=scale,
        window=window,
        out_TND=out_TND,
    )
