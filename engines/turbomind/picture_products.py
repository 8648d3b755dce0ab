"""Products of a tower at the numbers of rows that pictures of any size have.

A tower of native resolution multiplies a row for each patch of the picture, and launchers cut each number of
rows as it suits it: more ways than a survey can encode pictures. So the products of a few pictures are noted
as they go by, and asked for by themselves at the numbers of rows in between. Used by `kernel_survey.py`.

Legend: T rows, I inputs, O outputs.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engines.ops import Dense, Gelu, RepeatedRows, Weight
from engines.turbomind.ops.after_product import After
from engines.turbomind.ops.columns_choice import most_rows
from engines.turbomind.ops.linear_after import linear_after, linear_at_once
from engines.turbomind.ops.rows_cut import ROWS
from engines.turbomind.ops_table import TurbomindOps

_EACH = 640  # up to here launchers have steps of their own
_FILLED = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """A linear layer and what follows it, and with how many rows it was seen."""

    weight: Dense
    after: After | None  # None: `linear`; "nothing": `linear_tower`
    scale_O: Tensor | None
    dtype: torch.dtype
    rows: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class ProductNotingOps(TurbomindOps):
    """The op table, noting each product; one of each size is kept."""

    products: dict[tuple[object, ...], Product]

    def linear(self, x_TI: Tensor, weight: Weight) -> Tensor:
        """Note the product, then do as the table does."""
        self._note(x_TI, weight, None, None)
        return TurbomindOps.linear(self, x_TI, weight)

    def linear_tower(self, x_TI: Tensor, weight: Weight) -> Tensor:
        """Note the product, then do as the table does."""
        self._note(x_TI, weight, "nothing", None)
        return TurbomindOps.linear_tower(self, x_TI, weight)

    def linear_gelu(self, x_TI: Tensor, weight: Weight, form: Gelu) -> Tensor:
        """Note the product, then do as the table does."""
        self._note(x_TI, weight, form, None)
        return TurbomindOps.linear_gelu(self, x_TI, weight, form)

    def linear_add(
        self,
        x_TI: Tensor,
        weight: Weight,
        residual_TO: Tensor | RepeatedRows,
        *,
        scale_O: Tensor | None = None,
    ) -> Tensor:
        """Note the product, then do as the table does; rows that repeat are of tiles, all of one size."""
        if not isinstance(residual_TO, RepeatedRows):
            self._note(x_TI, weight, "add", scale_O)
        return TurbomindOps.linear_add(self, x_TI, weight, residual_TO, scale_O=scale_O)

    def _note(self, x_TI: Tensor, weight: Weight, after: After | None, scale_O: Tensor | None) -> None:
        if not isinstance(weight, Dense):
            return
        key = (weight.weight_OI.shape, weight.bias_O is None, scale_O is None, after, x_TI.dtype)
        product = Product(weight=weight, after=after, scale_O=scale_O, dtype=x_TI.dtype)
        self.products.setdefault(key, product).rows.add(x_TI.numel() // x_TI.shape[-1])

    def ask_between(self, rows_of_steps: Callable[[int], Iterator[int]]) -> None:
        """Ask for every product at numbers of rows between the fewest and the most that it was seen with.

        What only multiplies goes the way of a step's products, and is asked about where these are.
        """
        for product in self.products.values():
            if product.after is None or product.after == "nothing":
                for count in rows_of_steps(max(product.rows)):
                    if count >= min(product.rows):
                        TurbomindOps.linear(self, self._rows(product, count), product.weight)
            if product.after is not None:
                outputs = product.weight.weight_OI.shape[0]
                for count in row_counts(product.rows, at_once=most_rows(outputs, num_sms=self.gpu.num_sms)):
                    self._ask(product, product.after, self._rows(product, count))

    def _rows(self, product: Product, num_rows: int) -> Tensor:
        inputs = product.weight.weight_OI.shape[1]
        return torch.empty(num_rows, inputs, dtype=product.dtype, device=self.gpu.device)

    def _ask(self, product: Product, after: After, x_TI: Tensor) -> None:
        if after == "nothing":
            linear_at_once(self.gpu, x_TI, product.weight)
            return
        outputs = product.weight.weight_OI.shape[0]
        residual_TO = x_TI.new_empty(len(x_TI), outputs) if after == "add" else None
        linear_after(self.gpu, x_TI, product.weight, after, residual_TO=residual_TO, scale_O=product.scale_O)


def row_counts(seen: set[int], *, at_once: int) -> Iterator[int]:
    """Yield numbers of rows such that each way to cut one is asked for.

    What all that were seen are a multiple of, others are too. Few rows are asked about one by one; up to
    `at_once`, tiles are filled at multiples of 16, so the first and the last number between two of these are;
    above, one of those that fill as many tiles of `ROWS`.
    """
    step, first, last = math.gcd(*seen), min(seen), max(seen)
    yield from range(first, min(last, _EACH) + 1, step)
    edges = (edge // step * step for edge in range(_EACH, min(last, at_once) + 1, _FILLED))
    yield from sorted({count for edge in edges for count in (edge, edge + step) if first <= count <= last})
    wide = max(step, ROWS // step * step)
    yield from range(max(first, max(_EACH, at_once) // step * step), last + 1, wide)
