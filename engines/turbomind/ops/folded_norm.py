"""What `kernels/device/folded_norm.cuh` asks of a launcher: a norm between two products as a part of both.

Legend: T rows, H outputs of the one product and inputs of the other, P parts of a row's squares.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.operands import check
from engines.turbomind.ops.two_rings_cut import GROUP_OUTPUTS, ROWS, TwoRingsCut

_LETTERS = "PPPPf"  # residual, the norm's weight, h, squares, eps
_PARTS_TOGETHER = 4  # a copy is 16 bytes
_ROWS_TOGETHER = 2 * 4  # whose parts lie in shared memory: two warps', four each
_MOST_OWN = 2 * GROUP_OUTPUTS  # outputs that a block writes of the first product
_ALIGNMENT = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Added:
    """The end of the first product, y: it writes h = residual + y and its squares, and returns h * weight."""

    residual_TH: Tensor
    weight_H: Tensor
    h_TH: Tensor
    squares_TP: Tensor  # fp32


@dataclass(frozen=True, kw_only=True, slots=True)
class Normed:
    """The end of the second, which scales each row by 1 / sqrt(mean of squares + eps)."""

    squares_TP: Tensor
    eps: float


def added(residual_TH: Tensor, weight_H: Tensor, parts: int) -> Added:
    """Return the end of a product that leaves squares in so many parts."""
    squares_TP = torch.empty(len(residual_TH), parts, dtype=torch.float32, device=residual_TH.device)
    return Added(
        residual_TH=residual_TH, weight_H=weight_H, h_TH=torch.empty_like(residual_TH), squares_TP=squares_TP
    )


def parts_of(cut: TwoRingsCut, outputs: int) -> int | None:
    """Return in how many parts a product leaves the squares of a row, or None where it cannot."""
    own = cut.width // cut.cluster
    whole_rows_a_warp = cut.groups in (1, 2) and not cut.gated
    return whole_parts(outputs, own=own) if whole_rows_a_warp else None


def whole_parts(outputs: int, *, own: int) -> int | None:
    """Return how many blocks of `own` outputs there are, or None where they are not whole or no fours."""
    parts, rest = divmod(outputs, own)
    return None if rest or parts % _PARTS_TOGETHER else parts


def kept_bytes(parts: int | None) -> int:
    """Return what a norm takes of shared memory: scales of rows of so many parts; None: a block's weights."""
    if parts is None:
        return 2 * _MOST_OWN + _ALIGNMENT
    return 4 * (_ROWS_TOGETHER * (parts + _PARTS_TOGETHER) + ROWS[-1]) + _ALIGNMENT


def kept_bytes_of(norm: Added | Normed | None) -> int:
    """Return the shared memory that a product's norm takes beside its own."""
    match norm:
        case None:
            return 0
        case Added():
            return kept_bytes(None)
        case Normed():
            return kept_bytes(norm.squares_TP.shape[1])


def constants(norm: Added | Normed | None) -> Constants:
    """Return what a kernel is compiled with for the sake of a norm."""
    match norm:
        case None:
            return ()
        case Added():
            return (("ADDED", 1),)
        case Normed():
            return (("NORMED", norm.squares_TP.shape[1]),)


def letters(norm: Added | Normed | None) -> str:
    """Return the types of the kernel's last arguments, as `launch.py` names them."""
    return "" if norm is None else _LETTERS


def arguments(norm: Added | Normed | None) -> tuple[float, ...]:
    """Return the kernel's last arguments."""
    match norm:
        case None:
            return ()
        case Added():
            tensors = (norm.residual_TH, norm.weight_H, norm.h_TH, norm.squares_TP)
            return (*(x.data_ptr() for x in tensors), 0.0)
        case Normed():
            return (0, 0, 0, norm.squares_TP.data_ptr(), norm.eps)


def check_norm(
    gpu: Gpu, op: str, norm: Added | Normed | None, parts: int | None, *, outputs: int, num_rows: int
) -> None:
    """Hold a norm's operands to what a launch believes of them; `parts` of squares are what it leaves."""
    if norm is None:
        return
    if isinstance(norm, Normed):
        parts = norm.squares_TP.shape[1]
    assert parts is not None, "what is added leaves squares"
    check(gpu, op, squares=(norm.squares_TP, torch.float32, (num_rows, parts)))
    if isinstance(norm, Added):
        check(
            gpu,
            op,
            residual=(norm.residual_TH, torch.bfloat16, (num_rows, outputs)),
            weight=(norm.weight_H, torch.bfloat16, (outputs,)),
            h=(norm.h_TH, torch.bfloat16, (num_rows, outputs)),
        )
