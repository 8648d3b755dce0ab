"""Decode attention against the plain formula in fp32; pages hold NaN wherever no token was written."""

import pytest
import torch
from paged_attention import make_batch, make_pages, plain_attention, quantized, relative_error

from engines.errors import KernelError
from engines.memory.kv_layer import KvLayer
from engines.options import KvFormat
from engines.turbomind.ops.attention_decode import attention_decode

# Inputs are exact; probabilities and result are rounded once each: 2^-9 relative for bf16, 2^-12 for fp16.
TOLERANCE = {torch.bfloat16: 4e-3, torch.float16: 5e-4}
BF16, FP16 = torch.bfloat16, torch.float16

# dtype, query heads, KV heads, head, page, window, lengths: one token, empty sequences, one past a tile of 64
SMALL = [
    (BF16, 8, 2, 64, 16, None, [1, 5, 0, 130, 64, 65, 200]),
    (BF16, 4, 2, 128, 32, None, [300, 17]),
    (FP16, 3, 3, 96, 64, None, [33, 0, 100]),
    (BF16, 7, 1, 64, 16, 70, [500, 3, 70, 71]),
    (BF16, 16, 1, 64, 16, None, [100]),  # more than eight heads share keys
]
QUANTIZED = [
    (BF16, 8, 2, 64, 16, None, [1, 0, 130, 64]),
    (BF16, 9, 1, 128, 32, 70, [300, 17]),
    (FP16, 3, 3, 128, 64, None, [33, 100]),
    (BF16, 14, 2, 64, 16, None, [77]),
    (BF16, 8, 1, 256, 16, None, [40, 3]),
]
FORMATS: list[KvFormat] = ["bf12", "int8", "int4", "fp8"]
BF12_96 = (BF16, 3, 3, 96, 64, None, [33, 100])  # rows of nine pieces
# InternVL2-8B and -2B, Phi-3, Qwen2-0.5B, one long sequence, many short ones
MODELS = [
    (BF16, 32, 8, 128, 64, None, [1024] * 32 + [1, 4097]),
    (BF16, 16, 8, 128, 64, None, [33000]),
    (FP16, 32, 32, 96, 64, 2047, [3000, 100, 2047]),
    (BF16, 14, 2, 64, 128, None, [77 * i % 900 for i in range(300)]),
    (BF16, 32, 8, 128, 16, None, list(range(600))),  # more sequences than one launch takes
]


def attend(gpu, case) -> tuple[torch.Tensor, torch.Tensor]:
    dtype, heads, kv_heads, dim, page_tokens, window, lengths = case
    batch, num_pages = make_batch([1] * len(lengths), lengths, page_tokens=page_tokens, device=gpu.device)
    kv = make_pages(batch, num_pages, num_kv_heads=kv_heads, page_tokens=page_tokens, dim=dim, dtype=dtype)
    q = torch.randn(len(lengths), heads + 2, dim, dtype=dtype, device=gpu.device)[:, :heads]
    how = {"scale": dim**-0.5, "window": window}
    got = attention_decode(gpu, q, kv, batch.pages_BP, batch.kv_lens_B, **how)
    again = attention_decode(gpu, q, kv, batch.pages_BP, batch.kv_lens_B, **how)
    torch.testing.assert_close(got, again, rtol=0, atol=0)  # the scratch memory is left as it was found
    return got, plain_attention(q, kv, batch, **how)


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_decode_attention_equals_the_plain_formula(gpu, case) -> None:
    got, wanted = attend(gpu, case)
    assert relative_error(got, wanted) < TOLERANCE[case[0]]


