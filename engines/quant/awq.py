"""AWQ: inputs that carry much are scaled up before rounding, and the ends of groups are drawn in.

    y = (x / s) (W s)^T     s = mean|x|^r / mean|w|^(1 - r) or mean|x|^r, normalized; r searched from 0 to 1

The error of a candidate is that of the layer's output over the calibration, |X (Q(W s) / s - W)^T|^2, which
the sum of x x^T gives exactly: D H D^T for each output. Source: arXiv 2306.00978.

Legend: O outputs, I inputs, G groups, S inputs of a group.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from engines.quant.rounding import round_groups

NUM_RATIOS = 20
CLIP_STEPS = 10  # of 1/20 each
ROWS_AT_ONCE = 2048


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


def search_clip(weight_OI: Tensor, gram_II: Tensor, *, group_size: int) -> Tensor:
    """Return for each output and group by how much its ends are drawn in, [O, G], 1 for not at all."""
    outputs, inputs = weight_OI.shape
    groups = inputs // group_size
    blocks = gram_II.view(groups, group_size, groups, group_size)
    gram_GSS = blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    clips = []
    for start in range(0, outputs, ROWS_AT_ONCE):
        part_OI = weight_OI[start : start + ROWS_AT_ONCE]
        best_OG = part_OI.new_full((len(part_OI), groups), torch.inf)
        clip_OG = part_OI.new_ones((len(part_OI), groups))
        for step in range(CLIP_STEPS):
            trial_OG = torch.full_like(clip_OG, 1 - step / 20)
            moved = round_groups(part_OI, group_size, trial_OG).dequantized() - part_OI
            moved_GOS = moved.view(len(part_OI), groups, group_size).transpose(0, 1)
            error_OG = (torch.bmm(moved_GOS, gram_GSS) * moved_GOS).sum(-1).T
            better = error_OG < best_OG
            best_OG, clip_OG = torch.where(better, error_OG, best_OG), torch.where(better, trial_OG, clip_OG)
        clips.append(clip_OG)
    return torch.cat(clips)


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
