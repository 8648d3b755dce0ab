"""Cases of the kernels that only move memory: norms, activations, rotation and the write into pages."""

from collections.abc import Iterator
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F

from engines.options import KvFormat
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.bench.attention_cases import (
    DIM,
    HEADS,
    KV_HEADS,
    cache,
    cache_bytes,
    paged_batch,
)
from engines.turbomind.bench.table import Row
from engines.turbomind.bench.timing import num_sets, random, time_us
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops import activation, norm, rope
from engines.turbomind.ops.layer_norm import layer_norm

TOKENS = (1, 64, 256, 8192)
HIDDEN, FFN = 4096, 14336
TOWER_HIDDEN, TILE_TOKENS = 1024, 1025  # InternViT-300M
EPS = 1e-5


def norms(gpu: Gpu) -> Iterator[Row]:
    """Yield a norm with and one without a residual."""
    weight, bias, truth = random(HIDDEN), random(HIDDEN), TorchOps()
    for tokens in TOKENS:
        size = tokens * HIDDEN * 2
        x = [(random(tokens, HIDDEN), random(tokens, HIDDEN)) for _ in range(num_sets(4 * size))]
        yield Row(
            op="add_rms_norm",
            shape=f"T={tokens} H={HIDDEN}",
            us=time_us([partial(norm.add_rms_norm, gpu, a, b, weight, EPS) for a, b in x]),
            num_bytes=4 * size,
            torch_us=time_us([partial(truth.add_rms_norm, a, b, weight, EPS) for a, b in x]),
        )
        yield Row(
            op="layer_norm",
            shape=f"T={tokens} H={HIDDEN}",
            us=time_us([partial(norm.layer_norm, gpu, a, weight, bias, EPS) for a, _ in x]),
            num_bytes=2 * size,
            torch_us=time_us([partial(truth.layer_norm, a, weight, bias, EPS) for a, _ in x]),
        )
    weight, bias = random(TOWER_HIDDEN), random(TOWER_HIDDEN)
    for tiles in (1, 8):
        size = tiles * TILE_TOKENS * TOWER_HIDDEN * 2
        tower_x = [random(tiles * TILE_TOKENS, TOWER_HIDDEN) for _ in range(num_sets(2 * size))]
        yield Row(
            op="layer_norm",
            shape=f"{tiles} tiles x {TILE_TOKENS} H={TOWER_HIDDEN}",
            us=time_us([partial(layer_norm, gpu, a, weight, bias, EPS) for a in tower_x]),
            num_bytes=2 * size,
            torch_us=time_us([partial(truth.layer_norm, a, weight, bias, EPS) for a in tower_x]),
        )


def activations(gpu: Gpu) -> Iterator[Row]:
    """Yield the functions between the halves of an FFN."""
    for tokens in TOKENS:
        size = tokens * FFN * 2
        x = [random(tokens, 2 * FFN) for _ in range(num_sets(3 * size))]
        yield Row(
            op="silu_mul",
            shape=f"T={tokens} F={FFN}",
            us=time_us([partial(activation.silu_mul, gpu, a) for a in x]),
            num_bytes=3 * size,
            torch_us=time_us([partial(TorchOps().silu_mul, a) for a in x]),
        )
    x = [random(8 * 1025, 4096) for _ in range(4)]
    yield Row(
        op="gelu",
        shape="8 tiles x 1025, F=4096",
        us=time_us([partial(activation.gelu, gpu, a) for a in x]),
        num_bytes=2 * x[0].numel() * 2,
        torch_us=time_us([partial(F.gelu, a) for a in x]),
    )


def ropes(gpu: Gpu) -> Iterator[Row]:
    """Yield the rotation with the write of keys and values, as they are and as codes."""
    formats: tuple[KvFormat, ...] = ("none", "int8")
    for format, tokens in product(formats, TOKENS):
        batch = paged_batch(num_seqs=1, new=tokens, prefix=0, page_tokens=64)
        kv, slots = cache(batch, page_tokens=64, format=format), batch.slots_T
        size = tokens * 2 * (HEADS + KV_HEADS) * DIM * 2 + cache_bytes(tokens, format)
        x = [random(tokens, HEADS + 2 * KV_HEADS, DIM) for _ in range(num_sets(size))]
        cos, sin = torch.randn(2, tokens, DIM // 2, device="cuda")
        keys = HEADS + KV_HEADS
        parts = [(one[:, :HEADS], one[:, HEADS:keys], one[:, keys:]) for one in x]
        yield Row(
            op="rope_store_kv" if format == "none" else "rope_store_codes",
            shape=f"T={tokens} {HEADS}/{KV_HEADS}x{DIM}" + ("" if format == "none" else f" {format}"),
            us=time_us([partial(rope.rope_store_kv, gpu, *qkv, cos, sin, kv, slots) for qkv in parts]),
            num_bytes=size,
            torch_us=time_us([partial(TorchOps().rope_store_kv, *qkv, cos, sin, kv, slots) for qkv in parts]),
        )
