"""How far ours is from the reference's, number by number and token by token; what of that holds.

Legend: S steps, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deployer.parity.options import Tolerance


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Between two tensors of one shape."""

    largest: float  # of a single number
    relative: float  # length of the difference by the reference's length
    holds: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Of tokens with the reference's, one after another."""

    equal: int
    ties: int  # other tokens that the number format cannot tell from the reference's
    total: int
    holds: bool


def difference(ours: Tensor, reference: Tensor, tolerance: Tolerance) -> Difference:
    """Compare numbers; other shapes, and numbers that are none, do not hold."""
    if ours.shape != reference.shape:
        return Difference(largest=float("inf"), relative=float("inf"), holds=False)
    found, wanted = ours.double().cpu(), reference.double()
    largest = float((found - wanted).abs().max())
    relative = float((found - wanted).norm() / wanted.norm().clamp_min(1e-30))
    error = relative if tolerance.relative else largest
    return Difference(largest=largest, relative=relative, holds=error <= tolerance.error)


def chosen(logits_SV: Tensor, reference: Sequence[int], tolerance: Tolerance) -> Agreement:
    """Compare the most likely token of each step with the reference's, which the next step is given."""
    tokens = logits_SV.argmax(dim=-1).tolist()
    others = [
        step for step, (token, wanted) in enumerate(zip(tokens, reference, strict=True)) if token != wanted
    ]
    ties = sum(_is_tie(logits_SV[step], (tokens[step], reference[step]), tolerance) for step in others)
    equal = len(reference) - len(others)
    return Agreement(equal=equal, ties=ties, total=len(reference), holds=ties == len(others))


def said(ours: Sequence[int], reference: Sequence[int], logits_SV: Tensor, tolerance: Tolerance) -> Agreement:
    """Compare tokens that were each chosen after the engine's own, up to the first tie.

    `logits_SV` are ours, given the reference's tokens: they tell whether the first other token is a tie. What
    follows a tie is another text and is not compared.
    """
    total, is_whole = len(reference), len(ours) == len(reference)
    for step, (token, wanted) in enumerate(zip(ours, reference, strict=False)):
        if token != wanted:
            tie = _is_tie(logits_SV[step], (token, wanted), tolerance)
            return Agreement(equal=step, ties=int(tie), total=total, holds=is_whole and tie)
    return Agreement(equal=min(len(ours), total), ties=0, total=total, holds=is_whole)


def _is_tie(logits_V: Tensor, tokens: Sequence[int], tolerance: Tolerance) -> bool:
    """Tell whether all tokens are as good as the best within what the number format can tell apart."""
    if tolerance.tie == 0:
        return False
    lead = logits_V.max() - torch.stack([logits_V[token] for token in tokens]).min()
    return bool(lead <= tolerance.tie * logits_V.square().mean().sqrt())
