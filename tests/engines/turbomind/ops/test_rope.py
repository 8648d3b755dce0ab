"""Rotation and the write into pages against the torch table."""

import pytest
import torch

from engines.errors import KernelError
from engines.ops import KvLayer
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops.rope import rope, rope_store_kv, store_kv

# query heads, KV heads, head, rotated pairs: whole heads, partial rotation, Phi-3's 96
SMALL = [(4, 2, 64, 32), (3, 3, 96, 16)]
MODELS = [(32, 8, 128, 64), (32, 32, 96, 48), (14, 2, 64, 32)]
CLOSE = {"rtol": 2**-7, "atol": 2**-7}  # one bf16 unit of the larger product where the two cancel


def check_all(gpu, heads: int, kv_heads: int, dim: int, pairs: int, *, tokens: int) -> None:
    qkv = torch.randn(tokens, heads + 2 * kv_heads, dim, dtype=torch.bfloat16, device=gpu.device)
    q, k, v = qkv.split((heads, kv_heads, kv_heads), dim=1)
    angles = torch.randn(tokens, pairs, device=gpu.device)
    tables = (angles.cos(), angles.sin())
    for got, wanted in zip(rope(gpu, q, k, *tables), TorchOps().rope(q, k, *tables), strict=True):
        torch.testing.assert_close(got, wanted, **CLOSE)
    slots = torch.randperm(16 * (tokens // 16 + 2), device=gpu.device)[:tokens]
    shape = (tokens // 16 + 2, kv_heads, 16, dim)
    zeros = [torch.zeros(shape, dtype=q.dtype, device=gpu.device) for _ in range(8)]
    pages = [KvLayer(keys_PKTD=zeros[i], values_PKTD=zeros[i + 1]) for i in range(0, 8, 2)]
    store_kv(gpu, k, v, pages[0], slots)
    TorchOps().store_kv(k, v, pages[1], slots)
    torch.testing.assert_close(pages[0].keys_PKTD, pages[1].keys_PKTD, rtol=0, atol=0)
    torch.testing.assert_close(pages[0].values_PKTD, pages[1].values_PKTD, rtol=0, atol=0)
    rotated = rope_store_kv(gpu, q, k, v, *tables, pages[2], slots)
    torch.testing.assert_close(rotated, TorchOps().rope_store_kv(q, k, v, *tables, pages[3], slots), **CLOSE)
    torch.testing.assert_close(pages[2].keys_PKTD, pages[3].keys_PKTD, **CLOSE)
    torch.testing.assert_close(pages[2].values_PKTD, pages[3].values_PKTD, rtol=0, atol=0)


@pytest.mark.parametrize("tokens", [1, 7])
@pytest.mark.parametrize(("heads", "kv_heads", "dim", "pairs"), SMALL)
def test_rotation_and_pages_equal_the_torch_table(
    gpu, heads: int, kv_heads: int, dim: int, pairs: int, tokens: int
) -> None:
    check_all(gpu, heads, kv_heads, dim, pairs, tokens=tokens)


@pytest.mark.gpu
@pytest.mark.parametrize(("heads", "kv_heads", "dim", "pairs"), MODELS)
def test_rotation_and_pages_equal_the_torch_table_at_model_sizes(
    cuda_gpu, heads: int, kv_heads: int, dim: int, pairs: int
) -> None:
    check_all(cuda_gpu, heads, kv_heads, dim, pairs, tokens=1000)


def test_a_negative_slot_is_not_written(gpu) -> None:
    """Rows that only fill up a captured batch have no place in the pages."""
    k = torch.ones(2, 2, 64, dtype=torch.bfloat16, device=gpu.device)
    kv = KvLayer(
        keys_PKTD=torch.zeros(2, 2, 16, 64, dtype=k.dtype, device=gpu.device),
        values_PKTD=torch.zeros(2, 2, 16, 64, dtype=k.dtype, device=gpu.device),
    )
    store_kv(gpu, k, k, kv, torch.tensor([-1, 3], device=gpu.device))
    assert kv.keys_PKTD.sum() == kv.values_PKTD.sum() == 2 * 64
    tables = torch.zeros(2, 32, device=gpu.device)
    rope_store_kv(gpu, k, k, k, tables + 1, tables, kv, torch.tensor([-1, 3], device=gpu.device))
    assert kv.keys_PKTD.sum() == kv.values_PKTD.sum() == 2 * 64


def test_no_tokens_are_no_work(gpu) -> None:
    q = torch.empty(0, 4, 64, dtype=torch.bfloat16, device=gpu.device)
    empty = torch.empty(0, 32, device=gpu.device)
    assert rope(gpu, q, q, empty, empty)[0].shape == (0, 4, 64)


def test_heads_that_are_not_side_by_side_are_refused(gpu) -> None:
    q = torch.ones(2, 4, 128, dtype=torch.bfloat16, device=gpu.device)[..., :64]
    tables = torch.ones(2, 32, device=gpu.device)
    with pytest.raises(KernelError, match="contiguous"):
        rope(gpu, q, q, tables, tables)
