"""e4m3 matrices in 7 bits: what is kept to the bit, what is rounded, and where a number stands in a tile."""

import pytest
import torch
from torch import Tensor

from engines.quant import fp7_tiles
from engines.quant.fp7_shape import fp7_bytes, takes_shape
from engines.quant.fp7_tiles import CARRIED, fp7_of, weight_of
from engines.quant.fp7_tiles import rounded as rounded_to_7_bits

E4M3 = torch.float8_e4m3fn


def codes_like(bits: Tensor) -> Tensor:
    return bits.to(torch.uint8).view(E4M3)


def gaussian(outputs: int, inputs: int) -> Tensor:
    weight = torch.randn(outputs, inputs)
    return (weight * (448 / weight.abs().amax(dim=1, keepdim=True))).to(E4M3)


def back(codes_OI: Tensor) -> Tensor:
    """Return what the packed matrix stands for with scales of 1, fp32."""
    outputs, inputs = codes_OI.shape
    packed = fp7_of(codes_OI, torch.ones(outputs))
    assert packed is not None
    assert packed.tiles_YXB.shape == (inputs // 256, outputs // 16, 3584)
    assert packed.tiles_YXB.nbytes + packed.scale_O.nbytes == fp7_bytes(outputs, inputs)
    return weight_of(packed)


def rounded(codes_OI: Tensor) -> Tensor:
    """Return what the format promises, by arithmetic on fp32 instead of bits."""
    codes = codes_OI.float()
    top_O1 = torch.exp2(torch.floor(torch.log2(codes.abs().amax(dim=1, keepdim=True).clamp_(min=2.0**-6))))
    step_O1 = (top_O1 * 2.0**-9).clamp(min=2.0**-9)  # e4m3's own smallest number
    exact = codes.abs() >= top_O1 * 2.0**-6
    return torch.where(exact, codes, torch.round(codes / step_O1) * step_O1)


@pytest.mark.parametrize(("outputs", "inputs"), [(16, 256), (48, 768), (176, 512)])
def test_few_codes_of_gaussian_rows_are_rounded_and_by_little(outputs: int, inputs: int) -> None:
    codes = gaussian(outputs, inputs)
    got = back(codes)
    assert torch.equal(got, rounded(codes))
    assert (got == codes.float()).double().mean() > 0.95
    assert ((got - codes.float()).norm() / codes.float().norm()) < 5e-4  # e4m3 itself errs by 2.6e-2


@pytest.mark.parametrize("exponent", range(16))
def test_all_codes_beside_a_larger_one_are_exact_or_rounded_to_the_nearest_multiple(exponent: int) -> None:
    largest = min((exponent << 3) + 7, 0x7E)
    bits = (torch.arange(16 * 256).view(16, 256) * 7 + torch.arange(16)[:, None]) % (largest + 1)
    bits[:, 0] = largest
    bits[1::2] |= 0x80
    codes = codes_like(bits)
    got = back(codes)
    assert torch.equal(got.view(torch.int32), rounded(codes).view(torch.int32))  # signs of zero too
    if exponent <= 7:
        assert torch.equal(got, codes.float())


def test_rows_of_one_exponent_zeros_and_subnormals_come_back_to_the_bit() -> None:
    codes = torch.zeros(16, 256).to(E4M3)
    codes[1] = -0.0
    codes[2] = codes_like(torch.arange(256) % 8)
    codes[3] = codes_like(torch.arange(256) % 7 + 0x78)  # up to 448
    codes[4] = codes_like(torch.arange(256) % 8 + 0xC0)
    assert torch.equal(back(codes).view(torch.int32), codes.float().view(torch.int32))


@pytest.mark.parametrize("nan", [0x7F, 0xFF])
def test_a_matrix_with_nan_is_left_as_it_is(nan: int) -> None:
    codes = gaussian(32, 256)
    codes.view(torch.uint8)[17, 99] = nan
    assert fp7_of(codes, torch.ones(32)) is None
    assert rounded_to_7_bits(codes) is codes


def test_scales_take_the_rows_power_of_two_and_stay_finite() -> None:
    codes = gaussian(16, 256)
    scale = torch.rand(16) / 64
    packed = fp7_of(codes, scale)
    assert packed is not None and torch.equal(packed.scale_O, scale * 256)
    assert torch.equal(weight_of(packed), rounded(codes) * scale[:, None])
    scale[3] = 3e38
    assert fp7_of(codes, scale) is None


def test_only_whole_tiles_of_e4m3_are_packed() -> None:
    assert takes_shape(16, 256) and not takes_shape(24, 256) and not takes_shape(16, 384)
    for codes in (
        gaussian(24, 256),
        gaussian(16, 384),
        torch.zeros(0, 256).to(E4M3),
        torch.zeros(16, 256),
        torch.zeros(16, 256, dtype=torch.int8),
        torch.zeros(4096).to(E4M3),
    ):
        assert fp7_of(codes, torch.ones(len(codes))) is None


def test_a_matrix_is_packed_alike_in_one_stretch_and_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, scale = gaussian(112, 512), torch.rand(112)
    whole = fp7_of(codes, scale)
    monkeypatch.setattr(fp7_tiles, "_NUMBERS_AT_ONCE", 32 * 512)
    parts = fp7_of(codes, scale)
    strided = fp7_of(torch.cat([codes.view(torch.uint8)] * 2, dim=1).view(E4M3)[:, :512], scale)
    assert whole is not None and parts is not None and strided is not None
    for other in (parts, strided):
        assert torch.equal(other.tiles_YXB, whole.tiles_YXB)
        assert torch.equal(other.scale_O, whole.scale_O)


def test_rounding_alone_gives_what_tiles_give_back_and_takes_any_shape() -> None:
    codes = gaussian(32, 256)
    assert torch.equal(rounded_to_7_bits(codes).float(), back(codes))
    assert torch.equal(rounded_to_7_bits(codes[:5, :200]).float(), rounded(codes[:5, :200]))


@pytest.mark.parametrize(
    ("output", "i"), [(0, 0), (15, 255), (9, 17), (3, 42), (12, 121), (5, 6), (8, 60), (10, 187), (9, 52)]
)
def test_a_number_stands_at_its_lane_and_word(output: int, i: int) -> None:
    codes = torch.zeros(32, 512).to(E4M3)
    codes[16 + output, 256 + i] = -1.625  # 0xbd
    packed = fp7_of(codes, torch.ones(32))
    assert packed is not None and packed.scale_O.tolist() == [1.0] * 32
    step, k, wanted = i // 32, i % 32, [0] * 896
    lane = 4 * (output % 8) + k % 16 // 4
    register = 4 * (step % 2) + 2 * (k // 16) + output // 8
    number, parts = 0xBD, {}
    if register < 7:
        parts[register] = number
    else:
        parts = {word: (number >> bit & 1) << 6 for word, bit in enumerate(CARRIED)}
    for word, byte in parts.items():
        place = 7 * (step // 2) + word
        wanted[place // 4 * 128 + lane * 4 + place % 4] = byte << 8 * (k % 4)
    words = packed.tiles_YXB.view(torch.int32)
    assert [word & 0xFFFFFFFF for word in words[1, 1].tolist()] == wanted
    assert not words[0].any() and not words[1, 0].any()
