"""Layer norm of narrow and wide rows against the torch table: at most a unit in the last place apart.

fp32 has a few units more: it is summed in another order, and nothing rounds that away.
"""

import pytest
import torch

from engines.errors import KernelError
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops.layer_norm import layer_norm

EPS = 1e-5
ULP = {torch.bfloat16: 2**-7, torch.float16: 2**-10, torch.float32: 1e-6}


def check(gpu, dtype: torch.dtype, tokens: int, hidden: int) -> None:
    x, weight, bias = (
        torch.randn(*shape, dtype=dtype, device=gpu.device)
        for shape in ((tokens, hidden), (hidden,), (hidden,))
    )
    # The sum of a product and a bias cancels: the error is a unit of its larger part.
    torch.testing.assert_close(
        layer_norm(gpu, x + 3, weight, bias, EPS),
        TorchOps().layer_norm(x + 3, weight, bias, EPS),
        rtol=ULP[dtype],
        atol=2 * ULP[dtype],
    )


@pytest.mark.parametrize(
    ("dtype", "tokens", "hidden"),
    [
        (torch.bfloat16, 1, 8),  # one piece
        (torch.bfloat16, 9, 264),  # ends inside a warp; a row past a block
        (torch.bfloat16, 80, 256),  # more rows than the blocks that stay have warps
        (torch.float16, 3, 2048),  # the widest of a warp
        (torch.bfloat16, 3, 2056),  # a block's
        (torch.float32, 2, 260),
    ],
)
def test_rows_of_any_width_equal_the_torch_table(gpu, dtype: torch.dtype, tokens: int, hidden: int) -> None:
    check(gpu, dtype, tokens, hidden)


@pytest.mark.gpu
@pytest.mark.parametrize(("tokens", "hidden"), [(1025, 1024), (8 * 1025, 1024), (577, 1408), (300, 4096)])
def test_rows_of_towers_equal_the_torch_table(cuda_gpu, tokens: int, hidden: int) -> None:
    check(cuda_gpu, torch.bfloat16, tokens, hidden)


def test_no_rows_give_no_rows(gpu) -> None:
    ones = torch.ones(256, dtype=torch.bfloat16, device=gpu.device)
    assert layer_norm(gpu, ones.new_empty(0, 3, 256), ones, ones, EPS).shape == (0, 3, 256)


def test_faults_of_the_operands_are_named(gpu) -> None:
    x = torch.ones(1, 256, dtype=torch.bfloat16, device=gpu.device)
    with pytest.raises(KernelError, match=r"`layer_norm`: `bias` is \[8\], not \[256\]"):
        layer_norm(gpu, x, x[0], x[0, :8], EPS)
