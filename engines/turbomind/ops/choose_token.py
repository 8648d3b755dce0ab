"""Launches `kernels/choose_token.cu`."""

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.sampling.choice_rows import CHOICE_WORDS
from engines.turbomind.gpu import Gpu
from engines.turbomind.operands import check, scalar_name

_THREADS = 512


def choose_token(
    gpu: Gpu, logits_SV: Tensor, choices_SC: Tensor, *, seen_NV: Tensor, outputs_NV: Tensor
) -> Tensor:
    """Return the next token of each row, int64 [S]; the vocabulary's size for a row with a NaN.

    `choices_SC` has an `engines.sampling.choice_rows.CHOICE` for each row: one of temperature 0 takes its
    largest logit, any other is drawn with the noise of its key from what its cuts leave. A penalized one
    names its row of the tables. Rows of logits may be apart.
    """
    num_rows, vocab = logits_SV.shape
    check(
        gpu,
        "choose_token",
        logits=(logits_SV, logits_SV.dtype, (num_rows, vocab)),
        choices=(choices_SC, torch.int64, (num_rows, CHOICE_WORDS)),
        seen=(seen_NV, torch.bool, (len(seen_NV), vocab)),
        outputs=(outputs_NV, torch.int32, (len(seen_NV), vocab)),
    )
    if not all(x.is_contiguous() for x in (choices_SC, seen_NV, outputs_NV)):
        raise KernelError("`choose_token`: choices and tables must be contiguous")
    ids_S = torch.empty(num_rows, dtype=torch.int64, device=logits_SV.device)
    if num_rows:
        constants = (("SCALAR", scalar_name("choose_token", logits_SV)),)
        kernel = gpu.kernel("choose_token.cu", "choose_token", constants, "PPPPPiq", threads=_THREADS)
        operands = (logits_SV, choices_SC, seen_NV, outputs_NV, ids_S)
        kernel(gpu.stream(), (num_rows, 1), *(x.data_ptr() for x in operands), vocab, logits_SV.stride(0))
    return ids_S
