import math
import struct

import pytest
import torch
from torch import Tensor

from engines.memory.kv_bytes import num_scales, row_bytes
from engines.memory.kv_layer import KvLayer, scale_dtype
from engines.options import KvFormat
from engines.pytorch.kv_rows import dequantize_rows, quantize_rows
from engines.pytorch.ops_torch import TorchOps

BF16 = torch.bfloat16
FORMATS: tuple[KvFormat, ...] = ("bf12", "int8", "int4", "fp8")


def rows(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator) * torch.rand(*shape[:-1], 1, generator=generator) * 8 + 1


def e4m3(byte: int) -> float:
    sign, exponent, mantissa = -1.0 if byte >> 7 else 1.0, byte >> 3 & 15, byte & 7
    if exponent == 0:
        return sign * mantissa * 2.0**-9
    return sign * (1 + mantissa / 8) * 2.0 ** (exponent - 7)


def twelve_bits(codes: bytes) -> list[float]:
    """Return the numbers of a row of 12 bits each, as bf16 reads them."""
    numbers = []
    halves = struct.unpack(f"<{len(codes) // 2}H", codes)
    for group in range(0, len(halves), 24):
        rows = [halves[group + 8 * n : group + 8 * n + 8] for n in range(3)]
        bits = [half & 0x87FF for row in rows for half in row]
        for first, second, third in zip(*rows, strict=True):
            sign, high = first >> 14 & 1, first >> 11 & 7
            bits.append(sign << 15 | high << 8 | (second >> 11 & 15) << 4 | third >> 11 & 15)
        numbers += [struct.unpack(">f", struct.pack(">HH", half, 0))[0] for half in bits]
    return numbers


def by_hand(codes: bytes, scales: list[float], form: KvFormat) -> list[float]:
    """Decode one row byte by byte, as the docstring of `engines/memory/kv_layer.py` says."""
    if form == "bf12":
        return [number * 2.0**112 * scales[0] for number in twelve_bits(codes)]
    if form == "fp8":
        return [e4m3(byte) * scales[0] for byte in codes]
    if form == "int8":
        return [(byte - 128) * scales[0] + scales[1] for byte in codes]
    elements = [0.0] * (2 * len(codes))
    for word, (bits,) in enumerate(struct.iter_unpack("<I", codes)):
        for nibble, element in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
            elements[8 * word + element] = ((bits >> 4 * nibble & 15) - 8) * scales[0] + scales[1]
    return elements


@pytest.mark.parametrize("form", FORMATS)
def test_the_bytes_of_a_row_are_what_the_layout_says(form: KvFormat) -> None:
    codes, scales = quantize_rows(rows(3, 2, 64), form)
    assert codes.dtype == torch.uint8
    assert codes.shape == (3, 2, {"bf12": 96, "int4": 32}.get(form, 64))
    assert scales.dtype == scale_dtype(form)
    assert scales.shape == (3, 2, 1 if form in ("bf12", "fp8") else 2)
    back = dequantize_rows(codes, scales, form, torch.float32)
    for i in range(3):
        wanted = by_hand(bytes(codes[i, 0].tolist()), scales[i, 0].tolist(), form)
        assert back[i, 0].tolist() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_number_moves_by_more_than_half_a_step(form: KvFormat, dtype: torch.dtype) -> None:
    x = rows(50, 4, 96).to(dtype)
    codes, scales = quantize_rows(x, form)
    moved = (dequantize_rows(codes, scales, form, torch.float32) - x.float()).abs().amax(-1)
    # fp16 rounds the scale, by 2^-11 of the 255 steps between the ends at most.
    assert (moved <= scales[..., 0].float() * (0.5 + 255 * 2**-11)).all()


