"""Products of a tower at the numbers of rows that pictures of any size have.

A tower of native resolution multiplies a row for each patch of the picture, and launchers cut each number of
rows as it suits it: more ways than a survey can encode pictures. So the products of a few pictures are noted
as they go by, and asked for by themselves at the numbers of rows in between. Used by `kernel_survey.py`.

Legend: T rows, I inputs, O outputs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engines.ops import Dense, Gelu, RepeatedRows, Weight
from engines.turbomind.ops.after_product import After
from engines.turbomind.ops.columns_choice import most_rows
from engines.turbomind.ops.linear_after import linear_after
from engines.turbomind.ops.rows_cut import ROWS
from engines.turbomind.ops_table import TurbomindOps


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

    def ask_between(self) -> None:
        """Ask for every product at numbers of rows between the fewest and the most that it was seen with."""
        for product in self.products.values():
            outputs = product.weight.weight_OI.shape[0]
            for count in row_counts(product.rows, at_once=most_rows(outputs, num_sms=self.gpu.num_sms)):
                self._ask(product, count)

    def _ask(self, product: Product, num_rows: int) -> None:
        outputs, inputs = product.weight.weight_OI.shape
        x_TI = torch.empty(num_rows, inputs, dtype=product.dtype, device=self.gpu.device)
        if product.after is None:
            TurbomindOps.linear(self, x_TI, product.weight)
            return
        if product.after == "nothing":
            TurbomindOps.linear_tower(self, x_TI, product.weight)
            return
        residual_TO = x_TI.new_empty(num_rows, outputs) if product.after == "add" else None
        linear_after(
            self.gpu, x_TI, product.weight, product.after, residual_TO=residual_TO, scale_O=product.scale_O
        )


def row_counts(seen: set[int], *, at_once: int) -> Iterator[int]:
    """Yield numbers of rows such that each way to cut one is asked for.

    What all that were seen are a multiple of, others are too. Up to `at_once` rows each number may have a cut
    of its own; above they are cut by the tiles of so many rows that they fill.
    """
    step, first, last = math.gcd(*seen), min(seen), max(seen)
    yield from range(first, min(last, at_once) + 1, step)
    wide = max(step, ROWS // step * step)
    yield from range(max(first, at_once // step * step), last + 1, wide)
