"""How a quantized decoder tells the next tokens of texts that it was not calibrated on, beside the original.

Legend: T tokens, H hidden, V vocabulary, S judged rows.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.pytorch.ops_torch import TorchOps
from engines.quant.decoder_stream import DecoderStream
from engines.quant.layer_store import LayerStore
from engines.quant.next_tokens import NextTokens, compare, joined
from engines.quant.prompt_steps import judged_rows

OUTER = ("decoder.embed.weight", "decoder.norm.weight", "decoder.head.weight")
ROWS_AT_ONCE = 1024  # logits of so many rows lie on the device


def judge(
    store: LayerStore,
    stream: DecoderStream,
    plain: Sequence[Tensor],
    quantized: Sequence[Tensor],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> NextTokens:
    """Compare the rows [T, H] behind the last layer, over the answers of the batches that judge.

    Prompts without an answer count as a whole, rows of pictures apart.
    """
    params = store.load(lambda name: name in OUTER, device=device, dtype=dtype)
    spec, ops = store.spec.decoder, TorchOps()
    table_VH = params.get("decoder.head.weight", params["decoder.embed.weight"])[: spec.vocab]

    def logits(x_TH: Tensor, at_S: Tensor) -> Tensor:
        hidden_SH = ops.rms_norm(x_TH.to(device)[at_S], params["decoder.norm.weight"], spec.norm_eps)
        return F.linear(hidden_SH, table_VH).float()

    parts = []
    for i in range(stream.num_calibrating, len(stream.batches)):
        step = stream.steps[i]
        for at_S in torch.split(judged_rows(stream.batches[i], step), ROWS_AT_ONCE):
            before_SV, after_SV = (logits(rows[i], at_S) for rows in (plain, quantized))
            parts.append(compare(before_SV, after_SV, step.token_ids_T[at_S + 1]))
    return joined(parts)
