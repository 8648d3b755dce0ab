"""A linear layer of a decoder, with what low-rank matrices add to some of its rows: of images, of adapters.

Legend: T tokens, M image rows, I and O input and output of the layer, F FFN width, H hidden, R rank of its
addition on image rows, S sampled rows.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from engines.decoder.adapter_sum import AdapterSum
from engines.ops import Dense, Ops, Weight
from engines.parallel import TpGroup
from engines.quant.linear_tensors import Params, linear_of
from engines.steps.step import StepInput


@dataclass(frozen=True, kw_only=True, slots=True)
class LowRankRows:
    """Which tokens of a step low-rank matrices add to."""

    image_rows_M: Tensor | None = None  # int64, token numbers; None: the step has no image rows
    adapter_T: Tensor | None = None  # as in `StepInput`

    @classmethod
    def of(cls, step: StepInput) -> Self:
        """Return those of a step."""
        image_rows_M = None if step.features_MH is None else step.feature_rows_M
        return cls(image_rows_M=image_rows_M, adapter_T=step.adapter_T)

    def only(self, rows_S: Tensor) -> Self:
        """Return those of some tokens alone, for layers that add nothing on image rows."""
        return type(self)(adapter_T=None if self.adapter_T is None else self.adapter_T[rows_S])


@dataclass(frozen=True, kw_only=True, slots=True)
class RmsNorm:
    """The norm before attention or FFN, and the ranks whose addends of the last output it sums first."""

    weight_H: Tensor
    eps: float
    group: TpGroup


class RowLinear:
    """A linear layer; with low-rank additions on image rows and on the rows of adapters, where there are any.

    The partial LoRA of InternLM-XComposer2: y[rows] += B (A x[rows]), once for each of the matrices that are
    fused. Where ranks share a layer by columns they share A too, and the addition is part of the sum.
    """

    def __init__(self, params: Params, name: str, *, ops: Ops) -> None:
        self._ops = ops
        self.weight = linear_of(params, name)
        self._adapters = AdapterSum.of(params, name)
        self._down: Weight | None = None
        self._ups: list[Weight] = []
        if f"{name}.lora_a" in params:
            down_RI, up_OR = params[f"{name}.lora_a"], params[f"{name}.lora_b"]
            self._down = Dense(weight_OI=down_RI, bias_O=None)
            parts = up_OR.chunk(len(down_RI) // up_OR.shape[1])
            self._ups = [Dense(weight_OI=part, bias_O=None) for part in parts]

    def __call__(self, x_TI: Tensor, rows: LowRankRows) -> Tensor:
        """Return [T, O]."""
        y_TO = self._ops.linear(x_TI, self.weight)
        if self._adapters is not None and rows.adapter_T is not None:
            y_TO = self._adapters.add_to(y_TO, x_TI, rows.adapter_T)
        if self._down is None or rows.image_rows_M is None:
            return y_TO
        parts = self._ops.linear(x_TI[rows.image_rows_M], self._down).chunk(len(self._ups), dim=-1)
        added = [self._ops.linear(part, up) for part, up in zip(parts, self._ups, strict=True)]
        return y_TO.index_add_(0, rows.image_rows_M, torch.cat(added, dim=-1))

    def after_silu_mul(self, gate_up_T2I: Tensor, rows: LowRankRows) -> Tensor:
        """Return the layer's output for silu(first half) * second half, [T, O]."""
        if self._adds(rows):
            return self(self._ops.silu_mul(gate_up_T2I), rows)
        return self._ops.silu_mul_linear(gate_up_T2I, self.weight)

    def after_norm(
        self, x_TI: Tensor, residual_TI: Tensor | None, norm: RmsNorm, rows: LowRankRows
    ) -> tuple[Tensor, Tensor]:
        """Return (the layer's output for the normed sum of x and residual, [T, O], that sum).

        Where there is a residual x is this rank's addend.
        """
        if residual_TI is None:
            normed_TI = self._ops.rms_norm(x_TI, norm.weight_H, norm.eps)
            return self(normed_TI, rows), x_TI
        if self._adds(rows):
            normed_TI, sum_TI = self._ops.add_rms_norm(x_TI, residual_TI, norm.weight_H, norm.eps, norm.group)
            return self(normed_TI, rows), sum_TI
        return self._ops.add_rms_norm_linear(
            x_TI, residual_TI, norm.weight_H, norm.eps, self.weight, norm.group
        )

    def gated_after_norm(
        self, x_TI: Tensor, residual_TI: Tensor, norm: RmsNorm, down: "RowLinear", rows: LowRankRows
    ) -> tuple[Tensor, Tensor]:
        """Return (down(silu of this layer's first half * its second), [T, H], the sum of x and residual).

        Both x and the first are this rank's addends.
        """
        if self._adds(rows) or down._adds(rows):
            gate_up_T2F, sum_TI = self.after_norm(x_TI, residual_TI, norm, rows)
            return down.after_silu_mul(gate_up_T2F, rows), sum_TI
        return self._ops.add_rms_norm_ffn(
            x_TI, residual_TI, norm.weight_H, norm.eps, self.weight, down.weight, norm.group
        )

    def _adds(self, rows: LowRankRows) -> bool:
        """Return whether low-rank additions need the rows themselves."""
        adapted = self._adapters is not None and rows.adapter_T is not None
        return adapted or (self._down is not None and rows.image_rows_M is not None)
