"""Log-probabilities of prompt tokens, each given those before it.

A step computes them for the chunks whose sequences ask; their rows follow the sampled ones through the last
layer. The head takes them in slices, as the logits of a whole chunk would not fit beside the pages.

Legend: R scored rows, H hidden, A alternatives.
"""

from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from engines.messages import TokenLogprobs
from engines.network import Network
from engines.sampling.next_token import token_logprobs
from engines.schedule.batch_plan import Chunk
from engines.steps.host_copy import HostCopy, on_device


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptScores:
    """Log-probabilities on their way, and the chunks that they belong to."""

    chunks: tuple[Chunk, ...]
    chosen_R: HostCopy
    top_RA: HostCopy
    top_ids_RA: HostCopy

    def wait(self) -> list[tuple[Chunk, tuple[TokenLogprobs, ...]]]:
        """Return for each chunk the log-probabilities of the tokens after its leading `num_scored`."""
        rows = zip(
            self.chosen_R.wait().tolist(),
            self.top_ids_RA.wait().tolist(),
            self.top_RA.wait().tolist(),
            strict=True,
        )
        return [(chunk, _logprobs(chunk, islice(rows, chunk.num_scored))) for chunk in self.chunks]


def prompt_scores(
    network: Network, hidden_RH: Tensor, chunks: Seq[Chunk], *, rows_at_once: int
) -> PromptScores:
    """Queue the head over the scored rows of these chunks, in their order."""
    followers = [
        token_id
        for chunk in chunks
        for token_id in chunk.sequence.token_ids[chunk.start + 1 : chunk.start + 1 + chunk.num_scored]
    ]
    ids_R = on_device(followers, hidden_RH.device)
    most = max(chunk.sequence.sampling.prompt_logprobs or 0 for chunk in chunks)
    parts = [
        token_logprobs(network.logits(rows_RH), ids, num_alternatives=most)
        for rows_RH, ids in zip(
            torch.split(hidden_RH, rows_at_once), torch.split(ids_R, rows_at_once), strict=True
        )
    ]
    return PromptScores(
        chunks=tuple(chunks),
        chosen_R=HostCopy(torch.cat([part.chosen_R for part in parts])),
        top_RA=HostCopy(torch.cat([part.top_RA for part in parts])),
        top_ids_RA=HostCopy(torch.cat([part.top_ids_RA for part in parts])),
    )


def _logprobs(
    chunk: Chunk, rows: Iterable[tuple[float, list[int], list[float]]]
) -> tuple[TokenLogprobs, ...]:
    number = chunk.sequence.sampling.prompt_logprobs or 0
    return tuple(
        TokenLogprobs(chosen=chosen, top_ids=tuple(ids[:number]), top_logprobs=tuple(top[:number]))
        for chosen, ids, top in rows
    )
