"""A linear layer of a tower and what follows it in one kernel: the fastest, unless the library is faster."""

from torch import Tensor

from engines.ops import Dense, RepeatedRows, Weight
from engines.turbomind.gpu import Gpu
from engines.turbomind.ops import linear_columns, linear_rows
from engines.turbomind.ops.after_product import After
from engines.turbomind.ops.linear import linear


def linear_tower(gpu: Gpu, x_TI: Tensor, weight: Weight) -> Tensor:
    """Return x @ W.T + b; products of other sizes go the way of a step's."""
    done = linear_at_once(gpu, x_TI, weight)
    return linear(gpu, x_TI, weight) if done is None else done


def linear_at_once(gpu: Gpu, x_TI: Tensor, weight: Weight) -> Tensor | None:
    """Return x @ W.T + b in tiles that are all done at once, or None where the library takes less time."""
    if not isinstance(weight, Dense):
        return None
    cut = linear_columns.cut_of(gpu, x_TI, weight, "nothing")
    return None if cut is None else linear_columns.linear_columns(gpu, x_TI, weight, cut)


def linear_after(
    gpu: Gpu,
    x_TI: Tensor,
    weight: Weight,
    after: After,
    *,
    residual_TO: Tensor | RepeatedRows | None = None,
    scale_O: Tensor | None = None,
) -> Tensor | None:
    """Return what follows of x @ W.T + b, or None where the library and an op apart take less time."""
    if isinstance(weight, Dense) and not isinstance(residual_TO, RepeatedRows):
        cut = linear_columns.cut_of(gpu, x_TI, weight, after)
        if cut is not None:
            return linear_columns.linear_columns(
                gpu, x_TI, weight, cut, after=after, residual_TO=residual_TO, scale_O=scale_O
            )
    if linear_rows.takes(weight, gpu, x_TI):
        return linear_rows.linear_rows(
            gpu, x_TI, weight, after=after, residual_TO=residual_TO, scale_O=scale_O
        )
    return None
