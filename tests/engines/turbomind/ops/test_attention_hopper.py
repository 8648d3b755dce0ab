"""The attention kernels of Hopper against the plain formula in fp32; pages hold NaN where no token is."""

from dataclasses import replace

import pytest
import torch
from paged_attention import make_batch, make_pages, plain_attention, quantized, relative_error

from engines.options import KvFormat
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops.attention_full_hopper import attention_full_hopper
from engines.turbomind.ops.attention_prefill_hopper import attention_prefill_hopper
from engines.turbomind.ops.hopper_shape import HopperShape

TOLERANCE = {torch.bfloat16: 4e-3, torch.float16: 5e-4}  # as for decode attention
BF16, FP16 = torch.bfloat16, torch.float16
TURNS = HopperShape(keys=64, consumers=2, stages=2)
COPIED = HopperShape(keys=80, consumers=1, stages=2, queries=1, overlap=False, tensor_copies=False)
THREE = HopperShape(keys=96, consumers=3, stages=2, turns=False, slack=0)

# dtype, query heads, KV heads, head, page, window, new tokens, lengths; shape; whether blocks share a counter
PREFILLS = [
    ((BF16, 8, 2, 128, 64, None, [5, 70, 1], [5, 330, 64]), TURNS, True),
    ((FP16, 3, 3, 96, 32, 50, [140], [350]), COPIED, False),
    ((BF16, 7, 1, 64, 16, None, [33, 2], [200, 3]), THREE, True),
    # A window leaves out rows' first tile, and scores of hidden keys, times this head's scale, round upwards.
    ((FP16, 1, 1, 64, 32, 50, [64], [274]), replace(COPIED, keys=64), False),
]
# The same over codes, whose format comes first: rows of 4, 3, 8, 2, 6 and 12 loads; 1 to 4 threads a row.
CODES = [
    (
        "bf12",
        (BF16, 8, 2, 128, 64, None, [5, 70, 1], [5, 330, 64]),
        replace(TURNS, keys=128, queries=1, code_stages=2, producers=2),
    ),
    ("bf12", (BF16, 7, 1, 96, 16, None, [33, 2], [200, 3]), replace(TURNS, keys=64, code_stages=1)),
    (
        "int8",
        (BF16, 8, 2, 128, 64, None, [5, 70, 1], [5, 330, 64]),
        replace(TURNS, keys=128, code_stages=2, producers=2),
    ),
    ("int4", (FP16, 3, 3, 64, 32, 50, [140], [350]), replace(COPIED, keys=64, code_stages=3, producers=2)),
    ("fp8", (BF16, 7, 1, 96, 16, None, [33, 2], [200, 3]), replace(TURNS, keys=128, code_stages=1)),
    ("int8", (BF16, 2, 1, 192, 64, None, [3], [70]), replace(TURNS, code_stages=2, queries=1)),
]
# images, tokens, heads, head: one token; ends inside a tile; a head that fills no block of 64 columns
FULLS = [((1, 1, 1, 64), TURNS), ((2, 135, 2, 72), THREE), ((2, 65, 1, 128), COPIED)]
# The same, whole items and one query: several items a head, all three widths of a key
LONE = replace(TURNS, lone=True)
LONES = [((2, 257, 2, 64), LONE), ((1, 193, 2, 72), replace(THREE, lone=True)), ((1, 129, 1, 192), LONE)]
FOUR = HopperShape(keys=80, consumers=4, stages=3, overlap=False)
LONES += [((1, 513, 1, 64), replace(FOUR, lone=True)), ((1, 300, 2, 64), FOUR)]


@pytest.fixture(autouse=True)
def _hopper(gpu) -> None:
    if gpu.capability != (9, 0):
        pytest.skip("the GPU is no Hopper")


