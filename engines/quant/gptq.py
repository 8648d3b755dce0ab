"""GPTQ: inputs are rounded one after another, and those still to come make up for the error.

With H the sum of x x^T over the calibration and U the upper Cholesky factor of its inverse, rounding input i
with error e = (w_i - q_i) / U_ii moves the later ones by -e U_i,later. Source: arXiv 2210.17323.

Legend: O outputs, I inputs, G groups.
"""

import torch
from torch import Tensor

from engines.quant.method import Method
from engines.quant.rounding import Codes, group_parameters

BLOCK = 128  # inputs whose errors are passed on at once


def solve(weight_OI: Tensor, gram_II: Tensor, method: Method) -> Codes:
    """Return the codes of a matrix, columns in the order of its inputs."""
    weight_OI, hessian_II = weight_OI.float().clone(), gram_II.clone()
    inputs = weight_OI.shape[1]
    size = method.group_size or inputs
    dead_I = hessian_II.diagonal() == 0
    hessian_II.diagonal()[dead_I] = 1
    order_I = torch.arange(inputs, device=weight_OI.device)
    if method.act_order:
        order_I = torch.argsort(hessian_II.diagonal(), descending=True, stable=True)
    factor_II = _inverse_factor(hessian_II[order_I][:, order_I], method.damping)
    codes_OI, scales, zeros = _round(weight_OI[:, order_I], factor_II, size, symmetric=method.symmetric)
    back_I = torch.argsort(order_I)
    return Codes(
        codes_OI=codes_OI[:, back_I].to(torch.uint8),
        scales_OG=torch.stack(scales, dim=1).half(),
        zeros_OG=torch.stack(zeros, dim=1).to(torch.uint8),
        group_I=back_I // size if method.act_order else None,
    )


def _inverse_factor(hessian_II: Tensor, damping: float) -> Tensor:
    """Return U; damping grows until the matrix has one."""
    for _ in range(8):
        damped_II = hessian_II.clone()
        damped_II.diagonal().add_(damping * float(hessian_II.diagonal().mean()))
        lower_II, failed = torch.linalg.cholesky_ex(damped_II)
        if int(failed) == 0:
            inverse_II = torch.cholesky_inverse(lower_II)
            upper_II: Tensor
            upper_II, failed = torch.linalg.cholesky_ex(inverse_II, upper=True)
            if int(failed) == 0:
                return upper_II
        damping = max(damping, 1e-4) * 4
    raise AssertionError("a matrix with such a diagonal is positive definite")


def _round(
    weight_OI: Tensor, factor_II: Tensor, size: int, *, symmetric: bool
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return codes, and scales and zero points [O] of each group; `weight_OI` is used up."""
    shares_II = (
        factor_II / factor_II.diagonal()[:, None]
    )  # what an error of 1 at one input moves the others by
    codes, scales, zeros = [], list[Tensor](), list[Tensor]()
    for first in range(0, weight_OI.shape[1], BLOCK):
        last = min(first + BLOCK, weight_OI.shape[1])
        block_BO = weight_OI[:, first:last].T.contiguous()
        errors_BO = torch.zeros_like(block_BO)
        for i in range(first, last):
            if i % size == 0:
                # What this block owes to columns behind it is not in the weights yet.
                owed_OS = errors_BO.T @ shares_II[first:last, last : max(i + size, last)]
                later_OS = weight_OI[:, last : max(i + size, last)] - owed_OS
                group_OS = torch.cat([block_BO[i - first : i - first + size].T, later_OS], dim=1)
                scale_O, zero_O = group_parameters(group_OS.amin(1), group_OS.amax(1), symmetric=symmetric)
                scales.append(scale_O)
                zeros.append(zero_O)
            row_O = block_BO[i - first]
            steps_O = (row_O / scales[-1]).round_().clamp_(-zeros[-1], 15 - zeros[-1])
            rounded_O = steps_O.mul_(scales[-1])
            error_O = torch.sub(row_O, rounded_O, out=errors_BO[i - first])
            row_O.copy_(rounded_O)
            block_BO[i - first + 1 :].addr_(shares_II[i, i + 1 : last], error_O, alpha=-1)
        codes.append(_codes_of(block_BO, scales, zeros, first=first, size=size))
        weight_OI[:, last:] -= errors_BO.T @ shares_II[first:last, last:]
    return torch.cat(codes, dim=1), scales, zeros


def _codes_of(
    rounded_BO: Tensor, scales: list[Tensor], zeros: list[Tensor], *, first: int, size: int
) -> Tensor:
    """Return the codes [O, B] of the inputs from `first` on, whose weights are steps of their scales."""
    group_B = torch.arange(first, first + len(rounded_BO), device=rounded_BO.device) // size
    scales_BO, zeros_BO = (torch.stack(parts)[group_B] for parts in (scales, zeros))
    return ((rounded_BO / scales_BO).round() + zeros_BO).T
