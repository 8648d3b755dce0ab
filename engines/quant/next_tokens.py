"""How well a model tells the next tokens of answers, and how far a quantized one's choice is from it.

Legend: S judged rows, V vocabulary.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class NextTokens:
    """Two distributions of each next token, one beside the other: before and after a quantization."""

    losses_before_S: Tensor  # -log p of the token that comes, fp32 on the host
    losses_after_S: Tensor
    divergences_S: Tensor  # KL(before || after), nats
    moved_S: Tensor  # half of sum |after - before|: the probability that went to other tokens, 0 to 1
    differs_S: Tensor  # bool: the likeliest token is another
    right_before_S: Tensor  # bool: it is the one that comes
    right_after_S: Tensor

    @property
    def perplexity_before(self) -> float:
        """exp of the mean loss; NaN where nothing is judged."""
        return _exp_mean(self.losses_before_S)

    @property
    def perplexity_after(self) -> float:
        """exp of the mean loss; NaN where nothing is judged."""
        return _exp_mean(self.losses_after_S)


def compare(before_SV: Tensor, after_SV: Tensor, ids_S: Tensor) -> NextTokens:
    """Compare logits, fp32, where the tokens `ids_S` come."""
    before_SV, after_SV = F.log_softmax(before_SV, dim=-1), F.log_softmax(after_SV, dim=-1)
    divergences_S = (before_SV.exp() * (before_SV - after_SV)).sum(-1)
    moved_S = (before_SV.exp() - after_SV.exp()).abs().sum(-1) / 2
    losses = (-part.gather(1, ids_S[:, None]).squeeze(1) for part in (before_SV, after_SV))
    losses_before_S, losses_after_S = (part.cpu() for part in losses)
    choices_before_S, choices_after_S = before_SV.argmax(-1), after_SV.argmax(-1)
    return NextTokens(
        losses_before_S=losses_before_S,
        losses_after_S=losses_after_S,
        divergences_S=divergences_S.clamp(min=0).cpu(),
        moved_S=moved_S.cpu(),
        differs_S=(choices_before_S != choices_after_S).cpu(),
        right_before_S=(choices_before_S == ids_S).cpu(),
        right_after_S=(choices_after_S == ids_S).cpu(),
    )


def joined(parts: Iterable[NextTokens]) -> NextTokens:
    """Return several as one."""
    found = list(parts)
    columns = {
        name: torch.cat([getattr(part, name) for part in found]) for name in NextTokens.__dataclass_fields__
    }
    return NextTokens(**columns)


def _exp_mean(losses_S: Tensor) -> float:
    return math.exp(float(losses_S.mean())) if len(losses_S) else math.nan
