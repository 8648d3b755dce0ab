"""SmoothQuant: outliers of activations are moved into the weights, where each output has its own scale.

    y = (x / s) (W s)^T     s = max|x|^a / max|w|^(1 - a)

The migration strength a is searched for each layer: the least error of the output with both sides rounded to
int8, over some rows of the calibration. Source: arXiv 2211.10438.

Legend: R rows, O outputs, I inputs.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from engines.quant.rounding import round_outputs

STRENGTHS = tuple(step / 20 for step in range(4, 20))


def search_migration(
    weight_OI: Tensor, rows_RI: Tensor, largest_I: Tensor, *, shared: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the scales [I] with the least error; all ones where nothing is better."""
    wanted_RO = rows_RI @ weight_OI.T
    largest_I = shared(largest_I).clamp(min=1e-5)
    weights_I = shared(weight_OI.abs().amax(0)).clamp(min=1e-5)
    best_s = torch.ones_like(largest_I)
    best = _error(weight_OI, rows_RI, wanted_RO)
    for strength in STRENGTHS:
        scale_I = (largest_I**strength / weights_I ** (1 - strength)).clamp(min=1e-4)
        scale_I = scale_I / (scale_I.max() * scale_I.min()).sqrt()
        error = _error(weight_OI * scale_I, rows_RI / scale_I, wanted_RO)
        if error < best:
            best_s, best = scale_I, error
    return best_s


def _error(weight_OI: Tensor, rows_RI: Tensor, wanted_RO: Tensor) -> float:
    rows, weight = round_outputs(rows_RI, "int8"), round_outputs(weight_OI, "int8")
    return float((rows.dequantized() @ weight.dequantized().T - wanted_RO).square().sum())
