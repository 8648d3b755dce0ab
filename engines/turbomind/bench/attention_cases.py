"""Paged batches for benchmarks, pages in random order as a running engine has them; sizes of InternVL2-8B."""

import torch
from torch import Tensor

from engines.memory.kv_bytes import num_scales, row_bytes
from engines.ops import KvLayer
from engines.options import KvFormat
from engines.pytorch.kv_rows import quantize_rows
from engines.steps.step import AttentionBatch
from engines.turbomind.bench.timing import random

HEADS, KV_HEADS, DIM = 32, 8, 128


def paged_batch(*, num_seqs: int, new: int, prefix: int, page_tokens: int) -> AttentionBatch:
    """Return the batch of a step in which every sequence has `new` tokens after `prefix`; one is a decode."""
    length = prefix + new
    per_seq = -(-length // page_tokens)
    pages_BP = torch.randperm(num_seqs * per_seq, device="cuda").to(torch.int32).view(num_seqs, per_seq)
    positions_T = torch.arange(prefix, length, device="cuda").repeat(num_seqs)
    rows_T = torch.arange(num_seqs, device="cuda").repeat_interleave(new)
    slots_T = pages_BP[rows_T, positions_T // page_tokens].long() * page_tokens + positions_T % page_tokens
    return AttentionBatch(
        num_decodes=num_seqs if new == 1 else 0,
        q_starts_B1=torch.arange(0, num_seqs * new + 1, new, dtype=torch.int32, device="cuda"),
        kv_lens_B=torch.full((num_seqs,), length, dtype=torch.int32, device="cuda"),
        pages_BP=pages_BP,
        slots_T=slots_T,
        max_q=new,
        max_kv=length,
        chunk_lens=() if new == 1 else (length,) * num_seqs,
    )


def cache(batch: AttentionBatch, *, page_tokens: int, format: KvFormat = "none") -> KvLayer:
    """Return random keys and values for the batch."""
    shape = (batch.pages_BP.numel(), KV_HEADS, page_tokens, DIM)
    keys, values = random(*shape), random(*shape)
    if format == "none":
        return KvLayer(keys_PKTD=keys, values_PKTD=values)
    key_codes, key_scales = quantize_rows(keys, format)
    value_codes, value_scales = quantize_rows(values, format)
    return KvLayer(
        keys_PKTD=key_codes,
        values_PKTD=value_codes,
        format=format,
        key_scales_PKTS=key_scales,
        value_scales_PKTS=value_scales,
    )


def cache_bytes(num_tokens: int, format: KvFormat) -> int:
    """Return the bytes of so many tokens' keys and values, their parameters included."""
    return num_tokens * KV_HEADS * 2 * (row_bytes(DIM, format, dtype_bytes=2) + 2 * num_scales(format))


def queries(batch: AttentionBatch) -> Tensor:
    """Return random queries for the batch."""
    return random(len(batch.slots_T), HEADS, DIM)
