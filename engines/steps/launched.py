"""A step that was launched: its results on their way from the device, and what is there of them at last."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from engines.sampling.next_token import Logprobs
from engines.sampling.prompt_scores import PromptScores
from engines.sampling.sampling_rows import LogprobRows
from engines.schedule.batch_plan import BatchPlan
from engines.steps.decode_rows import DecodeRows
from engines.steps.host_copy import HostCopy
from engines.steps.step_clock import Span


class TokenChoice(NamedTuple):
    """One sampled token, and its log-probabilities where they were asked for."""

    token_id: int | None  # None: the logits were no numbers
    logprob: float | None = None
    top_ids: tuple[int, ...] = ()
    top_logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LogprobsCopy:
    """Log-probabilities on their way, and the sampled rows that they belong to."""

    rows: tuple[int, ...]
    chosen_R: HostCopy
    top_RA: HostCopy
    top_ids_RA: HostCopy


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """Which pictures a step encoded, and how long that took once it is done."""

    keys: frozenset[bytes]
    span: Span


@dataclass(frozen=True, kw_only=True, slots=True)
class Launched:
    """A step whose results are still on their way."""

    plan: BatchPlan
    logits_SV: Tensor | None = None  # what its tokens are still to be chosen from
    ids_S: HostCopy | None = None  # None: nothing is sampled in this step, or not yet
    logprobs: LogprobsCopy | None = None  # None: nobody asked for them
    scores: PromptScores | None = None  # None: nobody asked about tokens of a prompt in this step
    encoding: Encoding | None = None  # None: no picture was encoded
    read_by_device: DecodeRows | None = None  # memory of the host that stays as it is until the step is done


def on_the_way(logprobs: Logprobs, wanted: LogprobRows) -> LogprobsCopy:
    """Begin to copy log-probabilities to the host."""
    return LogprobsCopy(
        rows=wanted.rows,
        chosen_R=HostCopy(logprobs.chosen_R),
        top_RA=HostCopy(logprobs.top_RA),
        top_ids_RA=HostCopy(logprobs.top_ids_RA),
    )


def add_logprobs(choices: list[TokenChoice], plan: BatchPlan, logprobs: LogprobsCopy) -> None:
    """Wait for log-probabilities and put them to the choices that they belong to."""
    chosen, tops = logprobs.chosen_R.wait().tolist(), logprobs.top_RA.wait().tolist()
    top_ids = logprobs.top_ids_RA.wait().tolist()
    for i, row in enumerate(logprobs.rows):
        number = plan.chunks[plan.sampled[row]].sequence.sampling.logprobs or 0
        choices[row] = TokenChoice(
            token_id=choices[row].token_id,
            logprob=chosen[i],
            top_ids=tuple(top_ids[i][:number]),
            top_logprobs=tuple(tops[i][:number]),
        )
