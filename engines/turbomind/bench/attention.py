"""Cases of the three attention kernels."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch.nn.functional as F

from engines.options import KvFormat
from engines.turbomind.bench.attention_cases import (
    DIM,
    HEADS,
    KV_HEADS,
    cache,
    cache_bytes,
    paged_batch,
    queries,
)
from engines.turbomind.bench.table import Row
from engines.turbomind.bench.timing import num_sets, random, time_us
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.attention_decode import attention_decode
from engines.turbomind.ops.attention_full import CUTS as FULL_CUTS
from engines.turbomind.ops.attention_full import attention_full
from engines.turbomind.ops.attention_prefill import CUTS as PREFILL_CUTS
from engines.turbomind.ops.attention_prefill import attention_prefill
from engines.turbomind.ops.attention_prefill_codes import attention_prefill_codes
from engines.turbomind.ops.decode_shape import DecodeShape
from engines.turbomind.ops.flash_shape import FlashShape, flash_shape

PAGE_TOKENS = 64
FORMATS: tuple[KvFormat, ...] = ("none", "bf12", "int8", "fp8", "int4")
LONG = ((1, 32768), (16, 8192))
DECODES = (*((num_seqs, 1088) for num_seqs in (1, 8, 32, 64, 128, 256)), *LONG)
PREFILLS = ((1, 512, 0), (1, 2048, 0), (4, 2048, 0), (1, 8192, 0), (1, 512, 2048), (16, 64, 1024))
CODE_PREFILLS = ((1, 2048, 0), (4, 2048, 0), (1, 512, 8192), (1, 64, 8192), (16, 64, 1024))
TILES = (1, 8, 32)
TOWER_DIM = 64
# Shared memory of compute capability 8.0: CUDA C++ Programming Guide, "Technical Specifications".
A100 = {"bytes_per_block": 166912, "bytes_per_sm": 167936}


def decodes(gpu: Gpu) -> Iterator[Row]:
    """Yield formats of pages x sequences x context, one new token each."""
    for format in FORMATS:
        yield from decodes_of(gpu, format)


def decodes_of(gpu: Gpu, format: KvFormat, shape: DecodeShape | None = None) -> Iterator[Row]:
    """Yield sequences x context over pages of one format."""
    for num_seqs, length in DECODES:
        size = cache_bytes(num_seqs * length, format)
        batch = paged_batch(num_seqs=num_seqs, new=1, prefix=length - 1, page_tokens=PAGE_TOKENS)
        q, where = queries(batch), (batch.pages_BP, batch.kv_lens_B)
        layers = [cache(batch, page_tokens=PAGE_TOKENS, format=format) for _ in range(num_sets(size))]
        yield Row(
            op=f"attention_decode {format}",
            shape=f"B={num_seqs} L={length} {HEADS}/{KV_HEADS}x{DIM}",
            us=time_us(
                [
                    partial(attention_decode, gpu, q, kv, *where, scale=DIM**-0.5, window=None, shape=shape)
                    for kv in layers
                ]
            ),
            num_bytes=size,
            num_flops=num_seqs * length * HEADS * DIM * 4,
        )


def prefills(gpu: Gpu, shape: FlashShape | None = None) -> Iterator[Row]:
    """Yield sequences x new tokens after a cached prefix; torch is its best dense kernel, without prefix."""
    for num_seqs, new, prefix in PREFILLS:
        batch = paged_batch(num_seqs=num_seqs, new=new, prefix=prefix, page_tokens=PAGE_TOKENS)
        q, kv = queries(batch), cache(batch, page_tokens=PAGE_TOKENS)
        where = (batch.pages_BP, batch.q_starts_B1, batch.kv_lens_B)
        attend = partial(attention_prefill, gpu, q, kv, *where, scale=DIM**-0.5, window=None, shape=shape)
        torch_us = None
        if prefix == 0:
            dense_q, dense_k, dense_v = (random(num_seqs, HEADS, new, DIM) for _ in range(3))
            plain = partial(F.scaled_dot_product_attention, dense_q, dense_k, dense_v, is_causal=True)
            torch_us = time_us([plain] * 4)
        yield Row(
            op="attention_prefill",
            shape=f"{num_seqs} x {new} new after {prefix}",
            us=time_us([attend] * 4),
            num_bytes=4 * q.numel() + num_seqs * (new + prefix) * KV_HEADS * DIM * 4,
            num_flops=num_seqs * (new * prefix + new * (new + 1) // 2) * HEADS * DIM * 4,
            torch_us=torch_us,
        )


def prefills_of_codes(gpu: Gpu) -> Iterator[Row]:
    """Yield new tokens after a cached prefix over quantized pages; torch's place is that of plain pages."""
    for num_seqs, new, prefix in CODE_PREFILLS:
        batch = paged_batch(num_seqs=num_seqs, new=new, prefix=prefix, page_tokens=PAGE_TOKENS)
        q, out = queries(batch), queries(batch)
        where = (batch.pages_BP, batch.q_starts_B1, batch.kv_lens_B)
        how = {"scale": DIM**-0.5, "window": None, "out_TND": out}
        plain = partial(attention_prefill, gpu, q, cache(batch, page_tokens=PAGE_TOKENS), *where, **how)
        plain_us = time_us([plain] * 4)
        for format in FORMATS[1:]:
            kv = cache(batch, page_tokens=PAGE_TOKENS, format=format)
            attend = partial(
                attention_prefill_codes, gpu, q, kv, *where, longest=batch.max_q, lens=batch.chunk_lens, **how
            )
            yield Row(
                op=f"prefill {format}",
                shape=f"{num_seqs} x {new} new after {prefix}",
                us=time_us([attend] * 4),
                num_bytes=4 * q.numel() + cache_bytes(num_seqs * (new + prefix), format),
                num_flops=num_seqs * (new * prefix + new * (new + 1) // 2) * HEADS * DIM * 4,
                torch_us=plain_us,
            )


def fulls(gpu: Gpu, shape: FlashShape | None = None) -> Iterator[Row]:
    """Yield the vision tower's: 1,025 tokens a tile, 16 heads of 64."""
    for tiles in TILES:
        q, k, v = random(tiles, 1025, 3, 16, TOWER_DIM).unbind(2)
        dense_q, dense_k, dense_v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
        yield Row(
            op="attention_full",
            shape=f"{tiles} x 1025, 16x64",
            us=time_us([partial(attention_full, gpu, q, k, v, scale=0.125, shape=shape)] * 4),
            num_bytes=4 * q.numel() * 2,
            num_flops=tiles * 16 * 1025**2 * TOWER_DIM * 4,
            torch_us=time_us([partial(F.scaled_dot_product_attention, dense_q, dense_k, dense_v)] * 4),
        )


def before_hopper(gpu: Gpu) -> Iterator[Row]:
    """Yield prompts and tiles by the kernels of GPUs before Hopper, as they are cut for an A100."""
    prompts = prefills(gpu, flash_shape(PREFILL_CUTS, DIM, **A100))
    tiles = fulls(gpu, flash_shape(FULL_CUTS, TOWER_DIM, **A100))
    for row in (*prompts, *tiles):
        yield replace(row, op=f"{row.op} sm_80")
