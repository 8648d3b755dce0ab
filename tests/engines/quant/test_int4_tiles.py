"""Tiles of 4-bit codes: where each code stands, and what they stand for."""

import pytest
import torch

from engines.errors import CheckpointError
from engines.quant.int4_tiles import dequantize, linear_int4, pack_tiles, unpack_tiles


def codes(outputs: int, inputs: int) -> torch.Tensor:
    return torch.randint(0, 16, (outputs, inputs), dtype=torch.uint8)


@pytest.mark.parametrize(("outputs", "inputs"), [(16, 64), (48, 192), (5, 96), (33, 65), (1, 1)])
def test_unpacking_gives_back_what_was_packed(outputs: int, inputs: int) -> None:
    plain = codes(outputs, inputs)
    tiles = pack_tiles(plain)
    assert tiles.shape == (-(-outputs // 16), -(-inputs // 64), 512)
    back = unpack_tiles(tiles)
    assert torch.equal(back[:outputs, :inputs], plain)
    assert not back[outputs:].any() and not back[:, inputs:].any()


def test_a_code_stands_at_its_lane_word_and_nibble() -> None:
    for output, i in ((0, 0), (15, 63), (9, 17), (3, 42)):
        plain = torch.zeros(32, 128, dtype=torch.uint8)
        plain[16 + output, 64 + i] = 11
        words = pack_tiles(plain)[1, 1].view(torch.int32).tolist()
        g, r, block, k = output % 8, output // 8, i // 16, i % 16
        h, c, p = k // 8, k % 8 // 2, k % 2
        lane, nibble = 4 * g + c, 4 * p + 2 * h + r
        assert words[4 * lane + block] & 0xFFFFFFFF == 11 << 4 * nibble
        assert sum(word != 0 for word in words) == 1


def test_dequantizing_is_exact_before_the_one_rounding() -> None:
    plain, scales = codes(10, 96), torch.rand(3, 10).half()
    zeros = torch.randint(0, 17, (3, 10), dtype=torch.uint8)
    layer = linear_int4(plain, scales_GO=scales, zeros_GO=zeros)
    wide = (plain.double() - zeros.double().T.repeat_interleave(32, 1)) * scales.double().T.repeat_interleave(
        32, 1
    )
    assert layer.group_size == 32
    assert torch.equal(dequantize(layer, torch.float32).double(), wide)  # 5 bits x 11 bits fit into 24
    assert torch.equal(dequantize(layer, torch.bfloat16), wide.to(torch.bfloat16))


def test_groups_that_do_not_divide_the_inputs_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"groups must divide 100"):
        linear_int4(
            codes(8, 100), scales_GO=torch.ones(3, 8).half(), zeros_GO=torch.zeros(3, 8, dtype=torch.uint8)
        )


def test_zeros_of_another_shape_than_the_scales_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"zeros \[1, 8\].* must be \[2, 8\]"):
        linear_int4(
            codes(8, 128), scales_GO=torch.ones(2, 8).half(), zeros_GO=torch.zeros(1, 8, dtype=torch.uint8)
        )
