"""Activation kernels against the torch table."""

import pytest
import torch

from engines.errors import KernelError
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops.activation import gelu, scaled_add, silu_mul

ULP = {torch.bfloat16: 2**-7, torch.float16: 2**-10, torch.float32: 1e-6}
# 8 and 2056 elements end inside a block of 2,048; the last are InternVL2-8B's.
SMALL = [(torch.bfloat16, 1, 8), (torch.bfloat16, 3, 2056), (torch.float32, 2, 12)]
MODELS = [(torch.bfloat16, 130, 14336), (torch.float16, 1025, 4096)]


def check_both(gpu, dtype: torch.dtype, tokens: int, width: int) -> None:
    x = 3 * torch.randn(tokens, 2 * width, dtype=dtype, device=gpu.device)
    close = {"rtol": 2 * ULP[dtype], "atol": 1e-6}  # a last place of silu, then one of the product
    torch.testing.assert_close(silu_mul(gpu, x), TorchOps().silu_mul(x), **close)
    # 1 + erf cancels for large negative x, where the result is next to nothing.
    torch.testing.assert_close(gelu(gpu, x), TorchOps().gelu(x), rtol=ULP[dtype], atol=1e-5)


@pytest.mark.parametrize(("dtype", "tokens", "width"), SMALL)
def test_activations_equal_the_torch_table(gpu, dtype: torch.dtype, tokens: int, width: int) -> None:
    check_both(gpu, dtype, tokens, width)


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tokens", "width"), MODELS)
def test_activations_equal_the_torch_table_at_model_sizes(
    cuda_gpu, dtype: torch.dtype, tokens: int, width: int
) -> None:
    check_both(cuda_gpu, dtype, tokens, width)


@pytest.mark.parametrize(("dtype", "tokens", "width"), SMALL)
def test_a_scaled_sum_is_rounded_once(gpu, dtype: torch.dtype, tokens: int, width: int) -> None:
    check_scaled_add(gpu, dtype, tokens, width)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "tokens", "width"), [(torch.bfloat16, 1025, 1024), (torch.float16, 13325, 3200)]
)
def test_a_scaled_sum_is_rounded_once_at_model_sizes(
    cuda_gpu, dtype: torch.dtype, tokens: int, width: int
) -> None:
    check_scaled_add(cuda_gpu, dtype, tokens, width)


def check_scaled_add(gpu, dtype: torch.dtype, tokens: int, width: int) -> None:
    residual, y = torch.randn(2, 1, tokens, width, dtype=dtype, device=gpu.device)
    scale = torch.randn(width, dtype=dtype, device=gpu.device)
    wanted = (residual.double() + y.double() * scale.double()).to(dtype)
    got = scaled_add(gpu, residual, y, scale)
    assert got.shape == residual.shape
    # sums of fp32 are rounded before
    torch.testing.assert_close(got, wanted, rtol=ULP[dtype], atol=1e-6)


def test_a_scaled_sum_of_other_shapes_is_refused(gpu) -> None:
    x = torch.ones(2, 16, dtype=torch.bfloat16, device=gpu.device)
    with pytest.raises(KernelError, match=r"`scaled_add`: `scale` is \[8\], not \[16\]"):
        scaled_add(gpu, x, x, x[0, :8].clone())
    with pytest.raises(KernelError, match="rows of 12 elements: they must be a multiple of 8"):
        scaled_add(gpu, *torch.ones(2, 4, 12, dtype=torch.bfloat16, device=gpu.device), x[0, :12].clone())


def test_no_rows_give_no_rows(gpu) -> None:
    assert silu_mul(gpu, torch.empty(0, 16, dtype=torch.bfloat16, device=gpu.device)).shape == (0, 8)


def test_large_negative_gates_give_zero_and_not_nan(gpu) -> None:
    x = torch.tensor([[-200.0] * 8 + [1.0] * 8], dtype=torch.bfloat16, device=gpu.device)
    assert silu_mul(gpu, x).abs().max() == 0


def test_a_width_that_is_no_multiple_of_16_bytes_is_refused(gpu) -> None:
    with pytest.raises(KernelError, match="multiple of 8"):
        silu_mul(gpu, torch.ones(1, 20, dtype=torch.bfloat16, device=gpu.device))
