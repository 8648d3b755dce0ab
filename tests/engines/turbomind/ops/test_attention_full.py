"""Attention inside images against the torch table in fp32."""

import pytest
import torch
from paged_attention import relative_error

from engines.errors import KernelError
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind.ops.attention_full import CUTS, attention_full
from engines.turbomind.ops.flash_shape import FlashShape, flash_shape

TOLERANCE = 4e-3  # probabilities and result rounded to bf16
# images, tokens, heads, head: one token; one past a tile of 64; InternViT-300M and -6B tiles
SMALL = [(1, 1, 1, 64), (2, 65, 2, 64)]
MODELS = [(1, 1025, 16, 64), (13, 1025, 16, 64), (2, 1025, 25, 128), (3, 577, 12, 96)]


def check(gpu, images: int, length: int, heads: int, dim: int, *, shape: FlashShape | None = None) -> None:
    qkv = torch.randn(images, length, 3, heads, dim, dtype=torch.bfloat16, device=gpu.device)
    q, k, v = qkv.unbind(2)
    wanted = TorchOps().attention_full(q.float(), k.float(), v.float(), scale=dim**-0.5)
    assert relative_error(attention_full(gpu, q, k, v, scale=dim**-0.5, shape=shape), wanted) < TOLERANCE


def cut(gpu, dim: int) -> FlashShape:
    return flash_shape(
        CUTS, dim, bytes_per_block=gpu.shared_bytes_per_block, bytes_per_sm=gpu.shared_bytes_per_sm
    )


@pytest.mark.parametrize(("images", "length", "heads", "dim"), SMALL)
def test_full_attention_equals_the_torch_table(gpu, images: int, length: int, heads: int, dim: int) -> None:
    check(gpu, images, length, heads, dim, shape=cut(gpu, dim))


def test_the_kernel_of_the_gpu_is_chosen_where_no_cut_is_given(gpu) -> None:
    check(gpu, 1, 70, 2, 80)


@pytest.mark.gpu
@pytest.mark.parametrize(("images", "length", "heads", "dim"), MODELS)
def test_full_attention_equals_the_torch_table_at_model_sizes(
    cuda_gpu, images: int, length: int, heads: int, dim: int
) -> None:
    check(cuda_gpu, images, length, heads, dim, shape=cut(cuda_gpu, dim))
    check(cuda_gpu, images, length, heads, dim)


def test_images_with_gaps_between_them_are_refused(gpu) -> None:
    q = torch.ones(2, 8, 1, 64, dtype=torch.bfloat16, device=gpu.device)[:, :5]
    with pytest.raises(KernelError, match="must follow each other"):
        attention_full(gpu, q, q, q, scale=1.0)


def test_a_head_size_that_is_no_multiple_of_16_is_refused() -> None:
    with pytest.raises(KernelError, match="heads of 72 elements: multiples of 16"):
        flash_shape(CUTS, 72, bytes_per_block=232448, bytes_per_sm=233472)
