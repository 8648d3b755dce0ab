"""GPTQ: inputs are rounded one after another, and those still to come make up for the error.

With H the sum of x x^T over the calibration and U the upper Cholesky factor of its inverse, rounding input i
with error e = (w_i - q_i) / U_ii moves the later ones by -e U_i,later. Source: arXiv 2210.17323.

Legend: O outputs, I inputs, G groups.
"""

import torch
from torch import Tensor

from engines.quant.method import Method
from engines.quant.rounding import Codes, group_parameters, nearest

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
    codes_OI = torch.zeros_like(weight_OI)
    scales: list[Tensor] = []
    zeros: list[Tensor] = []
    for first in range(0, weight_OI.shape[1], BLOCK):
        last = min(first + BLOCK, weight_OI.shape[1])
        errors_OB = torch.zeros_like(weight_OI[:, first:last])
        for i in range(first, last):
            if i % size == 0:
                # What this block owes to columns behind it is not in the weights yet.
                group_OS = weight_OI[:, i : i + size].clone()
                group_OS[:, last - i :] -= errors_OB @ factor_II[first:last, last : max(i + size, last)]
                scale_O, zero_O = group_parameters(group_OS.amin(1), group_OS.amax(1), symmetric=symmetric)
                scales.append(scale_O)
                zeros.append(zero_O)
            codes_OI[:, i] = nearest(weight_OI[:, i], scales[-1], zeros[-1])
            error_O = (weight_OI[:, i] - (codes_OI[:, i] - zeros[-1]) * scales[-1]) / factor_II[i, i]
            weight_OI[:, i:last] -= error_O[:, None] * factor_II[i, i:last]
            errors_OB[:, i - first] = error_O
        weight_OI[:, last:] -= errors_OB @ factor_II[first:last, last:]
    return codes_OI, scales, zeros
