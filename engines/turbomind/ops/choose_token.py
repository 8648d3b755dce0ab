"""Launches `kernels/choose_token.cu`."""

import torch
from torch import Tensor

from engines.errors import KernelError
from engines.turbomind.gpu import Gpu
from engines.turbomind.operands import check

_THREADS = 1024


def choose_token(
    gpu: Gpu, logits_SV: Tensor, temperature_S: Tensor, cut_S: Tensor, keys_S2: Tensor
) -> Tensor:
    """Return the next token of each row, int64 [S]; the vocabulary's size for a row with a NaN.

    A row of temperature 0 takes its largest logit. Any other is drawn, with the noise of its key, from the
    tokens whose (logit - largest) / temperature is at least its cut.
    """
    num_rows, vocab = logits_SV.shape
    check(
        gpu,
        "choose_token",
        logits=(logits_SV, torch.float32, (num_rows, vocab)),
        temperature=(temperature_S, torch.float32, (num_rows,)),
        cut=(cut_S, torch.float32, (num_rows,)),
        keys=(keys_S2, torch.int64, (num_rows, 2)),
    )
    if not (logits_SV.is_contiguous() and keys_S2.is_contiguous()):
        raise KernelError("`choose_token`: logits and keys must be contiguous")
    ids_S = torch.empty(num_rows, dtype=torch.int64, device=logits_SV.device)
    if num_rows:
        kernel = gpu.kernel("choose_token.cu", "choose_token", (), "PPPPPi", threads=_THREADS)
        operands = (logits_SV, temperature_S, cut_S, keys_S2, ids_S)
        kernel(gpu.stream(), (num_rows, 1), *(x.data_ptr() for x in operands), vocab)
    return ids_S
