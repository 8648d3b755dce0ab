"""Chunks over quantized pages against the plain formula over the numbers that the codes stand for."""

from functools import partial

import pytest
import torch
from paged_attention import make_batch, make_pages, plain_attention, quantized, relative_error

from engines.options import KvFormat
from engines.turbomind.ops import attention_prefill_codes as codes
from engines.turbomind.ops_table import TurbomindOps

BF16 = torch.bfloat16
TOLERANCE = 8e-3  # twice that of plain pages: keys and values are rounded to bf16 first


@pytest.mark.parametrize("most_tokens", [codes.PLAIN_TOKENS, 64])
@pytest.mark.parametrize("format", ["bf12", "int8", "int4", "fp8"])
def test_chunks_attend_to_quantized_pages(
    gpu, format: KvFormat, most_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "MOST_ROWS", 0)
    monkeypatch.setattr(codes, "PLAIN_TOKENS", most_tokens)
    batch, num_pages = make_batch([1, 33, 2], [9, 100, 7], page_tokens=64, device=gpu.device, num_decodes=1)
    sizes = {"num_kv_heads": 2, "page_tokens": 64, "dim": 128, "dtype": BF16}
    stored, numbers = quantized(make_pages(batch, num_pages, **sizes), format)
    q = torch.randn(36, 4, 128, dtype=BF16, device=gpu.device)
    got = TurbomindOps(gpu).attention_paged(q, stored, batch, scale=0.09, window=None)
    assert relative_error(got, plain_attention(q, numbers, batch, scale=0.09, window=None)) < TOLERANCE


def test_short_chunks_read_codes(gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    if gpu.capability != (9, 0):
        pytest.skip("the GPU is no Hopper")
    ways = list[str]()
    dequantized = partial(_noted, ways, "numbers", codes.dequantize_pages)
    monkeypatch.setattr(codes, "dequantize_pages", dequantized)
    batch, num_pages = make_batch([1, 3, 2], [9, 100, 7], page_tokens=64, device=gpu.device, num_decodes=1)
    sizes = {"num_kv_heads": 2, "page_tokens": 64, "dim": 64, "dtype": BF16}
    stored, numbers = quantized(make_pages(batch, num_pages, **sizes), "int8")
    q = torch.randn(6, 4, 64, dtype=BF16, device=gpu.device)
    wanted = plain_attention(q, numbers, batch, scale=0.09, window=None)
    for rows in (6, 5):  # 3 tokens, 2 heads of a KV head
        monkeypatch.setattr(codes, "MOST_ROWS", rows)
        got = TurbomindOps(gpu).attention_paged(q, stored, batch, scale=0.09, window=None)
        assert relative_error(got, wanted) < TOLERANCE
        assert ways == ([] if rows == 6 else ["numbers"])


def _noted(ways: list[str], way: str, run, *args, **words):
    ways.append(way)
    return run(*args, **words)


@pytest.mark.gpu
@pytest.mark.parametrize("most_rows", [0, 4096])
def test_long_prefixes_of_many_sequences_are_taken_in_groups_or_as_codes(
    cuda_gpu, most_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "MOST_ROWS", most_rows)
    new, lengths = [64] * 12 + [700, 1], [3000 + i for i in range(12)] + [700, 17]
    batch, num_pages = make_batch(new, lengths, page_tokens=64, device=cuda_gpu.device)
    sizes = {"num_kv_heads": 8, "page_tokens": 64, "dim": 128, "dtype": BF16}
    stored, numbers = quantized(make_pages(batch, num_pages, **sizes), "int8")
    q = torch.randn(sum(new), 32, 128, dtype=BF16, device=cuda_gpu.device)
    got = TurbomindOps(cuda_gpu).attention_paged(q, stored, batch, scale=0.09, window=None)
    assert relative_error(got, plain_attention(q, numbers, batch, scale=0.09, window=None)) < TOLERANCE


def test_groups_hold_what_was_allowed_or_one_sequence() -> None:
    assert list(codes.groups([], most=4)) == []
    assert list(codes.groups([9], most=4)) == [slice(0, 1)]
    assert list(codes.groups([2, 2, 1, 9, 1], most=4)) == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 5)]


def test_groups_are_about_equal() -> None:
    assert list(codes.groups([17] * 16, most=256)) == [slice(0, 8), slice(8, 16)]
    assert list(codes.groups([17] * 15, most=256)) == [slice(0, 15)]
