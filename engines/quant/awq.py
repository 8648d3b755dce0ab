"""AWQ: inputs that carry much are scaled up before rounding.

    y = (x / s) (W s)^T     s = mean|x|^r / mean|w|^(1 - r) or mean|x|^r, normalized; r searched from 0 to 1

The error of a candidate is that of the layer's output over the calibration, |X (Q(W s) / s - W)^T|^2, which
the sum of x x^T gives exactly: D H D^T for each output. Source: arXiv 2306.00978.

The paper's second search, which draws in the ends of groups, is not here: what was scaled is rounded by
`gptq.solve`, whose errors are half as large as those of clipped groups (docs/quantization.md has figures).

Legend: O outputs, I inputs, G groups, S inputs of a group.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from engines.quant.rounding import round_groups

NUM_RATIOS = 20


def search_scale(
    weight_OI: Tensor, gram_II: Tensor, mean_I: Tensor, *, group_size: int, shared: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the scales [I] with the least error; all ones where nothing is better.

    `shared` maps means of the inputs to what a layer before can undo, as one scale for all query heads that
    read the same value head.
    """
    size_I = _mean_share(weight_OI, group_size)
    best_s, best = torch.ones_like(mean_I), output_error(weight_OI, _rounded(weight_OI, group_size), gram_II)
    mean_I, size_I = shared(mean_I).clamp(min=1e-6), shared(size_I).clamp(min=1e-6)
    for step in range(1, NUM_RATIOS + 1):
        ratio = step / NUM_RATIOS
        for scale_I in (mean_I**ratio, mean_I**ratio / size_I ** (1 - ratio)):
            scale_I = scale_I.clamp(min=1e-4)
            scale_I = scale_I / (scale_I.max() * scale_I.min()).sqrt()
            error = output_error(weight_OI, _rounded(weight_OI * scale_I, group_size) / scale_I, gram_II)
            if error < best:
                best_s, best = scale_I, error
    return best_s


def output_error(weight_OI: Tensor, other_OI: Tensor, gram_II: Tensor) -> float:
    """Return the squared error of the outputs over the rows that make up the Gram matrix."""
    moved_OI = other_OI - weight_OI
    return float(((moved_OI @ gram_II) * moved_OI).sum())


def _rounded(weight_OI: Tensor, group_size: int) -> Tensor:
    return round_groups(weight_OI, group_size).dequantized()


def _mean_share(weight_OI: Tensor, group_size: int) -> Tensor:
    """Return the mean size of each input's weights as a share of the largest in their group."""
    weight_OGS = weight_OI.abs().reshape(len(weight_OI), -1, group_size)
    share = weight_OGS / weight_OGS.amax(-1, keepdim=True).clamp(min=1e-9)
    return share.mean(0).flatten()
