"""Prompts on their way through a decoder, one layer after another, and what flows into each linear layer.

Every prompt is run alone over pages of its own, by the layers, op table and steps that serve requests, so
that what is calibrated is what runs.

Legend: T tokens of a prompt, H hidden.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engines.batch import step_input
from engines.batch_plan import BatchPlan, Chunk
from engines.decoder.llama_like import LlamaLayer
from engines.decoder.logn import query_scale
from engines.kv_cache import allocate_kv
from engines.kv_layer import KvLayer
from engines.messages import greedy
from engines.ops import Dense, Weight
from engines.options import KvOptions
from engines.parallel import TpGroup
from engines.positions import prompt_positions
from engines.prefix_cache import root_key
from engines.pytorch.ops_torch import TorchOps
from engines.quant.statistics import InputStatistics
from engines.rope import Rope
from engines.sequence import ImageSlots
from engines.sequence import Sequence as RunningSequence
from engines.spec import DecoderSpec
from engines.step import StepInput

PAGE_TOKENS = 16


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CalibrationPrompt:
    """One conversation as the model reads it, its answers included."""

    token_ids: tuple[int, ...]
    images: tuple[ImageSlots, ...]
    answer_start: int  # the first token of its last answer, which is judged; 0: it has none, all are judged


class WatchingOps(TorchOps):
    """The op table of engine=pytorch; counts the inputs of linear layers that are watched."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}  # id of a weight's tensor: its name
        self.seen: Mapping[str, InputStatistics] = {}

    def linear(self, x_TI: Tensor, weight: Weight) -> Tensor:
        """Return x @ W.T + b."""
        name = self.names.get(id(weight.weight_OI)) if isinstance(weight, Dense) else None
        if name is not None and name in self.seen:
            self.seen[name].add(x_TI)
        return super().linear(x_TI, weight)


class DecoderStream:
    """Prompts at one height of the decoder: their steps, and the pages of one layer."""

    def __init__(
        self,
        spec: DecoderSpec,
        prompts: Sequence[CalibrationPrompt],
        features: Sequence[dict[bytes, Tensor]],
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._spec, self._device, self._ops = spec, device, WatchingOps()
        self._rope = Rope(spec.rope, spec.head_dim, device)
        self._kv = self._pages(max(len(prompt.token_ids) for prompt in prompts), dtype)
        self.steps = [self._step(prompt, rows) for prompt, rows in zip(prompts, features, strict=True)]

    def embed(self, table_VH: Tensor) -> list[Tensor]:
        """Return the rows that enter the first layer, [T, H] a prompt, on the host; once."""
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
        *,
        calibrating: int,
    ) -> list[Tensor]:
        """Run one layer over every prompt and return what enters the next, on the host.

        `seen` takes in what flows into the linear layers that it names, for the first `calibrating` prompts.
        """
        self._ops.names = {id(tensor): key for key, tensor in params.items()}
        layer = LlamaLayer(self._spec, params, name, ops=self._ops, group=TpGroup())
        found = []
        for number, (step, x_TH) in enumerate(zip(self.steps, rows, strict=True)):
            self._ops.seen = seen if seen is not None and number < calibrating else {}
            found.append(self._run(layer, step, x_TH.to(self._device)).cpu())
        return found

    def _run(self, layer: LlamaLayer, step: StepInput, x_TH: Tensor) -> Tensor:
        tables = self._rope.tables(step.positions_T, step.rope_lens_T)
        scale_T11 = query_scale(step.positions_T, self._spec.logn_length, x_TH.dtype)
        out_TH, residual_TH = layer(x_TH, None, tables, step, self._kv, scale_T11)
        return out_TH + residual_TH

    def _pages(self, num_tokens: int, dtype: torch.dtype) -> KvLayer:
        options = KvOptions(
            format="none", page_tokens=PAGE_TOKENS, num_pages=None, memory=0.5, prefix_caching=False
        )
        pages = -(-num_tokens // PAGE_TOKENS)
        one_layer = replace(self._spec, num_layers=1)
        return allocate_kv(one_layer, options, num_pages=pages, tp=1, dtype=dtype, device=self._device)[0]

    def _step(self, prompt: CalibrationPrompt, features: dict[bytes, Tensor]) -> StepInput:
        num_tokens = len(prompt.token_ids)
        positions, offset = prompt_positions(self._spec.positions, num_tokens, prompt.images)
        sequence = RunningSequence(
            request_id="calibration",
            token_ids=list(prompt.token_ids),
            num_prompt_tokens=num_tokens,
            images=prompt.images,
            sampling=greedy(1),
            max_tokens=num_tokens + 1,
            priority=0,
            arrival=0,
            root_key=root_key(0),
            submitted_s=0.0,
            positions=positions,
            position_offset=offset,
        )
        sequence.pages.extend(range(-(-num_tokens // PAGE_TOKENS)))
        return step_input(
            BatchPlan.of([Chunk(sequence=sequence, start=0, num_tokens=num_tokens)], []),
            page_tokens=PAGE_TOKENS,
            device=self._device,
            features=features,
            rope_by_prompt=self._spec.rope.by_prompt,
        )
