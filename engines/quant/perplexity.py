"""How well a model tells the next token of texts that it was not calibrated on.

Legend: T tokens, H hidden, V vocabulary.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.pytorch.ops_torch import TorchOps
from engines.quant.decoder_stream import CalibrationPrompt
from engines.quant.layer_store import LayerStore
from engines.step import StepInput

OUTER = ("decoder.embed.weight", "decoder.norm.weight", "decoder.head.weight")


def perplexity(
    store: LayerStore,
    prompts: Sequence[CalibrationPrompt],
    steps: Sequence[StepInput],
    streams: Sequence[Sequence[Tensor]],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> list[float]:
    """Return exp of the mean loss over the answers, for each stream's rows [T, H] behind the last layer.

    Prompts without an answer count as a whole, rows of pictures apart. NaN where there is no text.
    """
    params = store.load(lambda name: name in OUTER, device=device, dtype=dtype)
    spec, ops = store.spec.decoder, TorchOps()
    table_VH = params.get("decoder.head.weight", params["decoder.embed.weight"])[: spec.vocab]
    found = []
    for rows in streams:
        loss, count = 0.0, 0
        for prompt, step, x_TH in zip(prompts, steps, rows, strict=True):
            asked_T = torch.ones(len(step.token_ids_T), dtype=torch.bool, device=device)
            asked_T[step.feature_rows_M] = False
            asked_T[: prompt.answer_start] = False
            at_T = asked_T[1:].nonzero().flatten()
            hidden_TH = ops.rms_norm(x_TH.to(device)[at_T], params["decoder.norm.weight"], spec.norm_eps)
            logits_TV = F.linear(hidden_TH, table_VH).float()
            loss += float(F.cross_entropy(logits_TV, step.token_ids_T[at_T + 1], reduction="sum"))
            count += len(at_T)
        found.append(math.exp(loss / count) if count else math.nan)
    return found
