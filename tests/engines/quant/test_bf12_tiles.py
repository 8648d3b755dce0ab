"""bf16 matrices in 12 bits: what is kept to the bit, what is rounded, and where a number stands in a tile."""

import math

import pytest
import torch
from torch import Tensor

from engines.quant import bf12_tiles
from engines.quant.bf12_shape import bf12_bytes, takes_shape
from engines.quant.bf12_tiles import bf12_of, weight_of
from engines.quant.bf12_tiles import rounded as rounded_to_12_bits

BF16 = torch.bfloat16


def every_number_below(exponent: int) -> Tensor:
    """Return all magnitudes of bf16 below 2^(exponent + 1), [rows, 128], that power's half in each row."""
    bits = torch.arange((exponent + 128) << 7, dtype=torch.int32).to(torch.int16)
    padded = torch.zeros(-(-len(bits) // (16 * 127)) * 16 * 127, dtype=torch.int16)
    padded[: len(bits)] = bits
    weight = torch.full((len(padded) // 127, 128), 2.0**exponent, dtype=BF16)
    weight[:, :127] = padded.view(BF16).view(-1, 127)
    return weight


def back(weight_OI: Tensor) -> Tensor:
    packed = bf12_of(weight_OI)
    assert packed is not None
    outputs, inputs = weight_OI.shape
    assert packed.tiles_YXB.shape == (inputs // 128, outputs // 16, 3072)
    assert packed.tiles_YXB.nbytes + packed.factor_O.nbytes == bf12_bytes(outputs, inputs)
    return weight_of(packed)


def rounded(weight_OI: Tensor) -> Tensor:
    """Return what the format promises, by arithmetic on float64 instead of bits."""
    top_O1 = weight_OI.double().abs().amax(dim=1, keepdim=True)
    top_O1 = torch.exp2(torch.floor(torch.log2(top_O1.clamp_(min=2.0**-126))))
    step_O1 = (top_O1 * 2.0**-21).clamp(min=2.0**-133)  # bf16's own smallest number
    exact = weight_OI.double().abs() >= top_O1 * 2.0**-14
    return torch.where(exact, weight_OI.double(), torch.round(weight_OI.double() / step_O1) * step_O1).to(
        BF16
    )


@pytest.mark.parametrize(("outputs", "inputs"), [(16, 128), (48, 384), (176, 256)])
def test_a_row_of_normal_numbers_comes_back_but_for_the_smallest(outputs: int, inputs: int) -> None:
    weight = torch.randn(outputs, inputs).mul_(0.02).to(BF16)
    got = back(weight)
    assert torch.equal(got, rounded(weight))
    assert (got == weight).double().mean() > 0.999


@pytest.mark.parametrize("exponent", [-126, -120, -112, -111, -30, 0, 15])
def test_all_numbers_beside_a_larger_one_are_exact_or_rounded_to_the_nearest_multiple(exponent: int) -> None:
    weight = every_number_below(exponent)
    weight[1::2] *= -1
    assert torch.equal(back(weight).view(torch.int16), rounded(weight).view(torch.int16))  # signs of zero too


def test_nothing_errs_by_more_than_two_to_the_minus_22_of_the_largest_power() -> None:
    weight = (torch.randn(64, 256) * torch.exp2(torch.randint(-40, 3, (64, 256)).float())).to(BF16)
    top = torch.exp2(torch.floor(torch.log2(weight.float().abs().amax(dim=1, keepdim=True))))
    got = back(weight)
    assert ((got.float() - weight.float()).abs() <= top * 2.0**-22).all()
    large = weight.float().abs() >= top * 2.0**-14
    assert torch.equal(got[large], weight[large])
    assert (got != weight).any()


def test_rows_of_zeros_and_of_subnormals_come_back_to_the_bit() -> None:
    weight = torch.zeros(16, 128, dtype=BF16)
    weight[1] = -0.0
    weight[2] = torch.arange(128, dtype=torch.int16).view(BF16)
    weight[3] = torch.arange(128, 256, dtype=torch.int16).view(BF16)
    assert torch.equal(back(weight).view(torch.int16), weight.view(torch.int16))


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan, 65536.0, -1e38])
def test_a_matrix_with_a_number_past_the_format_is_left_as_it_is(odd: float) -> None:
    weight = torch.randn(32, 128).to(BF16)
    weight[17, 99] = odd
    assert bf12_of(weight) is None
    weight[17, 99] = 65280.0  # the largest below 2^16
    assert torch.equal(back(weight), rounded(weight))


def test_only_whole_tiles_of_bf16_are_packed() -> None:
    assert takes_shape(16, 128) and not takes_shape(24, 128) and not takes_shape(16, 192)
    for weight in (
        torch.zeros(24, 128, dtype=BF16),
        torch.zeros(16, 192, dtype=BF16),
        torch.zeros(0, 128, dtype=BF16),
        torch.zeros(16, 128),
        torch.zeros(16, 128, dtype=torch.float16),
        torch.zeros(2048, dtype=BF16),
    ):
        assert bf12_of(weight) is None


def test_a_matrix_is_packed_alike_in_one_stretch_and_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(112, 256).to(BF16)
    whole = bf12_of(weight)
    monkeypatch.setattr(bf12_tiles, "_NUMBERS_AT_ONCE", 32 * 256)
    parts = bf12_of(weight)
    strided = bf12_of(torch.cat([weight, weight], dim=1)[:, :256])
    assert whole is not None and parts is not None and strided is not None
    for other in (parts, strided):
        assert torch.equal(other.tiles_YXB, whole.tiles_YXB)
        assert torch.equal(other.factor_O, whole.factor_O)


def test_rounding_alone_gives_what_tiles_give_back_and_takes_any_shape() -> None:
    weight = (torch.randn(32, 256) * torch.exp2(torch.randint(-20, 3, (32, 256)).float())).to(BF16)
    assert torch.equal(rounded_to_12_bits(weight), back(weight))
    assert torch.equal(rounded_to_12_bits(weight[:5, :200]), rounded(weight[:5, :200]))
    weight[3, 4] = math.inf
    assert rounded_to_12_bits(weight) is weight


@pytest.mark.parametrize(
    ("output", "i"), [(0, 0), (15, 127), (9, 17), (3, 42), (12, 101), (5, 6), (8, 8), (10, 25)]
)
def test_a_number_stands_at_its_lane_and_word(output: int, i: int) -> None:
    weight = torch.zeros(32, 256, dtype=BF16)
    weight[16 + output, 128 + i] = -1.5 * 2.0**-8
    packed = bf12_of(weight)
    assert packed is not None and packed.factor_O[16 + output] == 2.0**104
    step, k, wanted = i // 16, i % 16, [0] * 768
    register, lane, half = output // 8 + 2 * (k // 8), 4 * (output % 8) + k % 8 // 2, 16 * (k % 2)
    for word, bits in _parts(register, 0x8000 | 15 << 7 | 0x40).items():
        place = 3 * step + word
        wanted[place // 4 * 128 + lane * 4 + place % 4] = bits << half
    words = packed.tiles_YXB.view(torch.int32)
    assert [word & 0xFFFFFFFF for word in words[1, 1].tolist()] == wanted
    assert not words[0].any() and not words[1, 0].any()


def _parts(register: int, number: int) -> dict[int, int]:
    """Return which words take what of a number in a register."""
    if register < 3:
        return {register: number}
    return {
        0: (number & 0x0700) << 3 | (number & 0x8000) >> 1,
        1: (number & 0x00F0) << 7,
        2: (number & 0x000F) << 11,
    }