@pytest.mark.parametrize(("case", "shape", "dynamic"), PREFILLS, ids=str)
def test_prefill_attention_equals_the_plain_formula(gpu, case, shape: HopperShape, dynamic: bool) -> None:
    dtype, heads, kv_heads, dim, page_tokens, window, new, lengths = case
    batch, num_pages = make_batch(new, lengths, page_tokens=page_tokens, device=gpu.device)
    kv = make_pages(batch, num_pages, num_kv_heads=kv_heads, page_tokens=page_tokens, dim=dim, dtype=dtype)
    q = torch.randn(sum(new), heads + 2, dim, dtype=dtype, device=gpu.device)[:, :heads]
    how = {"scale": dim**-0.5, "window": window}
    wanted = plain_attention(q, kv, batch, **how)
    for _ in range(2):  # a second launch finds the counter as the first one did
        out = torch.full((sum(new), heads, dim), torch.nan, dtype=dtype, device=gpu.device)
        where = (batch.pages_BP, batch.q_starts_B1, batch.kv_lens_B)
        attention_prefill_hopper(gpu, q, kv, *where, **how, out_TND=out, shape=shape, dynamic=dynamic)
        assert relative_error(out, wanted) < TOLERANCE[dtype]


@pytest.mark.parametrize(("format", "case", "shape"), CODES, ids=str)
def test_prefill_attention_reads_codes(gpu, format: KvFormat, case, shape: HopperShape) -> None:
    dtype, heads, kv_heads, dim, page_tokens, window, new, lengths = case
    batch, num_pages = make_batch(new, lengths, page_tokens=page_tokens, device=gpu.device)
    sizes = {"num_kv_heads": kv_heads, "page_tokens": page_tokens, "dim": dim, "dtype": dtype}
    stored, numbers = quantized(make_pages(batch, num_pages, **sizes), format)
    q = torch.randn(sum(new), heads, dim, dtype=dtype, device=gpu.device)
    how = {"scale": dim**-0.5, "window": window}
    wanted = plain_attention(q, numbers, batch, **how)
    where = (batch.pages_BP, batch.q_starts_B1, batch.kv_lens_B)
    for _ in range(2):
        out = torch.full((sum(new), heads, dim), torch.nan, dtype=dtype, device=gpu.device)
        attention_prefill_hopper(gpu, q, stored, *where, **how, out_TND=out, shape=shape)
        assert relative_error(out, wanted) < 2 * TOLERANCE[dtype]  # keys and values are rounded once more


@pytest.mark.parametrize("format", ["none", "bf12", "int8"])
def test_few_items_are_split_along_their_keys(gpu, format: KvFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four parts a row's window leaves out one, and a block of short items has fewer tiles than parts."""
    monkeypatch.setattr(gpu, "num_sms", 9)
    batch, num_pages = make_batch([3, 70], [900, 290], page_tokens=32, device=gpu.device)
    sizes = {"num_kv_heads": 1, "page_tokens": 32, "dim": 64, "dtype": BF16}
    pages = make_pages(batch, num_pages, **sizes)
    stored, numbers = (pages, pages) if format == "none" else quantized(pages, format)
    shape = replace(TURNS, code_stages=2, producers=2) if format != "none" else TURNS
    q = torch.randn(73, 1, 64, dtype=BF16, device=gpu.device)
    where = (batch.pages_BP, batch.q_starts_B1, batch.kv_lens_B)
    for window in (None, 600):
        how = {"scale": 0.125, "window": window}
        wanted = plain_attention(q, numbers, batch, **how)
        for _ in range(2):
            out = torch.full((73, 1, 64), torch.nan, dtype=BF16, device=gpu.device)
            attention_prefill_hopper(gpu, q, stored, *where, **how, out_TND=out, shape=shape)
            assert relative_error(out, wanted) < 2 * TOLERANCE[BF16]


@pytest.mark.parametrize(("sizes", "shape"), [*FULLS, *LONES], ids=str)
def test_full_attention_equals_the_torch_table(
    gpu, sizes: tuple[int, int, int, int], shape: HopperShape
) -> None:
    images, length, heads, dim = sizes
    qkv = torch.randn(images, length, 3, heads, dim, dtype=torch.bfloat16, device=gpu.device)
    q, k, v = qkv.unbind(2)
    wanted = TorchOps().attention_full(q.float(), k.float(), v.float(), scale=dim**-0.5)
    strides = (q.stride(1), k.stride(1), v.stride(1))
    for _ in range(2):  # a second launch finds the counters as the first one did
        got = attention_full_hopper(gpu, q, k, v, scale=dim**-0.5, strides=strides, shape=shape)
        assert relative_error(got, wanted) < TOLERANCE[torch.bfloat16]
        assert relative_error(got[:, -1], wanted[:, -1]) < TOLERANCE[torch.bfloat16]
