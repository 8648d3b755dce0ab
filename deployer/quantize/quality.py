"""What a format costs, in the answers to held-out questions: figures of one copy beside the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TextIO

from deployer.table import print_table

if TYPE_CHECKING:
    from torch import Tensor

    from engines.quant.judge_answers import JudgedAnswers

HEADS = (
    "format",
    "MB",
    "right",
    "lost",
    "gained",
    "other answers",
    "nats",
    "change",
    "divergence",
    "moved",
    "moved more",
    "more right",
)

LEGEND = """\
lost, gained: right answers; other answers: chosen otherwise than by the original
for each token of the right answers: nats: -log of its probability; change: of that; divergence:
KL(original || format) of the next token, nats; moved: probability that went to other tokens
moved more, more right: than by nearest, answers in questions; +-: one standard error, question by question"""


@dataclass(frozen=True, kw_only=True, slots=True)
class BesideNearest:
    """What a copy does more of than 4 bits rounded to nearest do, and standard errors of it.

    Of what either moves, both move most in the same few answers: so each is taken question by question.
    """

    right: int  # answers
    right_error: float
    divergence: float  # nats a token
    divergence_error: float
    moved: float  # 0 to 1
    moved_error: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """One copy, or the original with other keys and values."""

    name: str
    num_bytes: int  # of the weights
    questions: int
    right: int  # greedy answers that are the expected one to the letter
    lost: int  # of them, the original had right and the copy has not
    gained: int
    other_answers: int  # questions whose answer the copy chooses otherwise, right or wrong
    loss: float  # -log p of the expected answers, nats a token
    loss_change: float  # against the original's
    loss_change_error: float  # standard error of it, question by question
    divergence: float  # KL(original || copy) of the next token, mean over the tokens of the answers, nats
    divergence_error: float  # likewise
    moved: float  # probability that went from a token to others, mean over the tokens of the answers, 0 to 1
    moved_error: float  # likewise
    beside_nearest: BesideNearest | None  # None: not compared with it

    def values(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return asdict(self)


def quality_of(name: str, judged: JudgedAnswers, *, num_bytes: int, nearest: JudgedAnswers | None) -> Quality:
    """Return the figures of what was judged; `nearest`: the answers of 4 bits rounded to nearest."""
    tokens = judged.tokens
    before_Q, after_Q = judged.all_of(tokens.right_before_S), judged.all_of(tokens.right_after_S)
    change, change_error = _mean(judged, tokens.losses_after_S - tokens.losses_before_S)
    divergence, divergence_error = _mean(judged, tokens.divergences_S)
    moved, moved_error = _mean(judged, tokens.moved_S)
    return Quality(
        name=name,
        num_bytes=num_bytes,
        questions=judged.num_questions,
        right=int(after_Q.sum()),
        lost=int((before_Q & ~after_Q).sum()),
        gained=int((after_Q & ~before_Q).sum()),
        other_answers=int((~judged.all_of(~tokens.differs_S)).sum()),
        loss=float(tokens.losses_after_S.mean()),
        loss_change=change,
        loss_change_error=change_error,
        divergence=divergence,
        divergence_error=divergence_error,
        moved=moved,
        moved_error=moved_error,
        beside_nearest=None if nearest is None else _beside(judged, nearest),
    )


def print_quality(rows: Sequence[Quality], *, out: TextIO) -> None:
    """Print a row a format; the original first."""
    print_table(HEADS, [_cells(row) for row in rows], out=out)
    print(f"\n{rows[0].questions:,} questions; {LEGEND}", file=out)


def _cells(row: Quality) -> list[str]:
    return [
        row.name,
        f"{row.num_bytes / 1e6:,.1f}",
        f"{row.right / row.questions:.2%}",
        str(row.lost),
        str(row.gained),
        str(row.other_answers),
        f"{row.loss:.5f}",
        f"{row.loss_change:+.5f} +- {row.loss_change_error:.5f}",
        f"{row.divergence:.5f} +- {row.divergence_error:.5f}",
        f"{row.moved:.3%} +- {row.moved_error:.3%}",
        *_cells_beside(row.beside_nearest),
    ]


def _cells_beside(beside: BesideNearest | None) -> tuple[str, str]:
    if beside is None:
        return "", ""
    moved = f"{beside.moved:+.3%} +- {beside.moved_error:.3%}"
    return moved, f"{beside.right:+d} +- {beside.right_error:.1f}"


def _beside(judged: JudgedAnswers, nearest: JudgedAnswers) -> BesideNearest:
    own, other = judged.tokens, nearest.tokens
    right_Q, other_Q = judged.all_of(own.right_after_S), nearest.all_of(other.right_after_S)
    more_Q = right_Q.double() - other_Q.double()
    divergence, divergence_error = _mean(judged, own.divergences_S - other.divergences_S)
    moved, moved_error = _mean(judged, own.moved_S - other.moved_S)
    return BesideNearest(
        right=int(more_Q.sum()),
        right_error=_error_of_sum(more_Q),
        divergence=divergence,
        divergence_error=divergence_error,
        moved=moved,
        moved_error=moved_error,
    )


def _mean(judged: JudgedAnswers, values_S: Tensor) -> tuple[float, float]:
    """Return the mean over all tokens and its standard error; tokens of one answer are not independent."""
    return float(values_S.double().mean()), _error_of_sum(judged.per_question(values_S)) / len(values_S)


def _error_of_sum(values_Q: Tensor) -> float:
    return float(values_Q.std()) * len(values_Q) ** 0.5 if len(values_Q) > 1 else 0.0
