"""Launches `kernels/rope_tables.cu`."""

import torch
from torch import Tensor

from engines.decoder.rope import Rope
from engines.turbomind.gpu import Gpu
from engines.turbomind.operands import check

_THREADS = 256
_KINDS = {"default": 0, "linear": 0, "llama3": 0, "longrope": 1, "dynamic": 2, "dynamic_steps": 3}


def rope_tables(gpu: Gpu, rope: Rope, positions_T: Tensor, rope_lens_T: Tensor) -> tuple[Tensor, Tensor]:
    """Return cos and sin, fp32 [T, R], of positions of one axis."""
    num_tokens, spec = len(positions_T), rope.spec
    check(
        gpu,
        "rope_tables",
        positions=(positions_T, torch.int64, (num_tokens,)),
        rope_lens=(rope_lens_T, torch.int64, (num_tokens,)),
    )
    kind, rotary = _KINDS[spec.kind], len(rope.inverse_R)
    tables = torch.empty(2, num_tokens, rotary, dtype=torch.float32, device=positions_T.device)
    cos_TR, sin_TR = tables
    if num_tokens:
        constants = (("ROTARY", rotary), ("KIND", kind))
        kernel = gpu.kernel("rope_tables.cu", "rope_tables", constants, "PPPPPPiqffff", threads=_THREADS)
        inputs = (positions_T, rope_lens_T, rope.exponents_R if kind >= 2 else rope.inverse_R)
        kernel(
            gpu.stream(),
            (-(-num_tokens * rotary // _THREADS), 1),
            *(x.data_ptr() for x in (*inputs, rope.long_inverse_R, cos_TR, sin_TR)),
            num_tokens,
            spec.original_max_positions if spec.kind == "longrope" else spec.max_positions,
            spec.theta,
            spec.factor,
            rope.power,
            spec.attention_factor,
        )
    return cos_TR, sin_TR
