"""The questions that decide what the model is worth: pictures of seeds that training never draws.

Every second picture is made of held-out combinations: pairs of coloured shapes, words and numbers that
no training picture shows. A question comes with the right answers of the turns before it, so that each
is judged on its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from deployer.pocket_vl.absence import small_talk, without_picture
from deployer.pocket_vl.conversations import ASKERS, conversation
from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.sampling import sample_scene
from deployer.pocket_vl.scene import Scene
from deployer.pocket_vl.turns import Turn

# Training seeds are far above: see samples.Batches.
_FIRST_SEED = 7_000_000
_PER_SCENE = 6
_RARE = ("between", "size", "read")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question of the evaluation."""

    scene: Scene | None  # None: asked without a picture
    scene_number: int  # questions about one picture share it
    combinations: bool  # the picture is made of held-out combinations
    before: tuple[Turn, ...]  # turns that were asked and answered right before it
    turn: Turn


def held_out_questions(total: int, book: FontBook, *, first_picture: int = 0) -> list[Question]:
    """Return `total` questions from a picture on: all kinds in turn, as far as a picture has them."""
    questions: list[Question] = []
    for number in count(first_picture):
        questions.extend(_about(number, book))
        if len(questions) >= total:
            return questions[:total]
    raise AssertionError("count() does not end")


def _about(number: int, book: FontBook) -> Iterator[Question]:
    rng = Random(_FIRST_SEED + number)
    combinations = number % 2 == 1
    scene = sample_scene(_FIRST_SEED + number, book, "unseen" if combinations else "judged")
    # Kinds that few scenes have a question of come first, so that each kind gets its share.
    common = [kind for kind in (*ASKERS, "follow_up") if kind not in _RARE]
    kinds = [*_RARE, *rng.sample(common, len(common))]
    asked = 0
    for kind in kinds:
        before, turn = _ask(rng, scene, kind)
        if turn is not None:
            yield Question(
                scene=scene, scene_number=number, combinations=combinations, before=before, turn=turn
            )
            asked += 1
        if asked == _PER_SCENE:
            break
    if number % 4 == 0:
        blind = without_picture(rng) if number % 8 else small_talk(rng)
        yield Question(scene=None, scene_number=number, combinations=False, before=(), turn=blind)


def _ask(rng: Random, scene: Scene, kind: str) -> tuple[tuple[Turn, ...], Turn | None]:
    if kind != "follow_up":
        return (), ASKERS[kind][0](rng, scene)
    for _ in range(8):
        turns = conversation(rng, scene)
        for position in range(1, len(turns)):
            if turns[position].kind == "follow_up":
                return tuple(turns[:position]), turns[position]
    return (), None
