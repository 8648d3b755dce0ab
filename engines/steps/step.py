"""The tensors of one forward pass. Built by `engines/steps/batch.py`, read by networks and op tables.

Legend: T tokens of the step, B sequences, S rows of the head (sampled, then scored), M image rows, E those
before the last of their image, P pages of the longest sequence.
Sequences that decode (one token each) come first, chunks of prompts after them. Tokens that are proposed to a
sequence (`engines/schedule/speculation.py`) stand behind its own, as further sequences that decode would.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionBatch:
    """Where the tokens of a step find their keys and values."""

    num_decodes: int  # leading sequences with one query token each
    q_starts_B1: Tensor  # int32 [B + 1], first token of each sequence in T; the last entry is T
    kv_lens_B: Tensor  # int32 [B], tokens in the cache after this step, cached prefix included
    pages_BP: Tensor  # int32 [B, P], page of each page_tokens-long stretch; unused entries are 0
    slots_T: Tensor  # int64 [T], page * page_tokens + offset: where each token's K and V are written
    max_q: int  # longest query of the step
    max_kv: int
    chunk_lens: tuple[int, ...]  # of `kv_lens_B`, those behind the decodes; known to the host
    has_proposals: bool = False  # decodes may see tokens of each other: all are stored before any attends


@dataclass(frozen=True, kw_only=True, slots=True)
class StepInput:
    """One forward pass over T tokens of B sequences."""

    token_ids_T: Tensor  # int64 [T]; image slots hold a valid id whose embedding is overwritten
    positions_T: Tensor  # int64 [T], or [3, T] where the decoder has three axes and they differ
    rope_lens_T: (
        Tensor  # int64 [T], the length that dynamic rotary tables see: max(prompt tokens, position + 1), or
        # the prompt's tokens alone (`RopeSpec.by_prompt`)
    )
    attention: AttentionBatch
    sample_rows_S: Tensor  # int64 [S], tokens whose logits are wanted
    feature_rows_M: Tensor  # int64 [M], tokens whose embedding is an image row
    features_MH: Tensor | None  # [M, hidden], compute dtype; None where M = 0
    adapter_T: Tensor | None = None  # int64 [T], the adapter that each runs through, -1: none; None: all bare
    inner_rows_E: Tensor | None = (
        None  # int64 [E], image rows without the last of each image; None where M = 0
    )

    @property
    def samples_every_row(self) -> bool:
        """Whether `sample_rows_S` are all tokens in their order: every sequence decodes and is sampled."""
        return len(self.token_ids_T) == self.attention.num_decodes == len(self.sample_rows_S)
