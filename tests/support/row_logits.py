"""The logits behind every token of an engine's answers, and how those of two engines differ.

Two ways to batch the same tokens round otherwise. Whether answers that part do so at a tie is told by their
logits: up to the first other token both engines have seen the same, so that what their logits differ by is
rounding, unless one of them has read what it should not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engines.sampling.noise import gumbel_noise, noise_key
from engines.schedule.batch_plan import BatchPlan
from engines.steps.engine_loop import EngineLoop

# Of the logits' root mean square, what rounding may make them off: bfloat16 has 8 bits. Of a row that reads
# what it should not, they are off by as much as they are.
ROUNDED = 2**-5

Answers = Mapping[str, Sequence[int]]  # by request
Rows = dict[tuple[str, int], Tensor]  # by request and place in its answer: logits of the token there


class RowLogits:
    """Keeps a copy of the logits of every step of a loop, on its device."""

    def __init__(self, loop: EngineLoop) -> None:
        self._steps: list[tuple[BatchPlan, Tensor]] = []
        self._runner: Any = loop._runner
        copied = self._runner._copied

        def kept(launched: Any, logits_SV: Tensor, ids_S: Tensor) -> Any:
            self._steps.append((launched.plan, logits_SV.clone()))
            return copied(launched, logits_SV, ids_S)

        self._runner._copied = kept

    def stop(self) -> None:
        """Keep no more."""
        del self._runner._copied

    def take(self, answers: Answers) -> Rows:
        """Return the rows of these answers and forget all: those behind a wrong proposal are nobody's."""
        found: Rows = {}
        for plan, logits_SV in self._steps:
            wrong: set[str] = set()
            for row, chunk in enumerate(plan.sampling):
                name, place = chunk.sequence.request_id, chunk.num_outputs
                tokens = answers.get(name, ())
                if chunk.proposed is not None and tuple(tokens[place - 1 : place]) != (chunk.proposed,):
                    wrong.add(name)
                if name not in wrong and place < len(tokens):
                    found[name, place] = logits_SV[row]
        self._steps.clear()
        return found


@dataclass(frozen=True, slots=True)
class Parting:
    """The first token of an answer that is another one with the other engine."""

    name: str
    place: int
    lead: (
        float  # how much better the first engine's token is there than the other's, noise included, in logits
    )
    moved: float  # by how much the logits of the two tokens moved there against each other
    off: float  # root mean square of what all logits there differ by


@dataclass(frozen=True, slots=True)
class Compared:
    """Two engines' answers to the same requests."""

    num_same: int
    partings: tuple[Parting, ...]
    off: Tensor  # at all places before: root mean square of what the logits differ by, one number each


def compared(
    one: tuple[Answers, Rows], other: tuple[Answers, Rows], *, seeds: Mapping[str, int], temperature: float
) -> Compared:
    """Hold the logits of two engines to each other, place by place, to the first token that differs."""
    same, partings, off = 0, [], []
    for name, mine in one[0].items():
        theirs = other[0][name]
        first = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), None)
        same += first is None and len(mine) == len(theirs)
        for place in range(len(mine) if first is None else first + 1):
            row_V, other_V = one[1][name, place].float(), other[1][name, place].float()
            difference_V = other_V - row_V
            rms = difference_V.square().mean().sqrt()
            if place != first:
                off.append(rms)
                continue
            ids = [mine[place], theirs[place]]
            noise_V = gumbel_noise(torch.tensor([noise_key(seeds[name], place)]), len(row_V))[0]
            scores = row_V[ids].cpu() + noise_V[ids] * temperature
            moved = difference_V[ids].cpu()
            partings.append(
                Parting(
                    name, place, float(scores[0] - scores[1]), float(moved[1] - moved[0]), float(rms.cpu())
                )
            )
    return Compared(same, tuple(partings), torch.stack(off).cpu() if off else torch.zeros(1))


def size_of(rows: Rows) -> float:
    """Return the root mean square of all logits."""
    return float(torch.stack([row_V.float().square().mean() for row_V in rows.values()]).mean().sqrt())


def are_ties(found: Compared, *, size: float, other_company: float) -> list[bool]:
    """Tell of each parting whether two tokens tied: rounding alone made the other one the better.

    The lead of the first engine's token is no more than its two logits moved against each other, and all
    logits there are off by what 8 bits of a number of `size` round to, or by no more than twice what they
    are off at most in other company without proposals.
    """
    rounding = max(ROUNDED * size, 2 * other_company)
    return [-1e-4 <= one.lead <= one.moved + 1e-4 and one.off <= rounding for one in found.partings]


def num_misjudged(
    answers: Answers,
    rows: Rows,
    *,
    seeds: Mapping[str, int],
    temperature: float,
    masks: Mapping[str, Callable[[list[int]], bytes]],
) -> int:
    """Return how many tokens were not the best of their own logits that a grammar lets come.

    `masks`: of each request a function from its answer so far to what may follow, one bit an id.
    """
    wrong = 0
    for (name, place), logits_V in rows.items():
        tokens = list(answers[name])
        words = torch.frombuffer(bytearray(masks[name](tokens[:place])), dtype=torch.uint8)
        bits = (words.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8) & 1).flatten()[: len(logits_V)]
        key = torch.tensor([noise_key(seeds[name], place)], device=logits_V.device)
        score_V = logits_V.float() + gumbel_noise(key, len(logits_V))[0] * temperature
        score_V = torch.where(bits.to(logits_V.device) == 1, score_V, -torch.inf)
        wrong += bool(score_V[tokens[place]] < score_V.max() - 1e-4)
    return wrong
