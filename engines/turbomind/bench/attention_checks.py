"""Compares the Hopper attention kernels with the plain formula in fp32 and says where they differ."""

import math

import torch
from torch import Tensor

from engines.ops import KvLayer
from engines.turbomind.bench.attention_runs import Variant
from engines.turbomind.bench.timing import random
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops.attention_full_hopper import attention_full_hopper
from engines.turbomind.ops.attention_prefill_hopper import attention_prefill_hopper

# Probabilities and results are rounded to bf16, 2^-9 each at most; the formula in fp32 has neither.
_TOLERANCE = 1e-2

# New tokens and lengths of each sequence: ends of every kind, many tiles, more items than blocks.
_BATCHES = (
    ([5, 70, 1, 300], [5, 330, 64, 1111]),
    ([2048, 1, 333], [2048, 700, 4000]),
    ([17 * i % 97 + 1 for i in range(70)], [17 * i % 97 + 40 for i in range(70)]),
)
_HEADS, _KV_HEADS, _DIM, _PAGE = 32, 8, 128, 64
# Images, tokens, heads: one; one past 64 rows; tiles of 336, 378, 448 pixels, with a class token or not.
_IMAGES = ((1, 1, 16), (3, 65, 16), (3, 577, 16), (2, 729, 16), (2, 1024, 16), (1, 1025, 16), (8, 1025, 16))


def check_prefill(gpu: Gpu, variant: Variant) -> list[str]:
    """Return what is wrong with a variant of prefill attention, nothing where it is right."""
    faults = []
    for new, lengths in _BATCHES:
        per_seq = -(-max(lengths) // _PAGE)
        pages_BP = torch.randperm(per_seq * len(new)).to(torch.int32).view(len(new), per_seq).cuda()
        starts = [sum(new[:i]) for i in range(len(new) + 1)]
        kv = KvLayer(
            keys_PKTD=_pool(pages_BP, lengths),
            values_PKTD=_pool(pages_BP, lengths),
        )
        q = random(starts[-1], _HEADS + 2, _DIM)[:, :_HEADS]
        out = torch.full((starts[-1], _HEADS, _DIM), torch.nan, dtype=q.dtype, device=q.device)
        attention_prefill_hopper(
            gpu,
            q,
            kv,
            pages_BP,
            torch.tensor(starts, dtype=torch.int32, device="cuda"),
            torch.tensor(lengths, dtype=torch.int32, device="cuda"),
            scale=_DIM**-0.5,
            window=None,
            out_TND=out,
            shape=variant.shape,
            dynamic=variant.dynamic,
        )
        wanted = torch.cat(
            [
                plain(q[starts[b] : starts[b + 1]], *dense(kv, pages_BP[b], length))
                for b, length in enumerate(lengths)
            ]
        )
        faults += _compare(f"new {new[:4]} of {lengths[:4]}", out, wanted)
    return faults


def check_full(gpu: Gpu, variant: Variant) -> list[str]:
    """Return what is wrong with a variant of full attention, nothing where it is right."""
    faults = []
    for images, length, heads in _IMAGES:
        q, k, v = random(images, length, 3, heads, variant.dim).unbind(2)
        got = attention_full_hopper(
            gpu,
            q,
            k,
            v,
            scale=variant.dim**-0.5,
            strides=(q.stride(1), k.stride(1), v.stride(1)),
            shape=variant.shape_of(length),
        )
        wanted = torch.stack([plain(q[i], k[i], v[i], causal=False) for i in range(images)])
        faults += _compare(f"{images} x {length}", got.flatten(0, 1), wanted.flatten(0, 1))
    return faults


def _pool(pages_BP: Tensor, lengths: list[int]) -> Tensor:
    """Return random pages with NaN where no token is."""
    pool = random(pages_BP.numel(), _KV_HEADS, _PAGE, _DIM)
    for pages, length in zip(pages_BP.tolist(), lengths, strict=True):
        for i, page in enumerate(pages):
            pool[page, :, max(0, min(_PAGE, length - i * _PAGE)) :] = torch.nan
    return pool


def dense(kv: KvLayer, pages_P: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return the keys and values of one sequence, [T, K, D]."""
    keys, values = (
        x[pages_P.long()].transpose(1, 2).reshape(-1, _KV_HEADS, _DIM)[:length]
        for x in (kv.keys_PKTD, kv.values_PKTD)
    )
    return keys, values


def plain(q_TND: Tensor, k_LKD: Tensor, v_LKD: Tensor, *, causal: bool = True) -> Tensor:
    """Return attention of the last T positions in fp32."""
    per_kv = q_TND.shape[1] // k_LKD.shape[1]
    k, v = (x.float().repeat_interleave(per_kv, 1) for x in (k_LKD, v_LKD))
    scores = torch.einsum("qnd,tnd->nqt", q_TND.float(), k) / math.sqrt(q_TND.shape[2])
    if causal:
        position = torch.arange(len(k) - len(q_TND), len(k), device=k.device)[:, None]
        scores.masked_fill_(torch.arange(len(k), device=k.device) > position, -math.inf)
    return torch.einsum("nqt,tnd->qnd", scores.softmax(-1), v)


def _compare(name: str, got_TND: Tensor, wanted_TND: Tensor) -> list[str]:
    """Return a line that says how wrong `got` is and where, nothing where it is right."""
    difference = (got_TND.float() - wanted_TND).abs()
    error = float((got_TND.float() - wanted_TND).norm() / wanted_TND.norm())
    if error < _TOLERANCE:
        return []
    bad = ~(difference < 0.05)
    if not bad.any():
        return [f"{name}: off by {error:.2e} of the norm, no element by 0.05"]
    first = bad.nonzero()[0].tolist()
    columns, heads = _shares(bad, 2, by=16), _shares(bad[:, :8], 1, by=1)
    tokens = _shares(bad[:128], 0, by=8)
    return [
        f"{name}: off by {error:.2e} of the norm, at most {float(difference.nan_to_num(0).max()):.3f}, "
        f"{int(torch.isnan(got_TND).sum())} NaN; first (token, head, column) {first}: "
        f"{float(got_TND[tuple(first)]):.4f} for {float(wanted_TND[tuple(first)]):.4f}; "
        f"bad % by 16 columns {columns}, by head {heads}, by 8 tokens {tokens}"
    ]


def _shares(bad_TND: Tensor, dim: int, *, by: int) -> str:
    """Return the percentage of bad elements in each stretch of `by` indices along a dimension."""
    parts = torch.split(bad_TND, by, dim)
    return " ".join(f"{100 * float(part.float().mean()):.0f}" for part in parts)
