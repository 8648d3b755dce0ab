"""Paged batches of random keys and values, and plain attention over them in fp32."""

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from engines.memory.kv_layer import KvLayer
from engines.options import KvFormat
from engines.pytorch.kv_rows import dequantize_rows, quantize_rows
from engines.steps.step import AttentionBatch


def make_batch(
    new_tokens: Sequence[int],
    kv_lens: Sequence[int],
    *,
    page_tokens: int,
    device: torch.device,
    num_decodes: int = 0,
) -> tuple[AttentionBatch, int]:
    """Return a batch with pages in random order, and the number of pages; page 0 belongs to nobody."""
    most = max(1, -(-max(kv_lens) // page_tokens))
    pages_BP = torch.zeros(len(kv_lens), most, dtype=torch.int32)
    order = (torch.randperm(most * len(kv_lens)) + 1).tolist()
    slots = []
    for b, (new, length) in enumerate(zip(new_tokens, kv_lens, strict=True)):
        for i in range(-(-length // page_tokens)):
            pages_BP[b, i] = order.pop()
        slots += [
            int(pages_BP[b, t // page_tokens]) * page_tokens + t % page_tokens
            for t in range(length - new, length)
        ]
    batch = AttentionBatch(
        num_decodes=num_decodes,
        q_starts_B1=torch.tensor(list(accumulate(new_tokens, initial=0)), dtype=torch.int32, device=device),
        kv_lens_B=torch.tensor(kv_lens, dtype=torch.int32, device=device),
        pages_BP=pages_BP.to(device),
        slots_T=torch.tensor(slots, device=device),
        max_q=max(new_tokens),
        max_kv=max(kv_lens),
        chunk_lens=tuple(kv_lens[num_decodes:]),
    )
    return batch, most * len(kv_lens) + 1


def make_pages(
    batch: AttentionBatch,
    num_pages: int,
    *,
    num_kv_heads: int,
    page_tokens: int,
    dim: int,
    dtype: torch.dtype,
) -> KvLayer:
    """Return random keys and values where sequences have tokens, NaN everywhere else."""
    shape = (num_pages, num_kv_heads, page_tokens, dim)
    keys, values = (torch.full(shape, torch.nan, device=batch.pages_BP.device, dtype=dtype) for _ in range(2))
    for pages, length in zip(batch.pages_BP.tolist(), batch.kv_lens_B.tolist(), strict=True):
        for i in range(-(-length // page_tokens)):
            filled = min(page_tokens, length - i * page_tokens)
            keys[pages[i], :, :filled] = torch.randn(
                num_kv_heads, filled, dim, dtype=dtype, device=keys.device
            )
            values[pages[i], :, :filled] = torch.randn(
                num_kv_heads, filled, dim, dtype=dtype, device=keys.device
            )
    return KvLayer(keys_PKTD=keys, values_PKTD=values)


def quantized(layer: KvLayer, format: KvFormat) -> tuple[KvLayer, KvLayer]:
    """Return pages in a format and, in fp32, what they stand for; parameters of nobody's tokens are NaN."""
    codes, scales, numbers = [], [], []
    for rows in (layer.keys_PKTD, layer.values_PKTD):
        code, scale = quantize_rows(rows.nan_to_num(0.0), format)
        codes.append(code)
        scales.append(scale.masked_fill(rows.isnan().any(-1, keepdim=True), torch.nan))
        numbers.append(dequantize_rows(code, scale, format, torch.float32))
    stored = KvLayer(
        keys_PKTD=codes[0],
        values_PKTD=codes[1],
        format=format,
        key_scales_PKTS=scales[0],
        value_scales_PKTS=scales[1],
    )
    return stored, KvLayer(keys_PKTD=numbers[0], values_PKTD=numbers[1])


def plain_attention(
    q_TND: Tensor, layer: KvLayer, batch: AttentionBatch, *, scale: float, window: int | None
) -> Tensor:
    """Return `Ops.attention_paged` in fp32, one sequence after another; zeros where there are no keys."""
    num_kv_heads, page_tokens, dim = layer.keys_PKTD.shape[1:]
    per_kv = q_TND.shape[1] // num_kv_heads
    out = torch.zeros(q_TND.shape, device=q_TND.device)
    starts = batch.q_starts_B1.tolist()
    for b, length in enumerate(batch.kv_lens_B.tolist()):
        new = starts[b + 1] - starts[b]
        if length == 0:
            continue
        pages = batch.pages_BP[b, : -(-length // page_tokens)].long()
        k, v = (
            x[pages]
            .transpose(1, 2)
            .reshape(-1, num_kv_heads, dim)[:length]
            .float()
            .repeat_interleave(per_kv, 1)
            for x in (layer.keys_PKTD, layer.values_PKTD)
        )
        scores = torch.einsum("qnd,tnd->nqt", q_TND[starts[b] : starts[b + 1]].float(), k) * scale
        position = torch.arange(length - new, length, device=q_TND.device)[:, None]
        key = torch.arange(length, device=q_TND.device)
        seen = (key <= position) & (key > position - (window or math.inf))
        weights = scores.masked_fill(~seen, -math.inf).softmax(-1)
        out[starts[b] : starts[b + 1]] = torch.einsum("nqt,tnd->qnd", weights, v)
    return out


def relative_error(got: Tensor, wanted: Tensor) -> float:
    """Return |got - wanted| / |wanted|, infinite where got is no number."""
    if not torch.isfinite(got).all():
        return math.inf
    return float((got.float() - wanted.float()).norm() / wanted.float().norm().clamp(min=1e-30))
