"""Norm kernels against the torch table: same rounding points, so at most two units in the last place apart.

The sum of squares is taken in another order, so the factor of a row may differ in its last fp32 bit. Where a
normed value then falls on the other side of a rounding, it differs by one unit, 2^-10 of it in fp16, and the
product with its weight by the same share, up to two units of its own.
"""

import pytest
import torch

from engines.errors import KernelError
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops.norm import add_rms_norm, layer_norm, layer_norm_cells, num_threads, rms_norm

EPS = 1e-5
ULP = {torch.bfloat16: 2**-7, torch.float16: 2**-10, torch.float32: 4e-7}

# Rows of tokens x hidden. 1032 ends inside a warp; 3200 is InternViT-6B's, 4096 and 1024 are InternVL2-8B's.
SMALL = [
    (torch.bfloat16, 1, 256),
    (torch.bfloat16, 3, 1032),
    (torch.float16, 2, 256),
    (torch.float32, 2, 260),
]
MODELS = [
    (torch.bfloat16, 5, 3200),
    (torch.bfloat16, 300, 4096),
    (torch.float16, 1025, 1024),
    (torch.float32, 7, 6144),
]


def check_all(gpu, dtype: torch.dtype, tokens: int, hidden: int) -> None:
    x, residual = (torch.randn(tokens, hidden, dtype=dtype, device=gpu.device) for _ in range(2))
    weight, bias = (torch.randn(hidden, dtype=dtype, device=gpu.device) for _ in range(2))
    truth, close = TorchOps(), {"rtol": 2 * ULP[dtype], "atol": 1e-6}
    torch.testing.assert_close(rms_norm(gpu, x, weight, EPS), truth.rms_norm(x, weight, EPS), **close)
    for got, wanted in zip(
        add_rms_norm(gpu, x, residual, weight, EPS), truth.add_rms_norm(x, residual, weight, EPS), strict=True
    ):
        torch.testing.assert_close(got, wanted, **close)
    # The sum of a product and a bias cancels: the error is a unit of its larger part.
    torch.testing.assert_close(
        layer_norm(gpu, x, weight, bias, EPS),
        truth.layer_norm(x, weight, bias, EPS),
        rtol=ULP[dtype],
        atol=2 * ULP[dtype],
    )


@pytest.mark.parametrize(("dtype", "tokens", "hidden"), SMALL)
def test_norms_equal_the_torch_table(gpu, dtype: torch.dtype, tokens: int, hidden: int) -> None:
    check_all(gpu, dtype, tokens, hidden)


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tokens", "hidden"), MODELS)
def test_norms_equal_the_torch_table_at_model_sizes(
    cuda_gpu, dtype: torch.dtype, tokens: int, hidden: int
) -> None:
    check_all(cuda_gpu, dtype, tokens, hidden)


def check_cells(gpu, dtype: torch.dtype, shape: tuple[int, int, int], factor: int, by_columns: bool) -> None:
    num, side, hidden = shape
    with_class = torch.randn(num, 1 + side * side, hidden, dtype=dtype, device=gpu.device)
    weight, bias = torch.randn(2, factor**2 * hidden, dtype=dtype, device=gpu.device)
    how = {"factor": factor, "by_columns": by_columns}
    torch.testing.assert_close(
        layer_norm_cells(gpu, with_class[:, 1:], weight, bias, EPS, **how),
        TorchOps().layer_norm_cells(with_class[:, 1:], weight, bias, EPS, **how),
        rtol=ULP[dtype],
        atol=2 * ULP[dtype],
    )


@pytest.mark.parametrize(
    ("dtype", "shape", "factor", "by_columns"),
    [
        (torch.bfloat16, (2, 6, 64), 2, False),
        (torch.bfloat16, (3, 4, 8), 2, True),
        (torch.float16, (1, 6, 24), 3, True),
        (torch.float32, (2, 2, 4), 1, False),
    ],
)
def test_cells_equal_the_torch_table(gpu, dtype: torch.dtype, shape, factor: int, by_columns: bool) -> None:
    check_cells(gpu, dtype, shape, factor, by_columns)


@pytest.mark.gpu
@pytest.mark.parametrize(("tiles", "by_columns"), [(1, False), (8, False), (3, True)])
def test_cells_of_internvl_equal_the_torch_table(cuda_gpu, tiles: int, by_columns: bool) -> None:
    check_cells(cuda_gpu, torch.bfloat16, (tiles, 32, 1024), 2, by_columns)


def test_maps_that_have_no_cells_are_refused(gpu) -> None:
    x = torch.randn(1, 9, 8, dtype=torch.bfloat16, device=gpu.device)
    wide = x.new_ones(32)
    with pytest.raises(KernelError, match=r"maps of 3 x 3 rows of 8 elements have no cells of 2 x 2"):
        layer_norm_cells(gpu, x, wide, wide, EPS, factor=2, by_columns=False)


def test_leading_axes_and_gaps_between_rows_are_taken(gpu) -> None:
    x = torch.randn(2, 3, 512, dtype=torch.bfloat16, device=gpu.device)[..., :256]
    weight = torch.ones(256, dtype=torch.bfloat16, device=gpu.device)
    torch.testing.assert_close(rms_norm(gpu, x, weight, EPS), TorchOps().rms_norm(x, weight, EPS))


def test_no_rows_give_no_rows(gpu) -> None:
    x = torch.empty(0, 256, dtype=torch.bfloat16, device=gpu.device)
    weight = torch.ones(256, dtype=torch.bfloat16, device=gpu.device)
    assert rms_norm(gpu, x, weight, EPS).shape == (0, 256)


def test_all_faults_of_the_operands_are_named_at_once(gpu) -> None:
    x = torch.ones(1, 256, dtype=torch.bfloat16, device=gpu.device)
    with pytest.raises(
        KernelError, match=r"`rms_norm`: `weight` is torch.float32, not .*; `weight` is \[8\], not \[256\]"
    ):
        rms_norm(gpu, x, torch.ones(8, device=gpu.device), EPS)


def test_a_row_that_is_no_multiple_of_16_bytes_is_refused() -> None:
    with pytest.raises(KernelError, match="multiple of 8"):
        num_threads(100, 2)
    assert num_threads(4096, 2) == 512
    assert num_threads(3200, 2) == 416
    assert num_threads(16384, 2) == 1024


def test_rows_that_are_not_aligned_are_refused(gpu) -> None:
    x = torch.ones(257, dtype=torch.bfloat16, device=gpu.device)
    with pytest.raises(KernelError, match=r"`weight` .* starts 2 bytes past a multiple of 16"):
        rms_norm(gpu, x[None, :256], x[1:], EPS)
