"""Muon: momentum whose update of each matrix is orthogonalised, for the weight matrices of the layers.

Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024 (quintic Newton-Schulz,
Nesterov momentum); Liu et al., "Muon is scalable for LLM training", 2025, arXiv:2502.16982 (the factor that
gives an update the size of AdamW's, decoupled weight decay). Matrices of one shape are updated together.

Legend: G matrices of one shape, M rows, N columns.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

_MOMENTUM = 0.95
_STEPS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon:
    """The optimiser of a list of matrices; `step` reads their `grad`."""

    def __init__(self, matrices: Sequence[Tensor], *, weight_decay: float) -> None:
        shapes: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for matrix in matrices:
            assert matrix.ndim == 2, "only matrices can be orthogonalised"
            shapes[tuple(matrix.shape)].append(matrix)
        self._groups = list(shapes.values())
        self._momenta = [torch.zeros_like(torch.stack(group), requires_grad=False) for group in self._groups]
        self._weight_decay = weight_decay

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update all matrices in place."""
        for group, momentum_GMN in zip(self._groups, self._momenta, strict=True):
            grads = [matrix.grad for matrix in group]
            grad_GMN = torch.stack([grad for grad in grads if grad is not None])
            assert len(grad_GMN) == len(group), "every matrix takes part in every step"
            momentum_GMN.lerp_(grad_GMN, 1 - _MOMENTUM)
            update_GMN = orthogonalised(grad_GMN.lerp(momentum_GMN, _MOMENTUM)).to(momentum_GMN.dtype)
            scale = 0.2 * max(update_GMN.shape[1:]) ** 0.5
            torch._foreach_mul_(group, 1 - rate * self._weight_decay)
            torch._foreach_add_(group, list(update_GMN.unbind()), alpha=-rate * scale)


def orthogonalised(update_GMN: Tensor) -> Tensor:
    """Return U V^T of each matrix U S V^T, roughly: singular values come out between 0.7 and 1.2."""
    a, b, c = _QUINTIC
    x: Tensor = update_GMN.to(torch.bfloat16)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
