"""Attention of the torch table, over pages and over whole pictures, against loops in fp64."""

import pytest
import torch
from paged_attention import make_batch
from seeded import randn
from torch import Tensor

from engines.memory.kv_layer import KvLayer
from engines.pytorch import attention_paged
from engines.pytorch.ops_torch import TorchOps
from engines.steps.step import AttentionBatch

OPS = TorchOps()
CPU = torch.device("cpu")


BATCHES = {
    "one decode": ([1], [9], 1),
    "first token": ([1], [1], 1),
    "decodes of many lengths": ([1, 1, 1, 1], [1, 8, 17, 4], 4),
    "one whole prompt": ([11], [11], 0),
    "one chunk over a cached prefix": ([5], [18], 0),
    "chunks of different lengths": ([3, 9, 1], [3, 20, 6], 0),
    "decodes and chunks": ([1, 1, 7, 2], [12, 1, 7, 19], 2),
}


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("name", BATCHES)
def test_attention_paged_is_its_formula(name: str, window: int | None, heads: tuple[int, int]) -> None:
    q_lens, kv_lens, num_decodes = BATCHES[name]
    batch, num_pages = make_batch(q_lens, kv_lens, page_tokens=4, num_decodes=num_decodes, device=CPU)
    layer = KvLayer(
        keys_PKTD=randn(num_pages, heads[1], 4, 8), values_PKTD=randn(num_pages, heads[1], 4, 8, seed=1)
    )
    q = randn(sum(q_lens), heads[0], 8, seed=2)
    actual = OPS.attention_paged(q, layer, batch, scale=0.3, window=window)
    wanted = attention_by_loops(q, layer, batch, scale=0.3, window=window)
    torch.testing.assert_close(actual.double(), wanted, atol=1e-6, rtol=1e-6)


def test_attention_paged_in_blocks_of_queries_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, num_pages = make_batch([1, 7, 4], [12, 7, 19], page_tokens=4, num_decodes=1, device=CPU)
    shape = (num_pages, 2, 4, 8)
    layer = KvLayer(keys_PKTD=randn(*shape), values_PKTD=randn(*shape, seed=1))
    q = randn(12, 6, 8, seed=2)
    whole = OPS.attention_paged(q, layer, batch, scale=0.3, window=5)
    monkeypatch.setattr(attention_paged, "QUERY_BLOCK", 3)
    torch.testing.assert_close(OPS.attention_paged(q, layer, batch, scale=0.3, window=5), whole)


def test_attention_paged_never_reads_what_was_not_written() -> None:
    batch, num_pages = make_batch([1, 1, 3], [5, 2, 6], page_tokens=4, num_decodes=2, device=CPU)
    clean = [randn(num_pages, 2, 4, 8, seed=seed) for seed in (0, 1)]
    dirty = [torch.full_like(numbers, torch.nan) for numbers in clean]
    for b, length in enumerate(batch.kv_lens_B.tolist()):
        for j in range(length):
            for source, target in zip(clean, dirty, strict=True):
                page = batch.pages_BP[b, j // 4]
                target[page, :, j % 4] = source[page, :, j % 4]
    q = randn(5, 4, 8, seed=2)
    results = [
        OPS.attention_paged(q, KvLayer(keys_PKTD=k, values_PKTD=v), batch, scale=0.3, window=None)
        for k, v in (clean, dirty)
    ]
    assert torch.equal(*results)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attention_paged_sums_its_softmax_in_fp32(dtype: torch.dtype) -> None:
    """Over 2000 equal scores an 8-bit sum would stop growing at 256."""
    batch, num_pages = make_batch([1], [2000], page_tokens=16, num_decodes=1, device=CPU)
    values = randn(num_pages, 1, 16, 8, dtype=dtype)
    layer = KvLayer(keys_PKTD=torch.zeros_like(values), values_PKTD=values)
    actual = OPS.attention_paged(torch.zeros(1, 1, 8, dtype=dtype), layer, batch, scale=1.0, window=None)
    rows = values[batch.pages_BP[0].long()].double().transpose(1, 2).reshape(-1, 8)[:2000]
    torch.testing.assert_close(actual[0, 0].double(), rows.mean(0), atol=1e-3, rtol=2e-2)


def test_attention_full_takes_queries_of_another_length() -> None:
    q, k, v = randn(2, 3, 4, 8), randn(2, 5, 4, 8, seed=1), randn(2, 5, 4, 8, seed=2)
    weights = torch.einsum("iqnd,iknd->inqk", q.double(), k.double()).mul(0.5).softmax(-1)
    exact = torch.einsum("inqk,iknd->iqnd", weights, v.double())
    torch.testing.assert_close(OPS.attention_full(q, k, v, scale=0.5).double(), exact, atol=1e-6, rtol=0)


def test_attention_full_sees_its_own_image_only() -> None:
    q, k, v = (randn(3, 5, 2, 8, seed=seed) for seed in range(3))
    actual = OPS.attention_full(q, k, v, scale=0.3)
    for image in range(3):
        for head in range(2):
            scores = q[image, :, head].double() @ k[image, :, head].double().T * 0.3
            wanted = scores.softmax(-1) @ v[image, :, head].double()
            torch.testing.assert_close(actual[image, :, head].double(), wanted, atol=1e-6, rtol=1e-6)


def attention_by_loops(
    q: Tensor, layer: KvLayer, batch: AttentionBatch, *, scale: float, window: int | None
) -> Tensor:
    page_tokens, per_kv = layer.keys_PKTD.shape[2], q.shape[1] // layer.keys_PKTD.shape[1]
    out = torch.zeros(q.shape, dtype=torch.float64)
    starts = batch.q_starts_B1.tolist()
    for b, length in enumerate(batch.kv_lens_B.tolist()):
        count = starts[b + 1] - starts[b]
        for t in range(count):
            position = length - count + t
            first = 0 if window is None else max(0, position - window + 1)
            seen = range(first, position + 1)
            pages = [(int(batch.pages_BP[b, j // page_tokens]), j % page_tokens) for j in seen]
            for head in range(q.shape[1]):
                keys = torch.stack([layer.keys_PKTD[p, head // per_kv, o] for p, o in pages]).double()
                values = torch.stack([layer.values_PKTD[p, head // per_kv, o] for p, o in pages]).double()
                weights = (keys @ q[starts[b] + t, head].double() * scale).softmax(0)
                out[starts[b] + t, head] = weights @ values
    return out
