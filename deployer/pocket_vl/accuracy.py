"""What an evaluation found: right answers by kind of question, and the wrong ones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TextIO

from deployer.pocket_vl.evaluate_options import EvaluateOptions
from deployer.pocket_vl.held_out import Question
from deployer.table import print_about, print_table

HEADS = ("question", "asked", "right", "accuracy")
_WRONG_KEYS = ("picture", "question", "said", "answer")
WRONG_HEADS = ("picture", "question", "said", "right answer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What was said to a question."""

    question: Question
    text: str

    @property
    def right(self) -> bool:
        """Whether the text is the answer, to the letter."""
        return self.text == self.question.turn.answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One kind of question."""

    kind: str
    asked: int
    right: int

    @property
    def accuracy(self) -> float:
        """The share of right answers, 0..1."""
        return self.right / self.asked


def rows(answers: Sequence[Answer]) -> list[Row]:
    """Return a row a kind, then familiar and unseen combinations, then all."""
    kinds = sorted({answer.question.turn.kind for answer in answers})
    found = [_row(kind, [a for a in answers if a.question.turn.kind == kind]) for kind in kinds]
    for name, unseen in (("familiar combinations", False), ("unseen combinations", True)):
        part = [answer for answer in answers if answer.question.combinations == unseen]
        if part:
            found.append(_row(name, part))
    return [*found, _row("all", answers)]


def _row(kind: str, answers: Sequence[Answer]) -> Row:
    return Row(kind=kind, asked=len(answers), right=sum(answer.right for answer in answers))


def print_accuracy(
    answers: Sequence[Answer], about: Mapping[str, str], options: EvaluateOptions, *, out: TextIO
) -> None:
    """Print the table and a sample of the wrong answers, in the form that was asked for."""
    wrong = [answer for answer in answers if not answer.right]
    shown = wrong[:: max(1, len(wrong) // options.wrong)][: options.wrong] if options.wrong else []
    if options.output == "json":
        report = {
            "about": dict(about),
            "evaluate": asdict(options),
            "rows": [asdict(row) | {"accuracy": round(row.accuracy, 4)} for row in rows(answers)],
            "wrong": [dict(zip(_WRONG_KEYS, _wrong(answer), strict=True)) for answer in shown],
        }
        print(json.dumps(report, indent=2, ensure_ascii=False), file=out)
        return
    print_about(about, out=out)
    cells = [[row.kind, str(row.asked), str(row.right), f"{row.accuracy:.1%}"] for row in rows(answers)]
    print_table(HEADS, cells, out=out)
    if shown:
        print(f"\n{len(shown)} of {len(wrong)} wrong answers:", file=out)
        print_table(WRONG_HEADS, [_wrong(answer) for answer in shown], out=out)


def _wrong(answer: Answer) -> list[str]:
    asked = answer.question
    before = "".join(f"{turn.question} {turn.answer} / " for turn in asked.before)
    picture = "none" if asked.scene is None else str(asked.scene_number)
    return [picture, before + asked.turn.question, answer.text, asked.turn.answer]
