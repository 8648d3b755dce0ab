"""Rows of a tower's first product: of bytes the same bits as the torch table's."""

import pytest
import torch

from engines.errors import KernelError
from engines.ops import BytePixels, PatchLayout
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops import patch_rows
from engines.turbomind.ops_table import TurbomindOps
from engines.vision.passes import Normaliser

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
MEAN, STD = (0.481, 0.457, 0.408), (0.268, 0.261, 0.275)


def pictures(device: torch.device, dtype: torch.dtype, *shape: int) -> BytePixels:
    pixels = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, device=device)
    later = Normaliser(MEAN, STD, device=device, dtype=dtype).later(pixels)
    assert isinstance(later, BytePixels)
    return later


@pytest.mark.parametrize(
    ("dtype", "shape", "patch", "has_class"),
    [
        (BF16, (2, 42, 56), 14, True),  # 588 numbers end inside a piece
        (BF16, (3, 28, 14), 14, False),  # a patch beside no other
        (FP16, (2, 32, 64), 16, True),
        (FP32, (1, 16, 520), 4, False),  # more patches than threads
        (FP32, (1, 2, 2), 2, True),
    ],
)
def test_rows_are_the_torch_tables_to_the_bit(
    gpu, dtype: torch.dtype, shape: tuple[int, ...], patch: int, has_class: bool
) -> None:
    pixels, layout = pictures(gpu.device, dtype, *shape), PatchLayout(patch=patch, has_class=has_class)
    assert patch_rows.takes(pixels, gpu, layout)
    assert torch.equal(TurbomindOps(gpu).patch_rows(pixels, layout), TorchOps().patch_rows(pixels, layout))


def test_normalised_numbers_and_lines_too_long_for_a_block_are_torchs(gpu) -> None:
    layout = PatchLayout(patch=2, has_class=False)
    pixels = pictures(gpu.device, BF16, 1, 2, 40_000)
    assert not patch_rows.takes(pixels, gpu, layout)
    numbers = torch.randn(1, 4, 4, 3, dtype=BF16, device=gpu.device)
    assert not patch_rows.takes(numbers, gpu, layout)
    rows = TurbomindOps(gpu).patch_rows(numbers, layout)
    assert torch.equal(rows[0, 1, :12].view(3, 2, 2), numbers[0, :2, 2:].permute(2, 0, 1))


@pytest.mark.parametrize("shape", [(2, 32, 28), (1, 28, 34), (2, 30, 30)])
def test_pixels_behind_the_last_whole_patch_are_left_out_as_by_a_convolution(
    gpu, shape: tuple[int, ...]
) -> None:
    pixels, layout = pictures(gpu.device, FP32, *shape), PatchLayout(patch=14, has_class=False)
    assert not patch_rows.takes(pixels, gpu, layout)
    rows_ILW = TurbomindOps(gpu).patch_rows(pixels, layout)
    weight = torch.randn(8, 3, 14, 14, device=gpu.device)
    wanted = torch.nn.functional.conv2d(pixels.numbers().permute(0, 3, 1, 2), weight, stride=14)
    got = rows_ILW[..., : layout.num_pixels] @ weight.flatten(1).T
    torch.testing.assert_close(got, wanted.flatten(2).transpose(1, 2), rtol=1e-3, atol=1e-3)


def test_faults_of_the_operands_are_named(gpu) -> None:
    pixels = pictures(gpu.device, BF16, 1, 4, 4)
    numbers = BytePixels(bytes_ISSC=pixels.bytes_ISSC, numbers_C256=pixels.numbers_C256[:, :128].contiguous())
    with pytest.raises(KernelError, match=r"`patch_rows`: `numbers` is \[3, 128\], not \[3, 256\]"):
        patch_rows.patch_rows(gpu, numbers, PatchLayout(patch=2, has_class=False))


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("tiles", "side", "patch", "has_class"),
    [(1, 448, 14, True), (8, 448, 14, True), (5, 336, 14, True), (2, 1024, 16, False)],
)
def test_rows_of_towers_are_the_torch_tables_on_a_gpu(
    cuda_gpu, tiles: int, side: int, patch: int, has_class: bool
) -> None:
    pixels, layout = (
        pictures(cuda_gpu.device, BF16, tiles, side, side),
        PatchLayout(patch=patch, has_class=has_class),
    )
    assert torch.equal(
        TurbomindOps(cuda_gpu).patch_rows(pixels, layout), TorchOps().patch_rows(pixels, layout)
    )
