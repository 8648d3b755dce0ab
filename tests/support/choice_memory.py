"""What a kernel finds of a row: its numbers, and what lies at the addresses in it. For tests on a CPU."""

from ctypes import string_at
from typing import Any

import numpy as np
import torch

from engines.sampling.choice_rows import CHOICE, EDIT, ChoiceRows
from engines.sampling.next_token import first_argmax
from engines.sampling.penalties import TokenCounts


def choices_of(rows: ChoiceRows) -> Any:
    """Return an array of CHOICE."""
    assert rows.choices_SC is not None, "all rows take their largest logit"
    return rows.choices_SC.numpy().view(CHOICE)[:, 0]


def limited(logits_V: torch.Tensor, choice: Any) -> torch.Tensor:
    """Return the logits that a row's edits and mask leave, -inf where nothing may come."""
    vocab = len(logits_V)
    edits = np.frombuffer(string_at(int(choice["edits"]), 8 * int(choice["num_edits"])), dtype=EDIT)
    left_V = logits_V.float().clone()
    if choice["mask"]:
        bits = np.frombuffer(string_at(int(choice["mask"]), -(-vocab // 32) * 4), dtype=np.uint8)
        left_V[torch.from_numpy(np.unpackbits(bits, bitorder="little")[:vocab] == 0)] = -torch.inf
    for token, value in edits.tolist():
        assert left_V[token] == -torch.inf, "an edited id is not in the mask"
        left_V[token] = logits_V[token] + value
    return left_V


def penalized(logits_V: torch.Tensor, choice: Any, counts: TokenCounts) -> torch.Tensor:
    """Return the logits less what a row's tokens so far cost."""
    if not choice["counts"]:
        return logits_V.float()
    seen_NV, outputs_NV = counts.tables()
    seen_V, outputs_V = (table[choice["counts"] - 1] for table in (seen_NV, outputs_NV))
    factor_V = torch.where(logits_V > 0, 1 / float(choice["repetition"]), float(choice["repetition"]))
    kept_V = torch.where(seen_V, logits_V * factor_V, logits_V)
    return kept_V - float(choice["presence"]) * (outputs_V > 0) - float(choice["frequency"]) * outputs_V


def largest(logits_SV: torch.Tensor, rows: ChoiceRows, counts: TokenCounts) -> torch.Tensor:
    """Return the tokens of rows without a temperature."""
    if rows.choices_SC is None:
        return first_argmax(logits_SV)
    choices = choices_of(rows)
    assert not choices["temperature"].any()
    pairs = zip(logits_SV, choices, strict=True)
    return first_argmax(torch.stack([limited(penalized(row, how, counts), how) for row, how in pairs]))
