"""Prompts on their way through a decoder, one layer after another, and what flows into each linear layer.

Prompts run in batches of like length over pages of their own, by the layers, op table and steps that serve
requests, so that what is calibrated is what runs.

Legend: T tokens of a batch, H hidden.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from engines.decoder.llama_like import LlamaLayer
from engines.decoder.logn import query_scale
from engines.decoder.rope import Rope
from engines.memory.kv_cache import allocate_kv
from engines.memory.kv_layer import KvLayer
from engines.ops import Dense, Weight
from engines.parallel import TpGroup
from engines.pytorch.ops_torch import TorchOps
from engines.quant.prompt_steps import BATCH_TOKENS, CalibrationPrompt, batches, page_options, prompt_step
from engines.quant.statistics import InputStatistics
from engines.spec import DecoderSpec
from engines.steps.step import StepInput


class WatchingOps(TorchOps):
    """The op table of engine=pytorch; counts the inputs of linear layers that are watched."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}  # id of a weight's tensor: its name
        self.seen: Mapping[str, InputStatistics] = {}
        self.weights_T = torch.empty(0)  # of the rows of the batch that runs

    def linear(self, x_TI: Tensor, weight: Weight) -> Tensor:
        """Return x @ W.T + b."""
        name = self.names.get(id(weight.weight_OI)) if isinstance(weight, Dense) else None
        if name is not None and name in self.seen:
            self.seen[name].add(x_TI, self.weights_T)
        return super().linear(x_TI, weight)


class DecoderStream:
    """Prompts at one height of the decoder: their steps, and the pages of one layer."""

    def __init__(
        self,
        spec: DecoderSpec,
        prompts: Sequence[CalibrationPrompt],
        features: Mapping[bytes, Tensor],
        *,
        calibrating: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """The first `calibrating` prompts calibrate, the others judge; `features` has rows of pictures."""
        self._spec, self._device, self._ops = spec, device, WatchingOps()
        self._rope = Rope(spec.rope, spec.head_dim, device)
        parts = (prompts[:calibrating], prompts[calibrating:])
        grouped = [
            [[part[number] for number in batch] for batch in batches(part, num_tokens=_at_once(device))]
            for part in parts
        ]
        self.num_calibrating = len(grouped[0])  # batches
        self.batches = [*grouped[0], *grouped[1]]
        self.steps = [prompt_step(spec, batch, features, device=device) for batch in self.batches]
        self._weights = row_weights(self.steps[: self.num_calibrating])
        self._kv = self._pages(dtype)

    def embed(self, table_VH: Tensor) -> list[Tensor]:
        """Return the rows that enter the first layer, [T, H] a batch, on the host; once."""
        rows = []
        for i, step in enumerate(self.steps):
            x_TH = self._ops.embed(table_VH, step.token_ids_T)
            if step.features_MH is not None:
                features_MH = step.features_MH.to(self._device, x_TH.dtype)  # kept on the host
                x_TH = x_TH.index_copy_(0, step.feature_rows_M, features_MH)
                self.steps[i] = replace(
                    step, features_MH=step.features_MH[:0]
                )  # layers ask whether, not what
            rows.append(x_TH.cpu())
        return rows

    def layer(
        self,
        params: dict[str, Tensor],
        name: str,
        rows: Sequence[Tensor],
        seen: Mapping[str, InputStatistics] | None,
    ) -> list[Tensor]:
        """Run one layer over every batch and return what enters the next, on the host.

        `seen` takes in what flows into the linear layers that it names, of the prompts that calibrate.
        """
        self._ops.names = {id(tensor): key for key, tensor in params.items()}
        layer = LlamaLayer(self._spec, params, name, ops=self._ops, group=TpGroup())
        found = []
        for number, (step, x_TH) in enumerate(zip(self.steps, rows, strict=True)):
            self._ops.seen = {}
            if seen is not None and number < self.num_calibrating:
                self._ops.seen, self._ops.weights_T = seen, self._weights[number]
            found.append(self._run(layer, step, x_TH.to(self._device)).cpu())
        return found

    def _run(self, layer: LlamaLayer, step: StepInput, x_TH: Tensor) -> Tensor:
        tables = self._rope.tables(step.positions_T, step.rope_lens_T)
        scale_T11 = query_scale(step.positions_T, self._spec.logn_length, x_TH.dtype)
        qkv_TX, residual_TH = layer.qkv(x_TH, None, step)
        attended_TA = layer.attended(qkv_TX, tables, step, self._kv, scale_T11)
        out_TH, residual_TH = layer.products(attended_TA, residual_TH, step)
        return out_TH + residual_TH

    def _pages(self, dtype: torch.dtype) -> KvLayer:
        pages = max(sum(prompt.num_pages for prompt in batch) for batch in self.batches)
        one_layer = replace(self._spec, num_layers=1)
        options = page_options("none")
        return allocate_kv(one_layer, options, num_pages=pages, tp=1, dtype=dtype, device=self._device)[0]


def row_weights(steps: Sequence[StepInput]) -> list[Tensor]:
    """Return how much each row of the steps counts, fp32 [T] each: those of pictures 1, others more.

    Pictures bring most of the rows and answers hang on the others more (arXiv 2412.19509). The weight lies in
    the middle, the root of what would let both kinds count alike: measured, docs/quantization.md.
    """
    num_pictured = sum(len(step.feature_rows_M) for step in steps)
    num_others = sum(len(step.token_ids_T) for step in steps) - num_pictured
    weight = max(num_pictured / num_others, 1.0) ** 0.5
    found = []
    for step in steps:
        weights_T = torch.full_like(step.token_ids_T, weight, dtype=torch.float32)
        weights_T[step.feature_rows_M] = 1.0
        found.append(weights_T)
    return found


def _at_once(device: torch.device) -> int:
    return BATCH_TOKENS[device.type]