def attend_quantized(gpu, case, format: KvFormat, *, rise: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """`rise`: from token to token of a page, keys and values grow; every third row is of equal numbers."""
    dtype, heads, kv_heads, dim, page_tokens, window, lengths = case
    batch, num_pages = make_batch([1] * len(lengths), lengths, page_tokens=page_tokens, device=gpu.device)
    kv = make_pages(batch, num_pages, num_kv_heads=kv_heads, page_tokens=page_tokens, dim=dim, dtype=dtype)
    if rise:
        token_T1 = torch.arange(page_tokens, device=gpu.device)[:, None]
        kv.keys_PKTD.mul_(token_T1 / 8)
        kv.values_PKTD.mul_(2.0 ** (token_T1 / 2 - 12))
        kv.keys_PKTD[:, :, ::3] = kv.keys_PKTD[:, :, ::3, :1]
        kv.values_PKTD[:, :, ::3] = kv.values_PKTD[:, :, ::3, :1]
    stored, numbers = quantized(kv, format)
    q = 3 * torch.randn(len(lengths), heads, dim, dtype=dtype, device=gpu.device)
    how = {"scale": dim**-0.5, "window": window}
    got = attention_decode(gpu, q, stored, batch.pages_BP, batch.kv_lens_B, **how)
    return got, plain_attention(q, numbers, batch, **how)


@pytest.mark.parametrize(
    ("format", "case"),
    [
        *((form, case) for form in FORMATS for case in QUANTIZED if (form, case[0]) != ("bf12", FP16)),
        ("bf12", BF12_96),
    ],
    ids=str,
)
def test_quantized_pages_count_as_the_numbers_they_stand_for(gpu, case, format: KvFormat) -> None:
    got, wanted = attend_quantized(gpu, case, format)
    assert relative_error(got, wanted) < TOLERANCE[case[0]]


@pytest.mark.parametrize("format", FORMATS)
def test_sums_over_quantized_pages_follow_maxima_and_scales_that_rise(gpu, format: KvFormat) -> None:
    case = (BF16, 8, 2, 64, 64, None, [64, 17, 200])
    got, wanted = attend_quantized(gpu, case, format, rise=True)
    for row, wanted_row in zip(got, wanted, strict=True):  # their sizes differ
        assert relative_error(row, wanted_row) < TOLERANCE[BF16]


def check_small_beside_large(gpu, case) -> None:
    """Numbers of 12 bits far below their row's largest are subnormal, and count all the same."""
    dtype, heads, kv_heads, dim, page_tokens, window, lengths = case
    batch, num_pages = make_batch([1] * len(lengths), lengths, page_tokens=page_tokens, device=gpu.device)
    kv = make_pages(batch, num_pages, num_kv_heads=kv_heads, page_tokens=page_tokens, dim=dim, dtype=dtype)
    for pages in (kv.keys_PKTD, kv.values_PKTD):
        pages.mul_(2.0**-16)
        pages[..., 0].clamp_(1.0, 1.0)  # NaN stays NaN
    stored, numbers = quantized(kv, "bf12")
    q = torch.randn(len(lengths), heads, dim, dtype=dtype, device=gpu.device)
    q[..., :1] = 0.0  # scores are those of the small
    how = {"scale": 2.0**14, "window": window}
    got = attention_decode(gpu, q, stored, batch.pages_BP, batch.kv_lens_B, **how)
    wanted = plain_attention(q, numbers, batch, **how)
    assert relative_error(got[..., 1:], wanted[..., 1:]) < TOLERANCE[dtype]


def test_numbers_far_below_the_largest_of_their_row_count(gpu) -> None:
    check_small_beside_large(gpu, (BF16, 8, 2, 64, 16, None, [65, 200]))


@pytest.mark.gpu
def test_numbers_far_below_the_largest_of_their_row_count_at_model_sizes(cuda_gpu) -> None:
    check_small_beside_large(cuda_gpu, MODELS[0])


def test_rows_of_queries_and_scales_that_are_zero_give_the_mean_of_the_zeros(gpu) -> None:
    batch, num_pages = make_batch([1], [20], page_tokens=16, device=gpu.device)
    kv = make_pages(batch, num_pages, num_kv_heads=1, page_tokens=16, dim=64, dtype=BF16)
    kv.values_PKTD.copy_(kv.values_PKTD[..., :1].expand_as(kv.values_PKTD).clone())
    stored, numbers = quantized(kv, "int8")
    q = torch.zeros(1, 4, 64, dtype=BF16, device=gpu.device)
    got = attention_decode(gpu, q, stored, batch.pages_BP, batch.kv_lens_B, scale=1.0, window=None)
    wanted = plain_attention(q, numbers, batch, scale=1.0, window=None)
    assert relative_error(got, wanted) < TOLERANCE[BF16]


@pytest.mark.gpu
@pytest.mark.parametrize("format", FORMATS)
def test_quantized_pages_count_as_the_numbers_they_stand_for_at_model_sizes(
    cuda_gpu, format: KvFormat
) -> None:
    got, wanted = attend_quantized(cuda_gpu, MODELS[0], format)
    assert relative_error(got, wanted) < TOLERANCE[BF16]


@pytest.mark.gpu
@pytest.mark.parametrize("case", MODELS, ids=lambda case: str(case)[:60])
def test_decode_attention_equals_the_plain_formula_at_model_sizes(cuda_gpu, case) -> None:
    got, wanted = attend(cuda_gpu, case)
    assert relative_error(got, wanted) < TOLERANCE[case[0]]


@pytest.mark.gpu
def test_a_captured_launch_follows_the_lengths_in_memory(cuda_gpu) -> None:
    """The work list is derived on the device: one graph serves every step."""
    lengths = [900, 1, 333, 64]
    batch, num_pages = make_batch([1] * 4, lengths, page_tokens=64, device=cuda_gpu.device)
    kv = make_pages(batch, num_pages, num_kv_heads=8, page_tokens=64, dim=128, dtype=BF16)
    q = torch.randn(4, 32, 128, dtype=BF16, device=cuda_gpu.device)

    def run() -> torch.Tensor:
        return attention_decode(cuda_gpu, q, kv, batch.pages_BP, batch.kv_lens_B, scale=0.1, window=None)

    run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()
    for shorter in ([900, 1, 333, 64], [17, 1, 0, 2], [899, 0, 65, 63]):
        batch.kv_lens_B.copy_(torch.tensor(shorter, dtype=torch.int32))
        graph.replay()
        assert relative_error(out, plain_attention(q, kv, batch, scale=0.1, window=None)) < TOLERANCE[BF16]


def test_no_sequences_give_no_rows(gpu) -> None:
    pages = torch.zeros(2, 2, 16, 64, dtype=BF16, device=gpu.device)
    none = torch.empty(0, 1, dtype=torch.int32, device=gpu.device)
    q = torch.empty(0, 4, 64, dtype=BF16, device=gpu.device)
    kv = KvLayer(keys_PKTD=pages, values_PKTD=pages)
    assert attention_decode(gpu, q, kv, none, none[:, 0], scale=1.0, window=None).shape == (0, 4, 64)


def test_shapes_that_the_kernel_does_not_take_are_named_together(gpu) -> None:
    pages = torch.zeros(2, 2, 8, 40, device=gpu.device)
    kv = KvLayer(keys_PKTD=pages, values_PKTD=pages)
    one = torch.ones(1, 1, dtype=torch.int32, device=gpu.device)
    q = torch.ones(1, 3, 40, device=gpu.device)
    with pytest.raises(KernelError) as caught:
        attention_decode(gpu, q, kv, one, one[0], scale=1.0, window=None)
    for fault in ("float32 is no matrix format", "3 query heads", "heads of 40", "pages of 8"):
        assert fault in str(caught.value)


def test_bf12_pages_keep_bfloat16_alone_in_groups_of_32(gpu) -> None:
    pages = torch.zeros(2, 1, 16, 120, dtype=torch.uint8, device=gpu.device)
    scales = torch.zeros(2, 1, 16, 1, dtype=BF16, device=gpu.device)
    kv = KvLayer(
        keys_PKTD=pages,
        values_PKTD=pages,
        format="bf12",
        key_scales_PKTS=scales,
        value_scales_PKTS=scales,
    )
    one = torch.ones(1, 1, dtype=torch.int32, device=gpu.device)
    q = torch.zeros(1, 1, 80, dtype=FP16, device=gpu.device)
    with pytest.raises(KernelError) as caught:
        attention_decode(gpu, q, kv, one, one[0], scale=1.0, window=None)
    assert "bf12 pages of torch.float16: they keep torch.bfloat16 alone; use int8" in str(caught.value)
    assert "needs heads of a multiple of 32 numbers, this model's have 80" in str(caught.value)


def test_fp8_pages_ask_for_a_gpu_that_reads_them(gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, num_pages = make_batch([1], [1], page_tokens=16, device=gpu.device)
    kv = make_pages(batch, num_pages, num_kv_heads=1, page_tokens=16, dim=64, dtype=BF16)
    stored, _ = quantized(kv, "fp8")
    q = torch.zeros(1, 1, 64, dtype=BF16, device=gpu.device)
    monkeypatch.setattr(gpu, "capability", (8, 6))
    with pytest.raises(KernelError, match=r"fp8 pages on compute capability 8\.6, 8\.9 is the first"):
        attention_decode(gpu, q, stored, batch.pages_BP, batch.kv_lens_B, scale=1.0, window=None)
