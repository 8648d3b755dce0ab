"""Prefill attention against the plain formula in fp32; pages hold NaN wherever no token was written."""

import pytest
import torch
from paged_attention import make_batch, make_pages, plain_attention, relative_error

from engines.turbomind.ops.attention_prefill import CUTS, attention_prefill
from engines.turbomind.ops.flash_shape import FlashShape, flash_shape, most_blocks

TOLERANCE = {torch.bfloat16: 4e-3, torch.float16: 5e-4}  # as for decode attention
BF16, FP16 = torch.bfloat16, torch.float16

# dtype, query heads, KV heads, head, page, window, new tokens, lengths
SMALL = [
    (BF16, 4, 2, 64, 16, None, [5, 70, 1], [5, 130, 64]),
    (FP16, 3, 3, 96, 32, 50, [140], [150]),
    (BF16, 4, 2, 128, 64, None, [33], [100]),
]
MODELS = [
    (BF16, 32, 8, 128, 64, None, [2048, 1, 300], [2048, 700, 4000]),
    (FP16, 32, 32, 96, 64, 2047, [2500], [2600]),
    (BF16, 14, 2, 64, 128, None, [17 * i % 97 + 1 for i in range(70)], [17 * i % 97 + 40 for i in range(70)]),
    (BF16, 16, 8, 128, 16, None, [1025], [1025]),
    (FP16, 8, 8, 64, 64, 50, [500], [900]),  # rows whose window leaves tiles out; hidden scores round upwards
]


def check(gpu, case, *, shape: FlashShape | None = None) -> None:
    dtype, heads, kv_heads, dim, page_tokens, window, new, lengths = case
    batch, num_pages = make_batch(new, lengths, page_tokens=page_tokens, device=gpu.device)
    kv = make_pages(batch, num_pages, num_kv_heads=kv_heads, page_tokens=page_tokens, dim=dim, dtype=dtype)
    q = torch.randn(sum(new), heads + 2, dim, dtype=dtype, device=gpu.device)[:, :heads]
    how = {"scale": dim**-0.5, "window": window}
    where = (batch.pages_BP, batch.q_starts_B1, batch.kv_lens_B)
    got = attention_prefill(gpu, q, kv, *where, **how, shape=shape)
    assert relative_error(got, plain_attention(q, kv, batch, **how)) < TOLERANCE[dtype]


def cut(gpu, case) -> FlashShape:
    limits = {"bytes_per_block": gpu.shared_bytes_per_block, "bytes_per_sm": gpu.shared_bytes_per_sm}
    return flash_shape(CUTS, case[3], **limits)


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_prefill_attention_equals_the_plain_formula(gpu, case) -> None:
    check(gpu, case, shape=cut(gpu, case))


def test_the_kernel_of_the_gpu_is_chosen_where_no_cut_is_given(gpu) -> None:
    check(gpu, SMALL[2])


@pytest.mark.gpu
@pytest.mark.parametrize("case", MODELS, ids=lambda case: str(case)[:60])
def test_prefill_attention_equals_the_plain_formula_at_model_sizes(cuda_gpu, case) -> None:
    check(cuda_gpu, case, shape=cut(cuda_gpu, case))
    check(cuda_gpu, case)


def test_the_grid_has_a_block_for_every_row_whatever_the_lengths() -> None:
    for rows in ([1], [64], [65], [1, 1, 1], [64, 65, 128], [1000, 3]):
        needed = sum(-(-count // 64) for count in rows)
        assert needed <= most_blocks(sum(rows), len(rows), 64) <= needed + len(rows)
