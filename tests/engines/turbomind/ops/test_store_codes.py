"""Quantized pages are written as the torch table writes them."""

import pytest
import torch

from engines.errors import KernelError
from engines.memory.kv_bytes import num_scales, row_bytes
from engines.memory.kv_layer import KvLayer, scale_dtype
from engines.options import KvFormat
from engines.pytorch.kv_rows import dequantize_rows
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops.rope import rope_store_kv, store_kv

FORMATS: list[KvFormat] = ["bf12", "int8", "int4", "fp8"]
# query heads, KV heads, head, rotated pairs: a row of 16 lanes, of 8, of 16 with some idle
SMALL = [(4, 2, 128, 64), (3, 1, 64, 32), (2, 2, 96, 16)]


def pages(gpu, format: KvFormat, *, num_pages: int, kv_heads: int, dim: int) -> KvLayer:
    rows = (num_pages, kv_heads, 16)
    codes = [
        torch.zeros(*rows, row_bytes(dim, format, dtype_bytes=2), dtype=torch.uint8, device=gpu.device)
        for _ in range(2)
    ]
    scales = [
        torch.zeros(*rows, num_scales(format), dtype=scale_dtype(format), device=gpu.device) for _ in range(2)
    ]
    return KvLayer(
        keys_PKTD=codes[0],
        values_PKTD=codes[1],
        format=format,
        key_scales_PKTS=scales[0],
        value_scales_PKTS=scales[1],
    )


def numbers(layer: KvLayer) -> list[torch.Tensor]:
    return [
        dequantize_rows(codes, scales, layer.format, torch.float32)
        for codes, scales in layer.pages
        if scales is not None
    ]


def check_store(gpu, format: KvFormat, sizes: tuple[int, int, int, int], *, tokens: int) -> None:
    heads, kv_heads, dim, pairs = sizes
    qkv = torch.randn(tokens, heads + 2 * kv_heads, dim, dtype=torch.bfloat16, device=gpu.device)
    q, k, v = qkv.split((heads, kv_heads, kv_heads), dim=1)
    v[0] = 0.25  # a row of equal numbers
    v[1, :, 1:] *= 2.0 ** (-torch.arange(1, dim, device=gpu.device) % 32)  # a row of all sizes
    angles = torch.randn(tokens, pairs, device=gpu.device)
    tables = (angles.cos(), angles.sin())
    num_pages = tokens // 16 + 2
    slots = torch.randperm(16 * num_pages, device=gpu.device)[:tokens]
    slots[-1] = -1  # not written
    layers = [pages(gpu, format, num_pages=num_pages, kv_heads=kv_heads, dim=dim) for _ in range(4)]
    store_kv(gpu, k, v, layers[0], slots)
    TorchOps().store_kv(k[:-1], v[:-1], layers[1], slots[:-1])
    for (codes, scales), (wanted, wanted_scales) in zip(layers[0].pages, layers[1].pages, strict=True):
        assert torch.equal(codes, wanted)
        assert torch.equal(scales, wanted_scales)
    got = rope_store_kv(gpu, q, k, v, *tables, layers[2], slots)
    q_wanted, k_wanted = TorchOps().rope(q, k, *tables)
    TorchOps().store_kv(k_wanted[:-1], v[:-1], layers[3], slots[:-1])
    torch.testing.assert_close(got, q_wanted, rtol=2**-7, atol=2**-7)
    assert torch.equal(layers[2].values_PKTD, layers[3].values_PKTD)
    step = 0.6 if format == "int4" else 0.3  # of a code: the rotation's last bit may move one
    for got, wanted in zip(numbers(layers[2]), numbers(layers[3]), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=step)
        assert ((got - wanted).abs() < 0.02).float().mean() > 0.98


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("sizes", SMALL, ids=str)
def test_quantized_pages_equal_the_torch_table(gpu, format: KvFormat, sizes) -> None:
    check_store(gpu, format, sizes, tokens=7)


@pytest.mark.gpu
@pytest.mark.parametrize("format", FORMATS)
def test_quantized_pages_equal_the_torch_table_at_model_sizes(cuda_gpu, format: KvFormat) -> None:
    check_store(cuda_gpu, format, (32, 8, 128, 64), tokens=1000)


def test_numbers_beyond_fp16_are_refused(gpu) -> None:
    k = torch.ones(1, 1, 64, device=gpu.device)
    layer = pages(gpu, "int8", num_pages=1, kv_heads=1, dim=64)
    with pytest.raises(KernelError, match=r"float32.*into int8 pages: the kernel takes bfloat16 or float16"):
        store_kv(gpu, k, k, layer, torch.zeros(1, dtype=torch.int64, device=gpu.device))
