"""Which pages of quantized rows our kernels take: what is said before a start is what their launchers say."""

from dataclasses import dataclass

import pytest
import torch

from engines.errors import KernelError
from engines.memory.kv_bytes import head_dim_rule, num_scales, row_bytes
from engines.memory.kv_layer import KvLayer, scale_dtype
from engines.options import KvFormat
from engines.turbomind.noting_gpu import META, NotingGpu
from engines.turbomind.ops.attention_decode import attention_decode

FORMATS: tuple[KvFormat, ...] = ("bf12", "fp8", "int8", "int4")


@dataclass(frozen=True)
class H200:
    arch: str = "sm_90a"
    capability: tuple[int, int] = (9, 0)
    num_sms: int = 132
    shared_bytes_per_block: int = 232448
    shared_bytes_per_sm: int = 233472


def is_refused(head_dim: int, form: KvFormat) -> bool:
    """Whether decode attention takes no such pages."""

    def empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(*shape, dtype=dtype, device=META)

    row, scales = row_bytes(head_dim, form, dtype_bytes=2), num_scales(form)
    codes = empty(2, 1, 16, row, dtype=torch.uint8)
    parameters = empty(2, 1, 16, scales, dtype=scale_dtype(form))
    layer = KvLayer(
        keys_PKTD=codes,
        values_PKTD=codes,
        format=form,
        key_scales_PKTS=parameters,
        value_scales_PKTS=parameters,
    )
    q, pages, lens = (
        empty(1, 2, head_dim, dtype=torch.bfloat16),
        empty(1, 1, dtype=torch.int32),
        empty(1, dtype=torch.int32),
    )
    try:
        attention_decode(NotingGpu(H200(), lambda _: None), q, layer, pages, lens, scale=1.0, window=None)
    except KernelError:
        return True
    return False


@pytest.mark.parametrize(
    ("head_dim", "refused"),
    [
        (32, ["int4"]),
        (64, []),
        (80, ["bf12", "fp8", "int8", "int4"]),
        (96, ["int4"]),
        (128, []),
        (160, ["int4"]),
        (256, []),
    ],
)
def test_heads_that_our_kernels_refuse_are_refused_before_a_start(head_dim: int, refused: list[str]) -> None:
    assert [form for form in FORMATS if head_dim_rule(head_dim, form, kind="turbomind")] == refused
    assert [form for form in FORMATS if is_refused(head_dim, form)] == refused