@pytest.mark.parametrize("exponent", [-140, -126, -112, -100, 0, 100])
def test_12_bits_keep_what_is_near_the_largest_and_round_the_rest(exponent: int) -> None:
    x = (torch.exp2(-30 * torch.rand(200, 96, generator=torch.Generator().manual_seed(0))) * 1.99).to(BF16)
    x[:, 0], x[:, 1::3] = 1.0, -x[:, 1::3]
    x = (x.double() * 2.0**exponent).to(BF16)
    got = dequantize_rows(*quantize_rows(x, "bf12"), "bf12", BF16)
    near = x.double().abs() >= 2.0 ** (exponent - 14)
    assert torch.equal(got[near], x[near])
    step = 2.0 ** max(exponent - 21, -133)  # bf16 itself ends at 2^-133
    assert torch.equal(got.double(), torch.where(near, x.double(), (x.double() / step).round() * step))


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan])
def test_a_row_of_12_bits_with_a_number_that_is_none_has_none(odd: float) -> None:
    x = torch.ones(2, 32, dtype=BF16)
    x[0, 3] = odd
    got = dequantize_rows(*quantize_rows(x, "bf12"), "bf12", BF16)
    assert not math.isfinite(got[0, 3])
    assert torch.equal(got[1], x[1])


def test_fp8_keeps_four_bits_of_each_number() -> None:
    x = rows(50, 4, 96)
    codes, scales = quantize_rows(x, "fp8")
    moved = (dequantize_rows(codes, scales, "fp8", torch.float32) - x).abs()
    smallest = scales.float() * 2**-10  # half a step where numbers are subnormal
    assert (moved <= torch.maximum(x.abs() * 2**-4, smallest) * 1.001).all()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("value", [0.0, 3.5, -2.0, 1e-7, 60000.0])
def test_a_row_of_equal_numbers_comes_back(form: KvFormat, value: float) -> None:
    row = torch.full((1, 32), value, dtype=BF16)
    codes, scales = quantize_rows(row, form)
    back = dequantize_rows(codes, scales, form, torch.float32)
    assert back.tolist() == [pytest.approx(row[0].tolist(), rel=2**-10, abs=1e-6)]


@pytest.mark.parametrize("form", FORMATS)
def test_numbers_beyond_fp16_stay_numbers(form: KvFormat) -> None:
    codes, scales = quantize_rows(torch.tensor([[-1e9, 1e9] * 16]), form)
    assert math.isfinite(float(dequantize_rows(codes, scales, form, torch.float32).abs().max()))


@pytest.mark.parametrize("form", FORMATS)
def test_storing_touches_its_slots_alone(form: KvFormat) -> None:
    width, params = row_bytes(32, form, dtype_bytes=2), num_scales(form)
    layer = KvLayer(
        keys_PKTD=torch.zeros(5, 2, 4, width, dtype=torch.uint8),
        values_PKTD=torch.zeros(5, 2, 4, width, dtype=torch.uint8),
        format=form,
        key_scales_PKTS=torch.zeros(5, 2, 4, params, dtype=scale_dtype(form)),
        value_scales_PKTS=torch.zeros(5, 2, 4, params, dtype=scale_dtype(form)),
    )
    k, v = rows(3, 2, 32), rows(3, 2, 32, seed=1)
    TorchOps().store_kv(k, v, layer, torch.tensor([18, 0, 7]))
    for x, (codes, scales) in zip((k, v), layer.pages, strict=True):
        assert scales is not None
        for row, slot in zip(x, (18, 0, 7), strict=True):
            wanted = quantize_rows(row, form)
            assert torch.equal(codes[slot // 4, :, slot % 4], wanted[0])
            assert torch.equal(scales[slot // 4, :, slot % 4], wanted[1])
        assert int((scales[..., 0] != 0).sum()) == 6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("form", FORMATS)
def test_a_gpu_stores_the_bytes_that_the_cpu_does(form: KvFormat) -> None:
    x = rows(200, 4, 128).to(torch.bfloat16)
    for there, here in zip(quantize_rows(x.cuda(), form), quantize_rows(x, form), strict=True):
        assert torch.equal(there.cpu(), here)
