"""What LoRA adapters add to a linear layer: y += B A x, for each row the pair of its own adapter.

The pairs of all adapters lie beside each other, so a step is two products, whichever adapters its rows run
through, and can be recorded. What A gives for another adapter than the row's is zero to B. Every step with an
adapted row reads the matrices of all adapters.

Legend: T tokens, I and O input and output of the layer, R ranks of all adapters together.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear

from engines.quant.linear_tensors import Params


class AdapterSum:
    """The adapters that change one layer; the shares of a rank where ranks share the layer."""

    def __init__(self, a_RI: Tensor, b_OR: Tensor, owner_R: Tensor) -> None:
        """`owner_R`: the number of the adapter that each rank belongs to, int64."""
        self._a_RI = a_RI
        self._b_RO = b_OR.t()
        self._owner_R = owner_R

    @classmethod
    def of(cls, params: Params, name: str) -> "AdapterSum | None":
        """Return the adapters of the layer stored under a name; None where no adapter changes it."""
        if f"{name}.adapters.a" not in params:
            return None
        a_RI, b_OR, owner_R = (params[f"{name}.adapters.{part}"] for part in ("a", "b", "owner"))
        return cls(a_RI, b_OR, owner_R)

    def add_to(self, y_TO: Tensor, x_TI: Tensor, adapter_T: Tensor) -> Tensor:
        """Return y, which is written over; `adapter_T` as in `StepInput`."""
        inner_TR = linear(x_TI, self._a_RI)
        # Not a product with zeros: another adapter's numbers may have no end.
        inner_TR = torch.where(adapter_T[:, None] == self._owner_R, inner_TR, 0)
        return y_TO.addmm_(inner_TR, self._b_RO)
