"""Every op of the torch table against its formula in fp64 with loops; on a GPU against the CPU."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from engines.ops import Dense, KvLayer
from engines.pytorch import ops_torch
from engines.pytorch.ops_torch import TorchOps
from engines.step import AttentionBatch

OPS = TorchOps()
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_rounded(actual: Tensor, exact: Tensor, dtype: torch.dtype, *, ulps: float) -> None:
    """The result has the dtype, and differs from the exact one by a few units in the last place of it."""
    assert actual.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(actual.double(), exact, atol=ulps * eps, rtol=ulps * eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_embed_takes_rows(dtype: torch.dtype) -> None:
    table = randn(7, 4, dtype=dtype)
    assert torch.equal(OPS.embed(table, torch.tensor([3, 0, 6, 3])), table[[3, 0, 6, 3]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_rms_norm_is_its_formula_with_fp32_statistics(dtype: torch.dtype) -> None:
    x, weight = randn(5, 48, dtype=dtype) * 30, randn(48, seed=1, dtype=dtype)
    exact = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    assert_rounded(OPS.rms_norm(x, weight, 1e-5), exact, dtype, ulps=2)


def test_rms_norm_rounds_before_it_multiplies() -> None:
    x, weight = randn(9, 64, dtype=torch.bfloat16), randn(64, seed=1, dtype=torch.bfloat16)
    wide = x.float()
    normed = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)).bfloat16()
    assert torch.equal(OPS.rms_norm(x, weight, 1e-6), normed * weight)


def test_a_large_fp16_row_does_not_overflow_its_norm() -> None:
    x = torch.full((1, 8), 60000.0, dtype=torch.float16)
    assert torch.equal(OPS.rms_norm(x, torch.ones(8).half(), 1e-5), torch.ones(1, 8).half())


@pytest.mark.parametrize("dtype", DTYPES)
def test_add_rms_norm_also_returns_the_sum(dtype: torch.dtype) -> None:
    x, residual, weight = (
        randn(5, 32, dtype=dtype),
        randn(5, 32, seed=2, dtype=dtype),
        randn(32, seed=1, dtype=dtype),
    )
    normed, total = OPS.add_rms_norm(x, residual, weight, 1e-5)
    assert torch.equal(total, x + residual)
    assert torch.equal(normed, OPS.rms_norm(x + residual, weight, 1e-5))


@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm_is_its_formula(dtype: torch.dtype) -> None:
    x, weight, bias = (
        randn(2, 3, 40, dtype=dtype),
        randn(40, seed=1, dtype=dtype),
        randn(40, seed=2, dtype=dtype),
    )
    wide = x.double()
    centred = wide - wide.mean(-1, keepdim=True)
    exact = (
        centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight.double() + bias.double()
    )
    assert_rounded(OPS.layer_norm(x, weight, bias, 1e-6), exact, dtype, ulps=4)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_is_its_formula(dtype: torch.dtype, has_bias: bool) -> None:
    x, weight = randn(2, 3, 24, dtype=dtype), randn(10, 24, seed=1, dtype=dtype)
    bias = randn(10, seed=2, dtype=dtype) if has_bias else None
    exact = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    assert_rounded(OPS.linear(x, Dense(weight_OI=weight, bias_O=bias)), exact, dtype, ulps=16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_silu_mul_gates_the_second_half_by_the_first(dtype: torch.dtype) -> None:
    both = randn(5, 12, dtype=dtype)
    gate, up = both[:, :6].double(), both[:, 6:].double()
    assert_rounded(OPS.silu_mul(both), gate / (1 + (-gate).exp()) * up, dtype, ulps=2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu_is_the_exact_one(dtype: torch.dtype) -> None:
    x = randn(50, dtype=dtype)
    wide = x.double()
    assert_rounded(OPS.gelu(x), 0.5 * wide * (1 + torch.erf(wide / math.sqrt(2))), dtype, ulps=2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_other_gelus_are_their_formulas(dtype: torch.dtype) -> None:
    x = randn(50, dtype=dtype)
    wide = x.double()
    inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    assert_rounded(OPS.gelu_tanh(x), 0.5 * wide * (1 + torch.tanh(inner)), dtype, ulps=2)
    assert_rounded(OPS.quick_gelu(x), wide / (1 + (-1.702 * wide).exp()), dtype, ulps=4)


@pytest.mark.parametrize("num_rotary", [8, 3])
def test_rope_rotates_half_split_pairs_and_passes_the_rest(num_rotary: int) -> None:
    q, k = randn(4, 3, 16), randn(4, 2, 16, seed=1)
    angles = randn(4, num_rotary, seed=2)
    for x, rotated in zip((q, k), OPS.rope(q, k, angles.cos(), angles.sin()), strict=True):
        pairs = torch.complex(x[..., :num_rotary], x[..., num_rotary : 2 * num_rotary])
        turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
        wanted = torch.cat([turned.real, turned.imag, x[..., 2 * num_rotary :]], -1)
        torch.testing.assert_close(rotated, wanted)


def test_rope_computes_in_fp32_and_returns_the_dtype_of_its_input() -> None:
    q, k, angles = randn(4, 3, 16), randn(4, 2, 16), randn(4, 8) * 100
    narrow, _ = OPS.rope(q.bfloat16(), k.bfloat16(), angles.cos(), angles.sin())
    wide, _ = OPS.rope(q.bfloat16().float(), k, angles.cos(), angles.sin())
    assert torch.equal(narrow, wide.bfloat16())


def test_store_kv_writes_its_slots_and_no_others() -> None:
    layer = KvLayer(keys_PKTD=torch.zeros(5, 2, 4, 3), values_PKTD=torch.zeros(5, 2, 4, 3))
    k, v, slots = randn(3, 2, 3), randn(3, 2, 3, seed=1), torch.tensor([18, 0, 7])
    OPS.store_kv(k, v, layer, slots)
    for pages, rows in ((layer.keys_PKTD, k), (layer.values_PKTD, v)):
        for row, slot in zip(rows, slots.tolist(), strict=True):
            assert torch.equal(pages[slot // 4, :, slot % 4], row)
        assert pages.abs().sum() == pytest.approx(rows.abs().sum())


def paged_batch(
    q_lens: list[int], kv_lens: list[int], *, page_tokens: int, num_decodes: int
) -> AttentionBatch:
    """Return a batch whose sequences own disjoint pages in shuffled order; page 0 belongs to nobody."""
    counts = [-(-length // page_tokens) for length in kv_lens]
    order = (torch.randperm(sum(counts), generator=torch.Generator().manual_seed(3)) + 1).tolist()
    table = [[order.pop() for _ in range(count)] for count in counts]
    return AttentionBatch(
        num_decodes=num_decodes,
        q_starts_B1=torch.tensor([sum(q_lens[:i]) for i in range(len(q_lens) + 1)], dtype=torch.int32),
        kv_lens_B=torch.tensor(kv_lens, dtype=torch.int32),
        pages_BP=torch.tensor([row + [0] * (max(counts) - len(row)) for row in table], dtype=torch.int32),
        slots_T=torch.zeros(sum(q_lens), dtype=torch.int64),
        max_q=max(q_lens),
        max_kv=max(kv_lens),
        chunk_lens=tuple(kv_lens[num_decodes:]),
    )


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
    batch = paged_batch(q_lens, kv_lens, page_tokens=4, num_decodes=num_decodes)
    num_pages = int(batch.pages_BP.max()) + 2
    layer = KvLayer(
        keys_PKTD=randn(num_pages, heads[1], 4, 8), values_PKTD=randn(num_pages, heads[1], 4, 8, seed=1)
    )
    q = randn(sum(q_lens), heads[0], 8, seed=2)
    actual = OPS.attention_paged(q, layer, batch, scale=0.3, window=window)
    wanted = attention_by_loops(q, layer, batch, scale=0.3, window=window)
    torch.testing.assert_close(actual.double(), wanted, atol=1e-6, rtol=1e-6)


def test_attention_paged_in_blocks_of_queries_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = paged_batch([1, 7, 4], [12, 7, 19], page_tokens=4, num_decodes=1)
    layer = KvLayer(keys_PKTD=randn(12, 2, 4, 8), values_PKTD=randn(12, 2, 4, 8, seed=1))
    q = randn(12, 6, 8, seed=2)
    whole = OPS.attention_paged(q, layer, batch, scale=0.3, window=5)
    monkeypatch.setattr(ops_torch, "QUERY_BLOCK", 3)
    torch.testing.assert_close(OPS.attention_paged(q, layer, batch, scale=0.3, window=5), whole)


def test_attention_paged_never_reads_what_was_not_written() -> None:
    batch = paged_batch([1, 1, 3], [5, 2, 6], page_tokens=4, num_decodes=2)
    clean = [randn(8, 2, 4, 8), randn(8, 2, 4, 8, seed=1)]
    dirty = [torch.full((8, 2, 4, 8), torch.nan) for _ in clean]
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
    batch = paged_batch([1], [2000], page_tokens=16, num_decodes=1)
    values = randn(130, 1, 16, 8, dtype=dtype)
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


def op_calls(dtype: torch.dtype) -> dict[str, Callable[[Callable[[Tensor], Tensor]], object]]:
    """Return one call an op; each takes a function that moves a tensor to the device under test."""
    batch = paged_batch([1, 1, 7, 2], [12, 1, 7, 19], page_tokens=4, num_decodes=2)
    pages = [randn(16, 2, 4, 64, dtype=dtype, seed=seed) for seed in (0, 1)]
    x, w, b = randn(11, 64, dtype=dtype), randn(64, seed=1, dtype=dtype), randn(64, seed=2, dtype=dtype)
    matrix, q, k = randn(48, 64, dtype=dtype), randn(11, 6, 64, dtype=dtype), randn(11, 2, 64, dtype=dtype)
    angles, images = randn(11, 32, seed=5), randn(2, 9, 3, 64, dtype=dtype)

    def attention(to: Callable[[Tensor], Tensor]) -> Tensor:
        moved = AttentionBatch(
            num_decodes=batch.num_decodes,
            q_starts_B1=to(batch.q_starts_B1),
            kv_lens_B=to(batch.kv_lens_B),
            pages_BP=to(batch.pages_BP),
            slots_T=to(batch.slots_T),
            max_q=batch.max_q,
            max_kv=batch.max_kv,
            chunk_lens=batch.chunk_lens,
        )
        layer = KvLayer(keys_PKTD=to(pages[0]), values_PKTD=to(pages[1]))
        return OPS.attention_paged(to(q), layer, moved, scale=0.125, window=6)

    def store(to: Callable[[Tensor], Tensor]) -> Tensor:
        layer = KvLayer(keys_PKTD=to(pages[0]).clone(), values_PKTD=to(pages[1]).clone())
        OPS.store_kv(to(k), to(k) + 1, layer, to(torch.arange(11) * 3))
        return torch.cat([layer.keys_PKTD, layer.values_PKTD])

    return {
        "embed": lambda to: OPS.embed(to(x), to(torch.tensor([3, 1, 10]))),
        "rms_norm": lambda to: OPS.rms_norm(to(x), to(w), 1e-5),
        "add_rms_norm": lambda to: OPS.add_rms_norm(to(x), to(x), to(w), 1e-5),
        "layer_norm": lambda to: OPS.layer_norm(to(x), to(w), to(b), 1e-5),
        "linear": lambda to: OPS.linear(to(x), Dense(weight_OI=to(matrix), bias_O=to(b[:48]))),
        "silu_mul": lambda to: OPS.silu_mul(to(x)),
        "gelu": lambda to: OPS.gelu(to(x)),
        "gelu_tanh": lambda to: OPS.gelu_tanh(to(x)),
        "quick_gelu": lambda to: OPS.quick_gelu(to(x)),
        "rope": lambda to: OPS.rope(to(q), to(k), to(angles.cos()), to(angles.sin())),
        "store_kv": store,
        "attention_paged": attention,
        "attention_full": lambda to: OPS.attention_full(to(images), to(images), to(images), scale=0.125),
    }


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", op_calls(torch.float32))
def test_the_gpu_computes_what_the_cpu_does(name: str, dtype: torch.dtype) -> None:
    call = op_calls(dtype)[name]
    on_gpu, on_cpu = call(lambda x: x.cuda()), call(lambda x: x)
    tolerance = 2e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(on_gpu, on_cpu, atol=tolerance, rtol=tolerance, check_device=False)
