"""One question with its answer, as conversations are made of."""

from dataclasses import dataclass

from deployer.pocket_vl.scene import Item

# Rows of the accuracy table.
KINDS = (
    "absent",
    "background",
    "between",
    "colour",
    "count",
    "describe",
    "exists",
    "follow_up",
    "no_picture",
    "read_number",
    "read_word",
    "relation",
    "relation_yes_no",
    "shape",
    "size",
    "small_talk",
    "text_colour",
    "where",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """A question, the one right answer, and what a follow-up's `it` would mean."""

    kind: str  # one of KINDS
    question: str
    answer: str
    focus: Item | None = None  # the single thing that the answer brings to mind
    focus_kind: str | None = None  # what a bare `And the square?` repeats: colour, where, count or exists
